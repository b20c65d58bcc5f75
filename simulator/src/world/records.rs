//! Records of the calls and messages that a gateway received.

use serde_json::Value;

/// One message that was sent to an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chat {
    /// The session of the message.
    pub session_key: String,
    /// The text of the message.
    pub message: String,
    /// The idempotency key.
    pub idempotency_key: String,
    /// The number of runs for the message. A gateway that restarted in between runs the message again.
    pub runs: usize,
}

/// One call that a gateway received.
#[derive(Clone, Debug)]
pub struct Call {
    /// The method.
    pub method: String,
    /// The parameters.
    pub params: Value,
    /// The outcome of the call.
    pub outcome: Outcome,
    /// Whether the reply was sent.
    pub answered: bool,
}

/// The outcome of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The call is pending, or a fault stopped it before its execution.
    NotExecuted,
    /// The call was executed, and the process ended before the reply.
    Executed,
    /// The call was executed.
    Ok,
    /// The call was refused.
    Error {
        /// The error's code.
        code: String,
        /// The error's message.
        message: String,
    },
}

impl Call {
    pub(crate) fn new(method: &str, params: &Value) -> Self {
        Self { method: method.to_owned(), params: params.clone(), outcome: Outcome::NotExecuted, answered: false }
    }
}
