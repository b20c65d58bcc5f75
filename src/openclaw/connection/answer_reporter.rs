//! The way from the readers of answers back to their connection.

use tokio::sync::mpsc;

use super::redaction::Redactor;
use crate::openclaw::limits::Exceeded;
use crate::openclaw::model::{CallError, clean};

/// Ends a connection when the reader of an answer, or of an event, meets a bound, and keeps credentials out of the errors of
/// readers.
#[derive(Clone, Debug)]
pub(crate) struct AnswerReporter {
    redactor: Redactor,
    exceeded: mpsc::Sender<Exceeded>,
}

impl AnswerReporter {
    /// A reporter of one connection, and the bound that was met first.
    pub(crate) fn new(redactor: Redactor) -> (Self, mpsc::Receiver<Exceeded>) {
        let (exceeded, first) = mpsc::channel(1);
        (Self { redactor, exceeded }, first)
    }

    /// Ends the connection.
    pub(crate) fn report(&self, exceeded: Exceeded) {
        // The connection ends by its first report, or has ended.
        let _ = self.exceeded.try_send(exceeded);
    }

    /// The error of an answer that could not be read. The connection ends when the answer met a bound.
    pub(crate) fn unreadable(&self, method: &'static str, error: &serde_json::Error) -> CallError {
        match Exceeded::of(error) {
            Some(Exceeded(bound)) => {
                self.report(Exceeded(format!("in the answer of {method}, {bound}")));
                CallError::Interrupted
            }
            None => CallError::unreadable(method, &self.redactor.text(&clean(&error.to_string()))),
        }
    }

    /// A text of the gateway without credentials.
    pub(crate) fn redacted(&self, text: &str) -> String {
        self.redactor.text(text)
    }
}
