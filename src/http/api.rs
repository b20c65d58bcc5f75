//! What the handlers of the API for agents share.

use std::sync::Arc;

use tokio::sync::mpsc::Sender;

use super::error::{ApiError, ErrorCode};
use super::probes::Probes;
use super::rate_limit::RateLimits;
use crate::api::object_key::ObjectKey;
use crate::state;

/// The maximum length of the body of an agent's call, in bytes.
pub(super) const MAX_BODY_BYTES: usize = 16 * 1024;

/// The error for a body that is too long.
pub(super) fn too_large() -> ApiError {
    let message =
        format!("the body is longer than {MAX_BODY_BYTES} bytes; send {{\"status\", \"current_task_id\"}} only");
    ApiError::new(ErrorCode::TooLarge, message)
}

/// The state of the handlers of the API for agents.
#[derive(Debug)]
pub struct AgentApi {
    /// The state that the controllers and the HTTP API share.
    pub state: Arc<state::State>,
    /// The rate limits of callers.
    pub limits: RateLimits,
    /// Agents whose status must be written with their last report.
    pub due: Sender<ObjectKey>,
    /// The readiness of the caches, and the metrics.
    pub probes: Arc<Probes>,
}
