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

/// The keys of an entry that a deletion needs: the folders of the agent. `default` marks the agent of other settings.
const NEEDED_FOR_DELETION: [&str; 4] = ["id", "workspace", "agentDir", "default"];

/// The merge patch: the differing keys of the entries, and the blocks by the ids of their agents.
pub(crate) fn raw(inventory: &Inventory, entries: &[&AgentEntry], blocks: &BTreeMap<String, Value>) -> Value {
    let patch = |entry: &AgentEntry| entry.patch(inventory.entry(&entry.id)).unwrap_or_default();
    patch_of(inventory, entries.iter().map(|entry| (entry.id.as_str(), patch(entry))).collect(), blocks)
}

/// The merge patch that shortens the entry of an agent that is about to be deleted; `None` if nothing can be left out.
///
/// The agent has no more heartbeats. Its `heartbeat` block stays, because a config without any block gives heartbeats to other agents
/// (`docs/gateway-facts.md#heartbeats`).
pub(crate) fn shortened(inventory: &Inventory, agent_id: &str) -> Option<Value> {
    let entry = inventory.entry(agent_id)?;
    let mut patch = Map::new();
    for (key, value) in entry.iter().filter(|(key, _)| !NEEDED_FOR_DELETION.contains(&key.as_str())) {
        let heartbeat = value.as_object().filter(|_| key == "heartbeat");
        let Some(heartbeat) = heartbeat else {
            patch.insert(key.clone(), Value::Null);
            continue;
        };
        let rest = heartbeat.keys().filter(|key| *key != "every").map(|key| (key.clone(), Value::Null));
        let block: Map<_, _> = rest.collect();
        if !block.is_empty() {
            let off = [("every".to_owned(), json!("0m"))];
            patch.insert(key.clone(), Value::Object(block.into_iter().chain(off).collect()));
        }
    }
    (!patch.is_empty()).then(|| patch_of(inventory, vec![(agent_id, patch)], &BTreeMap::new()))
}

/// The merge patch with these keys of entries by id.
fn patch_of(
    inventory: &Inventory,
    entries: Vec<(&str, Map<String, Value>)>,
    blocks: &BTreeMap<String, Value>,
) -> Value {
    match inventory.capabilities.roster {
        RosterShape::Entries => {
            let is_first = !inventory.explicit_ownership && !entries.is_empty();
            let mut patches: Map<_, _> =
                entries.into_iter().map(|(id, patch)| (id.to_owned(), Value::Object(patch))).collect();
            shared_blocks::into_entries(&mut patches, blocks);
            let mut agents = json!({ "entries": patches });
            // Required with the first entry of a second agent. A repetition changes nothing.
            if is_first {
                agents["ownership"] = json!("explicit");
            }
            json!({ "agents": agents })
        }
        RosterShape::List => {
            let entry = |(id, mut patch): (&str, Map<String, Value>)| {
                patch.insert("id".into(), json!(id));
                Value::Object(patch)
            };
            let mut list: Vec<_> = unconfigured_agents(inventory).chain(entries.into_iter().map(entry)).collect();
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
