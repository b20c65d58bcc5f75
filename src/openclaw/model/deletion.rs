//! What a gateway says of an agent that was deleted.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use tracing::warn;

use super::readers::{List, lax};
use super::text::clean;
use crate::openclaw::limits;

/// Most paths that are passed on. A real gateway names seven at most.
const MOST_PATHS: usize = 16;

/// What became of an agent that was to be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// It was removed from the config, and all that was to go with it went but this.
    Removed(Leftovers),
    /// It was not there.
    Absent,
}

/// What a deletion left on the gateway's disk although it was to go. Only 2026.9 tells it (measured: 2026.3.2 leaves the same
/// and says nothing).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Paths that could not be moved to the trash.
    pub paths: Vec<Leftover>,
    /// Whether the sessions could not be purged. The gateway does not touch the files then.
    pub sessions: bool,
}

impl Leftovers {
    /// Whether nothing was left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty() && !self.sessions
    }
}

/// A path that a deletion left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftover {
    /// Where it is, on the gateway's host.
    pub path: String,
    /// Why it is still there, in the gateway's words.
    pub reason: String,
}

/// The part of the answer that is read. Old gateways have none of it.
#[derive(Default)]
pub(crate) struct RawDeleted(Leftovers);

#[derive(Default, Deserialize)]
#[serde(default)]
struct Failed {
    failed: List<RawLeftover, { limits::LEFTOVERS }>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawLeftover {
    #[serde(deserialize_with = "lax")]
    path: Option<String>,
    #[serde(deserialize_with = "lax")]
    reason: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Purge {
    purge_failed: bool,
}

impl RawDeleted {
    /// What was left.
    pub(crate) fn leftovers(self) -> Leftovers {
        self.0
    }
}

impl<'de> Deserialize<'de> for RawDeleted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (left, flaw) = read(<&RawValue>::deserialize(deserializer)?.get());
        if let Some(flaw) = flaw {
            let error = clean(&flaw.to_string());
            warn!(
                error,
                "the answer of agents.delete could not be read; files of the agent may be left on the gateway"
            );
        }
        Ok(Self(left))
    }
}

/// What can be read of an answer, and why the rest cannot.
fn read(text: &str) -> (Leftovers, Option<serde_json::Error>) {
    let (failed, unread) = part::<Failed>(text);
    let (purge, flaw) = part::<Purge>(text);
    let cleaned = |text: Option<String>| clean(&text.unwrap_or_default());
    let path = |left: RawLeftover| Leftover { path: cleaned(left.path), reason: cleaned(left.reason) };
    let paths = failed.failed.0.into_iter().take(MOST_PATHS).map(path).collect();
    (Leftovers { paths, sessions: purge.purge_failed }, unread.or(flaw))
}

fn part<T: Default + DeserializeOwned>(text: &str) -> (T, Option<serde_json::Error>) {
    serde_json::from_str(text).map_or_else(|error| (T::default(), Some(error)), |part| (part, None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// What is read of an answer that can be read wholly.
    fn left(payload: &Value) -> Leftovers {
        let (left, flaw) = read(&payload.to_string());
        assert!(flaw.is_none(), "{flaw:?}");
        assert_eq!(serde_json::from_str::<RawDeleted>(&payload.to_string()).unwrap().leftovers(), left);
        left
    }

    #[test]
    fn what_could_not_be_removed_is_read_and_an_old_gateway_tells_nothing() {
        let told = left(&json!({ "ok": true, "agentId": "a", "removedBindings": 0, "removed": [],
            "failed": [{ "path": "/w/a", "reason": "EEXIST", "more": {} }], "purgeFailed": true }));
        assert_eq!(told.paths, [Leftover { path: "/w/a".into(), reason: "EEXIST".into() }]);
        assert!(told.sessions);
        assert!(left(&json!({ "ok": true, "agentId": "a", "removedBindings": 0 })).is_empty());
    }

    #[test]
    fn the_words_of_a_gateway_are_cleaned_and_bounded() {
        let failure = json!({ "path": format!("/w/\u{1b}[2J\u{202e}\u{180e}{}", "x".repeat(1000)), "reason": 7 });
        let told = left(&json!({ "failed": vec![failure; 100] }));
        assert_eq!(told.paths.len(), MOST_PATHS);
        assert!(told.paths[0].path.starts_with("/w/[2Jxxx") && told.paths[0].path.chars().count() == 512);
        assert_eq!(told.paths[0].reason, "");
    }

    #[test]
    fn an_answer_of_another_shape_is_not_taken_for_one_that_tells_of_nothing() {
        for other in ["null", "7", r#"{"failed": 1}"#, r#"{"failed": [1]}"#, r#"{"purgeFailed": 1}"#] {
            let (left, flaw) = read(other);
            assert!(left.is_empty() && flaw.is_some(), "{other}");
            assert!(serde_json::from_str::<RawDeleted>(other).unwrap().leftovers().is_empty(), "it was deleted");
        }
        let (left, flaw) = read(r#"{"failed": [{"path": "/w"}], "purgeFailed": "yes"}"#);
        assert!(left.paths.len() == 1 && flaw.is_some(), "the rest is read");
    }

    #[test]
    fn a_list_of_leftovers_without_end_is_not_read() {
        let many = format!(r#"{{"failed": [{}{{}}], "purgeFailed": true}}"#, r#"{"":0},"#.repeat(limits::LEFTOVERS));
        let (left, flaw) = read(&many);
        assert!(left.paths.is_empty() && left.sessions);
        assert!(flaw.unwrap().to_string().contains("more than 1000 items"));
    }
}
