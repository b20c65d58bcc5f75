//! The agents that gateways have and no Agent resource declares.

use super::State;
use super::store::Store;
use crate::core::gateway::census::{self, Unmanaged};

/// These agents on all gateways whose inventory is known, by gateway and id.
pub fn on_all_gateways<S: Store>(state: &State<S>) -> Vec<Unmanaged> {
    let known = state.inventories.known();
    let mut found: Vec<_> =
        known.iter().flat_map(|(key, inventory)| census::unmanaged(&state.store, key, inventory)).collect();
    found.sort_by(|a, b| (&a.gateway, &a.id).cmp(&(&b.gateway, &b.id)));
    found
}
