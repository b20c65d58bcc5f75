//! The gateway's answer to the deletion of an agent.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use tracing::warn;

use super::readers::{List, lax};
use super::text::clean;
use crate::openclaw::limits;

/// Most paths of one kind in a [`Removal`]. A real gateway names at most seven.
const MAX_PATHS: usize = 16;

/// The result of a deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// The gateway removed the agent from its config.
    Removed(Removal),
    /// The gateway had no such agent.
    Absent,
}

/// What became of the files and sessions of a removed agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    /// The files and sessions that the gateway left.
    pub left: Leftovers,
    /// What the gateway did with the paths of the agent. `None` if the gateway does not report that, as before 2026.9
    /// (`docs/gateway-facts.md#deletion`).
    pub disposal: Option<Disposal>,
}

/// The paths of a removed agent that are gone from their place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disposal {
    /// The former paths of what the gateway moved to its trash. No version reports the new paths.
    pub trashed: Vec<String>,
    /// The paths at which the gateway found nothing. A link whose target went to the trash is one of them.
    pub missing: Vec<String>,
}

/// Files and sessions that a deletion should have removed. 2026.9.6 reports leftovers; 2026.3.2 leaves the same files and
/// reports nothing (`docs/gateway-facts.md#deletion`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Paths that the gateway could not move to the trash.
    pub paths: Vec<Leftover>,
    /// Whether the gateway could not purge the sessions. The gateway then keeps the files as well.
    pub sessions: bool,
}

impl Leftovers {
    /// Whether the deletion was complete.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty() && !self.sessions
    }
}

/// A path that a deletion left on the gateway's disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftover {
    /// The path on the gateway's host.
    pub path: String,
    /// The reason that the gateway gives.
    pub reason: String,
}

/// The answer of `agents.delete`. Versions before 2026.9 report no leftovers.
#[derive(Default)]
pub(crate) struct RawDeleted(Removal);

/// `removed` of the answer of `agents.delete`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct RawRemoved {
    removed: Option<List<RawDisposal, { limits::LEFTOVERS }>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawDisposal {
    #[serde(deserialize_with = "lax")]
    path: Option<String>,
    #[serde(deserialize_with = "lax")]
    method: Option<String>,
}

/// `failed` of the answer of `agents.delete`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct RawFailed {
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

/// `purgeFailed` of the answer of `agents.delete`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawPurge {
    purge_failed: bool,
}

impl RawDeleted {
    pub(crate) fn removal(self) -> Removal {
        self.0
    }
}

impl<'de> Deserialize<'de> for RawDeleted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (removal, error) = read(<&RawValue>::deserialize(deserializer)?.get());
        if let Some(error) = error {
            let error = clean(&error.to_string());
            warn!(
                error,
                "the answer of agents.delete could not be read; files of the agent may be left on the gateway"
            );
        }
        Ok(Self(removal))
    }
}

/// The readable parts of an answer, and the first error of the other parts.
fn read(text: &str) -> (Removal, Option<serde_json::Error>) {
    let (failed, failed_error) = part::<RawFailed>(text);
    let (purge, purge_error) = part::<RawPurge>(text);
    let (removed, removed_error) = part::<RawRemoved>(text);
    let cleaned = |text: Option<String>| clean(&text.unwrap_or_default());
    let path = |raw: RawLeftover| Leftover { path: cleaned(raw.path), reason: cleaned(raw.reason) };
    let paths = failed.failed.0.into_iter().take(MAX_PATHS).map(path).collect();
    let disposal = removed.removed.map(|List(list)| {
        let by = |method| {
            let listed = list.iter().filter(move |raw| raw.method.as_deref() == Some(method));
            listed.take(MAX_PATHS).map(|raw| cleaned(raw.path.clone())).collect()
        };
        Disposal { trashed: by("trash"), missing: by("missing") }
    });
    let left = Leftovers { paths, sessions: purge.purge_failed };
    (Removal { left, disposal }, failed_error.or(purge_error).or(removed_error))
}

fn part<T: Default + DeserializeOwned>(text: &str) -> (T, Option<serde_json::Error>) {
    serde_json::from_str(text).map_or_else(|error| (T::default(), Some(error)), |part| (part, None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// The leftovers of an answer that is readable as a whole.
    fn leftovers(payload: &Value) -> Leftovers {
        let (removal, error) = read(&payload.to_string());
        assert!(error.is_none(), "{error:?}");
        assert_eq!(serde_json::from_str::<RawDeleted>(&payload.to_string()).unwrap().removal(), removal);
        removal.left
    }

    #[test]
    fn leftovers_are_read_and_an_old_gateway_reports_none() {
        let read = leftovers(&json!({ "ok": true, "agentId": "a", "removedBindings": 0, "removed": [],
            "failed": [{ "path": "/w/a", "reason": "EEXIST", "more": {} }], "purgeFailed": true }));
        assert_eq!(read.paths, [Leftover { path: "/w/a".into(), reason: "EEXIST".into() }]);
        assert!(read.sessions);
        assert!(leftovers(&json!({ "ok": true, "agentId": "a", "removedBindings": 0 })).is_empty());
    }

    #[test]
    fn only_what_went_to_the_trash_counts_as_trashed_and_older_versions_report_nothing() {
        let removed = json!([{ "path": "/w/a", "method": "trash" }, { "path": "/s/a", "method": "missing" }]);
        let (removal, error) = read(&json!({ "ok": true, "removed": removed, "failed": [] }).to_string());
        assert!(error.is_none() && removal.left.is_empty(), "{error:?}");
        let disposal = removal.disposal.unwrap();
        assert_eq!((disposal.trashed, disposal.missing), (vec!["/w/a".to_owned()], vec!["/s/a".to_owned()]));
        assert_eq!(read(r#"{"ok": true, "removedBindings": 0}"#).0.disposal, None);
        let (removal, error) = read(r#"{"removed": 1, "purgeFailed": true}"#);
        assert!(removal.left.sessions && removal.disposal.is_none() && error.is_some());
    }

    #[test]
    fn texts_of_a_gateway_are_cleaned_and_bounded() {
        let failure = json!({ "path": format!("/w/\u{1b}[2J\u{202e}\u{180e}{}", "x".repeat(1000)), "reason": 7 });
        let read = leftovers(&json!({ "failed": vec![failure; 100] }));
        assert_eq!(read.paths.len(), MAX_PATHS);
        assert!(read.paths[0].path.starts_with("/w/[2Jxxx") && read.paths[0].path.chars().count() == 512);
        assert_eq!(read.paths[0].reason, "");
    }

    #[test]
    fn an_answer_of_another_shape_is_an_error_and_its_readable_parts_count() {
        for other in ["null", "7", r#"{"failed": 1}"#, r#"{"failed": [1]}"#, r#"{"purgeFailed": 1}"#] {
            let (removal, error) = read(other);
            assert!(removal.left.is_empty() && error.is_some(), "{other}");
            assert!(
                serde_json::from_str::<RawDeleted>(other).unwrap().removal().left.is_empty(),
                "the deletion counts"
            );
        }
        let (removal, error) = read(r#"{"failed": [{"path": "/w"}], "purgeFailed": "yes"}"#);
        assert!(removal.left.paths.len() == 1 && error.is_some(), "the readable part counts");
    }

    #[test]
    fn a_list_of_leftovers_beyond_the_bound_is_an_error() {
        let many = format!(r#"{{"failed": [{}{{}}], "purgeFailed": true}}"#, r#"{"":0},"#.repeat(limits::LEFTOVERS));
        let (removal, error) = read(&many);
        assert!(removal.left.paths.is_empty() && removal.left.sessions);
        assert!(error.unwrap().to_string().contains("more than 1000 items"));
    }
}
