//! Why the gateway could not write its config, for as long as that says something about the next write.

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::doubled;
use crate::openclaw::model::WriteRefusal;

/// The time after which a failure counts no more when no further write has failed. Each write that waits is tried more often.
const COUNTS_FOR: Duration = Duration::from_mins(10);
/// The first and the longest time between two creations that fail. Each leaves a folder with the gateway's first files
/// (`docs/gateway-facts.md#config-layouts`).
const BETWEEN_CREATIONS: (Duration, Duration) = (Duration::from_mins(1), Duration::from_mins(5));

/// The last failure.
#[derive(Debug, Default)]
pub(super) struct Unwritable(Option<Failure>);

#[derive(Debug)]
struct Failure {
    why: WriteRefusal,
    until: Instant,
    /// Whether queued entries were to be written. They are tried again for as long as they are queued.
    of_entries: bool,
    creation: Option<CreationPause>,
}

/// The pause after creations that failed.
#[derive(Clone, Copy, Debug)]
struct CreationPause {
    failures: u32,
    /// The time before which no agent is created.
    until: Instant,
}

impl CreationPause {
    /// The pause after a further failure. Creations that began before the pause are no further failures.
    fn after(before: Option<Self>, now: Instant) -> Self {
        if let Some(before) = before.filter(|before| now < before.until) {
            return before;
        }
        let failures = before.map_or(0, |before| before.failures).saturating_add(1);
        Self { failures, until: now + doubled(BETWEEN_CREATIONS.0, BETWEEN_CREATIONS.1, failures) }
    }
}

impl Unwritable {
    /// Records the failure of a write.
    pub(super) fn failed(&mut self, why: WriteRefusal, of_entries: bool, now: Instant) {
        let before = self.0.take().and_then(|failure| failure.creation);
        let creation = if of_entries { before } else { Some(CreationPause::after(before, now)) };
        self.0 = Some(Failure { why, until: now + COUNTS_FOR, of_entries, creation });
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

    /// The time of the next creation, after one that failed.
    pub(super) fn creation_at(&self) -> Option<Instant> {
        Some(self.0.as_ref()?.creation?.until)
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

    #[test]
    fn creations_that_fail_are_tried_again_after_growing_pauses_and_the_failure_of_entries_delays_none() {
        let (mut unwritable, now) = (Unwritable::default(), Instant::now());
        let mut fail = |of_entries, at| {
            unwritable.failed(WriteRefusal { code: "EBUSY".into(), message: "busy".into() }, of_entries, at);
            unwritable.creation_at()
        };
        let after = |minutes| now + Duration::from_mins(minutes);
        assert_eq!(fail(true, now), None);
        assert_eq!(
            (fail(false, now), fail(false, now), fail(true, after(1))),
            (Some(after(1)), Some(after(1)), Some(after(1)))
        );
        assert_eq!((fail(false, after(1)), fail(false, after(3))), (Some(after(3)), Some(after(7))));
        assert_eq!((fail(false, after(7)), fail(false, after(12))), (Some(after(12)), Some(after(17))));
        unwritable.written();
        assert_eq!(unwritable.creation_at(), None);
    }
}
