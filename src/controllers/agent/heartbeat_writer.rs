//! Writes the time of a heartbeat into the status without a reconcile.
//!
//! A reconcile sends requests to the gateway and reads Secrets. A heartbeat that reports the same status and task as the one before
//! needs neither: only its time is written.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use tokio::sync::mpsc::{Receiver, UnboundedSender};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::api::ConditionType;
use crate::api::agent::{Agent, AgentStatus, CheckIn, HeartbeatStatus, Phase};
use crate::api::conditions::is_true;
use crate::api::object_key::ObjectKey;
use crate::controllers::status_writer::log_failed;
use crate::core::agent::binding::Binding;
use crate::core::kstatus::Settled;
use crate::core::objects::Objects;
use crate::state::State;
use crate::state::store::StoreError;
use crate::state::triggers::Trigger;

/// The number of heartbeats that are processed concurrently.
const WORKERS: usize = 8;
/// The wait before a failed write is retried.
const RETRY_WAIT: Duration = Duration::from_secs(5);
/// The minimum time between two reconciles of one Agent that its heartbeats trigger. An agent that reports another status each
/// second costs no more.
const RECONCILE_INTERVAL: Duration = Duration::from_secs(5);
/// The capacity of the queue, in agents.
pub const BACKLOG: usize = 1024;

/// The result of a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeartbeatOutcome {
    /// The status contains the heartbeat, or the Agent was deleted.
    Nothing,
    /// The time was written into the status.
    Written,
    /// The write failed and is retried.
    NotWritten,
    /// The heartbeat may change more than its time, so the Agent is reconciled.
    Reconcile,
}

/// Processes heartbeats: an unchanged one goes into the status, each other one triggers a reconcile.
///
/// # Guarantees
/// - An Agent is queued at most once, in the order of its first heartbeat.
/// - A failed write is retried.
/// - The heartbeats of an Agent trigger at most one reconcile in 5 s, and the last of them is not lost.
/// - A panic ends only its own heartbeat.
///
/// The function returns when all senders are dropped, or after `stop`, when the heartbeats that wait are in the status: another replica
/// goes on from there.
pub async fn run(
    state: Arc<State>,
    mut due: Receiver<ObjectKey>,
    controller: UnboundedSender<Trigger>,
    stop: CancellationToken,
) {
    let mut waiting = Waiting::default();
    let mut workers = JoinSet::new();
    // In the order of their times, because all waits are equal.
    let mut retries: VecDeque<(Instant, ObjectKey)> = VecDeque::new();
    let mut reconciled = Reconciled::default();
    loop {
        while workers.len() < WORKERS
            && let Some(key) = waiting.next()
        {
            let state = Arc::clone(&state);
            workers.spawn(async move { (process(&state, &key).await, key) });
        }
        let next = [retries.front(), reconciled.order.front()].into_iter().flatten().map(|(at, _)| *at).min();
        // All branches are cancel-safe. Not biased, so that no branch starves the others.
        tokio::select! {
            Some(ended) = workers.join_next() => match ended {
                Ok((HeartbeatOutcome::NotWritten, key)) => retries.push_back((Instant::now() + RETRY_WAIT, key)),
                Ok((HeartbeatOutcome::Reconcile, key)) => {
                    if reconciled.may_begin(&key) {
                        // The receiver ends only when the operator does.
                        let _ = controller.send(key.into());
                    }
                }
                Ok((HeartbeatOutcome::Nothing | HeartbeatOutcome::Written, _)) => {}
                Err(error) => error!(%error, "the processing of a heartbeat panicked"),
            },
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                let now = Instant::now();
                if let Some((_, key)) = retries.pop_front_if(|(at, _)| *at <= now) {
                    waiting.put(key);
                }
                if let Some(key) = reconciled.end_interval(now) {
                    waiting.put(key);
                }
            }
            key = due.recv() => match key {
                Some(key) => waiting.put(key),
                None => return,
            },
            () = stop.cancelled() => break,
        }
    }
    while workers.join_next().await.is_some() {}
    due.close();
    while let Ok(key) = due.try_recv() {
        waiting.put(key);
    }
    let rest = std::iter::from_fn(|| waiting.next());
    stream::iter(rest).for_each_concurrent(WORKERS, async |key| write_last(&state, &key).await).await;
}

/// Writes the last heartbeat of an Agent into its status, whatever else follows from it.
async fn write_last(state: &State, key: &ObjectKey) {
    let Some(agent) = state.store.agent(key) else { return };
    let (Some(status), Some(reported)) = (&agent.status, state.heartbeats.newer_than_status(&agent)) else { return };
    let status = AgentStatus { heartbeat: Some(reported), ..status.clone() };
    if let Err(error) = state.store.replace_agent_status(&agent, &status).await {
        log_failed("Agent", &agent.metadata, &error);
    }
}

/// The queued Agents, each once.
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

/// The Agents whose last reconcile is less than [`RECONCILE_INTERVAL`] ago.
#[derive(Debug, Default)]
struct Reconciled {
    /// The ends of the intervals, in their order.
    order: VecDeque<(Instant, ObjectKey)>,
    /// Whether the Agent got a heartbeat since that asks for another reconcile.
    again: HashMap<ObjectKey, bool>,
}

impl Reconciled {
    /// Whether a reconcile of an Agent may begin. If not, the Agent is processed again at the end of its interval.
    fn may_begin(&mut self, key: &ObjectKey) -> bool {
        if let Some(again) = self.again.get_mut(key) {
            *again = true;
            return false;
        }
        self.again.insert(key.clone(), false);
        self.order.push_back((Instant::now() + RECONCILE_INTERVAL, key.clone()));
        true
    }

    /// Ends the first interval that is over. Returns its Agent if the Agent must be processed again.
    fn end_interval(&mut self, now: Instant) -> Option<ObjectKey> {
        let (_, key) = self.order.pop_front_if(|(at, _)| *at <= now)?;
        self.again.remove(&key).unwrap_or_default().then_some(key)
    }
}

/// Processes the latest heartbeat of an Agent. A refused write, and a write to an Agent that is being deleted, are not retried.
pub async fn process(state: &State, key: &ObjectKey) -> HeartbeatOutcome {
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
                    StoreError::NotFound(_)
                    | StoreError::Terminating(_)
                    | StoreError::Denied { .. }
                    | StoreError::Refused(_) => HeartbeatOutcome::Nothing,
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
    if let Some(status) = agent.status.as_ref().filter(|_| is_settled_observer(agent)) {
        // Its phase follows from its runs, and no condition from its calls.
        let with = |reported| Box::new(AgentStatus { heartbeat: Some(reported), ..status.clone() });
        return reported.map_or(Decision::Nothing, |reported| Decision::Write(with(reported)));
    }
    let Some(status) = agent.status.as_ref().filter(|status| waits_for_no_call(agent, status)) else {
        return Decision::Reconcile;
    };
    let Some(reported) = reported else { return Decision::Nothing };
    let same = status
        .heartbeat
        .as_ref()
        .is_some_and(|h| (h.status, &h.current_task) == (reported.status, &reported.current_task));
    if same && keeps_phase(status.phase, reported.status) {
        return Decision::Write(Box::new(AgentStatus { heartbeat: Some(reported), ..status.clone() }));
    }
    Decision::Reconcile
}

/// Whether Muster only observes the agent, and managed the agent before, so that the agent may call.
fn is_settled_observer(agent: &Agent) -> bool {
    agent.is_observer() && agent.is_settled() && Binding::of(agent).is_some()
}

/// Whether no condition, request or rotation of the Agent waits for a call of the agent.
fn waits_for_no_call(agent: &Agent, status: &AgentStatus) -> bool {
    agent.is_settled()
        && is_true(&status.conditions, ConditionType::CheckedIn)
        && status.token.as_ref().is_some_and(|token| token.confirmed_at.is_some() && token.previous.is_none())
}

/// Whether an agent in this phase stays in it with this report.
fn keeps_phase(phase: Option<Phase>, reported: Option<CheckIn>) -> bool {
    match phase {
        Some(Phase::Active) => reported == Some(CheckIn::Active),
        Some(Phase::Idle) => reported == Some(CheckIn::Idle),
        Some(Phase::Ready) => reported.is_none(),
        // A paused agent stays paused with any report.
        Some(Phase::Paused) => true,
        None | Some(Phase::Provisioning | Phase::Offline | Phase::Failed | Phase::Deleting) => false,
    }
}

#[cfg(test)]
#[path = "heartbeat_writer_tests.rs"]
mod tests;
