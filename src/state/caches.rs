//! The caches of the three kinds.

use super::cache::Cache;
use crate::api::{Agent, AgentGateway, Board};

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

impl Caches {
    /// Whether the caches had all objects of a namespace.
    #[must_use]
    pub fn are_complete(&self, namespace: &str) -> bool {
        let Self { agents, boards, gateways } = self;
        agents.is_complete(namespace) && boards.is_complete(namespace) && gateways.is_complete(namespace)
    }
}
