//! The queue of entries for the config: which are written together, and which wait. Time is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::halving::Halving;
use crate::backoff::doubled;
use crate::openclaw::model::writes::EntryWriteState;
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
    /// The time before which it is not sent; `None` after that time.
    not_before: Option<Instant>,
    /// Whether a patch with it and other entries had no effect.
    lost: bool,
    /// The cause of the delay.
    delayed: Option<WriteRefusal>,
}

/// The entries that may be sent now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DueEntries {
    pub(crate) count: usize,
    /// When the first and the last of them were submitted.
    pub(crate) submitted: (Instant, Instant),
}

/// The queued entries. No question about all entries costs more than a step for each of them that is to be written.
///
/// # Guarantees
/// An entry that is refused, or fails by itself, delays no other entry.
#[derive(Debug, Default)]
pub(crate) struct EntryQueue {
    entries: BTreeMap<String, QueuedEntry>,
    /// The entries that may be sent now, in the order of their submission.
    due: BTreeSet<(Instant, String)>,
    /// The entries that wait for a time, in the order of the times.
    waiting: BTreeSet<(Instant, String)>,
    /// The refused entries that wait for no time.
    refused: BTreeSet<String>,
    halving: Halving,
    /// The entries that changed since the last publication.
    touched: BTreeSet<String>,
}

impl EntryQueue {
    /// Adds an entry, or replaces the entry with the same id. Returns whether an entry is replaced by another one.
    pub(crate) fn submit(&mut self, entry: AgentEntry, now: Instant) -> bool {
        if self.entries.get(&entry.id).is_some_and(|queued| queued.entry == entry) {
            return false;
        }
        let id = entry.id.clone();
        let is_replaced = self.remove(&id);
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
        self.insert(id, queued);
        is_replaced
    }

    /// Removes an entry. Returns whether there was one.
    pub(crate) fn remove(&mut self, id: &str) -> bool {
        let removed = self.take(id).is_some();
        if removed {
            self.halving.forget(id);
        }
        removed
    }

    /// Removes the entries that are done.
    pub(crate) fn remove_done(&mut self, is_done: impl Fn(&AgentEntry) -> bool) {
        let done: Vec<_> =
            self.entries.iter().filter(|(_, queued)| is_done(&queued.entry)).map(|(id, _)| id.clone()).collect();
        for id in &done {
            self.remove(id);
        }
    }

    fn insert(&mut self, id: String, queued: QueuedEntry) {
        match (queued.not_before, &queued.refused) {
            (Some(at), _) => self.waiting.insert((at, id.clone())),
            (None, Some(_)) => self.refused.insert(id.clone()),
            (None, None) => self.due.insert((queued.since, id.clone())),
        };
        self.touched.insert(id.clone());
        self.entries.insert(id, queued);
    }

    fn take(&mut self, id: &str) -> Option<QueuedEntry> {
        let (id, queued) = self.entries.remove_entry(id)?;
        self.touched.insert(id.clone());
        match (queued.not_before, &queued.refused) {
            (Some(at), _) => self.waiting.remove(&(at, id)),
            (None, Some(_)) => self.refused.remove(&id),
            (None, None) => self.due.remove(&(queued.since, id)),
        };
        Some(queued)
    }

    fn change(&mut self, id: &str, change: impl FnOnce(&mut QueuedEntry)) {
        if let Some(mut queued) = self.take(id) {
            change(&mut queued);
            self.insert(id.to_owned(), queued);
        }
    }

    /// Ends the waits that are over. Returns whether there were any.
    pub(crate) fn wake(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some((at, id)) = self.waiting.first().filter(|(at, _)| *at <= now).cloned() {
            debug_assert!(self.entries.get(&id).is_some_and(|queued| queued.not_before == Some(at)));
            self.change(&id, |queued| queued.not_before = None);
            any = true;
        }
        any
    }

    /// The entry of this id.
    pub(crate) fn entry(&self, id: &str) -> Option<&AgentEntry> {
        self.entries.get(id).map(|queued| &queued.entry)
    }

    /// Whether there may be an entry for the next patch.
    pub(crate) fn has_candidates(&self) -> bool {
        !self.due.is_empty() || !self.refused.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entries of the next patch: at most [`MAX_ENTRIES`] entries of one group that may be written, the oldest first.
    /// Next come the entries that failed alone, one per patch, and then the entries that were refused with another config.
    pub(crate) fn batch(&self, config_hash: &str, may_be_written: impl Fn(&AgentEntry) -> bool) -> Vec<String> {
        let due = |alone: bool| {
            let queued = self.due.iter().filter_map(|(_, id)| self.entries.get(id));
            queued.filter(move |queued| (queued.failures > 0) == alone).map(|queued| &queued.entry)
        };
        for group in self.halving.groups() {
            let of_group = due(false).filter(|entry| self.halving.group(&entry.id) == group);
            let batch: Vec<_> = of_group
                .filter(|entry| may_be_written(entry))
                .take(MAX_ENTRIES)
                .map(|entry| entry.id.clone())
                .collect();
            if !batch.is_empty() {
                return batch;
            }
        }
        let refused = self.refused.iter().filter_map(|id| self.entries.get(id));
        let retryable = refused.filter(|queued| queued.refused_with != config_hash).map(|queued| &queued.entry);
        let alone = due(true).chain(retryable).find(|entry| may_be_written(entry));
        alone.map(|entry| entry.id.clone()).into_iter().collect()
    }

    /// The entries that may be sent now; `None` without any.
    pub(crate) fn due(&self) -> Option<DueEntries> {
        let submitted = (self.due.first()?.0, self.due.last()?.0);
        Some(DueEntries { count: self.due.len(), submitted })
    }

    /// The time at which the next delayed entry is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.waiting.first().map(|(at, _)| *at)
    }

    /// Delays an entry that had no effect in a patch of its own, with growing waits.
    pub(crate) fn failed_alone(&mut self, id: &str, why: WriteRefusal, now: Instant) {
        self.change(id, |queued| {
            queued.failures = queued.failures.saturating_add(1);
            queued.not_before = Some(now + pause(queued.failures));
            queued.delayed = Some(why);
        });
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
        self.change(id, |queued| {
            queued.not_before = Some(now + pause(1));
            queued.delayed = Some(why);
            queued.lost = true;
        });
    }

    /// Delays the entry until a time.
    pub(crate) fn hold_back(&mut self, id: &str, until: Instant, why: WriteRefusal) {
        self.change(id, |queued| {
            queued.not_before = Some(until);
            queued.delayed = Some(why);
        });
    }

    /// Records that the gateway refused the entry with this config.
    pub(crate) fn refused(&mut self, id: &str, config_hash: &str, why: WriteRefusal) {
        self.change(id, |queued| {
            queued.refused = Some(why);
            queued.delayed = None;
            config_hash.clone_into(&mut queued.refused_with);
        });
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

    /// Publishes the state of this agent's entry again.
    pub(crate) fn touch(&mut self, id: String) {
        self.touched.insert(id);
    }

    /// The ids of the entries that changed since the last call.
    pub(crate) fn take_touched(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.touched)
    }

    /// The state of an agent's entry.
    pub(crate) fn state(&self, id: &str) -> EntryWriteState {
        let Some(queued) = self.entries.get(id) else { return EntryWriteState::default() };
        EntryWriteState {
            pending: queued.refused.is_none(),
            refused: queued.refused.clone(),
            delayed: queued.delayed.clone(),
            rewritten: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn entry(id: &str) -> AgentEntry {
        AgentEntry { id: id.into(), name: None, workspace: "/w".into(), ..AgentEntry::default() }
    }

    fn refusal() -> WriteRefusal {
        WriteRefusal { code: "X".into(), message: String::new() }
    }

    #[test]
    fn a_patch_has_the_64_oldest_entries_that_may_be_written() {
        let (mut queue, now) = (EntryQueue::default(), Instant::now());
        for number in (0..100).rev() {
            queue.submit(entry(&format!("mc-{number:02}")), now + Duration::from_millis(100 - number));
        }
        let batch = queue.batch("h", |entry| entry.id != "mc-99");
        let oldest: Vec<_> = (0..99).rev().take(MAX_ENTRIES).map(|number| format!("mc-{number:02}")).collect();
        assert_eq!(batch, oldest, "mc-99 is the oldest and may not be written yet");
    }

    #[test]
    fn an_entry_is_due_again_after_its_wait_and_keeps_its_place() {
        let (mut queue, now) = (EntryQueue::default(), Instant::now());
        queue.submit(entry("a"), now);
        queue.submit(entry("b"), now + Duration::from_millis(1));
        let until = now + Duration::from_secs(5);
        queue.hold_back("a", until, refusal());
        assert_eq!((queue.batch("h", |_| true), queue.next_due()), (vec!["b".to_owned()], Some(until)));
        assert!(!queue.wake(now) && queue.wake(until));
        assert_eq!((queue.batch("h", |_| true), queue.next_due()), (vec!["a".to_owned(), "b".to_owned()], None));
    }

    #[test]
    fn a_refused_entry_is_a_candidate_with_another_config_alone() {
        let (mut queue, now) = (EntryQueue::default(), Instant::now());
        queue.submit(entry("a"), now);
        queue.refused("a", "h", refusal());
        assert!(queue.due().is_none() && queue.batch("h", |_| true).is_empty());
        assert_eq!(queue.batch("other", |_| true), ["a"]);
        queue.submit(AgentEntry { name: Some("A".into()), ..entry("a") }, now);
        assert_eq!(queue.batch("h", |_| true), ["a"]);
        assert!(queue.remove("a") && !queue.has_candidates());
    }
}
