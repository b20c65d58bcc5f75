//! The state that the controllers and the HTTP API share: the cached objects of Kubernetes (`cache`, `keys`, `caches`, `guarded`, `versions`,
//! `watch`, `scope`, `watch_retries`, `watch_health`), the reads and writes of Kubernetes (`store`, `kube_store`, `request_limits`,
//! `event_recorder`, `late_events`), the objects to reconcile after a change (`triggers`, `changes`), the reports of agents (`heartbeats`), the
//! inventories of gateways (`inventories`, `unmanaged`), the token Secrets of a moment ago (`recent_secrets`), and the access control (`authz`,
//! `kube_authz`).
//!
//! This folder uses the resources, the core and the values of gateways. It uses no controller and no HTTP.

pub mod authz;
pub mod cache;
mod caches;
pub mod changes;
mod compact;
mod event_recorder;
pub mod guarded;
pub mod heartbeats;
pub mod inventories;
mod keys;
pub mod kube_authz;
pub mod kube_store;
pub mod late_events;
pub mod recent_secrets;
mod request_limits;
mod scope;
pub mod store;
pub mod triggers;
pub mod unmanaged;
pub mod unreadable;
mod versions;
pub mod watch;
pub mod watch_health;
mod watch_retries;

pub use caches::Caches;

use self::kube_store::KubeStore;

/// The state that the controllers and the HTTP API share.
#[derive(Debug)]
pub struct State {
    /// Reads and writes of Kubernetes objects.
    pub store: KubeStore,
    /// Recent reports of agents.
    pub heartbeats: heartbeats::Heartbeats,
    /// The inventories of connected gateways.
    pub inventories: inventories::Inventories,
    /// The token Secrets that were read or written a moment ago.
    pub recent_secrets: recent_secrets::RecentSecrets,
}

impl State {
    /// The state with this store and without reports.
    #[must_use]
    pub fn new(store: KubeStore) -> Self {
        Self {
            store,
            heartbeats: heartbeats::Heartbeats::default(),
            inventories: inventories::Inventories::default(),
            recent_secrets: recent_secrets::RecentSecrets::default(),
        }
    }
}
