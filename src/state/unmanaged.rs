//! The agents that gateways have and no Agent resource declares.

use std::collections::BTreeSet;

use super::State;
use crate::api::object_key::ObjectKey;
use crate::core::gateway::census::{self, Unmanaged};

/// The gateways whose inventory is known, and that have an agent with the id `having` if one is given.
pub fn known_gateways(state: &State, having: Option<&str>) -> BTreeSet<ObjectKey> {
    let known = state.inventories.known().into_iter();
    let having = known.filter(|(_, inventory)| having.is_none_or(|id| inventory.agents.contains_key(id)));
    having.map(|(key, _)| key).collect()
}

/// These agents on some gateways, by gateway and id.
pub fn on_gateways(state: &State, gateways: &BTreeSet<ObjectKey>) -> Vec<Unmanaged> {
    let mut known = state.inventories.known();
    known.retain(|(key, _)| gateways.contains(key));
    known.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    known.iter().flat_map(|(key, inventory)| census::unmanaged(&state.store, key, inventory)).collect()
}
