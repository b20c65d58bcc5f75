//! Why a reconcile cannot reach what the spec asks for. Every failure of a reconcile becomes a [`ReconcileError`].

use crate::api::Reason;
use crate::openclaw::model::CallError;

/// A reason, a sentence for the person who reads `kubectl describe`, and whether waiting helps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ReconcileError {
    /// The condition's reason.
    pub reason: Reason,
    /// What is wrong and what to do next.
    pub message: String,
    /// The gateway's own code, when the gateway said it.
    pub code: Option<String>,
    /// Whether it may pass without a change of a resource.
    pub transient: bool,
}

impl ReconcileError {
    /// An error that stays until somebody changes a resource.
    #[must_use]
    pub fn permanent(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), code: None, transient: false }
    }

    /// An error that may pass by itself.
    #[must_use]
    pub fn transient(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), code: None, transient: true }
    }

    /// A request to the gateway failed. `doing` completes "a request to the gateway".
    #[must_use]
    pub fn gateway(doing: &str, error: &CallError) -> Self {
        let text = format!("a request to the gateway {doing} failed: {} ({})", error.message(), error.code());
        let kind = if error.is_transient() { Self::transient } else { Self::permanent };
        let reason = match error {
            CallError::Repeated { .. } => Reason::RepeatedWrite,
            _ => Reason::GatewayError,
        };
        kind(reason, text).with_code(error.code())
    }

    /// The same with the gateway's own code.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }
}
