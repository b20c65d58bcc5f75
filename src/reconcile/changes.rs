//! What changes on gateways, and whom it concerns.

use std::time::Duration;

use super::ports::Key;
use crate::api::agent::GatewayKey;

/// Something changed on a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The gateway.
    pub gateway: GatewayKey,
    /// Whom it concerns.
    pub concerns: Concerns,
}

/// Whom a change on a gateway concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Concerns {
    /// All its agents.
    Everyone,
    /// The Agent that is bound to this id of the gateway.
    Id(String),
    /// This Agent.
    Agent(Key),
    /// None of its agents.
    Itself,
}

/// How long a gateway may take to be connected, and its roster to be read, before that is news.
pub const STARTING: Duration = Duration::from_secs(30);
