//! The places of a gateway: how many reconciles use it at one time, and which Agents wait for a place.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::api::object_key::ObjectKey;

/// How long a place is kept for an Agent that was woken. An Agent that was deleted or moved meanwhile does not take it.
const KEPT_FOR: Duration = Duration::from_secs(10);

/// The places of a gateway.
///
/// # Guarantees
/// - At most as many Agents have a place as there are places.
/// - Agents get their places in the order in which they first asked. Each is woken once, when a place is kept for it.
#[derive(Debug)]
pub(crate) struct Permits {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    free: usize,
    waiting: VecDeque<ObjectKey>,
    /// The keys of `waiting`.
    waits: HashSet<ObjectKey>,
    /// The woken Agents, for each of which a free place is kept, and since when.
    woken: HashMap<ObjectKey, Instant>,
    /// The waiting and woken Agents that may not be Ready yet.
    unready: HashSet<ObjectKey>,
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
        let is_next = state.waiting.front().is_none_or(|first| first == agent);
        let is_kept = state.woken.remove(agent).is_some();
        if state.free > 0 && (is_kept || (is_next && state.free > state.woken.len())) {
            state.free -= 1;
            state.remove(agent);
            return true;
        }
        if !is_ready {
            state.unready.insert(agent.clone());
        }
        if state.waits.insert(agent.clone()) {
            state.waiting.push_back(agent.clone());
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
        let overdue = state.woken.extract_if(|_, since| since.elapsed() >= KEPT_FOR).collect::<Vec<_>>();
        for (agent, _) in overdue {
            state.unready.remove(&agent);
        }
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
        !self.state().unready.is_empty()
    }
}

impl State {
    /// Removes an Agent that waits or was woken.
    fn remove(&mut self, agent: &ObjectKey) {
        if self.waits.remove(agent) {
            self.waiting.retain(|waiting| waiting != agent);
        }
        self.woken.remove(agent);
        self.unready.remove(agent);
    }

    /// Keeps the free places for the Agents that wait longest.
    fn wake(&mut self) -> Vec<ObjectKey> {
        let mut next = Vec::new();
        while self.free > self.woken.len()
            && let Some(agent) = self.waiting.pop_front()
        {
            self.waits.remove(&agent);
            self.woken.insert(agent.clone(), Instant::now());
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
