//! The state of the connection to a gateway.

use std::sync::Arc;

use tokio::time::Instant;

use super::hello::{Hello, Refusal};

/// The state of the connection to a gateway.
#[derive(Clone, Debug)]
pub enum ConnectionState {
    /// The first attempt is under way.
    Connecting,
    /// The connection is open.
    Up(Arc<Hello>),
    /// The gateway refused the connection. The client retries slowly.
    Refused(Arc<Refusal>),
    /// An attempt failed, or the connection was lost. The client retries.
    Down {
        /// The text of the cause.
        error: Arc<str>,
        /// The kind of the cause.
        cause: DownCause,
        /// The number of failed attempts in a row.
        attempts: u32,
        /// The time of the first failure.
        since: Instant,
    },
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownCause {
    /// The connection could not be opened, or was lost.
    Unreachable,
    /// The rules of this operator forbid the connection.
    Forbidden,
    /// The gateway exceeded a bound of what it may send.
    Misbehaves,
}
