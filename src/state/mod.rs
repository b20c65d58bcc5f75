//! What the controllers and the HTTP API share: the objects of Kubernetes as they were last seen (`watch`, `kube_store`), the writes to
//! Kubernetes (`store`), which object is looked at after a change (`triggers`, `changes`), what agents reported (`heartbeats`), the
//! table of tokens, and who may do what (`authz`).
//!
//! This folder knows the resources, the core and the values of gateways. It knows no controller and no HTTP.

pub mod authz;
pub mod changes;
pub mod heartbeats;
pub mod inventories;
pub mod kube_authz;
pub mod kube_store;
pub mod store;
pub mod tokens;
pub mod triggers;
pub mod unmanaged;
pub mod watch;

use kube::core::DeserializeGuard;
use kube::runtime::reflector;

use crate::api::{Agent, AgentGateway, Board};

/// The cache of one kind. An object that cannot be read is there too, and stops no other.
pub type Cache<K> = reflector::Store<DeserializeGuard<K>>;

/// The caches of the three kinds.
#[derive(Clone, Debug)]
pub struct Caches {
    /// Agents.
    pub agents: Cache<Agent>,
    /// Boards.
    pub boards: Cache<Board>,
    /// AgentGateways.
    pub gateways: Cache<AgentGateway>,
}

/// What the controllers and the HTTP API share.
#[derive(Debug)]
pub struct State<S> {
    /// The objects of Kubernetes, and writes to them.
    pub store: S,
    /// What agents reported lately.
    pub heartbeats: heartbeats::Heartbeats,
    /// What the gateways have that are connected.
    pub inventories: inventories::Inventories,
}

impl<S> State<S> {
    /// The state over a store, before anything was reported.
    #[must_use]
    pub fn new(store: S) -> Self {
        Self { store, heartbeats: heartbeats::Heartbeats::default(), inventories: inventories::Inventories::default() }
    }
}
