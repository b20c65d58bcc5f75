//! One `config.patch`: these entries, these blocks of others, and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::openclaw::config_writer::shared_blocks;
use crate::openclaw::model::{AgentEntry, Inventory, RosterShape};

/// One `config.patch`.
pub(crate) struct Patch {
    pub(crate) ids: Vec<String>,
    pub(crate) raw: Value,
    /// What it is based on.
    pub(crate) inventory: Arc<Inventory>,
}

/// The merge patch of these entries and of these `heartbeat` blocks of others, and of nothing else.
pub(crate) fn raw(inventory: &Inventory, entries: &[&AgentEntry], blocks: &BTreeMap<String, Value>) -> Value {
    let patch = |entry: &AgentEntry| -> Map<String, Value> {
        let is = inventory.agents.get(&entry.id).and_then(|row| row.entry.as_ref());
        entry.patch(is).unwrap_or_default()
    };
    match inventory.capabilities.roster {
        RosterShape::Entries => {
            let mut patches: Map<_, _> = entries.iter().map(|e| (e.id.clone(), Value::Object(patch(e)))).collect();
            shared_blocks::into_entries(&mut patches, blocks);
            let mut agents = json!({ "entries": patches });
            // The first patch of several agents has to say it; saying it again changes nothing.
            if !inventory.explicit_ownership && !entries.is_empty() {
                agents["ownership"] = json!("explicit");
            }
            json!({ "agents": agents })
        }
        RosterShape::List => {
            let entry = |e: &&AgentEntry| {
                let mut patch = patch(e);
                patch.insert("id".into(), json!(e.id));
                Value::Object(patch)
            };
            let mut list: Vec<_> = implicit(inventory).chain(entries.iter().map(entry)).collect();
            shared_blocks::into_list(&mut list, blocks);
            json!({ "agents": { "list": list } })
        }
    }
}

/// Entries for the agents that are served without one. A list that names others would end them (measured): the first agent
/// that is written has to be written beside them, in front of it, so that the default stays the default.
fn implicit(inventory: &Inventory) -> impl Iterator<Item = Value> {
    let none_written = inventory.agents.values().all(|row| row.entry.is_none());
    let served = inventory.agents.values().filter(move |row| none_written && row.in_roster);
    served.map(|row| json!({ "id": row.id }))
}
