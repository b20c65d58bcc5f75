//! The changes of agents for any number of readers, in bounded memory.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::dto::Entry;
use crate::api::Agent;
use crate::api::object_key::ObjectKey;

/// The maximum number of deleted agents in the feed.
const MAX_TOMBSTONES: usize = 1024;

/// The latest state of every agent, in the order of their changes.
///
/// # Guarantees
/// The feed keeps one state per agent and a bounded number of deleted agents. The number and the speed of readers do not
/// change its size: a reader keeps only a sequence number. A reader gets only the latest state of an agent that changed
/// several times since the reader's last read.
#[derive(Debug)]
pub struct ChangeFeed {
    instance: String,
    states: Mutex<FeedStates>,
    last_seq: watch::Sender<u64>,
    shutdown: CancellationToken,
}

/// The states of the agents, and the sequence number of each state.
#[derive(Debug, Default)]
struct FeedStates {
    last_seq: u64,
    /// The objects of the cache: a copy of what readers see would take memory for each agent.
    agents: HashMap<Arc<ObjectKey>, (u64, Arc<Agent>)>,
    order: BTreeMap<u64, Arc<ObjectKey>>,
    tombstones: VecDeque<(u64, Arc<Entry>)>,
    /// The sequence number of the newest deletion that is no longer kept.
    evicted_seq: u64,
}

/// The latest state of an agent.
enum FeedState {
    /// The Agent.
    Agent(Arc<Agent>),
    /// What readers see of an Agent that is deleted.
    Deleted(Arc<Entry>),
}

impl FeedState {
    fn entry(self) -> Entry {
        match self {
            Self::Agent(agent) => Entry::of(&agent),
            Self::Deleted(entry) => Arc::unwrap_or_clone(entry),
        }
    }
}

impl FeedStates {
    fn next_seq(&mut self) -> u64 {
        self.last_seq += 1;
        self.last_seq
    }

    fn remove(&mut self, key: &ObjectKey) {
        if let Some((seq, _)) = self.agents.remove(key) {
            self.order.remove(&seq);
        }
    }

    fn add_tombstone(&mut self, entry: &Entry) {
        let seq = self.next_seq();
        self.tombstones.push_back((seq, Arc::new(entry.deleted())));
        if self.tombstones.len() > MAX_TOMBSTONES
            && let Some((seq, _)) = self.tombstones.pop_front()
        {
            self.evicted_seq = seq;
        }
    }
}

impl ChangeFeed {
    /// An empty feed, whose readers end at `shutdown`. `instance` distinguishes the event ids of this feed from the ids of
    /// another feed.
    #[must_use]
    pub fn new(instance: impl Into<String>, shutdown: CancellationToken) -> Self {
        Self { instance: instance.into(), states: Mutex::default(), last_seq: watch::Sender::new(0), shutdown }
    }

    /// The token that is cancelled when the operator stops. Readers must then end, so that they do not delay the shutdown.
    #[must_use]
    pub fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    fn lock(&self) -> MutexGuard<'_, FeedStates> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the current state of an Agent. A change of a field that readers do not see is ignored.
    pub fn update(&self, agent: &Arc<Agent>, deleted: bool) {
        let key = ObjectKey::of(&agent.metadata);
        let entry = Entry::of(agent);
        let mut states = self.lock();
        let known = states.agents.get_mut(&key);
        let before = known.as_ref().map(|(_, before)| Entry::of(before));
        if let Some((_, known)) = known.filter(|_| !deleted && before.as_ref() == Some(&entry)) {
            // The earlier version would stay in memory.
            *known = Arc::clone(agent);
            return;
        }
        states.remove(&key);
        // A new object with the same name: the watch did not report the deletion of the old object.
        if let Some(other) = before.filter(|before| before.item.id != entry.item.id) {
            states.add_tombstone(&other);
        }
        if deleted {
            states.add_tombstone(&entry);
        } else {
            let (seq, key) = (states.next_seq(), Arc::new(key));
            states.order.insert(seq, Arc::clone(&key));
            states.agents.insert(key, (seq, Arc::clone(agent)));
        }
        let last_seq = states.last_seq;
        drop(states);
        self.last_seq.send_replace(last_seq);
    }

    /// Subscribes to the sequence number of the latest change.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.last_seq.subscribe()
    }

    /// At most `limit` states after the sequence number `cursor`, in order, without deletions up to `hidden_deletions`. `None` if
    /// deletions after these numbers are no longer kept.
    #[must_use]
    pub fn after(&self, cursor: u64, hidden_deletions: u64, limit: usize) -> Option<Vec<(u64, Entry)>> {
        let feed = self.lock();
        if cursor.max(hidden_deletions) < feed.evicted_seq {
            return None;
        }
        let later = (Bound::Excluded(cursor), Bound::Unbounded);
        let agents = feed.order.range(later).take(limit).filter_map(|(_, key)| feed.agents.get(key));
        let agents = agents.map(|(seq, agent)| (*seq, FeedState::Agent(Arc::clone(agent))));
        let from = feed.tombstones.partition_point(|(seq, _)| *seq <= cursor.max(hidden_deletions));
        let tombstones = feed.tombstones.range(from..).take(limit);
        let tombstones = tombstones.map(|(seq, entry)| (*seq, FeedState::Deleted(Arc::clone(entry))));
        let mut found: Vec<_> = agents.chain(tombstones).collect();
        // The watch waits for the lock.
        drop(feed);
        found.sort_by_key(|(seq, _)| *seq);
        found.truncate(limit);
        Some(found.into_iter().map(|(seq, state)| (seq, state.entry())).collect())
    }

    /// The event id of a sequence number, for `Last-Event-ID`.
    #[must_use]
    pub fn event_id(&self, seq: u64) -> String {
        format!("{}-{seq}", self.instance)
    }

    /// The sequence number of an event id; `None` for an id of another feed.
    #[must_use]
    pub fn seq_of(&self, event_id: &str) -> Option<u64> {
        let seq = event_id.strip_prefix(&self.instance)?.strip_prefix('-')?.parse().ok()?;
        (seq <= self.lock().last_seq).then_some(seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::dto::StatusWord;

    fn new() -> ChangeFeed {
        ChangeFeed::new("b", CancellationToken::new())
    }

    fn agent(name: &str, uid: &str, display_name: &str) -> Arc<Agent> {
        let mut agent = Agent::default();
        agent.metadata.name = Some(name.into());
        agent.metadata.namespace = Some("ns".into());
        agent.metadata.uid = Some(uid.into());
        agent.spec.display_name = Some(display_name.into());
        Arc::new(agent)
    }

    fn read(feed: &ChangeFeed, cursor: u64) -> Vec<(u64, String, StatusWord)> {
        let found = feed.after(cursor, 0, 100).unwrap();
        found.iter().map(|(seq, e)| (*seq, e.item.name.clone(), e.item.status.unwrap())).collect()
    }

    #[test]
    fn a_reader_gets_only_the_latest_state() {
        let feed = new();
        for name in ["one", "two", "three"] {
            feed.update(&agent("a", "1", name), false);
        }
        assert_eq!(read(&feed, 0), [(3, "three".into(), StatusWord::Provisioning)]);
        assert!(read(&feed, 3).is_empty());
    }

    #[test]
    fn a_change_of_a_hidden_field_is_ignored() {
        let feed = new();
        let mut same = agent("a", "1", "one");
        feed.update(&same, false);
        let before = Arc::downgrade(&same);
        Arc::make_mut(&mut same).metadata.resource_version = Some("2".into());
        feed.update(&same, false);
        assert_eq!(*feed.subscribe().borrow(), 1);
        assert_eq!(before.strong_count(), 0, "the feed keeps an outdated object");
    }

    #[test]
    fn a_deletion_is_returned_to_an_old_reader_and_hidden_from_a_new_reader() {
        let feed = new();
        feed.update(&agent("a", "1", "one"), false);
        feed.update(&agent("a", "1", "one"), true);
        assert_eq!(read(&feed, 1), [(2, "one".into(), StatusWord::Deleted)]);
        assert!(feed.after(0, 2, 100).unwrap().is_empty());
    }

    #[test]
    fn a_new_agent_with_the_same_name_deletes_the_old_agent() {
        let feed = new();
        feed.update(&agent("a", "1", "one"), false);
        feed.update(&agent("a", "2", "two"), false);
        assert_eq!(
            read(&feed, 1),
            [(2, "one".into(), StatusWord::Deleted), (3, "two".into(), StatusWord::Provisioning)]
        );
    }

    #[test]
    fn memory_is_bounded_and_a_late_reader_gets_none() {
        let feed = new();
        for n in 0..3000 {
            let name = format!("a{n}");
            feed.update(&agent(&name, &name, "x"), false);
            feed.update(&agent(&name, &name, "x"), true);
        }
        let states = feed.lock();
        assert_eq!((states.tombstones.len(), states.agents.len(), states.order.len()), (MAX_TOMBSTONES, 0, 0));
        drop(states);
        assert!(feed.after(10, 0, 100).is_none());
        assert_eq!(feed.after(5990, 0, 100).unwrap().len(), 5);
    }

    #[test]
    fn batches_contain_every_state() {
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
    fn only_event_ids_of_this_instance_are_accepted() {
        let feed = new();
        feed.update(&agent("a", "1", "one"), false);
        assert_eq!(feed.seq_of(&feed.event_id(1)), Some(1));
        assert_eq!((feed.seq_of("b-2"), feed.seq_of("c-1"), feed.seq_of("b-")), (None, None, None));
    }
}
