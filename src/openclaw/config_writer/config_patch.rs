//! The composition of one `config.patch`: queued entries, and `heartbeat` blocks of agents that Muster did not create.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::replaced_arrays::replaced_arrays;
use super::shared_blocks;
use crate::openclaw::channel::{CONFIG_WRITE_TIMEOUT, Requester};
use crate::openclaw::connection::payload::Payload;
use crate::openclaw::model::{AgentEntry, CallError, Inventory, RosterShape};

/// One `config.patch` with entries.
pub(crate) struct Patch {
    pub(crate) ids: Vec<String>,
    pub(crate) change: ConfigChange,
    /// The inventory that the patch was composed from.
    pub(crate) inventory: Arc<Inventory>,
}

/// A change of the config.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ConfigChange {
    /// The merge patch.
    pub(crate) raw: Value,
    /// The arrays that it replaces or removes.
    replaced: Vec<String>,
}

impl ConfigChange {
    /// Sends the change to a gateway with this inventory.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(crate) async fn send(&self, requester: &Requester, inventory: &Inventory) -> Result<Payload, CallError> {
        let with_entries = inventory.capabilities.roster == RosterShape::Entries;
        let patch = |params| requester.call("config.patch", params, CONFIG_WRITE_TIMEOUT);
        match patch(self.params(inventory, with_entries)).await {
            // Of the versions with `agents.list`, some want the arrays named, and the others do not know the parameter.
            Err(error) if !with_entries && error.asks_for_replaced_arrays() => {
                patch(self.params(inventory, true)).await
            }
            result => result,
        }
    }

    fn params(&self, inventory: &Inventory, names_arrays: bool) -> Value {
        let mut params = json!({ "raw": self.raw.to_string(), "baseHash": inventory.config_hash });
        if names_arrays && !self.replaced.is_empty() {
            params["replacePaths"] = json!(self.replaced);
        }
        params
    }
}

/// The keys of an entry that a deletion needs: the folders of the agent. `default` marks the agent of other settings.
const NEEDED_FOR_DELETION: [&str; 4] = ["id", "workspace", "agentDir", "default"];

/// The differing keys of the entries, and the blocks by the ids of their agents.
pub(crate) fn change(inventory: &Inventory, entries: &[&AgentEntry], blocks: &BTreeMap<String, Value>) -> ConfigChange {
    let patch = |entry: &AgentEntry| inventory.entry_patch(entry).unwrap_or_default();
    change_of(inventory, entries.iter().map(|entry| (entry.id.as_str(), patch(entry))).collect(), blocks)
}

/// The change that shortens the entry of an agent that is about to be deleted; `None` if nothing can be left out.
///
/// The agent has no more heartbeats. Its `heartbeat` block stays, because a config without any block gives heartbeats to other agents
/// (`docs/gateway-facts.md#heartbeats`).
pub(crate) fn shortened(inventory: &Inventory, agent_id: &str) -> Option<ConfigChange> {
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
    (!patch.is_empty()).then(|| change_of(inventory, vec![(agent_id, patch)], &BTreeMap::new()))
}

/// The change of these keys of entries by id.
fn change_of(
    inventory: &Inventory,
    entries: Vec<(&str, Map<String, Value>)>,
    blocks: &BTreeMap<String, Value>,
) -> ConfigChange {
    let replaced = replaced_arrays(inventory, entries.iter().map(|(id, patch)| (*id, patch)));
    ConfigChange { raw: merge_patch(inventory, entries, blocks), replaced }
}

fn merge_patch(
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
