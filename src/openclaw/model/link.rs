//! The state of a connection.

use std::sync::Arc;

use tokio::time::Instant;

use super::hello::{Hello, Refusal};

/// The state of the connection.
#[derive(Clone, Debug)]
pub enum ConnectionState {
    /// The first connection is being made.
    Connecting,
    /// It stands.
    Up(Arc<Hello>),
    /// The gateway refused it; it is tried again slowly.
    Refused(Arc<Refusal>),
    /// It could not be made, or was lost; it is tried again.
    Down {
        /// Why.
        error: Arc<str>,
        /// How often it failed in a row.
        attempts: u32,
        /// Since when there is none.
        since: Instant,
    },
}
