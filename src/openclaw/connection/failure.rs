//! The end of a connection, or of the attempt to open one.

use tokio_tungstenite::tungstenite;

use super::violation::Violation;
use crate::openclaw::model::DownCause;

/// The text of a failure whose cause is not shown.
const HIDDEN: &str =
    "it cannot be reached; the operator's log has the cause, because no --gateway-networks lists this address";

/// The failure of a connection.
#[derive(Debug)]
pub(crate) struct ConnectionFailure {
    pub(crate) cause: DownCause,
    /// The text for the users of the cluster.
    pub(crate) text: String,
    /// The cause for the operator's log, when `text` does not have it.
    pub(crate) hidden: Option<String>,
}

impl ConnectionFailure {
    /// An open connection ended, or the gateway does not keep to the protocol.
    pub(crate) fn lost(text: impl Into<String>) -> Self {
        Self { cause: DownCause::Unreachable, text: text.into(), hidden: None }
    }

    /// The gateway exceeded a bound.
    pub(crate) fn misbehaves(text: impl Into<String>) -> Self {
        Self { cause: DownCause::Misbehaves, text: text.into(), hidden: None }
    }

    /// The rules of this operator forbid the connection.
    pub(crate) fn forbidden(text: impl Into<String>) -> Self {
        Self { cause: DownCause::Forbidden, text: text.into(), hidden: None }
    }

    /// No connection was opened. Without `shows_cause` the text is the same for each cause, so that a user of the cluster cannot
    /// use the operator to explore its network.
    pub(crate) fn unreachable(text: String, shows_cause: bool) -> Self {
        let (text, hidden) = if shows_cause { (text, None) } else { (HIDDEN.to_owned(), Some(text)) };
        Self { cause: DownCause::Unreachable, text, hidden }
    }

    /// The failure of an open WebSocket.
    pub(crate) fn of_socket(error: &tungstenite::Error) -> Self {
        match violation(error) {
            Some(violation) if violation.is_misbehaviour() => Self::misbehaves(violation.to_string()),
            Some(violation) => Self::lost(violation.to_string()),
            None => Self::lost(error.to_string()),
        }
    }
}

/// The text of an error. A [`Violation`] inside the error replaces the text of the outer error.
pub(crate) fn explained(error: &tungstenite::Error) -> String {
    violation(error).map_or_else(|| error.to_string(), ToString::to_string)
}

fn violation(error: &tungstenite::Error) -> Option<&Violation> {
    match error {
        tungstenite::Error::Io(error) => error.get_ref().and_then(|error| error.downcast_ref::<Violation>()),
        _ => None,
    }
}
