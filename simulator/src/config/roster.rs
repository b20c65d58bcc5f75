//! The agents of a configuration, in both shapes.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::profile::RosterShape;

/// The id of the agent that every gateway has, with or without an entry.
pub(crate) const MAIN: &str = "main";

/// Every agent's entry by id. `main` is implied: with `entries` always, with `list` only while the list is empty.
pub(crate) fn entries(document: &Value, shape: RosterShape) -> BTreeMap<String, Value> {
    let agents = &document["agents"];
    let mut found: BTreeMap<String, Value> = match shape {
        RosterShape::Entries => agents["entries"]
            .as_object()
            .map(|entries| entries.iter().map(|(id, entry)| (id.clone(), entry.clone())).collect())
            .unwrap_or_default(),
        RosterShape::List => agents["list"]
            .as_array()
            .map(|list| {
                list.iter().filter_map(|entry| Some((entry["id"].as_str()?.to_owned(), entry.clone()))).collect()
            })
            .unwrap_or_default(),
    };
    if shape == RosterShape::Entries || found.is_empty() {
        found.entry(MAIN.to_owned()).or_insert_with(|| json!({}));
    }
    found
}

/// Adds an agent. If `main` was only implied, the list gets an entry for it.
pub(crate) fn add(document: &mut Value, shape: RosterShape, id: &str, entry: Map<String, Value>) {
    match shape {
        RosterShape::Entries => {
            document["agents"]["entries"][id] = Value::Object(entry);
        }
        RosterShape::List => {
            let mut entry = entry;
            entry.insert("id".into(), json!(id));
            let list = &mut document["agents"]["list"];
            if !list.is_array() {
                *list = json!([{"id": MAIN}]);
            }
            if let Some(list) = list.as_array_mut() {
                list.push(Value::Object(entry));
            }
        }
    }
}

/// The entry of one agent, mutable.
pub(crate) fn entry_mut<'a>(
    document: &'a mut Value,
    shape: RosterShape,
    id: &str,
) -> Option<&'a mut Map<String, Value>> {
    match shape {
        RosterShape::Entries => document.get_mut("agents")?.get_mut("entries")?.get_mut(id)?.as_object_mut(),
        RosterShape::List => document
            .get_mut("agents")?
            .get_mut("list")?
            .as_array_mut()?
            .iter_mut()
            .find(|entry| entry["id"] == id)?
            .as_object_mut(),
    }
}

/// Removes an agent.
pub(crate) fn remove(document: &mut Value, shape: RosterShape, id: &str) {
    match shape {
        RosterShape::Entries => {
            if let Some(entries) = document["agents"]["entries"].as_object_mut() {
                entries.remove(id);
                if entries.keys().all(|id| id == MAIN)
                    && let Some(agents) = document["agents"].as_object_mut()
                {
                    agents.remove("ownership");
                }
            }
        }
        RosterShape::List => {
            if let Some(list) = document["agents"]["list"].as_array_mut() {
                list.retain(|entry| entry["id"] != id);
            }
        }
    }
}

/// Adds the fields that the gateway itself adds when a roster gets its first agent beside `main`.
pub(crate) fn migrate(document: &mut Value, shape: RosterShape, version: &str, main_workspace: &str) {
    if shape == RosterShape::List {
        document["meta"]["lastTouchedVersion"] = json!(version);
        return;
    }
    let agents = entries(document, shape);
    if agents.len() > 1 {
        document["agents"]["ownership"] = json!("explicit");
        document["agents"]["defaults"]["systemAgent"] = json!({"agentId": MAIN});
        document["talk"] = json!({"agentId": MAIN});
        if agents.get(MAIN).is_some_and(|main| main["workspace"].is_null()) {
            document["agents"]["entries"][MAIN]["workspace"] = json!(main_workspace);
        }
    }
    document["meta"] = json!({
        "migrations": {"modelPolicyAllowlist": true, "utilityModelSeparation": true},
        "lastTouchedVersion": version,
    });
}

/// Converts the written agents into a shape; agents in that shape stay as they are.
pub(crate) fn reshape(document: &mut Value, shape: RosterShape) {
    let other = match shape {
        RosterShape::List => RosterShape::Entries,
        RosterShape::Entries => RosterShape::List,
    };
    let Some(agents) = document["agents"].as_object_mut() else { return };
    let key = if shape == RosterShape::List { "entries" } else { "list" };
    if !agents.contains_key(key) {
        return;
    }
    let written = entries(document, other);
    if let Some(agents) = document["agents"].as_object_mut() {
        agents.remove(key);
        agents.remove("ownership");
    }
    for (id, entry) in written {
        let mut entry = entry.as_object().cloned().unwrap_or_default();
        entry.remove("id");
        // The first addition to a list adds `main` as well.
        if shape == RosterShape::Entries || id != MAIN {
            add(document, shape, &id, entry);
        }
    }
}

/// The id that the gateway derives from a name; `None` if the name has no valid characters.
pub(crate) fn normalised(name: &str) -> Option<String> {
    let mut id = String::new();
    for character in name.trim().to_lowercase().chars() {
        if character.is_ascii_alphanumeric() || character == '_' || character == '-' {
            id.push(character);
        } else if !id.ends_with('-') {
            id.push('-');
        }
    }
    let id = id.trim_matches('-');
    (!id.is_empty()).then(|| id.chars().take(64).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_becomes_an_id() {
        assert_eq!(normalised("Bad Name! \u{e9}").as_deref(), Some("bad-name"));
        assert_eq!(normalised("MC-1").as_deref(), Some("mc-1"));
        assert_eq!(normalised("!!!"), None);
    }

    #[test]
    fn a_roster_converts_between_both_shapes() {
        let entries = json!({"agents": {"entries": {"main": {}, "mc-1": {"name": "One"}}}});
        let mut document = entries.clone();
        reshape(&mut document, RosterShape::List);
        assert_eq!(document, json!({"agents": {"list": [{"id": "main"}, {"id": "mc-1", "name": "One"}]}}));
        reshape(&mut document, RosterShape::Entries);
        assert_eq!(document, entries);
    }

    #[test]
    fn removing_the_last_agent_removes_the_ownership() {
        let mut document = json!({"agents": {"entries": {"main": {}}}});
        add(&mut document, RosterShape::Entries, "mc-1", Map::new());
        migrate(&mut document, RosterShape::Entries, "v", "/main");
        assert_eq!(document["agents"]["ownership"], "explicit");
        remove(&mut document, RosterShape::Entries, "mc-1");
        assert!(document["agents"].get("ownership").is_none());
    }
}
