//! The cached objects of Kubernetes.

use std::sync::Arc;

use kube::api::ObjectMeta;

use crate::api::object_key::ObjectKey;
use crate::api::{Agent, AgentGateway, Board};

/// The cached objects of Kubernetes. A read costs no request.
pub trait Objects {
    /// One Agent.
    fn agent(&self, key: &ObjectKey) -> Option<Arc<Agent>>;
    /// One Board.
    fn board(&self, key: &ObjectKey) -> Option<Arc<Board>>;
    /// One AgentGateway.
    fn gateway(&self, key: &ObjectKey) -> Option<Arc<AgentGateway>>;
    /// All Agents.
    fn agents(&self) -> Vec<Arc<Agent>>;
    /// All Boards.
    fn boards(&self) -> Vec<Arc<Board>>;
    /// All AgentGateways.
    fn gateways(&self) -> Vec<Arc<AgentGateway>>;
    /// The metadata of the Agents that exist and that this version cannot decode.
    fn unreadable_agents(&self) -> Vec<ObjectMeta>;
    /// The metadata of the AgentGateways that exist and that this version cannot decode.
    fn unreadable_gateways(&self) -> Vec<ObjectMeta>;
}
