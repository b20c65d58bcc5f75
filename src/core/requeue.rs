//! When a reconcile wants to run again.

use std::time::Duration;

/// When a reconcile wants to run again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requeue {
    /// After this time at the latest; when `None`, never without a change, unless something failed.
    pub after: Option<Duration>,
    /// Whether that is because something failed, so that the wait is to grow.
    pub failed: bool,
}

impl Requeue {
    /// Look again when something changes.
    #[must_use]
    pub fn on_change() -> Self {
        Self::default()
    }

    /// Look again after this time at the latest.
    #[must_use]
    pub fn after(time: Duration) -> Self {
        Self { after: Some(time), failed: false }
    }

    /// Something failed that may pass: look again, later each time.
    #[must_use]
    pub fn retry() -> Self {
        Self { after: None, failed: true }
    }

    /// The same, and after this time at the latest.
    #[must_use]
    pub fn within(self, most: Option<Duration>) -> Self {
        Self { after: most.or(self.after), ..self }
    }
}
