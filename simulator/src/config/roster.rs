//! The agents of a configuration, in both shapes.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use crate::profile::RosterShape;

/// The id of the agent that every gateway has, with or without an entry.
pub(crate) const MAIN: &str = "main";

/// The entry of an implied `main`.
pub(super) static IMPLIED_MAIN: LazyLock<Value> = LazyLock::new(|| json!({}));

/// Every agent's entry by id. `main` is implied: with `entries` always, with `list` only while the list is empty.
pub(crate) fn entries(document: &Value, shape: RosterShape) -> BTreeMap<&str, &Value> {
    let mut found: BTreeMap<&str, &Value> = match shape {
        RosterShape::Entries => {
            written_entries(document).into_iter().flatten().map(|(id, entry)| (id.as_str(), entry)).collect()
        }
        RosterShape::List => list(document).iter().filter_map(|entry| Some((entry["id"].as_str()?, entry))).collect(),
    };
    if shape == RosterShape::Entries || found.is_empty() {
        found.entry(MAIN).or_insert(&IMPLIED_MAIN);
    }
    #[cfg(test)]
    visits::add(found.len());
    found
}

/// The number of entries that this thread has visited by passes over a whole roster.
#[cfg(test)]
pub(crate) mod visits {
    use std::cell::Cell;

    thread_local! {
        static VISITS: Cell<usize> = const { Cell::new(0) };
    }

    pub(super) fn add(entries: usize) {
        VISITS.set(VISITS.get() + entries);
    }

    /// The number of visits since the last call.
    pub(crate) fn take() -> usize {
        VISITS.take()
    }
}

/// The written agents of the shape `entries`.
pub(crate) fn written_entries(document: &Value) -> Option<&Map<String, Value>> {
    document["agents"]["entries"].as_object()
}

/// The written agents of the shape `list`.
pub(crate) fn list(document: &Value) -> &[Value] {
    document["agents"]["list"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Every written entry, mutable.
pub(crate) fn entries_mut(document: &mut Value, shape: RosterShape) -> Vec<&mut Map<String, Value>> {
    let Some(agents) = document.get_mut("agents") else { return Vec::new() };
    match shape {
        RosterShape::Entries => {
            let entries = agents.get_mut("entries").and_then(Value::as_object_mut);
            entries.into_iter().flat_map(Map::values_mut).filter_map(Value::as_object_mut).collect()
        }
        RosterShape::List => {
            let list = agents.get_mut("list").and_then(Value::as_array_mut);
            list.into_iter().flatten().filter_map(Value::as_object_mut).collect()
        }
    }
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

/// Adds the fields that the gateway itself adds when a roster gets its first agent beside `main`: with the workspace of `main`, if the
/// gateway has that agent.
pub(crate) fn migrate(document: &mut Value, shape: RosterShape, version: &str, main_workspace: Option<&String>) {
    if shape == RosterShape::List {
        document["meta"]["lastTouchedVersion"] = json!(version);
        return;
    }
    let written = written_entries(document);
    let main = written.and_then(|entries| entries.get(MAIN));
    let others = written.map_or(0, Map::len) - usize::from(main.is_some());
    let names_no_workspace = main.is_none_or(|main| main["workspace"].is_null());
    if let Some(main_workspace) = main_workspace.filter(|_| others > 0) {
        document["agents"]["ownership"] = json!("explicit");
        document["agents"]["defaults"]["systemAgent"] = json!({"agentId": MAIN});
        document["talk"] = json!({"agentId": MAIN});
        if names_no_workspace {
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
    let written: Vec<(String, Value)> =
        entries(document, other).into_iter().map(|(id, entry)| (id.to_owned(), entry.clone())).collect();
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
        migrate(&mut document, RosterShape::Entries, "v", Some(&"/main".to_owned()));
        assert_eq!(document["agents"]["ownership"], "explicit");
        remove(&mut document, RosterShape::Entries, "mc-1");
        assert!(document["agents"].get("ownership").is_none());
    }
}
