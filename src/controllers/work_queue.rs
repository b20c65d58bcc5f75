//! The queue of a controller: the keys to reconcile, in the order of their arrival.
//!
//! It keeps the rules of client-go's work queue. kube's runner keeps the waiting keys in a set and takes any of them, so that a key can wait
//! for ever while others pass it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use futures::StreamExt;
use tokio_util::time::{DelayQueue, delay_queue};

use crate::api::object_key::ObjectKey;

/// The keys to reconcile.
///
/// # Guarantees
/// - A key waits at most once, and no key passes another.
/// - A key that is taken is not taken again before it is done. One that is added meanwhile waits again once it is done.
/// - A delayed key is added at its earliest time.
#[derive(Debug, Default)]
pub(crate) struct WorkQueue {
    waiting: VecDeque<ObjectKey>,
    /// The keys of `waiting`, and the taken keys that were added meanwhile.
    added: HashSet<ObjectKey>,
    taken: HashSet<ObjectKey>,
    delayed: DelayQueue<ObjectKey>,
    timers: HashMap<ObjectKey, Timer>,
}

#[derive(Debug)]
struct Timer {
    key: delay_queue::Key,
    at: tokio::time::Instant,
}

impl WorkQueue {
    /// Adds a key. Its delay, if any, is over.
    pub(crate) fn add(&mut self, key: ObjectKey) {
        if let Some(timer) = self.timers.remove(&key) {
            self.delayed.remove(&timer.key);
        }
        if self.added.insert(key.clone()) && !self.taken.contains(&key) {
            self.waiting.push_back(key);
        }
    }

    /// Adds a key after this time, unless it is added earlier.
    pub(crate) fn add_after(&mut self, key: ObjectKey, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        if self.added.contains(&key) {
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

    /// Takes the key that waits longest.
    pub(crate) fn take(&mut self) -> Option<ObjectKey> {
        let key = self.waiting.pop_front()?;
        self.added.remove(&key);
        self.taken.insert(key.clone());
        Some(key)
    }

    /// Gives a taken key back.
    pub(crate) fn done(&mut self, key: &ObjectKey) {
        self.taken.remove(key);
        if self.added.contains(key) {
            self.waiting.push_back(key.clone());
        }
    }

    /// Waits for the next delayed key, and adds it. Pending for ever without one. Cancel-safe.
    pub(crate) async fn delay_ends(&mut self) {
        match self.delayed.next().await {
            Some(expired) => {
                let key = expired.into_inner();
                self.timers.remove(&key);
                self.add(key);
            }
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("fleet", name)
    }

    fn taken(queue: &mut WorkQueue) -> Vec<String> {
        std::iter::from_fn(|| queue.take()).map(|key| key.name).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_taken_in_the_order_of_arrival_and_each_once() {
        let mut queue = WorkQueue::default();
        for name in ["c", "a", "b", "a", "c"] {
            queue.add(key(name));
        }
        assert_eq!(taken(&mut queue), ["c", "a", "b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_is_added_while_it_is_taken_waits_again_once_it_is_done() {
        let mut queue = WorkQueue::default();
        queue.add(key("a"));
        assert_eq!(taken(&mut queue), ["a"]);
        queue.add(key("a"));
        queue.add(key("b"));
        assert_eq!(taken(&mut queue), ["b"]);
        queue.done(&key("a"));
        queue.done(&key("b"));
        assert_eq!(taken(&mut queue), ["a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_delayed_key_is_added_at_its_earliest_time() {
        let (mut queue, began) = (WorkQueue::default(), Instant::now());
        queue.add_after(key("a"), Duration::from_secs(9));
        queue.add_after(key("a"), Duration::from_secs(3));
        queue.add_after(key("a"), Duration::from_secs(6));
        queue.delay_ends().await;
        assert_eq!((taken(&mut queue), began.elapsed()), (vec!["a".to_owned()], Duration::from_secs(3)));
        let next = tokio::time::timeout(Duration::from_mins(1), queue.delay_ends()).await;
        assert!(next.is_err(), "the key is added once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_arrives_ends_its_delay() {
        let mut queue = WorkQueue::default();
        queue.add_after(key("a"), Duration::from_secs(9));
        queue.add(key("a"));
        assert_eq!(taken(&mut queue), ["a"]);
        assert!(tokio::time::timeout(Duration::from_mins(1), queue.delay_ends()).await.is_err());
    }
}
