//! The arrays that a `config.patch` replaces.
//!
//! A gateway from 2026.7.1 on refuses a patch that takes values out of an array, unless the parameter `replacePaths` names the array.
//! Earlier versions refuse the parameter (`docs/gateway-facts.md#config-writes`).

use serde_json::{Map, Value};

use crate::openclaw::model::{Inventory, RosterShape};

/// The most paths that the gateway takes in one patch.
const MAX_PATHS: usize = 256;

/// The paths of the arrays that the patches of these entries replace or remove. Muster sends every array whole.
pub(super) fn replaced_arrays<'a>(
    inventory: &Inventory,
    entries: impl IntoIterator<Item = (&'a str, &'a Map<String, Value>)>,
) -> Vec<String> {
    let mut paths = Vec::new();
    for (id, patch) in entries {
        let place = match inventory.capabilities.roster {
            RosterShape::Entries => format!("agents.entries.{id}"),
            RosterShape::List => "agents.list[]".to_owned(),
        };
        let Some(actual) = inventory.entry(id) else { continue };
        for (key, value) in patch {
            if let Some(actual) = actual.get(key) {
                add(&mut paths, &format!("{place}.{key}"), value, actual);
            }
        }
    }
    paths.sort_unstable();
    paths.dedup();
    // The gateway refuses the rest. The entries are then sent in halves.
    paths.truncate(MAX_PATHS);
    paths
}

fn add(paths: &mut Vec<String>, path: &str, change: &Value, actual: &Value) {
    match (change, actual) {
        (_, Value::Array(_)) => paths.push(path.to_owned()),
        (Value::Object(change), Value::Object(actual)) => {
            for (key, value) in change {
                if let Some(actual) = actual.get(key) {
                    add(paths, &format!("{path}.{key}"), value, actual);
                }
            }
        }
        // An object that goes takes its arrays along.
        (_, Value::Object(actual)) => {
            for (key, value) in actual {
                add(paths, &format!("{path}.{key}"), change, value);
            }
        }
        (_, Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;
    use crate::openclaw::model::inventory::assemble;
    use crate::openclaw::model::roster::{ConfigAnswer, RosterAnswer};
    use crate::openclaw::model::{AgentRow, StoredEntry};

    fn paths(shape: RosterShape, entry: &Value, patch: &Value) -> Vec<String> {
        let config = ConfigAnswer::read(&json!({ "resolved": {}, "config": {} }).to_string()).unwrap();
        let mut inventory = assemble(config, &RosterAnswer::default(), &BTreeSet::new(), false);
        inventory.capabilities.roster = shape;
        let row =
            AgentRow { id: "mc-1".into(), entry: entry.as_object().map(StoredEntry::from), ..AgentRow::default() };
        inventory.agents.insert("mc-1".into(), row);
        replaced_arrays(&inventory, [("mc-1", patch.as_object().unwrap()), ("mc-2", patch.as_object().unwrap())])
    }

    #[test]
    fn arrays_of_an_entry_that_a_patch_sets_or_removes_are_named() {
        let entry = json!({
            "model": { "primary": "p/m", "fallbacks": ["p/1"] },
            "tools": { "deny": ["exec"], "allow": ["read"] },
            "skills": ["a"],
            "sandbox": { "docker": { "binds": ["/x"] } },
        });
        let patch = json!({ "model": null, "tools": { "deny": ["x"] }, "skills": null, "sandbox": "off", "name": "n" });
        let of = |place: &str| {
            ["model.fallbacks", "sandbox.docker.binds", "skills", "tools.deny"].map(|path| format!("{place}.{path}"))
        };
        assert_eq!(paths(RosterShape::Entries, &entry, &patch), of("agents.entries.mc-1"));
        assert_eq!(paths(RosterShape::List, &entry, &patch), of("agents.list[]"));
        assert_eq!(paths(RosterShape::Entries, &json!({ "name": "m" }), &patch), [""; 0], "a new array replaces none");
    }
}
