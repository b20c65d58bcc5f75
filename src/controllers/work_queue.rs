//! The queue of a controller: the keys to reconcile, in the order of their arrival.
//!
//! It keeps the rules of client-go's work queue, and the priorities of controller-runtime's. kube's runner keeps the waiting keys in a set
//! and takes any of them, so that a key can wait for ever while others pass it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures::StreamExt;
use tokio_util::time::{DelayQueue, delay_queue};

use super::fair_lanes::{FairLanes, Priority};
use crate::api::object_key::ObjectKey;
use crate::metrics::QueueMeter;

/// The keys to reconcile.
///
/// # Guarantees
/// - A key waits at most once, and in the order of [`FairLanes`].
/// - A key that is taken is not taken again before it is done. One that is added meanwhile waits again once it is done.
/// - A delayed key is due at its earliest time.
#[derive(Debug)]
pub(crate) struct WorkQueue {
    /// May also have keys that became urgent or were taken since. `added` tells.
    waiting: FairLanes,
    /// The waiting keys, and the taken keys that were added meanwhile.
    added: HashMap<ObjectKey, Added>,
    taken: HashSet<ObjectKey>,
    delayed: DelayQueue<ObjectKey>,
    timers: HashMap<ObjectKey, Timer>,
    meter: QueueMeter,
}

/// The priority of a key, and since when it waits.
#[derive(Clone, Copy, Debug)]
struct Added {
    priority: Priority,
    since: tokio::time::Instant,
}

#[derive(Debug)]
struct Timer {
    key: delay_queue::Key,
    at: tokio::time::Instant,
}

impl WorkQueue {
    /// An empty queue. It counts its keys in `meter`.
    pub(crate) fn new(meter: QueueMeter) -> Self {
        Self {
            waiting: FairLanes::default(),
            added: HashMap::new(),
            taken: HashSet::new(),
            delayed: DelayQueue::new(),
            timers: HashMap::new(),
            meter,
        }
    }

    /// Adds a key. Its delay, if any, is over. A key that waits may become urgent, but not routine.
    pub(crate) fn add(&mut self, key: ObjectKey, priority: Priority) {
        if let Some(timer) = self.timers.remove(&key) {
            self.delayed.remove(&timer.key);
        }
        match self.added.get_mut(&key) {
            Some(before) if before.priority == Priority::Urgent || before.priority == priority => return,
            Some(before) => {
                before.priority = priority;
                self.meter.became_urgent();
            }
            None => {
                self.added.insert(key.clone(), Added { priority, since: tokio::time::Instant::now() });
                self.meter.added(priority == Priority::Urgent);
            }
        }
        if !self.taken.contains(&key) {
            self.waiting.push(key, priority);
        }
    }

    /// Delays a key, unless it waits. Its earliest time counts.
    pub(crate) fn add_after(&mut self, key: ObjectKey, delay: Duration) {
        if self.added.contains_key(&key) {
            return;
        }
        let at = tokio::time::Instant::now() + delay;
        match self.timers.get_mut(&key) {
            Some(timer) if timer.at <= at => {}
            Some(timer) => {
                self.delayed.reset_at(&timer.key, at);
                timer.at = at;
            }
            None => {
                let timer = Timer { key: self.delayed.insert_at(key.clone(), at), at };
                self.timers.insert(key, timer);
            }
        }
    }

    /// Delays a key that was reconciled.
    pub(crate) fn retry_after(&mut self, key: ObjectKey, delay: Duration) {
        self.meter.retried();
        self.add_after(key, delay);
    }

    /// Takes the next key.
    pub(crate) fn take(&mut self) -> Option<ObjectKey> {
        let (added, taken) = (&self.added, &self.taken);
        let is_added = |key: &ObjectKey, priority| added.get(key).is_some_and(|added| added.priority == priority);
        let (key, _) = self.waiting.pop(|key, priority| is_added(key, priority) && !taken.contains(key))?;
        if let Some(Added { priority, since }) = self.added.remove(&key) {
            self.meter.taken(priority == Priority::Urgent, since.elapsed());
        }
        self.taken.insert(key.clone());
        Some(key)
    }

    /// Gives a taken key back.
    pub(crate) fn done(&mut self, key: &ObjectKey) {
        self.taken.remove(key);
        if let Some(Added { priority, .. }) = self.added.get(key).copied() {
            self.waiting.push(key.clone(), priority);
        }
    }

    /// Waits for the next delayed key that is due. Pending for ever without one. Cancel-safe.
    pub(crate) async fn next_due(&mut self) -> ObjectKey {
        match self.delayed.next().await {
            Some(expired) => {
                let key = expired.into_inner();
                self.timers.remove(&key);
                key
            }
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::Priority::{Routine, Urgent};
    use super::*;

    fn queue() -> WorkQueue {
        WorkQueue::new(crate::metrics::Metrics::default().queue("agent"))
    }

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("fleet", name)
    }

    fn taken(queue: &mut WorkQueue) -> Vec<String> {
        std::iter::from_fn(|| queue.take()).map(|key| key.name).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_taken_in_the_order_of_arrival_and_each_once() {
        let mut queue = queue();
        for name in ["c", "a", "b", "a", "c"] {
            queue.add(key(name), Routine);
        }
        assert_eq!(taken(&mut queue), ["c", "a", "b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn urgent_keys_pass_routine_keys_but_for_one_key_in_four() {
        let mut queue = queue();
        for name in ["r1", "r2", "late"] {
            queue.add(key(name), Routine);
        }
        for name in ["u1", "u2", "u3", "u4", "late"] {
            queue.add(key(name), Urgent);
        }
        queue.add(key("u4"), Routine);
        assert_eq!(taken(&mut queue), ["u1", "u2", "u3", "r1", "u4", "late", "r2"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_became_urgent_is_taken_once_and_may_wait_again() {
        let mut queue = queue();
        queue.add(key("a"), Routine);
        queue.add(key("a"), Urgent);
        assert_eq!(queue.take(), Some(key("a")));
        queue.add(key("a"), Routine);
        assert_eq!(queue.take(), None, "it is taken");
        queue.done(&key("a"));
        assert_eq!(queue.take(), Some(key("a")));
        queue.done(&key("a"));
        assert_eq!(queue.take(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_is_added_while_it_is_taken_waits_again_once_it_is_done() {
        let mut queue = queue();
        queue.add(key("a"), Routine);
        assert_eq!(taken(&mut queue), ["a"]);
        queue.add(key("a"), Routine);
        queue.add(key("b"), Routine);
        assert_eq!(taken(&mut queue), ["b"]);
        queue.done(&key("a"));
        queue.done(&key("b"));
        assert_eq!(taken(&mut queue), ["a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_delayed_key_is_due_at_its_earliest_time() {
        let (mut queue, began) = (queue(), Instant::now());
        queue.add_after(key("a"), Duration::from_secs(9));
        queue.add_after(key("a"), Duration::from_secs(3));
        queue.add_after(key("a"), Duration::from_secs(6));
        assert_eq!((queue.next_due().await, began.elapsed()), (key("a"), Duration::from_secs(3)));
        let next = tokio::time::timeout(Duration::from_mins(1), queue.next_due()).await;
        assert!(next.is_err(), "the key is due once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_arrives_ends_its_delay() {
        let mut queue = queue();
        queue.add_after(key("a"), Duration::from_secs(9));
        queue.add(key("a"), Routine);
        assert_eq!(taken(&mut queue), ["a"]);
        assert!(tokio::time::timeout(Duration::from_mins(1), queue.next_due()).await.is_err());
    }
}
