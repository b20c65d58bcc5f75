//! The error of a reconcile that cannot reach the state of the spec. Every failure of a reconcile becomes a [`ReconcileError`].

use crate::api::Reason;
use crate::openclaw::model::CallError;

/// The code of a request to Kubernetes that was made for an earlier version of an object.
pub const CONFLICT: &str = "Conflict";

/// The codes of a request that was not answered: the connection was lost, or the time was over.
const UNANSWERED: [&str; 3] = ["INTERRUPTED", "NOT_CONNECTED", "DEADLINE_EXCEEDED"];

/// A reason, a sentence for the reader of `kubectl describe`, and whether a retry can help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ReconcileError {
    /// The condition's reason.
    pub reason: Reason,
    /// The fault and the next step to take.
    pub message: String,
    /// The code of the answer: the gateway's own code, or [`CONFLICT`] of Kubernetes.
    pub code: Option<String>,
    /// Whether the error may pass without a change of a resource.
    pub transient: bool,
}

impl ReconcileError {
    /// An error that stays until a user changes a resource.
    #[must_use]
    pub fn permanent(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), code: None, transient: false }
    }

    /// An error that may pass without a change of a resource.
    #[must_use]
    pub fn transient(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), code: None, transient: true }
    }

    /// The error of a failed request to the gateway. `doing` completes "a request to the gateway".
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

    /// Whether the reconcile is retried with the growing backoff. An error of Kubernetes always is: no change of a right, a quota or an
    /// admission policy triggers a reconcile.
    #[must_use]
    pub fn is_retried(&self) -> bool {
        self.transient || self.reason == Reason::KubernetesError
    }

    /// Whether an object changed since it was read. The reconcile looks again, and nothing has failed.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.reason == Reason::KubernetesError && self.code.as_deref() == Some(CONFLICT)
    }

    /// Whether the gateway did not answer a request: the connection was lost, or the time was over.
    #[must_use]
    pub fn is_unanswered(&self) -> bool {
        self.reason == Reason::GatewayError && self.code.as_deref().is_some_and(|code| UNANSWERED.contains(&code))
    }

    /// This error with the code of the answer.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }
}
