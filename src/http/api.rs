//! The state of the handlers of the API for agents.

use std::sync::Arc;

use tokio::sync::mpsc::Sender;

use super::probes::Probes;
use super::rate_limit::RateLimits;
use crate::api::object_key::ObjectKey;
use crate::state;
use crate::state::tokens::TokenTable;

/// The state of the handlers of the API for agents.
#[derive(Debug)]
pub struct AgentApi {
    /// The state that the controllers and the HTTP API share.
    pub state: Arc<state::State>,
    /// The hashes of the agents' tokens.
    pub tokens: Arc<TokenTable>,
    /// The rate limits of callers.
    pub limits: RateLimits,
    /// Agents whose status must be written with their last report.
    pub due: Sender<ObjectKey>,
    /// The readiness of the caches, and the metrics.
    pub probes: Arc<Probes>,
}
