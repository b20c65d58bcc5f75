//! The queue of a controller: the keys to reconcile, in the order of their arrival.
//!
//! It keeps the rules of client-go's work queue, and the priorities of controller-runtime's. kube's runner keeps the waiting keys in a set
//! and takes any of them, so that a key can wait for ever while others pass it.

use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt;
use tokio_util::time::{DelayQueue, delay_queue};

use super::fair_lanes::{FairLanes, Group, Priority, TURN};
use crate::api::object_key::ObjectKey;
use crate::metrics::QueueMeter;

/// The maximum number of new objects that are taken at one time. So those that are begun are completed while thousands of new ones wait: with a
/// thousand at one time, each would wait for minutes between its steps, and its Secret and its files would be read or rendered again.
const MAX_NEW: usize = 128;
/// The maximum number of objects that are as specified and taken at one time. So late writes for thousands of Ready Agents hold up no other Agent.
const MAX_ROUTINE: usize = 256;

/// The time between two keys that are paced. Thousands of Agents that are set up change the counts in hundreds of Boards and AgentGateways all the
/// time, and each change would cost a write of a status.
const PACE: Duration = Duration::from_millis(100);

/// The keys to reconcile.
///
/// # Guarantees
/// - At most [`MAX_NEW`] keys of new objects are taken at one time, [`TURN`] of one group among them, and at most [`MAX_ROUTINE`] of those that are as
///   specified.
/// - A key waits at most once, and in the order of [`FairLanes`].
/// - A key that is taken is not taken again before it is done. One that is added meanwhile waits again once it is done.
/// - A delayed key is due at its earliest time.
#[derive(Debug)]
pub(crate) struct WorkQueue {
    /// May also have keys that became urgent or were taken since. `added` tells.
    waiting: FairLanes,
    /// The waiting keys, and the taken keys that were added meanwhile.
    added: HashMap<ObjectKey, Added>,
    taken: HashMap<ObjectKey, (Priority, Group)>,
    new_taken: usize,
    /// The number of taken keys of new objects by group.
    new_of_group: HashMap<Group, usize>,
    routine_taken: usize,
    delayed: DelayQueue<ObjectKey>,
    timers: HashMap<ObjectKey, Timer>,
    /// When the last paced key is due.
    last_paced: tokio::time::Instant,
    /// The number of delayed keys that are paced.
    paced: u32,
    meter: QueueMeter,
}

/// The priority and the group of a key, and since when it waits.
#[derive(Clone, Debug)]
struct Added {
    priority: Priority,
    group: Group,
    since: tokio::time::Instant,
}

impl Added {
    /// Makes the key more urgent, but not less.
    fn raise(&mut self, priority: Priority, group: Group, meter: &QueueMeter) {
        if priority >= self.priority {
            return;
        }
        if is_urgent(priority) && !is_urgent(self.priority) {
            meter.became_urgent();
        }
        (self.priority, self.group) = (priority, group);
    }
}

#[derive(Debug)]
struct Timer {
    key: delay_queue::Key,
    at: tokio::time::Instant,
    is_paced: bool,
}

impl WorkQueue {
    /// An empty queue. It counts its keys in `meter`.
    pub(crate) fn new(meter: QueueMeter) -> Self {
        Self {
            waiting: FairLanes::default(),
            added: HashMap::new(),
            taken: HashMap::new(),
            new_taken: 0,
            new_of_group: HashMap::new(),
            routine_taken: 0,
            delayed: DelayQueue::new(),
            timers: HashMap::new(),
            last_paced: tokio::time::Instant::now(),
            paced: 0,
            meter,
        }
    }

    /// Adds a key. Its delay, if any, is over. A key that waits may become more urgent, but not less.
    pub(crate) fn add(&mut self, key: ObjectKey, priority: Priority, group: Group) {
        if let Some(timer) = self.remove_timer(&key) {
            self.delayed.remove(&timer.key);
        }
        match self.added.get_mut(&key) {
            Some(before) if before.priority <= priority => return,
            Some(before) => before.raise(priority, group.clone(), &self.meter),
            None => {
                self.added
                    .insert(key.clone(), Added { priority, group: group.clone(), since: tokio::time::Instant::now() });
                self.meter.added(is_urgent(priority));
            }
        }
        if !self.taken.contains_key(&key) {
            self.waiting.push(key, priority, group);
        }
    }

    /// Delays a key, unless it waits. Its earliest time counts.
    pub(crate) fn add_after(&mut self, key: ObjectKey, delay: Duration) {
        self.add_at(key, tokio::time::Instant::now() + delay, false);
    }

    /// Delays a key in the same way, and longer if other paced keys are due: one in each [`PACE`].
    pub(crate) fn add_paced(&mut self, key: ObjectKey, delay: Duration) {
        let earliest = tokio::time::Instant::now() + delay;
        // Keys that became due earlier leave their times to others.
        let latest = earliest + PACE.saturating_mul(self.paced);
        let at = (self.last_paced + PACE).clamp(earliest, latest);
        if self.add_at(key, at, true) {
            self.last_paced = at;
        }
    }

    fn remove_timer(&mut self, key: &ObjectKey) -> Option<Timer> {
        let timer = self.timers.remove(key)?;
        self.paced -= u32::from(timer.is_paced);
        Some(timer)
    }

    /// Returns whether the key is due at this time. It may wait already, or be due earlier.
    fn add_at(&mut self, key: ObjectKey, at: tokio::time::Instant, is_paced: bool) -> bool {
        if self.added.contains_key(&key) {
            return false;
        }
        match self.timers.get_mut(&key) {
            Some(timer) if timer.at <= at => return false,
            Some(timer) => {
                self.delayed.reset_at(&timer.key, at);
                timer.at = at;
                self.paced -= u32::from(timer.is_paced);
                timer.is_paced = is_paced;
            }
            None => {
                let timer = Timer { key: self.delayed.insert_at(key.clone(), at), at, is_paced };
                self.timers.insert(key, timer);
            }
        }
        self.paced += u32::from(is_paced);
        true
    }

    /// Delays a key that was reconciled.
    pub(crate) fn retry_after(&mut self, key: ObjectKey, delay: Duration) {
        self.meter.retried();
        self.add_after(key, delay);
    }

    /// Takes the next key.
    pub(crate) fn take(&mut self) -> Option<ObjectKey> {
        let (added, taken) = (&self.added, &self.taken);
        let (is_new_open, is_routine_open) = (self.new_taken < MAX_NEW, self.routine_taken < MAX_ROUTINE);
        let new_of_group = &self.new_of_group;
        let is_added = |key: &ObjectKey, priority| added.get(key).is_some_and(|added| added.priority == priority);
        let (key, priority) = self.waiting.pop(
            |priority, group| match priority {
                Priority::Urgent => true,
                Priority::New => is_new_open && new_of_group.get(group).is_none_or(|taken| *taken < TURN),
                Priority::Routine | Priority::FirstLook => is_routine_open,
            },
            |key, priority| is_added(key, priority) && !taken.contains_key(key),
        )?;
        let Added { since, group, .. } = self.added.remove(&key)?;
        self.meter.taken(is_urgent(priority), since.elapsed());
        if priority == Priority::New {
            self.new_taken += 1;
            *self.new_of_group.entry(group.clone()).or_default() += 1;
        }
        self.routine_taken += usize::from(!is_urgent(priority));
        self.taken.insert(key.clone(), (priority, group));
        Some(key)
    }

    /// Gives a taken key back. If it was added meanwhile, it waits again, with this priority if that is more urgent.
    pub(crate) fn done(&mut self, key: &ObjectKey, priority: Priority, group: Group) {
        if let Some((taken_as, group)) = self.taken.remove(key) {
            if taken_as == Priority::New {
                self.new_taken -= 1;
                self.new_of_group.entry(group).and_modify(|taken| *taken -= 1);
                self.new_of_group.retain(|_, taken| *taken > 0);
            }
            self.routine_taken -= usize::from(!is_urgent(taken_as));
        }
        if let Some(added) = self.added.get_mut(key) {
            added.raise(priority, group, &self.meter);
            self.waiting.push(key.clone(), added.priority, added.group.clone());
        }
    }

    /// Waits for the next delayed key that is due. Pending for ever without one. Cancel-safe.
    pub(crate) async fn next_due(&mut self) -> ObjectKey {
        match self.delayed.next().await {
            Some(expired) => {
                let key = expired.into_inner();
                self.remove_timer(&key);
                key
            }
            None => std::future::pending().await,
        }
    }
}

/// Whether an object of this priority is not as specified, which the metrics tell.
fn is_urgent(priority: Priority) -> bool {
    priority < Priority::Routine
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::Priority::{New, Routine, Urgent};
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
            queue.add(key(name), Routine, None);
        }
        assert_eq!(taken(&mut queue), ["c", "a", "b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn urgent_keys_pass_routine_keys_but_for_one_key_in_four() {
        let mut queue = queue();
        for name in ["r1", "r2", "late"] {
            queue.add(key(name), Routine, None);
        }
        for name in ["u1", "u2", "u3", "u4", "late"] {
            queue.add(key(name), Urgent, None);
        }
        queue.add(key("u4"), Routine, None);
        assert_eq!(taken(&mut queue), ["u1", "u2", "u3", "r1", "u4", "late", "r2"]);
    }

    #[tokio::test(start_paused = true)]
    async fn new_and_routine_keys_beyond_their_number_wait_and_let_all_others_pass() {
        let mut queue = queue();
        for number in 0..=MAX_NEW {
            queue.add(key(&format!("n{number:04}")), New, Some(key(&format!("board-{}", number % 32))));
        }
        assert_eq!(taken(&mut queue).len(), MAX_NEW);
        queue.add(key("routine"), Routine, None);
        queue.add(key("urgent"), Urgent, None);
        assert_eq!(taken(&mut queue), ["routine", "urgent"], "the routine one has its turn");
        queue.done(&key("urgent"), Urgent, None);
        assert_eq!(queue.take(), None, "no new one has ended");
        queue.done(&key("n0000"), Urgent, None);
        let next = taken(&mut queue);
        assert!(next.len() == 1 && next[0].starts_with('n'), "{next:?}");
        for number in 0..MAX_ROUTINE {
            queue.add(key(&format!("r{number:04}")), Routine, None);
        }
        assert_eq!(taken(&mut queue).len(), MAX_ROUTINE - 1, "one was taken before");
        queue.add(key("another"), Urgent, None);
        assert_eq!(taken(&mut queue), ["another"]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_new_keys_of_one_group_leave_room_for_those_of_others() {
        let mut queue = queue();
        for number in 0..TURN + 4 {
            queue.add(key(&format!("slow-{number:02}")), New, Some(key("slow")));
        }
        queue.add(key("other"), New, Some(key("quick")));
        let taken = taken(&mut queue);
        assert_eq!((taken.len(), taken.last().map(String::as_str)), (TURN + 1, Some("other")));
        queue.done(&key("slow-00"), Urgent, None);
        assert_eq!(queue.take(), Some(key("slow-16")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_key_that_was_added_while_it_was_begun_goes_before_new_ones() {
        let mut queue = queue();
        queue.add(key("begun"), New, None);
        assert_eq!(queue.take(), Some(key("begun")));
        for name in ["new", "begun"] {
            queue.add(key(name), New, None);
        }
        queue.done(&key("begun"), Urgent, None);
        assert_eq!(taken(&mut queue), ["begun", "new"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_became_urgent_is_taken_once_and_may_wait_again() {
        let mut queue = queue();
        queue.add(key("a"), Routine, None);
        queue.add(key("a"), Urgent, None);
        assert_eq!(queue.take(), Some(key("a")));
        queue.add(key("a"), Routine, None);
        assert_eq!(queue.take(), None, "it is taken");
        queue.done(&key("a"), Routine, None);
        assert_eq!(queue.take(), Some(key("a")));
        queue.done(&key("a"), Routine, None);
        assert_eq!(queue.take(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_is_added_while_it_is_taken_waits_again_once_it_is_done() {
        let mut queue = queue();
        queue.add(key("a"), Routine, None);
        assert_eq!(taken(&mut queue), ["a"]);
        queue.add(key("a"), Routine, None);
        queue.add(key("b"), Routine, None);
        assert_eq!(taken(&mut queue), ["b"]);
        queue.done(&key("a"), Routine, None);
        queue.done(&key("b"), Routine, None);
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
    async fn paced_keys_are_due_one_after_another_and_each_of_them_once() {
        let (mut queue, began) = (queue(), Instant::now());
        queue.add_after(key("c"), Duration::from_mins(10));
        for name in ["a", "b", "a", "c"] {
            queue.add_paced(key(name), Duration::from_millis(500));
        }
        let mut due = Vec::new();
        for _ in 0..3 {
            due.push((queue.next_due().await.name, began.elapsed().as_millis()));
        }
        assert_eq!(due, [("a".into(), 500), ("b".into(), 600), ("c".into(), 700)]);
        queue.add_paced(key("a"), Duration::from_secs(20));
        queue.add_after(key("a"), Duration::from_millis(500));
        queue.next_due().await;
        assert_eq!(began.elapsed().as_millis(), 1200, "a change passes the pace");
        queue.add_paced(key("b"), Duration::from_millis(500));
        queue.next_due().await;
        assert_eq!(began.elapsed().as_millis(), 1700, "the time that the other key left is free");
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_arrives_ends_its_delay() {
        let mut queue = queue();
        queue.add_after(key("a"), Duration::from_secs(9));
        queue.add(key("a"), Routine, None);
        assert_eq!(taken(&mut queue), ["a"]);
        assert!(tokio::time::timeout(Duration::from_mins(1), queue.next_due()).await.is_err());
    }
}
