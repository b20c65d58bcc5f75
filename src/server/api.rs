//! What the handlers of the agents' API need.

use std::sync::Arc;

use tokio::sync::mpsc::Sender;

use super::limits::Limits;
use super::probes::Probes;
use super::tokens::Tokens;
use crate::reconcile::{Key, World};

/// What the handlers need.
#[derive(Debug)]
pub struct Api<S> {
    /// The handles of the reconcilers.
    pub world: Arc<World<S>>,
    /// The hashes of the agents' tokens.
    pub tokens: Arc<Tokens>,
    /// How often one caller may call.
    pub limits: Limits,
    /// Agents whose heartbeat is to be passed on.
    pub due: Sender<Key>,
    /// Whether all agents are known, and the metrics.
    pub probes: Arc<Probes>,
}
