//! The entries that wait for a config write: which go out together, and which have to wait. Time is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::doubled;
use crate::openclaw::model::{AgentEntry, WriteRefusal};

/// Most entries in one patch: one of 60 took 5 to 7 s and one of 200 took 54 s, in which nothing else could be written
/// (measured).
pub(crate) const MOST: usize = 64;
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
    /// Entries that failed together are tried apart: only those of the same group go into one patch.
    group: u32,
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
    slots: BTreeMap<String, QueuedEntry>,
    /// Whether entries are apart that the gateway may take together when it takes any.
    apart_for_now: bool,
}

impl EntryQueue {
    /// Adds an entry. Another one of the same id is replaced.
    pub(crate) fn submit(&mut self, entry: AgentEntry, now: Instant) {
        if self.slots.get(&entry.id).is_some_and(|slot| slot.entry == entry) {
            return;
        }
        let slot = QueuedEntry {
            since: now,
            refused: None,
            refused_with: String::new(),
            group: 0,
            failures: 0,
            not_before: None,
            lost: false,
            delayed: None,
            entry,
        };
        self.slots.insert(slot.entry.id.clone(), slot);
    }

    /// Takes an entry out.
    pub(crate) fn remove(&mut self, id: &str) {
        self.slots.remove(id);
    }

    /// Takes out what is done, and gives the ids.
    pub(crate) fn remove_done(&mut self, is_done: impl Fn(&AgentEntry) -> bool) -> Vec<String> {
        let done: Vec<_> =
            self.slots.iter().filter(|(_, slot)| is_done(&slot.entry)).map(|(id, _)| id.clone()).collect();
        for id in &done {
            self.slots.remove(id);
        }
        done
    }

    /// The entry of this id.
    pub(crate) fn entry(&self, id: &str) -> Option<&AgentEntry> {
        self.slots.get(id).map(|slot| &slot.entry)
    }

    /// The entries of the next patch: of one group, at most [`MOST`]. One that failed by itself goes alone, after the
    /// others; and after those one that was refused with another config.
    pub(crate) fn batch(&self, config_hash: &str, now: Instant) -> Vec<String> {
        let due = || self.slots.iter().filter(|(_, slot)| slot.is_due(now));
        let together = || due().filter(|(_, slot)| slot.failures == 0);
        if let Some(group) = together().map(|(_, slot)| slot.group).max() {
            return together().filter(|(_, s)| s.group == group).take(MOST).map(|(id, _)| id.clone()).collect();
        }
        let again = |slot: &QueuedEntry| {
            slot.refused.is_some() && slot.refused_with != config_hash && slot.not_before.is_none_or(|at| at <= now)
        };
        let alone = due().next().or_else(|| self.slots.iter().find(|(_, slot)| again(slot)));
        alone.map(|(id, _)| id.clone()).into_iter().collect()
    }

    /// When the entries were left that may go out now.
    pub(crate) fn due_since(&self, now: Instant) -> impl Iterator<Item = Instant> + Clone {
        self.slots.values().filter(move |slot| slot.is_due(now)).map(|slot| slot.since)
    }

    /// When the next entry may go out that may not now.
    pub(crate) fn next_due(&self, now: Instant) -> Option<Instant> {
        self.slots.values().filter_map(|slot| slot.not_before).filter(|at| *at > now).min()
    }

    /// The entry went out by itself and came to nothing: it waits, longer each time.
    pub(crate) fn failed_alone(&mut self, id: &str, why: WriteRefusal, now: Instant) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.failures = slot.failures.saturating_add(1);
            slot.not_before = Some(now + pause(slot.failures));
            slot.delayed = Some(why);
        }
    }

    /// How often the entry came to nothing by itself.
    pub(crate) fn failures(&self, id: &str) -> u32 {
        self.slots.get(id).map_or(0, |slot| slot.failures)
    }

    /// Whether a patch with the entry and others had no effect.
    pub(crate) fn was_lost(&self, id: &str) -> bool {
        self.slots.get(id).is_some_and(|slot| slot.lost)
    }

    /// A patch with the entry and others had no effect: they are sent together once more.
    pub(crate) fn lost(&mut self, id: &str, why: WriteRefusal, now: Instant) {
        self.hold_back(id, now + pause(1), why);
        if let Some(slot) = self.slots.get_mut(id) {
            slot.lost = true;
        }
    }

    /// The entry does not go out before a time.
    pub(crate) fn hold_back(&mut self, id: &str, until: Instant, why: WriteRefusal) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.not_before = Some(until);
            slot.delayed = Some(why);
        }
    }

    /// The gateway refuses the entry, with this config.
    pub(crate) fn refused(&mut self, id: &str, config_hash: &str, why: WriteRefusal) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.refused = Some(why);
            slot.delayed = None;
            config_hash.clone_into(&mut slot.refused_with);
        }
    }

    /// Entries that failed together are tried in halves until the gateway takes a write: it may be the gateway that is at fault.
    pub(crate) fn halve_for_now(&mut self, ids: &[String]) {
        self.apart_for_now = true;
        self.halve(ids);
    }

    /// Entries that are refused together are tried in halves.
    pub(crate) fn halve(&mut self, ids: &[String]) {
        let highest = self.slots.values().map(|slot| slot.group).max().unwrap_or_default();
        for id in ids.iter().take(ids.len() / 2) {
            if let Some(slot) = self.slots.get_mut(id) {
                slot.group = highest + 1;
            }
        }
    }

    /// The gateway has taken a write: what was tried in halves for now goes out together again.
    pub(crate) fn regroup(&mut self) {
        if std::mem::take(&mut self.apart_for_now) {
            for slot in self.slots.values_mut() {
                slot.group = 0;
            }
        }
    }

    /// Ids of the entries that wait and are not refused.
    pub(crate) fn pending(&self) -> BTreeSet<String> {
        self.slots.iter().filter(|(_, slot)| slot.refused.is_none()).map(|(id, _)| id.clone()).collect()
    }

    /// The refused entries, by id.
    pub(crate) fn all_refused(&self) -> BTreeMap<String, WriteRefusal> {
        self.slots.iter().filter_map(|(id, slot)| Some((id.clone(), slot.refused.clone()?))).collect()
    }

    /// The entries that came to nothing and go out again later, by id.
    pub(crate) fn all_delayed(&self) -> BTreeMap<String, WriteRefusal> {
        self.slots.iter().filter_map(|(id, slot)| Some((id.clone(), slot.delayed.clone()?))).collect()
    }
}
