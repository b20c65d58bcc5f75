//! What happens to agents, for any number of readers, in bounded memory.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::dto::Entry;
use crate::api::Agent;
use crate::api::object_key::ObjectKey;

/// How many deleted agents are remembered.
const TOMBSTONES: usize = 1024;

/// The latest state of every agent, in the order of their changes.
///
/// # Guarantees
/// It keeps one state per agent and a bounded number of deleted ones, however many readers there are and however slow
/// they are: a reader has only a number, and what changed twice since it last read is read once.
#[derive(Debug)]
pub struct ChangeFeed {
    boot: String,
    inner: Mutex<Inner>,
    last: watch::Sender<u64>,
    end: CancellationToken,
}

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    entries: HashMap<ObjectKey, (u64, Arc<Entry>)>,
    order: BTreeMap<u64, ObjectKey>,
    tombstones: VecDeque<(u64, Arc<Entry>)>,
    /// The newest deletion that is no longer remembered.
    forgotten: u64,
}

impl Inner {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn remove(&mut self, key: &ObjectKey) -> Option<Arc<Entry>> {
        let (seq, entry) = self.entries.remove(key)?;
        self.order.remove(&seq);
        Some(entry)
    }

    fn bury(&mut self, entry: &Entry) {
        let seq = self.next();
        self.tombstones.push_back((seq, Arc::new(entry.deleted())));
        if self.tombstones.len() > TOMBSTONES
            && let Some((seq, _)) = self.tombstones.pop_front()
        {
            self.forgotten = seq;
        }
    }
}

impl ChangeFeed {
    /// An empty feed, until `end`. `boot` tells the ids of this one from those of another.
    #[must_use]
    pub fn new(boot: impl Into<String>, end: CancellationToken) -> Self {
        Self { boot: boot.into(), inner: Mutex::default(), last: watch::Sender::new(0), end }
    }

    /// Cancelled when the operator stops: readers are to go, so that none of them holds it up.
    #[must_use]
    pub fn end(&self) -> &CancellationToken {
        &self.end
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over an Agent as it is now. What readers do not see is no change.
    pub fn update(&self, agent: &Agent, gone: bool) {
        let entry = Entry::of(agent);
        let key = entry.key();
        let mut inner = self.lock();
        let before = inner.entries.get(&key).map(|(_, before)| Arc::clone(before));
        if !gone && before.as_deref() == Some(&entry) {
            return;
        }
        inner.remove(&key);
        // Another object of the same name: the deletion of the first one was not seen.
        if let Some(other) = before.as_ref().filter(|before| before.item.id != entry.item.id) {
            inner.bury(other);
        }
        if gone {
            inner.bury(&entry);
        } else {
            let seq = inner.next();
            inner.order.insert(seq, key.clone());
            inner.entries.insert(key, (seq, Arc::new(entry)));
        }
        let last = inner.last;
        drop(inner);
        self.last.send_replace(last);
    }

    /// The number of the latest change, and of every one to come.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    /// At most `most` states that are later than `cursor`, in order. `None` when deletions since then are forgotten.
    /// Deletions up to `silent` are left out.
    #[must_use]
    pub fn after(&self, cursor: u64, silent: u64, most: usize) -> Option<Vec<(u64, Arc<Entry>)>> {
        let inner = self.lock();
        if cursor.max(silent) < inner.forgotten {
            return None;
        }
        let later = (Bound::Excluded(cursor), Bound::Unbounded);
        let states = inner.order.range(later).take(most);
        let states = states.filter_map(|(_, key)| inner.entries.get(key).cloned());
        let from = inner.tombstones.partition_point(|(seq, _)| *seq <= cursor.max(silent));
        let mut found: Vec<_> = states.chain(inner.tombstones.range(from..).take(most).cloned()).collect();
        found.sort_by_key(|(seq, _)| *seq);
        found.truncate(most);
        Some(found)
    }

    /// The id of a state, for `Last-Event-ID`.
    #[must_use]
    pub fn id(&self, seq: u64) -> String {
        format!("{}-{seq}", self.boot)
    }

    /// The number that an id stands for, if the id is one of this feed.
    #[must_use]
    pub fn number(&self, id: &str) -> Option<u64> {
        let seq = id.strip_prefix(&self.boot)?.strip_prefix('-')?.parse().ok()?;
        (seq <= self.lock().last).then_some(seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new() -> ChangeFeed {
        ChangeFeed::new("b", CancellationToken::new())
    }

    fn agent(name: &str, uid: &str, shown: &str) -> Agent {
        let mut agent = Agent::default();
        agent.metadata.name = Some(name.into());
        agent.metadata.namespace = Some("ns".into());
        agent.metadata.uid = Some(uid.into());
        agent.spec.display_name = Some(shown.into());
        agent
    }

    fn read(feed: &ChangeFeed, cursor: u64) -> Vec<(u64, String, &'static str)> {
        let found = feed.after(cursor, 0, 100).unwrap();
        found.iter().map(|(seq, e)| (*seq, e.item.name.clone(), e.item.status.unwrap())).collect()
    }

    #[test]
    fn a_reader_sees_the_latest_state_only() {
        let feed = new();
        for shown in ["one", "two", "three"] {
            feed.update(&agent("a", "1", shown), false);
        }
        assert_eq!(read(&feed, 0), [(3, "three".into(), "provisioning")]);
        assert!(read(&feed, 3).is_empty());
    }

    #[test]
    fn what_a_reader_does_not_see_is_no_change() {
        let feed = new();
        let mut same = agent("a", "1", "one");
        feed.update(&same, false);
        same.metadata.resource_version = Some("2".into());
        feed.update(&same, false);
        assert_eq!(*feed.changes().borrow(), 1);
    }

    #[test]
    fn a_deleted_agent_is_told_to_whom_has_seen_it_and_to_no_new_reader() {
        let feed = new();
        feed.update(&agent("a", "1", "one"), false);
        feed.update(&agent("a", "1", "one"), true);
        assert_eq!(read(&feed, 1), [(2, "one".into(), "deleted")]);
        assert!(feed.after(0, 2, 100).unwrap().is_empty());
    }

    #[test]
    fn another_agent_of_the_same_name_ends_the_first_one() {
        let feed = new();
        feed.update(&agent("a", "1", "one"), false);
        feed.update(&agent("a", "2", "two"), false);
        assert_eq!(read(&feed, 1), [(2, "one".into(), "deleted"), (3, "two".into(), "provisioning")]);
    }

    #[test]
    fn memory_is_bounded_and_a_reader_that_is_too_late_is_told_so() {
        let feed = new();
        for n in 0..3000 {
            let name = format!("a{n}");
            feed.update(&agent(&name, &name, "x"), false);
            feed.update(&agent(&name, &name, "x"), true);
        }
        let inner = feed.lock();
        assert_eq!((inner.tombstones.len(), inner.entries.len(), inner.order.len()), (TOMBSTONES, 0, 0));
        drop(inner);
        assert!(feed.after(10, 0, 100).is_none());
        assert_eq!(feed.after(5990, 0, 100).unwrap().len(), 5);
    }

    #[test]
    fn a_batch_leaves_nothing_out() {
        let feed = new();
        for n in 0..10 {
            let name = format!("a{n}");
            feed.update(&agent(&name, &name, "x"), false);
            feed.update(&agent(&name, &name, "x"), n % 2 == 0);
        }
        let (mut cursor, mut seen) = (0, Vec::new());
        while let Some(batch) = feed.after(cursor, 0, 3).filter(|batch| !batch.is_empty()) {
            cursor = batch.last().unwrap().0;
            seen.extend(batch.into_iter().map(|(seq, _)| seq));
        }
        assert_eq!(seen.len(), 10);
        assert!(seen.is_sorted());
    }

    #[test]
    fn only_ids_of_this_boot_are_understood() {
        let feed = new();
        feed.update(&agent("a", "1", "one"), false);
        assert_eq!(feed.number(&feed.id(1)), Some(1));
        assert_eq!((feed.number("b-2"), feed.number("c-1"), feed.number("b-")), (None, None, None));
    }
}
