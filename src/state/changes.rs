//! What changes on gateways, and whom it concerns.

use std::time::Duration;

use crate::api::object_key::ObjectKey;

/// Something changed on a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayChange {
    /// The gateway.
    pub gateway: ObjectKey,
    /// Whom it concerns.
    pub concerns: ChangeScope,
}

/// Whom a change on a gateway concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeScope {
    /// All its agents.
    Everyone,
    /// The Agent that is bound to this id of the gateway.
    Id(String),
    /// This Agent.
    Agent(ObjectKey),
    /// None of its agents.
    Itself,
}

/// How long a gateway may take to be connected, and its roster to be read, before that is news.
pub const STARTING: Duration = Duration::from_secs(30);
