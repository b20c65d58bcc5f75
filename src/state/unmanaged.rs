//! Agents on gateways without an Agent resource.

use std::collections::BTreeSet;

use serde_json::Value;

use super::State;
use crate::api::object_key::ObjectKey;
use crate::core::agent::binding::Binding;
use crate::core::gateway_ref::is_same_gateway;
use crate::core::objects::Objects;
use crate::openclaw::model::{AgentRow, Inventory, clean, literal};
use crate::state::store::Store;

/// An agent on a gateway without an Agent resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmanaged {
    /// The AgentGateway.
    pub gateway: ObjectKey,
    /// The gateway's id of the agent.
    pub id: String,
    /// The agent's name on the gateway, if the agent has a name.
    pub name: Option<String>,
}

/// The unmanaged agents on all gateways with a known inventory, sorted by gateway and id.
pub fn on_all_gateways<S: Store>(state: &State<S>) -> Vec<Unmanaged> {
    let known = state.inventories.known();
    let mut found: Vec<_> =
        known.iter().flat_map(|(key, inventory)| on_gateway(&state.store, key, inventory)).collect();
    found.sort_by(|a, b| (&a.gateway, &a.id).cmp(&(&b.gateway, &b.id)));
    found
}

/// The unmanaged agents on one gateway, sorted by id.
pub fn on_gateway<O: Objects>(objects: &O, gateway: &ObjectKey, inventory: &Inventory) -> Vec<Unmanaged> {
    let agents = objects.agents();
    let bindings = agents.iter().filter_map(|agent| Binding::of(agent));
    let here = bindings.filter(|binding| is_same_gateway(objects, &binding.gateway, gateway));
    let bound: BTreeSet<String> = here.map(|binding| binding.identity.agent_id).collect();
    let free = inventory.agents.values().filter(|row| !bound.contains(&row.id));
    free.map(|row| Unmanaged { gateway: gateway.clone(), id: row.id.clone(), name: name(row) }).collect()
}

fn name(row: &AgentRow) -> Option<String> {
    let name = row.entry.as_ref().and_then(|entry| entry.get("name")).and_then(Value::as_str)?;
    // A name with a variable of the gateway's environment is shown as the config contains it, not with the variable's value.
    Some(clean(&literal(name).unwrap_or_else(|| name.to_owned())))
}
