//! The states of the config writer between two writes. Time is an argument.

use std::time::Duration;

use tokio::time::Instant;

use super::entry_queue::pause;
use crate::openclaw::model::WriteRefusal;

/// From this number of failures in a row on, entries that fail together are sent in halves: one of them may be at fault.
const HALVE_AFTER: u32 = 3;

/// The state of the config writer between two writes.
#[derive(Debug, Default)]
pub(crate) enum WriterState {
    /// A write begins as soon as entries are queued and their batch window has ended.
    #[default]
    Open,
    /// The gateway's limit of config writes is reached.
    RateLimited {
        /// The time at which the gateway accepts writes again.
        until: Instant,
    },
    /// The last writes had transient failures.
    BackingOff {
        /// The time of the next write.
        until: Instant,
        /// The failures in a row.
        failures: Failures,
    },
}

/// Transient failures of config writes in a row.
#[derive(Debug)]
pub(crate) struct Failures {
    count: u32,
    last: WriteRefusal,
    /// The single entry of all these writes. It may be at fault, so no other entry waits for it.
    only: Option<String>,
}

/// The consequences of a failed write.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AfterFailure {
    /// The wait before the next write.
    pub(crate) wait: Duration,
    /// Whether the failure differs from the one before.
    pub(crate) is_news: bool,
    /// Whether the entries are sent in halves from now on.
    pub(crate) halve: bool,
}

impl WriterState {
    /// The time before which no write begins; `None` if a write may begin now.
    pub(crate) fn closed_until(&self, now: Instant) -> Option<Instant> {
        match self {
            Self::Open => None,
            Self::RateLimited { until } | Self::BackingOff { until, .. } => Some(*until).filter(|until| *until > now),
        }
    }

    /// The time at which the gateway accepts config writes again; `None` unless its limit is reached for longer than an ordinary wait.
    pub(crate) fn limited_until(&self, now: Instant) -> Option<Instant> {
        match self {
            Self::RateLimited { until } => Some(*until).filter(|until| *until > now + pause(1)),
            Self::Open | Self::BackingOff { .. } => None,
        }
    }

    /// The last failure, while the write is retried.
    pub(crate) fn failure(&self) -> Option<&WriteRefusal> {
        match self {
            Self::BackingOff { failures, .. } => Some(&failures.last),
            Self::Open | Self::RateLimited { .. } => None,
        }
    }

    /// Records a successful write, or a permanent refusal.
    pub(crate) fn open(&mut self) {
        *self = Self::Open;
    }

    /// Records that the gateway accepts no write for this time.
    pub(crate) fn limit(&mut self, wait: Duration, now: Instant) {
        *self = Self::RateLimited { until: now + wait };
    }

    /// Repeats the write at once with the config that was read since. This is no further failure.
    pub(crate) fn repeat(&mut self, now: Instant) {
        match self {
            Self::BackingOff { until, .. } => *until = now,
            Self::Open | Self::RateLimited { .. } => *self = Self::Open,
        }
    }

    /// Records a transient failure of a write with these entries. An entry that fails alone delays no other entry.
    pub(crate) fn fail(&mut self, ids: &[String], last: WriteRefusal, now: Instant) -> AfterFailure {
        let before = match std::mem::take(self) {
            Self::BackingOff { failures, .. } => Some(failures),
            Self::Open | Self::RateLimited { .. } => None,
        };
        let is_news = before.as_ref().is_none_or(|failures| failures.last != last);
        let only = match (ids, &before) {
            ([id], None) => Some(id.clone()),
            ([id], Some(failures)) => failures.only.clone().filter(|only| only == id),
            (_, _) => None,
        };
        let count = before.map_or(0, |failures| failures.count).saturating_add(1);
        let wait = pause(if only.is_some() { 1 } else { count });
        *self = Self::BackingOff { until: now + wait, failures: Failures { count, last, only } };
        AfterFailure { wait, is_news, halve: ids.len() > 1 && count >= HALVE_AFTER }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: &str) -> WriteRefusal {
        WriteRefusal { code: code.into(), message: String::new() }
    }

    fn ids(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn failures_of_a_batch_wait_longer_each_time_and_are_halved_from_the_third_on() {
        let (mut state, now) = (WriterState::default(), Instant::now());
        let failed: Vec<_> = (0..3).map(|_| state.fail(&ids(&["a", "b"]), refusal("X"), now)).collect();
        assert!(failed.windows(2).all(|pair| pair[0].wait < pair[1].wait), "{failed:?}");
        assert_eq!(
            failed.iter().map(|f| (f.is_news, f.halve)).collect::<Vec<_>>(),
            [(true, false), (false, false), (false, true)]
        );
        assert_eq!(state.closed_until(now), Some(now + failed[2].wait));
        assert_eq!(state.failure(), Some(&refusal("X")));
    }

    #[test]
    fn an_entry_that_fails_alone_closes_the_writer_for_the_shortest_pause_only() {
        let (mut state, now) = (WriterState::default(), Instant::now());
        for _ in 0..5 {
            assert_eq!(state.fail(&ids(&["a"]), refusal("X"), now).wait, pause(1));
        }
        let wait = state.fail(&ids(&["b"]), refusal("X"), now).wait;
        assert!(wait > pause(1), "another entry fails too: the gateway may be at fault");
    }

    #[test]
    fn a_used_up_limit_is_shown_and_ends_with_its_time() {
        let (mut state, now) = (WriterState::default(), Instant::now());
        state.limit(Duration::from_mins(1), now);
        let until = now + Duration::from_mins(1);
        assert_eq!((state.closed_until(now), state.limited_until(now)), (Some(until), Some(until)));
        assert_eq!((state.closed_until(until), state.limited_until(until)), (None, None));
        assert_eq!(state.failure(), None);
    }

    #[test]
    fn a_repeated_write_goes_out_at_once_and_keeps_the_count_of_failures() {
        let (mut state, now) = (WriterState::default(), Instant::now());
        let first = state.fail(&ids(&["a", "b"]), refusal("X"), now);
        state.repeat(now);
        assert_eq!(state.closed_until(now), None);
        assert!(state.fail(&ids(&["a", "b"]), refusal("X"), now).wait > first.wait);
        state.open();
        assert_eq!(state.fail(&ids(&["a", "b"]), refusal("X"), now), first);
    }
}
