//! The connections to gateways, one for each AgentGateway.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::gateway_handle::GatewayHandle;
use crate::api::object_key::ObjectKey;
use crate::openclaw::{Change, ConnectionSettings, Dial, GatewayClient, Meter};
use crate::state::changes::{ChangeScope, GatewayChange, STARTUP_GRACE};
use crate::state::inventories::Inventories;

/// The connections to gateways.
pub struct GatewayPool {
    created: Instant,
    dial: Arc<dyn Dial>,
    meter: Arc<dyn Meter>,
    links: Mutex<HashMap<ObjectKey, Open>>,
    changes: mpsc::UnboundedSender<GatewayChange>,
    inventories: Inventories,
}

struct Open {
    fingerprint: String,
    link: Arc<GatewayHandle>,
    forwarder: AbortHandle,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.forwarder.abort();
    }
}

impl fmt::Debug for GatewayPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.lock().keys()).finish()
    }
}

impl GatewayPool {
    /// A pool without a connection. It counts requests in `meter`, sends what changes on gateways to `changes`, and publishes in
    /// `inventories` what the gateways have.
    #[must_use]
    pub fn new(
        dial: Arc<dyn Dial>,
        meter: Arc<dyn Meter>,
        changes: mpsc::UnboundedSender<GatewayChange>,
        inventories: Inventories,
    ) -> Self {
        Self { created: Instant::now(), dial, meter, links: Mutex::default(), changes, inventories }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectKey, Open>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection to a gateway, if one is open.
    #[must_use]
    pub fn handle(&self, key: &ObjectKey) -> Option<Arc<GatewayHandle>> {
        self.lock().get(key).map(|open| Arc::clone(&open.link))
    }

    /// Whether the connection to a gateway is being made since so short a time that nothing can be said of it yet: what
    /// was last seen of the gateway and its agents stands, so that a restart of the operator changes no status.
    #[must_use]
    pub fn is_starting(&self, key: &ObjectKey) -> bool {
        match self.handle(key) {
            Some(link) => link.is_starting(),
            None => self.created.elapsed() < STARTUP_GRACE,
        }
    }

    /// Whether nothing can be said of the agents of a gateway yet: its connection is being made, or was lost a moment
    /// ago. What was last seen of them stands meanwhile, so that a restart of the gateway does not make them flap.
    #[must_use]
    pub fn is_settling(&self, key: &ObjectKey) -> bool {
        self.is_starting(key) || self.handle(key).is_some_and(|link| link.is_briefly_away())
    }

    /// Every open connection.
    #[must_use]
    pub fn handles(&self) -> Vec<(ObjectKey, Arc<GatewayHandle>)> {
        self.lock().iter().map(|(key, open)| (key.clone(), Arc::clone(&open.link))).collect()
    }

    /// Opens the connection, or replaces it when `fingerprint` says that its settings are other ones.
    ///
    /// Must be called within a tokio runtime.
    pub fn ensure(
        &self,
        key: &ObjectKey,
        fingerprint: &str,
        settings: impl FnOnce() -> ConnectionSettings,
    ) -> Arc<GatewayHandle> {
        let mut links = self.lock();
        if let Some(open) = links.get(key).filter(|open| open.fingerprint == fingerprint) {
            return Arc::clone(&open.link);
        }
        let settings = settings();
        let slots = settings.max_in_flight;
        let resync = settings.resync;
        let gateway = GatewayClient::open(settings, Arc::clone(&self.dial), Arc::clone(&self.meter));
        let forwarder = tokio::spawn(forward(key.clone(), gateway.clone(), self.changes.clone())).abort_handle();
        let link = Arc::new(GatewayHandle::new(key.clone(), gateway, slots, resync, self.changes.clone()));
        let reader = Arc::downgrade(&link);
        self.inventories.add(key.clone(), Arc::new(move || reader.upgrade()?.inventory().ok()));
        links.insert(key.clone(), Open { fingerprint: fingerprint.to_owned(), link: Arc::clone(&link), forwarder });
        link
    }

    /// Closes the connection to a gateway.
    pub fn close(&self, key: &ObjectKey) {
        self.inventories.remove(key);
        self.lock().remove(key);
    }

    /// Closes all connections.
    pub fn close_all(&self) {
        let mut links = self.lock();
        for (key, _) in links.drain() {
            self.inventories.remove(&key);
        }
    }
}

/// Passes on what changes at one gateway.
async fn forward(key: ObjectKey, gateway: GatewayClient, changes: mpsc::UnboundedSender<GatewayChange>) {
    let mut stream = gateway.changes();
    let mut links = gateway.connection();
    drop(gateway);
    loop {
        let scope = tokio::select! {
            biased;
            link = links.changed() => match link {
                Ok(()) => ChangeScope::AllAgents,
                Err(_) => return,
            },
            change = stream.recv() => match change {
                Ok(Change::Agent(id) | Change::Run(id)) => ChangeScope::AgentId(id),
                Ok(Change::Heartbeats) => ChangeScope::GatewayOnly,
                Ok(Change::Connection | Change::Roster) | Err(RecvError::Lagged(_)) => ChangeScope::AllAgents,
                Err(RecvError::Closed) => return,
            },
        };
        if changes.send(GatewayChange { gateway: key.clone(), scope }).is_err() {
            return;
        }
    }
}
