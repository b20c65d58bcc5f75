//! The places of a gateway: how many reconciles use it at one time, and which Agents wait for a place.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::fair_lanes::{FairLanes, Priority};
use crate::api::object_key::ObjectKey;

/// How long a place is kept for an Agent that was woken. An Agent that was deleted or moved meanwhile does not take it.
const KEPT_FOR: Duration = Duration::from_secs(10);

/// The places of a gateway.
///
/// # Guarantees
/// - At most as many Agents have a place as there are places.
/// - Agents get their places in the order in which they first asked. Each is woken once, when a place is kept for it.
/// - Agents that may not be Ready pass the others, in the order of [`FairLanes`].
#[derive(Debug)]
pub(crate) struct Permits {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    free: usize,
    waiting: FairLanes,
    /// The waiting Agents. Agents that may not be Ready are urgent.
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
        Self { state: Mutex::new(State { free: places, ..State::default() }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place. Returns `false`, and lets the Agent wait, if there is none for it.
    pub(crate) fn take(&self, agent: &ObjectKey, is_ready: bool) -> bool {
        let mut state = self.state();
        let is_kept = state.woken.remove(agent).is_some();
        // No Agent waits while a place is free and not kept: each free place is kept for a waiting Agent, if there is one.
        if is_kept || state.free > state.woken.len() {
            state.free -= 1;
            state.remove(agent);
            return true;
        }
        let waits_as = state.waits.get(agent).copied();
        let priority = if is_ready { Priority::Routine } else { Priority::Urgent };
        if waits_as != Some(Priority::Urgent) && waits_as != Some(priority) {
            state.remove(agent);
            state.waits.insert(agent.clone(), priority);
            state.waiting.push(agent.clone(), priority);
        }
        false
    }

    /// Returns a place. The result are the Agents to wake.
    pub(crate) fn release(&self) -> Vec<ObjectKey> {
        let mut state = self.state();
        state.free += 1;
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

    /// Whether an Agent that may not be Ready yet waits for a place.
    pub(crate) fn is_awaited_by_unready(&self) -> bool {
        let state = self.state();
        state.waiting.has_urgent() || state.woken.values().any(|woken| woken.priority == Priority::Urgent)
    }
}

impl State {
    /// Removes an Agent that waits or was woken.
    fn remove(&mut self, agent: &ObjectKey) {
        if let Some(priority) = self.waits.remove(agent) {
            self.waiting.remove(agent, priority);
        }
        self.woken.remove(agent);
    }

    /// Keeps the free places for the Agents that wait longest.
    fn wake(&mut self) -> Vec<ObjectKey> {
        let mut next = Vec::new();
        while self.free > self.woken.len()
            && let Some((agent, priority)) = self.waiting.pop(|_, _| true)
        {
            self.waits.remove(&agent);
            self.woken.insert(agent.clone(), Woken { since: Instant::now(), priority });
            next.push(agent);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("fleet", name)
    }

    #[tokio::test(start_paused = true)]
    async fn places_go_to_the_agents_in_the_order_in_which_they_asked() {
        let permits = Permits::new(1);
        assert!(permits.take(&key("first"), false));
        for name in ["z", "a", "m", "a"] {
            assert!(!permits.take(&key(name), false));
        }
        assert_eq!(permits.release(), [key("z")]);
        assert!(!permits.take(&key("new"), false) && !permits.take(&key("a"), false), "the place is kept for z");
        assert!(permits.take(&key("z"), false));
        assert_eq!(permits.release(), [key("a")]);
    }

    #[tokio::test(start_paused = true)]
    async fn agents_that_are_not_ready_pass_the_others_but_for_one_place_in_four() {
        let permits = Permits::new(1);
        assert!(permits.take(&key("first"), true));
        for name in ["r1", "r2", "changed"] {
            assert!(!permits.take(&key(name), true));
        }
        for name in ["u1", "u2", "u3", "changed"] {
            assert!(!permits.take(&key(name), false));
        }
        let mut order = Vec::new();
        while let [next] = &*permits.release() {
            assert!(permits.take(next, true));
            order.push(next.name.clone());
        }
        assert_eq!(order, ["u1", "u2", "u3", "r1", "changed", "r2"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_woken_agent_that_does_not_come_loses_its_place_to_the_next_one() {
        let permits = Permits::new(1);
        assert!(
            permits.take(&key("first"), false)
                && !permits.take(&key("gone"), false)
                && !permits.take(&key("next"), false)
        );
        assert_eq!(permits.release(), [key("gone")]);
        assert!(permits.wake_overdue().is_empty(), "it has just been woken");
        tokio::time::advance(KEPT_FOR).await;
        assert_eq!(permits.wake_overdue(), [key("next")]);
        assert!(permits.take(&key("next"), false) && !permits.is_awaited_by_unready());
    }

    #[tokio::test(start_paused = true)]
    async fn a_deleted_agent_waits_no_longer() {
        let permits = Permits::new(1);
        assert!(
            permits.take(&key("first"), false)
                && !permits.take(&key("gone"), false)
                && !permits.take(&key("next"), false)
        );
        assert!(permits.forget(&key("gone")).is_empty());
        assert_eq!(permits.release(), [key("next")]);
        assert!(permits.forget(&key("next")).is_empty() && permits.take(&key("another"), false));
    }
}
