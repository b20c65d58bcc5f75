//! The agents with a heartbeat, and their intervals.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{roster, rules};
use crate::profile::{Profile, RosterShape};

const DEFAULT_INTERVAL: &str = "30m";

/// The agents that the configuration enrols, whether or not their interval is zero.
///
/// If one agent has a heartbeat block of its own, even an empty one, only agents with a block are enrolled. Otherwise a
/// block in the defaults enrols all agents, or the agent that the block names. Without a block the ambient agent is
/// enrolled (measured, 2026-11-28).
pub(crate) fn enrolled<'a>(applied: &'a Value, profile: &Profile) -> BTreeSet<&'a str> {
    let agents = roster::entries(applied, profile.roster);
    let explicit: BTreeSet<&str> =
        agents.iter().filter(|(_, entry)| entry["heartbeat"].is_object()).map(|(id, _)| *id).collect();
    if !explicit.is_empty() {
        return explicit;
    }
    let defaults = &applied["agents"]["defaults"];
    let named = defaults["heartbeat"]["agentId"].as_str().filter(|_| profile.roster == RosterShape::Entries);
    if let Some(id) = named {
        return [id].into();
    }
    if defaults["heartbeat"].is_object() && profile.defaults_enrol_all {
        return agents.into_keys().collect();
    }
    let ambient = match profile.roster {
        RosterShape::List => default_of_list(applied),
        RosterShape::Entries => {
            let sole = agents.keys().next().filter(|_| agents.len() == 1).copied();
            defaults["systemAgent"]["agentId"].as_str().or(sole)
        }
    };
    ambient.into_iter().collect()
}

/// The marked agent of a list; else the first; else `main`.
fn default_of_list(applied: &Value) -> Option<&str> {
    let list = roster::list(applied);
    let chosen = list.iter().find(|entry| entry["default"] == true).or_else(|| list.first());
    chosen.map_or(Some(roster::MAIN), |entry| entry["id"].as_str())
}

/// The heartbeat interval of an agent with this entry, as written.
pub(crate) fn every<'a>(applied: &'a Value, entry: &'a Value) -> &'a str {
    let default = applied["agents"]["defaults"]["heartbeat"]["every"].as_str().unwrap_or(DEFAULT_INTERVAL);
    entry["heartbeat"]["every"].as_str().unwrap_or(default)
}

/// The interval in milliseconds; `None` if the heartbeat is disabled.
pub(crate) fn every_ms(applied: &Value, entry: &Value) -> Option<u64> {
    rules::duration_ms(every(applied, entry)).filter(|every| *every > 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn enrolled_ids(agents: &Value, profile: &Profile) -> Vec<String> {
        enrolled(&json!({ "agents": agents }), profile).into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn each_version_has_its_own_enrolment_rule() {
        let (old, list, entries) = (Profile::v2026_3_2(), Profile::v2026_7_1(), Profile::v2026_9_6());
        let defaults = json!({ "heartbeat": { "every": "30m" } });
        let two = json!({ "defaults": defaults, "list": [{ "id": "main" }, { "id": "helper" }] });
        assert_eq!(enrolled_ids(&two, &old), ["main"]);
        assert_eq!(enrolled_ids(&two, &list), ["helper", "main"]);
        let marked = json!({ "list": [{ "id": "main" }, { "id": "helper", "default": true }] });
        assert_eq!(enrolled_ids(&marked, &list), ["helper"]);
        assert_eq!(enrolled_ids(&json!({}), &entries), ["main"]);
        let two = json!({ "entries": { "main": {}, "helper": {} } });
        assert!(enrolled_ids(&two, &entries).is_empty());
        let named =
            json!({ "defaults": { "heartbeat": { "agentId": "helper" } }, "entries": { "main": {}, "helper": {} } });
        assert_eq!(enrolled_ids(&named, &entries), ["helper"]);
        let explicit = json!({ "defaults": defaults, "entries": { "main": { "heartbeat": {} }, "helper": {} } });
        assert_eq!(enrolled_ids(&explicit, &entries), ["main"]);
    }
}
