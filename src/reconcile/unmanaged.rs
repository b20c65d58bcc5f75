//! Agents that gateways have and no Agent resource declares.

use std::collections::BTreeSet;

use serde_json::Value;

use super::World;
use super::ports::{Key, Store};
use crate::plan::Binding;

/// An agent that a gateway has and no Agent resource declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmanaged {
    /// The AgentGateway.
    pub gateway: Key,
    /// The gateway's id of the agent.
    pub id: String,
    /// Its name on the gateway, if it has one.
    pub name: Option<String>,
}

/// Those agents on all gateways that can be asked, by gateway and id.
pub fn unmanaged<S: Store>(world: &World<S>) -> Vec<Unmanaged> {
    let agents = world.store.agents();
    let bound: BTreeSet<(Key, String)> = agents
        .iter()
        .filter_map(|agent| Binding::of(agent))
        .map(|binding| (Key::from(&binding.gateway), binding.identity.agent_id))
        .collect();
    let mut found = Vec::new();
    for (gateway, link) in world.gateways.links() {
        let Ok(inventory) = link.inventory() else { continue };
        let gateway = Key::from(&gateway);
        let free = inventory.agents.values().filter(|row| !bound.contains(&(gateway.clone(), row.id.clone())));
        found.extend(free.map(|row| {
            let name = row.entry.as_ref().and_then(|entry| entry.get("name")).and_then(Value::as_str);
            Unmanaged { gateway: gateway.clone(), id: row.id.clone(), name: name.map(str::to_owned) }
        }));
    }
    found.sort_by(|a, b| (&a.gateway, &a.id).cmp(&(&b.gateway, &b.id)));
    found
}
