//! The entries that wait for a config write: which go out together, and which have to wait. Time is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::halving::Halving;
use crate::backoff::doubled;
use crate::openclaw::model::{AgentEntry, WriteRefusal};

/// Most entries in one patch: one of 60 took 5 to 7 s and one of 200 took 54 s, in which nothing else could be written
/// (measured).
pub(crate) const MAX_ENTRIES: usize = 64;
/// The pause after an entry failed in a patch of its own; doubled each time, up to the second.
const AFTER_FAILURE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(1));

/// The pause after so many failures, from 1.
pub(crate) fn pause(failures: u32) -> Duration {
    doubled(AFTER_FAILURE.0, AFTER_FAILURE.1, failures)
}

/// What is known of one entry.
#[derive(Debug)]
struct QueuedEntry {
    entry: AgentEntry,
    since: Instant,
    refused: Option<WriteRefusal>,
    /// The hash of the config with which it was refused: with another config it is tried again.
    refused_with: String,
    /// How often it failed by itself. From then on it goes out alone.
    failures: u32,
    /// Before this it does not go out.
    not_before: Option<Instant>,
    /// Whether a patch with it and others had no effect.
    lost: bool,
    /// Why it waits.
    delayed: Option<WriteRefusal>,
}

impl QueuedEntry {
    fn is_due(&self, now: Instant) -> bool {
        self.refused.is_none() && self.not_before.is_none_or(|at| at <= now)
    }
}

/// The entries that wait.
///
/// # Guarantees
/// An entry that is refused, or fails by itself, delays no other entry.
#[derive(Debug, Default)]
pub(crate) struct EntryQueue {
    entries: BTreeMap<String, QueuedEntry>,
    halving: Halving,
}

impl EntryQueue {
    /// Adds an entry. Another one of the same id is replaced.
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

    /// Takes an entry out.
    pub(crate) fn remove(&mut self, id: &str) {
        self.entries.remove(id);
        self.halving.forget(id);
    }

    /// Takes out what is done, and gives the ids.
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

    /// The entries of the next patch: of one group, at most [`MAX_ENTRIES`]. One that failed by itself goes alone, after the
    /// others; and after those one that was refused with another config.
    pub(crate) fn batch(&self, config_hash: &str, now: Instant) -> Vec<String> {
        let due = || self.entries.iter().filter(|(_, queued)| queued.is_due(now));
        let together = due().filter(|(_, queued)| queued.failures == 0).map(|(id, _)| id);
        let group = self.halving.next_group(together);
        if !group.is_empty() {
            return group.into_iter().take(MAX_ENTRIES).cloned().collect();
        }
        let again = |queued: &QueuedEntry| {
            queued.refused.is_some()
                && queued.refused_with != config_hash
                && queued.not_before.is_none_or(|at| at <= now)
        };
        let alone = due().next().or_else(|| self.entries.iter().find(|(_, queued)| again(queued)));
        alone.map(|(id, _)| id.clone()).into_iter().collect()
    }

    /// When the entries were left that may go out now.
    pub(crate) fn due_since(&self, now: Instant) -> impl Iterator<Item = Instant> + Clone {
        self.entries.values().filter(move |queued| queued.is_due(now)).map(|queued| queued.since)
    }

    /// When the next entry may go out that may not now.
    pub(crate) fn next_due(&self, now: Instant) -> Option<Instant> {
        self.entries.values().filter_map(|queued| queued.not_before).filter(|at| *at > now).min()
    }

    /// The entry went out by itself and came to nothing: it waits, longer each time.
    pub(crate) fn failed_alone(&mut self, id: &str, why: WriteRefusal, now: Instant) {
        if let Some(queued) = self.entries.get_mut(id) {
            queued.failures = queued.failures.saturating_add(1);
            queued.not_before = Some(now + pause(queued.failures));
            queued.delayed = Some(why);
        }
    }

    /// How often the entry came to nothing by itself.
    pub(crate) fn failures(&self, id: &str) -> u32 {
        self.entries.get(id).map_or(0, |queued| queued.failures)
    }

    /// Whether a patch with the entry and others had no effect.
    pub(crate) fn was_lost(&self, id: &str) -> bool {
        self.entries.get(id).is_some_and(|queued| queued.lost)
    }

    /// A patch with the entry and others had no effect: they are sent together once more.
    pub(crate) fn lost(&mut self, id: &str, why: WriteRefusal, now: Instant) {
        self.hold_back(id, now + pause(1), why);
        if let Some(queued) = self.entries.get_mut(id) {
            queued.lost = true;
        }
    }

    /// The entry does not go out before a time.
    pub(crate) fn hold_back(&mut self, id: &str, until: Instant, why: WriteRefusal) {
        if let Some(queued) = self.entries.get_mut(id) {
            queued.not_before = Some(until);
            queued.delayed = Some(why);
        }
    }

    /// The gateway refuses the entry, with this config.
    pub(crate) fn refused(&mut self, id: &str, config_hash: &str, why: WriteRefusal) {
        if let Some(queued) = self.entries.get_mut(id) {
            queued.refused = Some(why);
            queued.delayed = None;
            config_hash.clone_into(&mut queued.refused_with);
        }
    }

    /// Parts entries that failed together, until the gateway takes a write: the gateway itself may be at fault.
    pub(crate) fn halve_provisionally(&mut self, ids: &[String]) {
        self.halving.halve_provisionally(ids);
    }

    /// Parts entries that the gateway refused together.
    pub(crate) fn halve(&mut self, ids: &[String]) {
        self.halving.halve(ids);
    }

    /// The gateway has taken a write: entries that were parted provisionally go out together again.
    pub(crate) fn rejoin(&mut self) {
        self.halving.rejoin();
    }

    /// Ids of the entries that wait and are not refused.
    pub(crate) fn pending(&self) -> BTreeSet<String> {
        self.entries.iter().filter(|(_, queued)| queued.refused.is_none()).map(|(id, _)| id.clone()).collect()
    }

    /// The refused entries, by id.
    pub(crate) fn all_refused(&self) -> BTreeMap<String, WriteRefusal> {
        self.entries.iter().filter_map(|(id, queued)| Some((id.clone(), queued.refused.clone()?))).collect()
    }

    /// The entries that came to nothing and go out again later, by id.
    pub(crate) fn all_delayed(&self) -> BTreeMap<String, WriteRefusal> {
        self.entries.iter().filter_map(|(id, queued)| Some((id.clone(), queued.delayed.clone()?))).collect()
    }
}
