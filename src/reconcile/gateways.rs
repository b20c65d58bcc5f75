//! The connections to gateways, one for each AgentGateway.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::link::Link;
use crate::api::agent::GatewayKey;
use crate::gateway::{Change, Dial, Gateway, Meter, Settings};

/// Something changed on a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The gateway.
    pub gateway: GatewayKey,
    /// The agent that it concerns; all of them when `None`.
    pub agent_id: Option<String>,
}

/// The connections to gateways.
pub struct Gateways {
    dial: Arc<dyn Dial>,
    meter: Arc<dyn Meter>,
    links: Mutex<HashMap<GatewayKey, Open>>,
    changes: mpsc::UnboundedSender<Changed>,
}

struct Open {
    fingerprint: String,
    link: Arc<Link>,
    forwarder: AbortHandle,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.forwarder.abort();
    }
}

impl fmt::Debug for Gateways {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.lock().keys()).finish()
    }
}

impl Gateways {
    /// No connection yet. Requests are told to `meter`, what changes on gateways to `changes`.
    #[must_use]
    pub fn new(dial: Arc<dyn Dial>, meter: Arc<dyn Meter>, changes: mpsc::UnboundedSender<Changed>) -> Self {
        Self { dial, meter, links: Mutex::default(), changes }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<GatewayKey, Open>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection to a gateway, if one is open.
    #[must_use]
    pub fn link(&self, key: &GatewayKey) -> Option<Arc<Link>> {
        self.lock().get(key).map(|open| Arc::clone(&open.link))
    }

    /// Every open connection.
    #[must_use]
    pub fn links(&self) -> Vec<(GatewayKey, Arc<Link>)> {
        self.lock().iter().map(|(key, open)| (key.clone(), Arc::clone(&open.link))).collect()
    }

    /// Opens the connection, or replaces it when `fingerprint` says that its settings are other ones.
    ///
    /// Must be called within a tokio runtime.
    pub fn ensure(&self, key: &GatewayKey, fingerprint: &str, settings: impl FnOnce() -> Settings) -> Arc<Link> {
        let mut links = self.lock();
        if let Some(open) = links.get(key).filter(|open| open.fingerprint == fingerprint) {
            return Arc::clone(&open.link);
        }
        let settings = settings();
        let slots = settings.max_in_flight;
        let resync = settings.resync;
        let gateway = Gateway::open(settings, Arc::clone(&self.dial), Arc::clone(&self.meter));
        let forwarder = tokio::spawn(forward(key.clone(), gateway.clone(), self.changes.clone())).abort_handle();
        let link = Arc::new(Link::new(key.clone(), gateway, slots, resync, self.changes.clone()));
        links.insert(key.clone(), Open { fingerprint: fingerprint.to_owned(), link: Arc::clone(&link), forwarder });
        link
    }

    /// Closes the connection to a gateway.
    pub fn close(&self, key: &GatewayKey) {
        self.lock().remove(key);
    }

    /// Closes all connections.
    pub fn close_all(&self) {
        self.lock().clear();
    }
}

/// Passes on what changes at one gateway.
async fn forward(key: GatewayKey, gateway: Gateway, changes: mpsc::UnboundedSender<Changed>) {
    let mut stream = gateway.changes();
    let mut links = gateway.link();
    drop(gateway);
    loop {
        let agent_id = tokio::select! {
            biased;
            link = links.changed() => match link {
                Ok(()) => None,
                Err(_) => return,
            },
            change = stream.recv() => match change {
                Ok(Change::Agent(id)) => Some(id),
                Ok(Change::Sessions(_)) => continue,
                Ok(Change::Link | Change::Roster) | Err(RecvError::Lagged(_)) => None,
                Err(RecvError::Closed) => return,
            },
        };
        if changes.send(Changed { gateway: key.clone(), agent_id }).is_err() {
            return;
        }
    }
}
