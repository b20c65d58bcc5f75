//! The references of an agent.

use std::sync::Arc;

use jiff::Timestamp;

use super::resolved_names::ResolvedNames;
use super::soul_files::RoleSoul;
use super::templates::Templates;
use super::token::secret::Token;
use crate::api::object_key::ObjectKey;
use crate::api::{AgentGateway, Board};
use crate::core::requests::Requests;

/// The resolved references of an agent.
#[derive(Clone, Debug)]
pub struct References {
    /// Its board; a Main agent has none.
    pub board: Option<Arc<Board>>,
    /// Its gateway.
    pub gateway: Arc<AgentGateway>,
    /// The gateway's key.
    pub gateway_key: ObjectKey,
    /// The gateway's address.
    pub address: String,
    /// The base URL of Muster's HTTP API for the agents of the gateway.
    pub api_url: String,
    /// Its names at the gateway, and how it came to them.
    pub names: ResolvedNames,
    /// The templates that replace built-in ones.
    pub templates: Templates,
    /// Its token Secret.
    pub token: Token,
    /// The one-shot requests to the agent.
    pub requests: Requests,
    /// The soul for its role in the gateway's soul directory.
    pub soul: RoleSoul,
    /// The time from which a silence of the agent counts.
    pub silence_counts_from: Timestamp,
}

impl References {
    /// The references of an Agent that adopts the agent of its id, which keeps its workspace.
    #[must_use]
    pub fn adopting(mut self, workspace: String) -> Self {
        self.names.identity.workspace = workspace;
        self.names.adopted = true;
        self
    }
}
