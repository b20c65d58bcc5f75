//! The Kubernetes side: caches, triggers, controllers.

pub mod access;
pub mod controllers;
pub mod store;
pub mod triggers;
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
