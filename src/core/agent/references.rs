//! What an agent refers to.

use std::sync::Arc;

use jiff::Timestamp;

use super::binding::AgentIdentity;
use super::soul_files::RoleSoul;
use super::templates::Templates;
use super::token::secret::Token;
use crate::api::object_key::ObjectKey;
use crate::api::{AgentGateway, Board};
use crate::core::requests::Requests;

/// What an agent refers to.
#[derive(Clone, Debug)]
pub struct References {
    /// Its board; a Main agent has none.
    pub board: Option<Arc<Board>>,
    /// Its gateway.
    pub gateway: Arc<AgentGateway>,
    /// The gateway's key.
    pub gateway_key: ObjectKey,
    /// Its names at the gateway.
    pub identity: AgentIdentity,
    /// Whether the gateway had the agent before this Agent stood for it.
    pub adopted: bool,
    /// The templates that replace built-in ones.
    pub templates: Templates,
    /// Its token Secret.
    pub token: Token,
    /// What is asked of it, once.
    pub requests: Requests,
    /// What the gateway's directory of souls has for its role.
    pub soul: RoleSoul,
    /// The time since which a silence of the agent counts.
    pub heard_since: Timestamp,
}
