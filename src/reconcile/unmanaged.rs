//! Agents that gateways have and no Agent resource declares.

use std::collections::BTreeSet;

use serde_json::Value;

use super::World;
use super::ports::{Key, Store};
use super::references::same_gateway;
use crate::api::agent::GatewayKey;
use crate::gateway::{self, AgentRow, Inventory};
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
    let mut found = Vec::new();
    for (gateway, link) in world.gateways.links() {
        if let Ok(inventory) = link.inventory() {
            found.extend(on(&world.store, &gateway, &inventory));
        }
    }
    found.sort_by(|a, b| (&a.gateway, &a.id).cmp(&(&b.gateway, &b.id)));
    found
}

/// Those agents on one gateway, by id.
pub fn on<S: Store>(store: &S, gateway: &GatewayKey, inventory: &Inventory) -> Vec<Unmanaged> {
    let agents = store.agents();
    let bindings = agents.iter().filter_map(|agent| Binding::of(agent));
    let here = bindings.filter(|binding| same_gateway(store, &binding.gateway, gateway));
    let bound: BTreeSet<String> = here.map(|binding| binding.identity.agent_id).collect();
    let free = inventory.agents.values().filter(|row| !bound.contains(&row.id));
    free.map(|row| Unmanaged { gateway: Key::from(gateway), id: row.id.clone(), name: name(row) }).collect()
}

fn name(row: &AgentRow) -> Option<String> {
    let name = row.entry.as_ref().and_then(|entry| entry.get("name")).and_then(Value::as_str)?;
    // A name that is taken from the gateway's environment is shown as it stands in the config, and not as what it became.
    Some(gateway::clean(&gateway::literal(name).unwrap_or_else(|| name.to_owned())))
}
