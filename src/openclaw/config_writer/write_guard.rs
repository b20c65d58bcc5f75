//! A limit for identical writes.
//!
//! Each write of Muster follows from an observed difference. If a gateway acknowledges a write and keeps the difference, the same write
//! would be repeated without end.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use tokio::time::Instant;

use crate::openclaw::limits::IDENTICAL_WRITE_BURST;

/// The interval of identical writes after the burst.
pub(crate) const REFILL_INTERVAL: Duration = Duration::from_mins(5);
/// The number of recorded writes from which old records are removed.
const SWEEP_SIZE: usize = 4096;

/// The hash of a write: its method and its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct WriteHash(u64);

impl WriteHash {
    pub(crate) fn of(content: impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// The recent writes.
///
/// # Guarantees
/// The same write is made at most [`IDENTICAL_WRITE_BURST`] times at once, and once in [`REFILL_INTERVAL`] after that. A write that was not
/// made for `IDENTICAL_WRITE_BURST * REFILL_INTERVAL` has its burst again.
#[derive(Debug, Default)]
pub(crate) struct WriteGuard {
    /// The time at which the burst of a write is available again.
    refilled_at: HashMap<WriteHash, Instant>,
}

impl WriteGuard {
    /// The time at which this write may be made; `None` if it may be made now.
    pub(crate) fn held_back(&self, write: WriteHash, now: Instant) -> Option<Instant> {
        let allowance = REFILL_INTERVAL * (IDENTICAL_WRITE_BURST - 1);
        self.refilled_at
            .get(&write)
            .filter(|refilled_at| **refilled_at > now + allowance)
            .map(|refilled_at| *refilled_at - allowance)
    }

    /// Records that the write is made now.
    pub(crate) fn made(&mut self, write: WriteHash, now: Instant) {
        if self.refilled_at.len() >= SWEEP_SIZE {
            self.refilled_at.retain(|_, refilled_at| *refilled_at > now);
        }
        let refilled_at = self.refilled_at.entry(write).or_insert(now);
        *refilled_at = (*refilled_at).max(now) + REFILL_INTERVAL;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identical_write_is_made_five_times_and_then_once_per_interval() {
        let (mut guard, write, began) = (WriteGuard::default(), WriteHash::of("a"), Instant::now());
        let mut made = 0;
        for second in 0..3600 {
            let now = began + Duration::from_secs(second);
            if guard.held_back(write, now).is_none() {
                guard.made(write, now);
                made += 1;
            }
        }
        assert_eq!(made, IDENTICAL_WRITE_BURST + 11, "five at once and one in five minutes of the hour");
    }

    #[test]
    fn a_delayed_write_may_be_made_at_the_returned_time() {
        let (mut guard, write, now) = (WriteGuard::default(), WriteHash::of("a"), Instant::now());
        for _ in 0..IDENTICAL_WRITE_BURST {
            assert_eq!(guard.held_back(write, now), None);
            guard.made(write, now);
        }
        let until = guard.held_back(write, now).unwrap();
        assert_eq!(until, now + REFILL_INTERVAL);
        assert_eq!(guard.held_back(write, until), None);
    }

    #[test]
    fn alternating_writes_are_both_limited_and_other_writes_are_not() {
        let (mut guard, now) = (WriteGuard::default(), Instant::now());
        for _ in 0..IDENTICAL_WRITE_BURST {
            guard.made(WriteHash::of("a"), now);
            guard.made(WriteHash::of("b"), now);
        }
        assert!(
            guard.held_back(WriteHash::of("a"), now).is_some() && guard.held_back(WriteHash::of("b"), now).is_some()
        );
        assert_eq!(guard.held_back(WriteHash::of("c"), now), None);
    }

    #[test]
    fn old_writes_are_removed() {
        let (mut guard, now) = (WriteGuard::default(), Instant::now());
        for number in 0..SWEEP_SIZE {
            guard.made(WriteHash::of(number), now);
        }
        guard.made(WriteHash::of("later"), now + REFILL_INTERVAL * 2);
        assert_eq!(guard.refilled_at.len(), 1);
    }
}
