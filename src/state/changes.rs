//! Changes on gateways, and the objects that each change affects.

use std::time::Duration;

use crate::api::object_key::ObjectKey;

/// A change on a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayChange {
    /// The gateway.
    pub gateway: ObjectKey,
    /// The objects that the change affects.
    pub scope: ChangeScope,
}

/// The objects that a change on a gateway affects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeScope {
    /// The AgentGateway and all its Agents.
    AllAgents,
    /// The AgentGateway, and the Agent that is bound to this agent id on the gateway.
    AgentId(String),
    /// This Agent alone.
    Agent(ObjectKey),
    /// This Agent alone. A place at the gateway is kept for it.
    Place(ObjectKey),
    /// The AgentGateway alone.
    GatewayOnly,
}

/// How long a gateway may take to connect and to return its roster before Muster reports a problem.
pub const STARTUP_GRACE: Duration = Duration::from_secs(30);
