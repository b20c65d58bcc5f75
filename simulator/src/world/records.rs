//! Records of the calls and messages that a gateway received.

use std::collections::BTreeMap;

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

/// Every message that was sent, in the order of arrival.
#[derive(Debug, Default)]
pub(crate) struct ChatLog {
    pub(crate) chats: Vec<Chat>,
    /// The position of each message by its session and its idempotency key.
    positions: BTreeMap<(String, String), usize>,
}

impl ChatLog {
    /// Records a message, or further runs of a recorded message.
    pub(crate) fn record(&mut self, session_key: &str, idempotency_key: &str, message: &str, runs: usize) {
        let next = self.chats.len();
        let key = (session_key.to_owned(), idempotency_key.to_owned());
        let position = *self.positions.entry(key).or_insert(next);
        match self.chats.get_mut(position) {
            Some(chat) => chat.runs += runs,
            None => self.chats.push(Chat {
                session_key: session_key.to_owned(),
                message: message.to_owned(),
                idempotency_key: idempotency_key.to_owned(),
                runs,
            }),
        }
    }
}
