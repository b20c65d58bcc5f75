//! Why the gateway could not write its config, for as long as that says something about the next write.

use std::time::Duration;

use tokio::time::Instant;

use crate::openclaw::model::WriteRefusal;

/// The time after which a failure counts no more when no further write has failed. Each write that waits is tried more often.
const COUNTS_FOR: Duration = Duration::from_mins(10);

/// The last failure.
#[derive(Debug, Default)]
pub(super) struct Unwritable(Option<Failure>);

#[derive(Debug)]
struct Failure {
    why: WriteRefusal,
    until: Instant,
    /// Whether queued entries were to be written. They are tried again for as long as they are queued.
    of_entries: bool,
}

impl Unwritable {
    /// Records the failure of a write.
    pub(super) fn failed(&mut self, why: WriteRefusal, of_entries: bool, now: Instant) {
        self.0 = Some(Failure { why, until: now + COUNTS_FOR, of_entries });
    }

    /// Records that the gateway wrote its config.
    pub(super) fn written(&mut self) {
        self.0 = None;
    }

    /// Forgets a failure after which nothing waits for a write any more.
    pub(super) fn forget(&mut self, is_queue_empty: bool, now: Instant) {
        self.0 = self.0.take().filter(|failure| now < failure.until && !(failure.of_entries && is_queue_empty));
    }

    /// The time at which the failure counts no more.
    pub(super) fn until(&self) -> Option<Instant> {
        self.0.as_ref().map(|failure| failure.until)
    }

    /// Why the gateway could not write its config.
    pub(super) fn why(&self) -> Option<&WriteRefusal> {
        self.0.as_ref().map(|failure| &failure.why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(of_entries: bool, is_queue_empty: bool, passed: Duration) -> bool {
        let (mut unwritable, now) = (Unwritable::default(), Instant::now());
        unwritable.failed(WriteRefusal { code: "EBUSY".into(), message: "busy".into() }, of_entries, now);
        unwritable.forget(is_queue_empty, now + passed);
        unwritable.why().is_some()
    }

    #[test]
    fn a_failure_counts_while_its_entries_are_queued_and_a_creation_is_tried_again() {
        let (soon, late) = (COUNTS_FOR / 2, COUNTS_FOR);
        assert!(after(true, false, soon) && !after(true, true, soon), "entries");
        assert!(after(false, true, soon) && !after(false, true, late), "a creation");
        assert!(!after(true, false, late), "a write that is tried again fails again");
    }
}
