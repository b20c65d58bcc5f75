//! What the handlers of the agents' API need.

use std::sync::Arc;

use tokio::sync::mpsc::Sender;

use super::probes::Probes;
use super::rate_limit::RateLimits;
use crate::api::object_key::ObjectKey;
use crate::state;
use crate::state::tokens::TokenTable;

/// What the handlers need.
#[derive(Debug)]
pub struct AgentApi<S> {
    /// The handles of the reconcilers.
    pub state: Arc<state::State<S>>,
    /// The hashes of the agents' tokens.
    pub tokens: Arc<TokenTable>,
    /// How often one caller may call.
    pub limits: RateLimits,
    /// Agents whose heartbeat is to be passed on.
    pub due: Sender<ObjectKey>,
    /// Whether all agents are known, and the metrics.
    pub probes: Arc<Probes>,
}
