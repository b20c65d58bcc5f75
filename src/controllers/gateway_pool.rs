//! The connections to gateways, one per AgentGateway.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::gateway_handle::GatewayHandle;
use super::run_changes::RunChanges;
use crate::api::object_key::ObjectKey;
use crate::core::gateway_ref::address;
use crate::openclaw::{Change, ConnectionSettings, Dial, GatewayClient, Meter, RosterQueue, WeakRosterQueue};
use crate::state::changes::{ChangeScope, GatewayChange, STARTUP_GRACE};
use crate::state::inventories::Inventories;

/// The connections to gateways. Each AgentGateway has a client of its own. AgentGateways with one URL share a roster queue, so that
/// their writes to the gateway's config and roster never overlap.
pub struct GatewayPool {
    created: Instant,
    dial: Arc<dyn Dial>,
    meter: Arc<dyn Meter>,
    handles: Mutex<HashMap<ObjectKey, Open>>,
    /// The roster queues by the address of their gateway, as long as a client has them.
    queues: Mutex<HashMap<String, WeakRosterQueue>>,
    changes: mpsc::UnboundedSender<GatewayChange>,
    inventories: Inventories,
}

struct Open {
    fingerprint: String,
    address: String,
    handle: Arc<GatewayHandle>,
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
    /// A pool without connections. It counts requests in `meter`, sends the changes on gateways to `changes`, and publishes the
    /// inventories of the gateways in `inventories`.
    #[must_use]
    pub fn new(
        dial: Arc<dyn Dial>,
        meter: Arc<dyn Meter>,
        changes: mpsc::UnboundedSender<GatewayChange>,
        inventories: Inventories,
    ) -> Self {
        Self {
            created: Instant::now(),
            dial,
            meter,
            handles: Mutex::default(),
            queues: Mutex::default(),
            changes,
            inventories,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectKey, Open>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The handle of a gateway, if its connection was opened.
    #[must_use]
    pub fn handle(&self, key: &ObjectKey) -> Option<Arc<GatewayHandle>> {
        self.lock().get(key).map(|open| Arc::clone(&open.handle))
    }

    /// The handle of a gateway, if its connection was opened to this address.
    #[must_use]
    pub fn handle_at(&self, key: &ObjectKey, address: &str) -> Option<Arc<GatewayHandle>> {
        self.lock().get(key).filter(|open| open.address == address).map(|open| Arc::clone(&open.handle))
    }

    /// Whether the connection to a gateway has been opening for less than [`STARTUP_GRACE`]. Meanwhile the recorded status stays, so
    /// that a restart of the operator changes no status.
    #[must_use]
    pub fn is_starting(&self, key: &ObjectKey) -> bool {
        match self.handle(key) {
            Some(handle) => handle.is_starting(),
            None => self.created.elapsed() < STARTUP_GRACE,
        }
    }

    /// Whether the connection to a gateway is opening, or was lost less than [`STARTUP_GRACE`] ago. Meanwhile the recorded status of
    /// its agents stays, so that a restart of the gateway changes no condition of theirs.
    #[must_use]
    pub fn is_settling(&self, key: &ObjectKey) -> bool {
        self.is_starting(key) || self.handle(key).is_some_and(|handle| handle.is_briefly_away())
    }

    /// The handles of all gateways.
    #[must_use]
    pub fn handles(&self) -> Vec<(ObjectKey, Arc<GatewayHandle>)> {
        self.lock().iter().map(|(key, open)| (key.clone(), Arc::clone(&open.handle))).collect()
    }

    /// Wakes Agents for places at gateways that no woken Agent took.
    pub fn wake_overdue(&self) {
        for (_, handle) in self.handles() {
            handle.wake_overdue();
        }
    }

    /// Opens the connection, or replaces it when `fingerprint` differs from that of the open connection.
    ///
    /// Must be called within a tokio runtime.
    pub fn ensure(
        &self,
        key: &ObjectKey,
        fingerprint: &str,
        places: usize,
        settings: impl FnOnce() -> ConnectionSettings,
    ) -> Arc<GatewayHandle> {
        let mut handles = self.lock();
        if let Some(open) = handles.get(key).filter(|open| open.fingerprint == fingerprint) {
            return Arc::clone(&open.handle);
        }
        let settings = settings();
        let resync = settings.resync;
        let address = address(settings.url.as_str());
        let queue = self.queue(&address);
        let gateway = GatewayClient::open_with_queue(settings, Arc::clone(&self.dial), Arc::clone(&self.meter), queue);
        let forwarder = tokio::spawn(forward(key.clone(), gateway.clone(), self.changes.clone())).abort_handle();
        let handle = Arc::new(GatewayHandle::new(key.clone(), gateway, places, resync, self.changes.clone()));
        let reader = Arc::downgrade(&handle);
        self.inventories.add(key.clone(), Arc::new(move || reader.upgrade()?.inventory().ok()));
        let open = Open { fingerprint: fingerprint.to_owned(), address, handle: Arc::clone(&handle), forwarder };
        handles.insert(key.clone(), open);
        handle
    }

    /// The roster queue of a gateway. Queues without a client are forgotten.
    fn queue(&self, address: &str) -> RosterQueue {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|_, queue| queue.upgrade().is_some());
        if let Some(queue) = queues.get(address).and_then(WeakRosterQueue::upgrade) {
            return queue;
        }
        let queue = RosterQueue::start();
        queues.insert(address.to_owned(), queue.downgrade());
        queue
    }

    /// Closes the connection to a gateway.
    pub fn close(&self, key: &ObjectKey) {
        self.inventories.remove(key);
        self.lock().remove(key);
    }
}

/// Forwards the changes of one gateway.
async fn forward(key: ObjectKey, gateway: GatewayClient, changes: mpsc::UnboundedSender<GatewayChange>) {
    let mut stream = gateway.changes();
    let mut connection = gateway.connection();
    drop(gateway);
    let mut runs = RunChanges::default();
    loop {
        let due = runs.due();
        // Each branch is cancel-safe: a watch, a channel and a timer.
        let scope = tokio::select! {
            biased;
            state = connection.changed() => match state {
                Ok(()) => ChangeScope::AllAgents,
                Err(_) => return,
            },
            change = stream.recv() => match change {
                Ok(Change::Agent(id)) => ChangeScope::AgentId(id),
                Ok(Change::Run(id)) => match runs.admit(id, Instant::now()) {
                    Some(id) => ChangeScope::AgentId(id),
                    None => continue,
                },
                Ok(Change::Gateway) => ChangeScope::GatewayOnly,
                Ok(Change::Connection | Change::Roster) | Err(RecvError::Lagged(_)) => ChangeScope::AllAgents,
                Err(RecvError::Closed) => return,
            },
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => match runs.next_due() {
                Some(id) => ChangeScope::AgentId(id),
                None => continue,
            },
        };
        if changes.send(GatewayChange { gateway: key.clone(), scope }).is_err() {
            return;
        }
    }
}
