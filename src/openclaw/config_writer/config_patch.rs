//! The composition of one `config.patch`: queued entries, and `heartbeat` blocks of agents that Muster did not create.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::openclaw::config_writer::shared_blocks;
use crate::openclaw::model::{AgentEntry, Inventory, RosterShape};

/// One `config.patch`.
pub(crate) struct Patch {
    pub(crate) ids: Vec<String>,
    pub(crate) raw: Value,
    /// The inventory that the patch was composed from.
    pub(crate) inventory: Arc<Inventory>,
}

/// The merge patch: the differing keys of the entries, and the blocks by the ids of their agents.
pub(crate) fn raw(inventory: &Inventory, entries: &[&AgentEntry], blocks: &BTreeMap<String, Value>) -> Value {
    let patch =
        |entry: &AgentEntry| -> Map<String, Value> { entry.patch(inventory.entry(&entry.id)).unwrap_or_default() };
    match inventory.capabilities.roster {
        RosterShape::Entries => {
            let mut patches: Map<_, _> = entries.iter().map(|e| (e.id.clone(), Value::Object(patch(e)))).collect();
            shared_blocks::into_entries(&mut patches, blocks);
            let mut agents = json!({ "entries": patches });
            // Required with the first entry of a second agent. A repetition changes nothing.
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
            let mut list: Vec<_> = unconfigured_agents(inventory).chain(entries.iter().map(entry)).collect();
            shared_blocks::into_list(&mut list, blocks);
            json!({ "agents": { "list": list } })
        }
    }
}

/// Entries for the agents in the roster that no config entry names. A list without them would remove these agents. They come first,
/// so that the default agent stays the default (`docs/gateway-facts.md#agents`).
fn unconfigured_agents(inventory: &Inventory) -> impl Iterator<Item = Value> {
    let none_written = inventory.agents.values().all(|row| row.entry.is_none());
    let served = inventory.agents.values().filter(move |row| none_written && row.in_roster);
    served.map(|row| json!({ "id": row.id }))
}
