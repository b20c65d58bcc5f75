//! The gateway's validation of a configuration.

use serde_json::{Value, json};

use super::roster;
use crate::{
    error::RpcError,
    profile::{Profile, RosterShape},
};

const ENTRY_KEYS: &[&str] = &[
    "id",
    "name",
    "description",
    "default",
    "workspace",
    "agentDir",
    "model",
    "models",
    "thinkingDefault",
    "skills",
    "memory",
    "humanDelay",
    "typingMode",
    "tts",
    "skillsLimits",
    "contextLimits",
    "heartbeat",
    "identity",
    "groupChat",
    "sandbox",
    "tools",
    "params",
    "subagents",
    "runtime",
];
const IDENTITY_KEYS: &[&str] = &["name", "theme", "emoji", "avatar"];
const OWNERSHIP: &str = "multi-agent rosters require agents.ownership=\"explicit\" or one legacy default=true marker; \
                         add agents.ownership=\"explicit\" or run openclaw doctor";

/// One validation error: the path as the issue list and as the message show it, and the message.
struct Issue {
    path: String,
    shown: String,
    message: String,
}

impl Issue {
    fn at(path: impl Into<String>, message: impl Into<String>) -> Self {
        let path = path.into();
        Self { shown: path.clone(), path, message: message.into() }
    }

    fn unrecognized(path: impl Into<String>, key: &str) -> Self {
        Self::at(path, format!("Unrecognized key: \"{key}\""))
    }
}

/// Validates a whole configuration.
pub(crate) fn check(document: &Value, profile: &Profile) -> Result<(), RpcError> {
    let mut issues = Vec::new();
    let foreign = match profile.roster {
        RosterShape::Entries => "list",
        RosterShape::List => "entries",
    };
    if document["agents"].get(foreign).is_some() {
        issues.push(Issue::unrecognized("agents", foreign));
    }
    visibility(document, profile, &mut issues);
    let roster = roster::entries(document, profile.roster);
    for (id, entry) in &roster {
        agent(id, entry, profile, &mut issues);
    }
    let explicit = document["agents"]["ownership"] == "explicit";
    if issues.is_empty() && profile.roster == RosterShape::Entries && roster.len() > 1 && !explicit {
        issues.push(Issue::at("agents.ownership", OWNERSHIP));
    }
    refusal(&issues)
}

fn refusal(issues: &[Issue]) -> Result<(), RpcError> {
    let Some(first) = issues.first() else {
        return Ok(());
    };
    let listed: Vec<Value> = issues.iter().map(|issue| json!({"path": issue.path, "message": issue.message})).collect();
    Err(RpcError::invalid(format!("invalid config: {}: {}", first.shown, first.message))
        .with_details(json!({"issues": listed})))
}

fn visibility(document: &Value, profile: &Profile, issues: &mut Vec<Issue>) {
    let Some(defaults) = document["channels"]["defaults"].as_object() else {
        return;
    };
    let refused = match profile.roster {
        RosterShape::Entries => "heartbeat",
        RosterShape::List => "heartbeatVisibility",
    };
    if defaults.contains_key(refused) {
        issues.push(Issue::unrecognized("channels.defaults", refused));
    }
}

fn agent(id: &str, entry: &Value, profile: &Profile, issues: &mut Vec<Issue>) {
    let path = format!("agents.{}.{id}", if profile.roster == RosterShape::Entries { "entries" } else { "list" });
    if !valid_id(id) {
        issues.push(Issue {
            path: path.clone(),
            shown: format!("agents.entries[\"{id}\"]"),
            message: "Invalid key in record".into(),
        });
        return;
    }
    unknown_keys(&path, entry, ENTRY_KEYS, issues);
    unknown_keys(&format!("{path}.identity"), &entry["identity"], IDENTITY_KEYS, issues);
    let heartbeat = format!("{path}.heartbeat");
    unknown_keys(&heartbeat, &entry["heartbeat"], profile.heartbeat_keys, issues);
    if let Some(every) = entry["heartbeat"]["every"].as_str()
        && duration_ms(every).is_none()
    {
        issues.push(Issue::at(format!("{heartbeat}.every"), "invalid duration (use ms, s, m, h)"));
    }
}

fn unknown_keys(path: &str, value: &Value, known: &[&str], issues: &mut Vec<Issue>) {
    let keys = value.as_object().into_iter().flat_map(serde_json::Map::keys);
    issues.extend(keys.filter(|key| !known.contains(&key.as_str())).map(|key| Issue::unrecognized(path, key)));
}

fn valid_id(id: &str) -> bool {
    let mut characters = id.chars();
    let first = characters.next().is_some_and(|first| first.is_ascii_lowercase() || first.is_ascii_digit());
    first && id.len() <= 64 && characters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_')
}

/// Milliseconds of a duration such as `5m`, `300s`, `0m` or `1h30m`; a bare number is minutes.
pub(crate) fn duration_ms(text: &str) -> Option<u64> {
    let text = text.trim();
    if let Ok(minutes) = text.parse::<u64>() {
        return minutes.checked_mul(60_000);
    }
    let mut rest = text;
    let mut total = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit())?;
        let amount: u64 = rest[..digits].parse().ok()?;
        let unit = &rest[digits..];
        let end = unit.find(|character: char| character.is_ascii_digit()).unwrap_or(unit.len());
        let factor = match &unit[..end] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total = total.checked_add(amount.checked_mul(factor)?)?;
        rest = &unit[end..];
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(document: &Value, profile: &Profile) -> String {
        check(document, profile).unwrap_err().message
    }

    #[test]
    fn durations_are_parsed() {
        assert_eq!(duration_ms("5m"), Some(300_000));
        assert_eq!(duration_ms("300s"), Some(300_000));
        assert_eq!(duration_ms("1h30m"), Some(5_400_000));
        assert_eq!(duration_ms("banana"), None);
        assert_eq!(duration_ms(""), None);
    }

    #[test]
    fn a_roster_of_two_agents_requires_ownership() {
        let document = json!({"agents": {"entries": {"mc-a": {}}}});
        assert_eq!(refused(&document, &Profile::v2026_9_6()), format!("invalid config: agents.ownership: {OWNERSHIP}"));
    }

    #[test]
    fn a_bad_key_in_the_roster_is_refused() {
        let document = json!({"agents": {"ownership": "explicit", "entries": {"Bad Id!": {}}}});
        assert_eq!(
            refused(&document, &Profile::v2026_9_6()),
            "invalid config: agents.entries[\"Bad Id!\"]: Invalid key in record"
        );
    }

    #[test]
    fn the_roster_of_another_version_is_unrecognized() {
        assert_eq!(
            refused(&json!({"agents": {"list": [{"id": "x"}]}}), &Profile::v2026_9_6()),
            "invalid config: agents: Unrecognized key: \"list\""
        );
    }

    #[test]
    fn only_older_versions_accept_reasoning_in_heartbeats() {
        let heartbeat = json!({"every": "5m", "includeReasoning": true});
        let entries = json!({"agents": {"ownership": "explicit", "entries": {"a": {"heartbeat": heartbeat}}}});
        let list = json!({"agents": {"list": [{"id": "a", "heartbeat": heartbeat}]}});
        assert_eq!(
            refused(&entries, &Profile::v2026_9_6()),
            "invalid config: agents.entries.a.heartbeat: Unrecognized key: \"includeReasoning\""
        );
        assert!(check(&list, &Profile::v2026_7_1()).is_ok());
    }
}
