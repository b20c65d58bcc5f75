//! The queue of entries for the config: which are written together, and which wait. Time is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::halving::Halving;
use crate::backoff::doubled;
use crate::openclaw::model::{AgentEntry, WriteRefusal};

/// Most entries in one patch. A patch of 60 entries takes 5 to 7 s, one of 200 takes 54 s, and no other write is possible meanwhile
/// (`docs/gateway-facts.md#duration-of-config-writes`).
pub(crate) const MAX_ENTRIES: usize = 64;
/// The first and the longest wait after a failure.
const FAILURE_WAIT: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(1));

/// The wait after the `failures`-th failure, counted from 1.
pub(crate) fn pause(failures: u32) -> Duration {
    doubled(FAILURE_WAIT.0, FAILURE_WAIT.1, failures)
}

/// A queued entry.
#[derive(Debug)]
struct QueuedEntry {
    entry: AgentEntry,
    since: Instant,
    refused: Option<WriteRefusal>,
    /// The hash of the config that it was refused with. With another config it is sent again.
    refused_with: String,
    /// The number of failures in a patch of its own. An entry with failures is sent alone.
    failures: u32,
    /// The time before which it is not sent.
    not_before: Option<Instant>,
    /// Whether a patch with it and other entries had no effect.
    lost: bool,
    /// The cause of the delay.
    delayed: Option<WriteRefusal>,
}

impl QueuedEntry {
    fn is_due(&self, now: Instant) -> bool {
        self.refused.is_none() && self.not_before.is_none_or(|at| at <= now)
    }
}

/// The queued entries.
///
/// # Guarantees
/// An entry that is refused, or fails by itself, delays no other entry.
#[derive(Debug, Default)]
pub(crate) struct EntryQueue {
    entries: BTreeMap<String, QueuedEntry>,
    halving: Halving,
}

impl EntryQueue {
    /// Adds an entry, or replaces the entry with the same id.
    pub(crate) fn submit(&mut self, entry: AgentEntry, now: Instant) {
        if self.entries.get(&entry.id).is_some_and(|queued| queued.entry == entry) {
            return;
        }
        let queued = QueuedEntry {
            since: now,
            refused: None,
            refused_with: String::new(),
            failures: 0,
            not_before: None,
            lost: false,
            delayed: None,
            entry,
        };
        self.halving.forget(&queued.entry.id);
        self.entries.insert(queued.entry.id.clone(), queued);
    }

    /// Removes an entry.
    pub(crate) fn remove(&mut self, id: &str) {
        self.entries.remove(id);
        self.halving.forget(id);
    }

    /// Removes the entries that are done. Returns their ids.
    pub(crate) fn remove_done(&mut self, is_done: impl Fn(&AgentEntry) -> bool) -> Vec<String> {
        let done: Vec<_> =
            self.entries.iter().filter(|(_, queued)| is_done(&queued.entry)).map(|(id, _)| id.clone()).collect();
        for id in &done {
            self.remove(id);
        }
        done
    }

    /// The entry of this id.
    pub(crate) fn entry(&self, id: &str) -> Option<&AgentEntry> {
        self.entries.get(id).map(|queued| &queued.entry)
    }

    /// The entries of the next patch: one group of at most [`MAX_ENTRIES`]. Next come the entries that failed alone, one per patch, and
    /// then the entries that were refused with another config.
    pub(crate) fn batch(&self, config_hash: &str, now: Instant) -> Vec<String> {
        let due = || self.entries.iter().filter(|(_, queued)| queued.is_due(now));
        let together = due().filter(|(_, queued)| queued.failures == 0).map(|(id, _)| id);
        let group = self.halving.next_group(together);
        if !group.is_empty() {
            return group.into_iter().take(MAX_ENTRIES).cloned().collect();
        }
        let is_retryable = |queued: &QueuedEntry| {
            queued.refused.is_some()
                && queued.refused_with != config_hash
                && queued.not_before.is_none_or(|at| at <= now)
        };
        let alone = due().next().or_else(|| self.entries.iter().find(|(_, queued)| is_retryable(queued)));
        alone.map(|(id, _)| id.clone()).into_iter().collect()
    }

    /// The submission times of the due entries.
    pub(crate) fn due_since(&self, now: Instant) -> impl Iterator<Item = Instant> + Clone {
        self.entries.values().filter(move |queued| queued.is_due(now)).map(|queued| queued.since)
    }

    /// The time at which the next delayed entry is due.
    pub(crate) fn next_due(&self, now: Instant) -> Option<Instant> {
        self.entries.values().filter_map(|queued| queued.not_before).filter(|at| *at > now).min()
    }

    /// Delays an entry that had no effect in a patch of its own, with growing waits.
    pub(crate) fn failed_alone(&mut self, id: &str, why: WriteRefusal, now: Instant) {
        if let Some(queued) = self.entries.get_mut(id) {
            queued.failures = queued.failures.saturating_add(1);
            queued.not_before = Some(now + pause(queued.failures));
            queued.delayed = Some(why);
        }
    }

    /// The number of failures of the entry in patches of its own.
    pub(crate) fn failures(&self, id: &str) -> u32 {
        self.entries.get(id).map_or(0, |queued| queued.failures)
    }

    /// Whether a patch with the entry and other entries had no effect.
    pub(crate) fn was_lost(&self, id: &str) -> bool {
        self.entries.get(id).is_some_and(|queued| queued.lost)
    }

    /// Records that a patch with the entry and other entries had no effect. They are sent together once more.
    pub(crate) fn lost(&mut self, id: &str, why: WriteRefusal, now: Instant) {
        self.hold_back(id, now + pause(1), why);
        if let Some(queued) = self.entries.get_mut(id) {
            queued.lost = true;
        }
    }

    /// Delays the entry until a time.
    pub(crate) fn hold_back(&mut self, id: &str, until: Instant, why: WriteRefusal) {
        if let Some(queued) = self.entries.get_mut(id) {
            queued.not_before = Some(until);
            queued.delayed = Some(why);
        }
    }

    /// Records that the gateway refused the entry with this config.
    pub(crate) fn refused(&mut self, id: &str, config_hash: &str, why: WriteRefusal) {
        if let Some(queued) = self.entries.get_mut(id) {
            queued.refused = Some(why);
            queued.delayed = None;
            config_hash.clone_into(&mut queued.refused_with);
        }
    }

    /// Separates entries that failed together, until a write succeeds: the gateway itself may be the cause.
    pub(crate) fn halve_provisionally(&mut self, ids: &[String]) {
        self.halving.halve_provisionally(ids);
    }

    /// Separates entries that the gateway refused together.
    pub(crate) fn halve(&mut self, ids: &[String]) {
        self.halving.halve(ids);
    }

    /// Ends a provisional separation after a successful write.
    pub(crate) fn rejoin(&mut self) {
        self.halving.rejoin();
    }

    /// The ids of the entries that are not refused.
    pub(crate) fn pending(&self) -> BTreeSet<String> {
        self.entries.iter().filter(|(_, queued)| queued.refused.is_none()).map(|(id, _)| id.clone()).collect()
    }

    /// The refused entries, by id.
    pub(crate) fn all_refused(&self) -> BTreeMap<String, WriteRefusal> {
        self.entries.iter().filter_map(|(id, queued)| Some((id.clone(), queued.refused.clone()?))).collect()
    }

    /// The delayed entries, by id.
    pub(crate) fn all_delayed(&self) -> BTreeMap<String, WriteRefusal> {
        self.entries.iter().filter_map(|(id, queued)| Some((id.clone(), queued.delayed.clone()?))).collect()
    }
}
