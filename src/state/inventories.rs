//! The inventories of connected gateways, for readers without a connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::api::object_key::ObjectKey;
use crate::openclaw::model::Inventory;

/// Reads the current inventory of one gateway; `None` while its roster and its config are unknown.
pub type ReadInventory = Arc<dyn Fn() -> Option<Arc<Inventory>> + Send + Sync>;

/// The inventories of the gateways with a client, by AgentGateway. Clones share the inventories.
#[derive(Clone, Default)]
pub struct Inventories(Arc<Mutex<HashMap<ObjectKey, ReadInventory>>>);

impl std::fmt::Debug for Inventories {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.lock().keys()).finish()
    }
}

impl Inventories {
    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectKey, ReadInventory>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a gateway with a new client. The client replaces an earlier client of the same AgentGateway.
    pub fn add(&self, gateway: ObjectKey, read: ReadInventory) {
        self.lock().insert(gateway, read);
    }

    /// Removes a gateway whose client was closed.
    pub fn remove(&self, gateway: &ObjectKey) {
        self.lock().remove(gateway);
    }

    /// The inventories that are currently known, by AgentGateway.
    #[must_use]
    pub fn known(&self) -> Vec<(ObjectKey, Arc<Inventory>)> {
        self.lock().iter().filter_map(|(key, read)| Some((key.clone(), read()?))).collect()
    }
}
