//! What a gateway says of an agent that was deleted.

use serde::Deserialize;
use serde_json::Value;

/// Most characters of a path or a reason that are passed on.
const LONGEST: usize = 512;
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
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RawDeleted {
    failed: Vec<Value>,
    purge_failed: bool,
}

impl RawDeleted {
    /// What was left.
    pub(super) fn leftovers(&self) -> Leftovers {
        let text = |value: &Value| clean(value.as_str().unwrap_or_default());
        let path = |failure: &Value| Leftover { path: text(&failure["path"]), reason: text(&failure["reason"]) };
        Leftovers { paths: self.failed.iter().take(MOST_PATHS).map(path).collect(), sessions: self.purge_failed }
    }
}

/// Text of a gateway without control and format characters, and of bounded length.
fn clean(text: &str) -> String {
    let format = |c: char| matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    text.chars().filter(|c| !c.is_control() && !format(*c)).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(payload: Value) -> Leftovers {
        serde_json::from_value::<RawDeleted>(payload).unwrap().leftovers()
    }

    #[test]
    fn what_could_not_be_removed_is_read_and_an_old_gateway_tells_nothing() {
        let left = read(json!({ "ok": true, "agentId": "a", "removedBindings": 0, "removed": [],
            "failed": [{ "path": "/w/a", "reason": "EEXIST" }], "purgeFailed": true }));
        assert_eq!(left.paths, [Leftover { path: "/w/a".into(), reason: "EEXIST".into() }]);
        assert!(left.sessions);
        assert!(read(json!({ "ok": true, "agentId": "a", "removedBindings": 0 })).is_empty());
    }

    #[test]
    fn the_words_of_a_gateway_are_cleaned_and_bounded() {
        let failure = json!({ "path": format!("/w/\u{1b}[2J\u{202e}{}", "x".repeat(1000)), "reason": 7 });
        let left = read(json!({ "failed": vec![failure; 100] }));
        assert_eq!(left.paths.len(), MOST_PATHS);
        assert!(left.paths[0].path.starts_with("/w/[2Jxxx") && left.paths[0].path.chars().count() == LONGEST);
        assert_eq!(left.paths[0].reason, "");
    }
}
