//! A limit of last resort for writes that are repeated without end.
//!
//! Every write of Muster follows from a difference that was seen. Should a gateway take a write and go on to show the
//! difference, for whatever reason, the same write would be made again and again. Here it becomes slow.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use tokio::time::Instant;

use crate::openclaw::limits::IDENTICAL_WRITE_BURST;

/// The time in which it may be made once more after that.
pub(crate) const PACE: Duration = Duration::from_mins(5);
/// Writes are forgotten when so many are remembered and their time is over.
const SWEEP: usize = 4096;

/// One write: a method and everything that it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Write(u64);

impl Write {
    pub(crate) fn of(content: impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// The writes that were made lately.
///
/// # Guarantees
/// The same write is made at most [`IDENTICAL_WRITE_BURST`] times at once, and once in [`PACE`] after that. A write that was not
/// made for `IDENTICAL_WRITE_BURST * PACE` is forgotten.
#[derive(Debug, Default)]
pub(crate) struct WriteGuard {
    /// When the allowance of a write is whole again.
    whole: HashMap<Write, Instant>,
}

impl WriteGuard {
    /// When this write may be made; `None` when it may be made now.
    pub(crate) fn held_back(&self, write: Write, now: Instant) -> Option<Instant> {
        let allowance = PACE * (IDENTICAL_WRITE_BURST - 1);
        self.whole.get(&write).filter(|whole| **whole > now + allowance).map(|whole| *whole - allowance)
    }

    /// The write is made now.
    pub(crate) fn made(&mut self, write: Write, now: Instant) {
        if self.whole.len() >= SWEEP {
            self.whole.retain(|_, whole| *whole > now);
        }
        let whole = self.whole.entry(write).or_insert(now);
        *whole = (*whole).max(now) + PACE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_write_is_made_a_few_times_and_then_slowly() {
        let (mut guard, write, began) = (WriteGuard::default(), Write::of("a"), Instant::now());
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
    fn a_write_that_is_held_back_is_held_back_until_it_may_be_made() {
        let (mut guard, write, now) = (WriteGuard::default(), Write::of("a"), Instant::now());
        for _ in 0..IDENTICAL_WRITE_BURST {
            assert_eq!(guard.held_back(write, now), None);
            guard.made(write, now);
        }
        let until = guard.held_back(write, now).unwrap();
        assert_eq!(until, now + PACE);
        assert_eq!(guard.held_back(write, until), None);
    }

    #[test]
    fn two_writes_by_turns_are_both_counted_and_others_are_free() {
        let (mut guard, now) = (WriteGuard::default(), Instant::now());
        for _ in 0..IDENTICAL_WRITE_BURST {
            guard.made(Write::of("a"), now);
            guard.made(Write::of("b"), now);
        }
        assert!(guard.held_back(Write::of("a"), now).is_some() && guard.held_back(Write::of("b"), now).is_some());
        assert_eq!(guard.held_back(Write::of("c"), now), None);
    }

    #[test]
    fn writes_of_long_ago_take_no_memory() {
        let (mut guard, now) = (WriteGuard::default(), Instant::now());
        for number in 0..SWEEP {
            guard.made(Write::of(number), now);
        }
        guard.made(Write::of("later"), now + PACE * 2);
        assert_eq!(guard.whole.len(), 1);
    }
}
