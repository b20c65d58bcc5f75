//! The time of the next reconcile.

use std::time::Duration;

/// The time until an object is read again that changed during a reconcile. The cache shows the change by then.
const SOON: Duration = Duration::from_millis(200);

/// The time of the next reconcile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requeue {
    /// The longest time until the next reconcile. `None` waits for a change, or for the backoff after a failure.
    pub after: Option<Duration>,
    /// Whether the reconcile failed, so that the backoff grows.
    pub failed: bool,
}

impl Requeue {
    /// Reconciles after the next change.
    #[must_use]
    pub fn on_change() -> Self {
        Self::default()
    }

    /// Reconciles after a change, and after this time at the latest.
    #[must_use]
    pub fn after(time: Duration) -> Self {
        Self { after: Some(time), failed: false }
    }

    /// Reconciles after a transient failure, with a growing backoff.
    #[must_use]
    pub fn retry() -> Self {
        Self { after: None, failed: true }
    }

    /// Reconciles again in a moment: an object changed meanwhile, or there is more to do. Nothing has failed.
    #[must_use]
    pub fn soon() -> Self {
        Self::after(SOON)
    }

    /// This requeue, and after this time at the latest, if it is earlier.
    #[must_use]
    pub fn no_later(self, most: Option<Duration>) -> Self {
        Self { after: self.after.into_iter().chain(most).min(), ..self }
    }

    /// This requeue, and after this time at the latest.
    #[must_use]
    pub fn within(self, most: Option<Duration>) -> Self {
        Self { after: most.or(self.after), ..self }
    }
}
