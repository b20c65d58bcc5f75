//! The places of a gateway: how many reconciles use it at one time, and which Agents wait for a place.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::fair_lanes::{FairLanes, Priority};
use crate::api::object_key::ObjectKey;

/// How long a place is kept for an Agent that was woken. An Agent that was deleted or moved meanwhile does not take it.
const KEPT_FOR: Duration = Duration::from_secs(10);

/// One place in this number, and at least one, is for first looks. So the looks at thousands of Agents after a restart leave processor and
/// gateway to the other Agents.
const FIRST_LOOKS: usize = 4;

/// The places of a gateway.
///
/// # Guarantees
/// - At most as many Agents have a place as there are places, and at most one in [`FIRST_LOOKS`] for a first look.
/// - Agents get their places in the order in which they first asked. Each is woken once, when a place is kept for it.
/// - Urgent Agents pass the others, in the order of [`FairLanes`].
#[derive(Debug)]
pub(crate) struct Permits {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    /// How many of the free places a first look may take.
    free_for_looks: usize,
    lanes: FairLanes,
    /// The waiting Agents.
    waits: HashMap<ObjectKey, Priority>,
    /// The woken Agents, for each of which a free place is kept.
    woken: HashMap<ObjectKey, Woken>,
}

#[derive(Debug)]
struct Woken {
    since: Instant,
    priority: Priority,
}

impl Permits {
    pub(crate) fn new(places: usize) -> Self {
        let state = State {
            free: places,
            free_for_looks: places.div_ceil(FIRST_LOOKS),
            lanes: FairLanes::default(),
            waits: HashMap::new(),
            woken: HashMap::new(),
        };
        Self { state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place, and returns the priority that it counts for until its release. Returns `None`, and lets the Agent wait, if there is none
    /// for it.
    pub(crate) fn take(&self, agent: &ObjectKey, priority: Priority) -> Option<Priority> {
        let mut state = self.state();
        let kept = state.woken.remove(agent).map(|woken| woken.priority);
        // A place that is free and not kept is one for which no Agent waits.
        let counts_for = kept.or_else(|| state.has_place(priority).then_some(priority));
        match counts_for {
            Some(priority) => {
                state.remove(agent);
                state.free -= 1;
                state.free_for_looks -= usize::from(priority == Priority::FirstLook);
            }
            None => state.wait(agent, priority),
        }
        counts_for
    }

    /// Returns a place with the priority that it counted for. The result are the Agents to wake.
    pub(crate) fn release(&self, counted_for: Priority) -> Vec<ObjectKey> {
        let mut state = self.state();
        state.free += 1;
        state.free_for_looks += usize::from(counted_for == Priority::FirstLook);
        state.wake()
    }

    /// The Agents to wake because another one did not take the place that was kept for it.
    pub(crate) fn wake_overdue(&self) -> Vec<ObjectKey> {
        let mut state = self.state();
        state.woken.retain(|_, woken| woken.since.elapsed() < KEPT_FOR);
        state.wake()
    }

    /// Removes an Agent that no longer waits. The result are the Agents to wake instead.
    pub(crate) fn forget(&self, agent: &ObjectKey) -> Vec<ObjectKey> {
        let mut state = self.state();
        state.remove(agent);
        state.wake()
    }

    /// Whether an Agent that may not be Ready waits for a place.
    pub(crate) fn has_urgent(&self) -> bool {
        let state = self.state();
        state.lanes.has_urgent() || state.woken.values().any(|woken| woken.priority == Priority::Urgent)
    }
}

impl State {
    /// Whether a place is free for this, and kept for no other Agent.
    fn has_place(&self, priority: Priority) -> bool {
        let kept_for_looks = || self.woken.values().filter(|woken| woken.priority == Priority::FirstLook).count();
        self.free > self.woken.len() && (priority != Priority::FirstLook || self.free_for_looks > kept_for_looks())
    }

    /// Lets an Agent wait. One that waits may become more urgent, but not less.
    fn wait(&mut self, agent: &ObjectKey, priority: Priority) {
        if self.waits.get(agent).is_some_and(|before| *before <= priority) {
            return;
        }
        self.remove(agent);
        self.waits.insert(agent.clone(), priority);
        self.lanes.push(agent.clone(), priority, None);
    }

    /// Removes an Agent that waits or was woken.
    fn remove(&mut self, agent: &ObjectKey) {
        if let Some(priority) = self.waits.remove(agent) {
            self.lanes.remove(agent, priority);
        }
        self.woken.remove(agent);
    }

    /// Keeps the free places for the Agents that wait longest.
    fn wake(&mut self) -> Vec<ObjectKey> {
        let mut next = Vec::new();
        while let Some((agent, priority)) = self.next() {
            self.waits.remove(&agent);
            self.woken.insert(agent.clone(), Woken { since: Instant::now(), priority });
            next.push(agent);
        }
        next
    }

    /// The waiting Agent that a free place is for.
    fn next(&mut self) -> Option<(ObjectKey, Priority)> {
        let (look, other) = (self.has_place(Priority::FirstLook), self.has_place(Priority::Urgent));
        self.lanes.pop(|priority, _| if priority == Priority::FirstLook { look } else { other }, |_, _| true)
    }
}

#[cfg(test)]
mod tests {
    use super::Priority::{FirstLook, Routine, Urgent};
    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("fleet", name)
    }

    /// Whether this Agent gets a place.
    fn takes(permits: &Permits, name: &str, demand: Priority) -> bool {
        permits.take(&key(name), demand).is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn places_go_to_the_agents_in_the_order_in_which_they_asked() {
        let permits = Permits::new(1);
        assert!(takes(&permits, "first", Urgent));
        for name in ["z", "a", "m", "a"] {
            assert!(!takes(&permits, name, Urgent));
        }
        assert_eq!(permits.release(Urgent), [key("z")]);
        assert!(!takes(&permits, "new", Urgent) && !takes(&permits, "a", Urgent), "the place is kept for z");
        assert!(takes(&permits, "z", Urgent));
        assert_eq!(permits.release(Urgent), [key("a")]);
    }

    #[tokio::test(start_paused = true)]
    async fn urgent_reconciles_pass_the_others_but_for_one_place_in_four() {
        let permits = Permits::new(1);
        let mut counts_for = permits.take(&key("first"), Routine).unwrap();
        for name in ["r1", "r2", "changed"] {
            assert!(!takes(&permits, name, Routine));
        }
        for name in ["u1", "u2", "u3", "changed"] {
            assert!(!takes(&permits, name, Urgent));
        }
        let mut order = Vec::new();
        while let [next] = &*permits.release(counts_for) {
            counts_for = permits.take(next, Routine).unwrap();
            order.push(next.name.clone());
        }
        assert_eq!(order, ["u1", "u2", "u3", "r1", "changed", "r2"]);
    }

    #[tokio::test(start_paused = true)]
    async fn first_looks_take_a_quarter_of_the_places_although_others_are_free() {
        let permits = Permits::new(8);
        let taken = ["l1", "l2", "l3", "l4"].map(|name| takes(&permits, name, FirstLook));
        assert_eq!(taken, [true, true, false, false]);
        assert!(takes(&permits, "known", Routine), "an Agent that the operator knows waits for none of them");
        assert!((0..5).all(|n| takes(&permits, &format!("u{n}"), Urgent)), "the others are for urgent reconciles");
        assert!(!takes(&permits, "u5", Urgent));
        assert_eq!(permits.release(FirstLook), [key("u5")]);
        assert!(takes(&permits, "u5", Urgent));
        assert_eq!(permits.release(Urgent), [key("l3")]);
        assert_eq!(permits.release(Urgent), [], "a quarter is taken, or kept for l3");
        assert_eq!(permits.take(&key("l3"), Urgent), Some(FirstLook), "the place is one of the quarter");
        assert_eq!(permits.release(FirstLook), [key("l4")]);
    }

    #[tokio::test(start_paused = true)]
    async fn known_agents_pass_first_looks_but_for_one_place_in_four() {
        let permits = Permits::new(1);
        let mut counts_for = permits.take(&key("first"), Urgent).unwrap();
        for name in ["l1", "l2", "changed"] {
            assert!(!takes(&permits, name, FirstLook));
        }
        for name in ["k1", "k2", "k3", "changed"] {
            assert!(!takes(&permits, name, Routine));
        }
        assert!(!takes(&permits, "k1", FirstLook), "it waits as before");
        let mut order = Vec::new();
        while let [next] = &*permits.release(counts_for) {
            counts_for = permits.take(next, FirstLook).unwrap();
            order.push(next.name.clone());
        }
        assert_eq!(order, ["k1", "k2", "k3", "l1", "changed", "l2"]);
    }

    #[tokio::test(start_paused = true)]
    async fn known_agents_that_waited_take_all_places_again() {
        let permits = Permits::new(8);
        assert!((0..8).all(|n| takes(&permits, &format!("first-{n}"), Urgent)));
        assert!((0..8).all(|n| !takes(&permits, &format!("known-{n}"), Routine)));
        let woken: Vec<_> = (0..8).flat_map(|_| permits.release(Urgent)).collect();
        assert_eq!(woken.len(), 8, "{woken:?}");
        assert!(woken.iter().all(|agent| permits.take(agent, Routine).is_some()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_woken_agent_that_does_not_come_loses_its_place_to_the_next_one() {
        let permits = Permits::new(1);
        let taken = ["first", "gone", "next"].map(|name| takes(&permits, name, Urgent));
        assert_eq!(taken, [true, false, false]);
        assert_eq!(permits.release(Urgent), [key("gone")]);
        assert!(permits.wake_overdue().is_empty(), "it has just been woken");
        tokio::time::advance(KEPT_FOR).await;
        assert_eq!(permits.wake_overdue(), [key("next")]);
        assert!(takes(&permits, "next", Urgent) && !permits.has_urgent());
    }

    #[tokio::test(start_paused = true)]
    async fn a_deleted_agent_waits_no_longer() {
        let permits = Permits::new(1);
        let taken = ["first", "gone", "next"].map(|name| takes(&permits, name, Urgent));
        assert_eq!(taken, [true, false, false]);
        assert!(permits.forget(&key("gone")).is_empty());
        assert_eq!(permits.release(Urgent), [key("next")]);
        assert!(permits.forget(&key("next")).is_empty() && takes(&permits, "another", Urgent));
    }
}
