//! What a gateway received.

use serde_json::Value;

/// One message that was sent to an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chat {
    /// The session that it was sent to.
    pub session_key: String,
    /// What was said.
    pub message: String,
    /// The idempotency key.
    pub idempotency_key: String,
    /// How many times the agent ran for it; a gateway that was restarted in between runs it again.
    pub runs: usize,
}

/// One call that a gateway received.
#[derive(Clone, Debug)]
pub struct Call {
    /// The method.
    pub method: String,
    /// The parameters.
    pub params: Value,
    /// What became of it.
    pub outcome: Outcome,
    /// Whether the reply was sent.
    pub answered: bool,
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is waiting, or it was struck before it was executed.
    NotExecuted,
    /// It was executed, and the process ended before the reply.
    Executed,
    /// It was executed.
    Ok,
    /// It was refused.
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
