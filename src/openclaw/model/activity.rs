//! The runs of a gateway's agents, from the gateway's events. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::heartbeat_jobs::HeartbeatHistory;
use super::run_event::{LabelEvent, RunEvent, RunEventKind, RunPhase};
use crate::openclaw::limits::{self, Exceeded};

/// Most ended runs that are kept per agent. The gateway reports a run by several events, whose order varies; a late event must
/// not start an ended run again.
const MAX_ENDED_RUNS: usize = 16;

/// A reading of a gateway's clock, which may differ from Muster's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatewayClock {
    read_at: Instant,
    ms: i64,
}

impl GatewayClock {
    /// A clock that showed `ms`, in milliseconds since 1970, at `read_at`.
    #[must_use]
    pub fn observed(ms: i64, read_at: Instant) -> Self {
        Self { read_at, ms }
    }

    /// The time from `ms`, in milliseconds since 1970 by the gateway's clock, to `now`.
    #[must_use]
    pub fn age(&self, ms: i64, now: Instant) -> Duration {
        now.saturating_duration_since(self.read_at)
            + Duration::from_millis(u64::try_from(self.ms.saturating_sub(ms)).unwrap_or(0))
    }
}

/// A run of an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// The id: the idempotency key of the message that started the run, or an id that the gateway made.
    pub id: String,
    /// The start, in milliseconds since 1970 by the gateway's clock.
    pub started_ms: i64,
    /// The end, in milliseconds since 1970 by the gateway's clock; `None` while the run is active.
    pub ended_ms: Option<i64>,
}

/// The activity of one agent since the connection was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentActivity {
    active: BTreeMap<String, i64>,
    ended: VecDeque<String>,
    last: Option<Run>,
    /// The number of the last reset, deletion or unspecified change of the agent's sessions, by any client. The changes of a gateway's
    /// agents are counted together, so that the number of a forgotten agent does not come again.
    pub session_changes: u64,
    /// The last label event. A caller whose view of the session equals the event has missed no change.
    pub labelled: Option<LabelEvent>,
    /// The outcomes of its heartbeats.
    pub heartbeats: HeartbeatHistory,
}

impl AgentActivity {
    /// Whether a run is active.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.active.is_empty()
    }

    /// The run that ended last.
    #[must_use]
    pub fn last(&self) -> Option<&Run> {
        self.last.as_ref()
    }

    /// The starts of the active runs, in milliseconds since 1970 by the gateway's clock.
    pub fn began_ms(&self) -> impl Iterator<Item = i64> {
        self.active.values().copied()
    }

    /// The active run with the earliest start, or else the run that ended last.
    #[must_use]
    pub fn run(&self) -> Option<Run> {
        let oldest = self.active.iter().min_by_key(|(_, started)| **started);
        let oldest = oldest.map(|(id, started)| Run { id: id.clone(), started_ms: *started, ended_ms: None });
        oldest.or_else(|| self.last.clone())
    }

    /// Whether an event reported a run of this id.
    #[must_use]
    pub fn has_seen(&self, run: &str) -> bool {
        self.active.contains_key(run) || self.has_ended(run)
    }

    /// Whether an event reported the end of a run of this id.
    #[must_use]
    pub fn has_ended(&self, run: &str) -> bool {
        self.ended.iter().any(|id| id == run)
    }

    /// The ids of the last ended runs, oldest first, at most 16.
    pub fn ended(&self) -> impl Iterator<Item = &str> {
        self.ended.iter().map(String::as_str)
    }

    /// The estimated memory, in bytes.
    fn bytes(&self) -> usize {
        const PER_AGENT: usize = 256;
        const PER_RUN: usize = 64;
        let runs = self.active.keys().chain(&self.ended).chain(self.last.as_ref().map(|last| &last.id));
        let label = |event: &LabelEvent| event.key.len() + event.id.len() + event.label.as_ref().map_or(0, String::len);
        PER_AGENT
            + runs.map(|id| PER_RUN + id.len()).sum::<usize>()
            + self.labelled.as_ref().map_or(0, label)
            + self.heartbeats.bytes()
    }

    fn start(&mut self, run: &str, at_ms: i64) {
        if !self.has_ended(run) && self.active.len() < limits::ACTIVE_RUNS {
            self.active.entry(run.to_owned()).or_insert(at_ms);
        }
    }

    fn end(&mut self, run: &str, at_ms: i64) {
        let started_ms = self.active.remove(run).unwrap_or(at_ms);
        if self.has_ended(run) {
            return;
        }
        self.ended.push_back(run.to_owned());
        if self.ended.len() > MAX_ENDED_RUNS {
            self.ended.pop_front();
        }
        if self.last.as_ref().is_none_or(|last| last.ended_ms <= Some(at_ms)) {
            self.last = Some(Run { id: run.to_owned(), started_ms, ended_ms: Some(at_ms) });
        }
    }
}

/// The activity of all agents of a gateway since the connection was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayActivity {
    agents: BTreeMap<String, AgentActivity>,
    /// The estimated memory of `agents`.
    bytes: usize,
    session_changes: u64,
    /// The number of event losses and connections. A value that was read in an earlier epoch may have changed without an event.
    pub epoch: u64,
    /// The time at which the connection was opened.
    pub connected: Option<Instant>,
    /// The last reading of the gateway's clock.
    pub clock: Option<GatewayClock>,
}

impl GatewayActivity {
    /// The activity of an agent; `None` without an event of the agent.
    #[must_use]
    pub fn of(&self, agent_id: &str) -> Option<&AgentActivity> {
        self.agents.get(agent_id)
    }

    /// Starts a new epoch, because events may have been lost.
    pub(crate) fn reset(&mut self) {
        self.agents.clear();
        self.bytes = 0;
        self.epoch += 1;
    }

    /// Forgets the agents that the gateway no longer has. `has` is of a read of the roster that began after the last event.
    pub(crate) fn forget_others(&mut self, has: impl Fn(&str) -> bool) {
        self.agents.retain(|id, _| has(id));
        self.bytes = self.agents.iter().map(|(id, agent)| id.len() + agent.bytes()).sum();
    }

    /// The estimated memory, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Starts a new epoch with a new connection.
    pub(crate) fn connected(&mut self, now: Instant) {
        self.reset();
        self.clock = None;
        self.connected = Some(now);
    }

    /// Applies an event. Returns the agent whose activity changed.
    ///
    /// # Errors
    /// The bound that the events of the gateway exceed.
    pub(crate) fn apply(&mut self, event: RunEvent) -> Result<Option<String>, Exceeded> {
        let known = self.agents.get(&event.agent).map(AgentActivity::bytes);
        if known.is_none() && self.agents.len() == limits::AGENTS {
            return Err(Exceeded(format!("the events name more than {} agents", limits::AGENTS)));
        }
        let agent = event.agent.clone();
        let changed = self.change(event);
        let bytes = self.agents.get(&agent).map_or(0, AgentActivity::bytes) + agent.len();
        self.bytes = (self.bytes + bytes).saturating_sub(known.map_or(0, |known| known + agent.len()));
        if self.bytes > limits::ACTIVITY {
            let most = limits::ACTIVITY / 1024 / 1024;
            return Err(Exceeded(format!("the runs and the labels in the events take more than {most} MiB of memory")));
        }
        Ok(changed)
    }

    fn change(&mut self, event: RunEvent) -> Option<String> {
        let agent = event.agent;
        let activity = self.agents.entry(agent.clone()).or_default();
        match event.kind {
            RunEventKind::Labelled(labelled) => {
                activity.labelled = Some(labelled);
                Some(agent)
            }
            RunEventKind::SessionChanged => {
                activity.labelled = None;
                self.session_changes += 1;
                activity.session_changes = self.session_changes;
                Some(agent)
            }
            RunEventKind::Run { id, phase, at_ms, job, outcome } => {
                let before = activity.clone();
                match (phase, job) {
                    (RunPhase::Start, _) => activity.start(&id, at_ms),
                    (RunPhase::End, false) => activity.end(&id, at_ms),
                    // A job has one id for all its runs, and must not count as ended. The session reports the run within the
                    // job.
                    (RunPhase::End, true) => {
                        activity.active.remove(&id);
                        if let Some(outcome) = outcome {
                            activity.heartbeats.record(outcome);
                        }
                    }
                }
                (*activity != before).then_some(agent)
            }
        }
    }
}

#[cfg(test)]
#[path = "activity_tests.rs"]
mod tests;
