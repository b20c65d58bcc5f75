//! The Agents of a gateway that have nothing left to do but a label or a wake, which wait until their peers are set up.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::api::object_key::ObjectKey;

/// The longest time that the late Steps of an Agent wait for its peers, so that an agent is woken although others are applied without end.
/// The token Secret of the Agent is usually a recent one then, which is not read again.
const MAX_PEER_WAIT: Duration = Duration::from_secs(20);

/// The Agents whose late Steps wait.
///
/// # Guarantees
/// An Agent waits for [`MAX_PEER_WAIT`] at most, however often it is woken meanwhile.
#[derive(Debug, Default)]
pub(super) struct LateSteps {
    waits: Mutex<Waits>,
}

#[derive(Debug, Default)]
struct Waits {
    /// When the wait of an Agent ends.
    ends: HashMap<ObjectKey, Instant>,
    /// The waiting Agents that were not woken since they last looked at their peers.
    asleep: HashSet<ObjectKey>,
}

impl LateSteps {
    fn waits(&self) -> MutexGuard<'_, Waits> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much longer the late Steps of an Agent wait at most; `None` if they need not wait.
    pub(super) fn wait(&self, agent: &ObjectKey, has_unready_peers: bool) -> Option<Duration> {
        let (mut waits, now) = (self.waits(), Instant::now());
        let end = *waits.ends.entry(agent.clone()).or_insert(now + MAX_PEER_WAIT);
        let left = end.duration_since(now);
        if !has_unready_peers || left.is_zero() {
            waits.ends.remove(agent);
            waits.asleep.remove(agent);
            return None;
        }
        waits.asleep.insert(agent.clone());
        Some(left)
    }

    /// The Agents to wake because all peers are set up, each once.
    pub(super) fn wake(&self) -> Vec<ObjectKey> {
        std::mem::take(&mut self.waits().asleep).into_iter().collect()
    }

    /// Forgets Agents that were woken and did not come back: they were deleted or moved.
    pub(super) fn sweep(&self) {
        let (mut waits, now) = (self.waits(), Instant::now());
        let Waits { ends, asleep } = &mut *waits;
        ends.retain(|agent, end| *end > now || asleep.contains(agent));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_agent_waits_until_its_peers_are_set_up_and_is_woken_once() {
        let (late, agent) = (LateSteps::default(), ObjectKey::new("fleet", "one"));
        assert_eq!(late.wait(&agent, false), None);
        assert_eq!(late.wait(&agent, true), Some(MAX_PEER_WAIT));
        assert_eq!((late.wake(), late.wake()), (vec![agent.clone()], vec![]));
        assert_eq!(late.wait(&agent, false), None);
        assert!(late.wake().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn new_peers_without_end_do_not_prolong_the_wait() {
        let (late, agent) = (LateSteps::default(), ObjectKey::new("fleet", "one"));
        for left in (1..=MAX_PEER_WAIT.as_secs()).rev() {
            assert_eq!(late.wait(&agent, true), Some(Duration::from_secs(left)));
            assert_eq!(late.wake().len(), 1);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(late.wait(&agent, true), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_does_not_come_back_is_forgotten() {
        let (late, agent) = (LateSteps::default(), ObjectKey::new("fleet", "gone"));
        late.wait(&agent, true);
        tokio::time::advance(MAX_PEER_WAIT).await;
        assert_eq!(late.wake(), [agent], "it may wait for nothing but this");
        late.sweep();
        assert!(late.wake().is_empty() && late.waits().ends.is_empty());
    }
}
