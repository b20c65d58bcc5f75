//! The cheap way of a heartbeat into the status.
//!
//! A reconcile asks the gateway and reads Secrets. An agent that only says again what it said before needs none of that:
//! its status gets the new time, and nothing else is looked at.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{Receiver, UnboundedSender};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::error;

use crate::api::ConditionType;
use crate::api::agent::{Agent, AgentStatus, CheckIn, HeartbeatStatus, Phase};
use crate::api::conditions::is_true;
use crate::api::object_key::ObjectKey;
use crate::controllers::status_writer::log_failed;
use crate::state::State;
use crate::state::store::{Store, StoreError};

/// How many heartbeats are passed on side by side.
const WORKERS: usize = 8;
/// How long to wait before a write that failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// How many agents may be on their way into the queue.
pub const BACKLOG: usize = 1024;

/// What became of a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeartbeatOutcome {
    /// The status holds it already, or the agent is gone.
    Nothing,
    /// Its time was written into the status.
    Written,
    /// It could not be written now, and is tried again.
    NotWritten,
    /// It may change more than a time: a reconcile has to look.
    Reconcile,
}

/// Passes heartbeats on: the quiet ones into the status, the others to the agent controller.
///
/// # Guarantees
/// An agent waits at most once, in the order in which the first of its heartbeats came. What could not be written is tried
/// again after a while. A panic ends one heartbeat and no other. Ends when all senders are gone.
pub async fn run<S: Store>(state: Arc<State<S>>, mut due: Receiver<ObjectKey>, controller: UnboundedSender<ObjectKey>) {
    let mut waiting = Waiting::default();
    let mut workers = JoinSet::new();
    // In the order of their times, since all wait equally long.
    let mut again: VecDeque<(Instant, ObjectKey)> = VecDeque::new();
    loop {
        while workers.len() < WORKERS
            && let Some(key) = waiting.next()
        {
            let (state, controller) = (Arc::clone(&state), controller.clone());
            workers.spawn(async move {
                match pass_on(&state, &key).await {
                    HeartbeatOutcome::Reconcile => {
                        // The receiver ends only when the operator does.
                        let _ = controller.send(key);
                        None
                    }
                    HeartbeatOutcome::NotWritten => Some(key),
                    HeartbeatOutcome::Nothing | HeartbeatOutcome::Written => None,
                }
            });
        }
        let next = again.front().map(|(at, _)| *at);
        // All branches are cancel-safe. Not biased: none may keep the others waiting.
        tokio::select! {
            Some(ended) = workers.join_next() => match ended {
                Ok(failed) => again.extend(failed.map(|key| (Instant::now() + AGAIN, key))),
                Err(error) => error!(%error, "passing on a heartbeat panicked"),
            },
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                if let Some((_, key)) = again.pop_front() {
                    waiting.put(key);
                }
            }
            key = due.recv() => match key {
                Some(key) => waiting.put(key),
                None => return,
            },
        }
    }
}

/// Agents whose heartbeat is to be passed on, each once. There are never more than Agents.
#[derive(Debug, Default)]
struct Waiting {
    order: VecDeque<ObjectKey>,
    known: HashSet<ObjectKey>,
}

impl Waiting {
    fn put(&mut self, key: ObjectKey) {
        if self.known.insert(key.clone()) {
            self.order.push_back(key);
        }
    }

    fn next(&mut self) -> Option<ObjectKey> {
        let key = self.order.pop_front()?;
        self.known.remove(&key);
        Some(key)
    }
}

/// Passes on what an agent reported last.
///
/// A write that is refused, or comes too late for an agent that is going, is not repeated.
pub async fn pass_on<S: Store>(state: &State<S>, key: &ObjectKey) -> HeartbeatOutcome {
    let Some(agent) = state.store.agent(key) else { return HeartbeatOutcome::Nothing };
    let reported = state.heartbeats.newer_than_status(&agent);
    match decide(&agent, reported) {
        Decision::Nothing => HeartbeatOutcome::Nothing,
        Decision::Reconcile => HeartbeatOutcome::Reconcile,
        Decision::Write(status) => match state.store.replace_agent_status(&agent, &status).await {
            Ok(_) => HeartbeatOutcome::Written,
            Err(error) => {
                log_failed("Agent", &agent.metadata, &error);
                match error {
                    StoreError::Conflict(_) | StoreError::Failed(_) => HeartbeatOutcome::NotWritten,
                    StoreError::NotFound(_) | StoreError::Terminating(_) | StoreError::Refused(_) => {
                        HeartbeatOutcome::Nothing
                    }
                }
            }
        },
    }
}

enum Decision {
    Nothing,
    Write(Box<AgentStatus>),
    Reconcile,
}

fn decide(agent: &Agent, reported: Option<HeartbeatStatus>) -> Decision {
    let Some(status) = agent.status.as_ref().filter(|status| quiet(agent, status)) else { return Decision::Reconcile };
    let Some(reported) = reported else { return Decision::Nothing };
    let same = status
        .heartbeat
        .as_ref()
        .is_some_and(|h| (h.status, &h.current_task) == (reported.status, &reported.current_task));
    if same && phase_stays(status.phase, reported.status) {
        return Decision::Write(Box::new(AgentStatus { heartbeat: Some(reported), ..status.clone() }));
    }
    Decision::Reconcile
}

/// Whether nothing is under way that a call of the agent could move.
fn quiet(agent: &Agent, status: &AgentStatus) -> bool {
    agent.metadata.deletion_timestamp.is_none()
        && Some(status.observed_generation) == agent.metadata.generation
        && is_true(&status.conditions, ConditionType::Ready)
        && is_true(&status.conditions, ConditionType::CheckedIn)
        && status.token.as_ref().is_some_and(|token| token.confirmed_at.is_some() && token.previous.is_none())
}

/// Whether this is the phase of an agent that reports this.
fn phase_stays(phase: Option<Phase>, reported: Option<CheckIn>) -> bool {
    match phase {
        Some(Phase::Active) => reported == Some(CheckIn::Active),
        Some(Phase::Idle) => reported == Some(CheckIn::Idle),
        Some(Phase::Ready) => reported.is_none(),
        // Whatever it says, it stays paused.
        Some(Phase::Paused) => true,
        None | Some(Phase::Provisioning | Phase::Offline | Phase::Failed | Phase::Deleting) => false,
    }
}

#[cfg(test)]
#[path = "heartbeat_writer_tests.rs"]
mod tests;
