//! What each connected gateway has, for readers that hold no connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::api::object_key::ObjectKey;
use crate::openclaw::model::Inventory;

/// Reads what one gateway has now; `None` while its roster and its config are not known.
pub type ReadInventory = Arc<dyn Fn() -> Option<Arc<Inventory>> + Send + Sync>;

/// The inventories of the gateways that have a client, by AgentGateway. A clone shares them.
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

    /// Takes up a gateway whose client was opened. An earlier client of the same AgentGateway is replaced.
    pub fn add(&self, gateway: ObjectKey, read: ReadInventory) {
        self.lock().insert(gateway, read);
    }

    /// Drops a gateway whose client was closed.
    pub fn remove(&self, gateway: &ObjectKey) {
        self.lock().remove(gateway);
    }

    /// The inventories that are known now, by AgentGateway.
    #[must_use]
    pub fn known(&self) -> Vec<(ObjectKey, Arc<Inventory>)> {
        self.lock().iter().filter_map(|(key, read)| Some((key.clone(), read()?))).collect()
    }
}
