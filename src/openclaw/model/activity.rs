//! The runs of a gateway's agents, from the gateway's events. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::run_event::{LabelEvent, RunEvent, RunEventKind, RunPhase};
use crate::openclaw::limits;

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
        self.epoch += 1;
    }

    /// Forgets the agents that the gateway no longer has. `has` is of a read of the roster that began after the last event.
    pub(crate) fn forget_others(&mut self, has: impl Fn(&str) -> bool) {
        self.agents.retain(|id, _| has(id));
    }

    /// Starts a new epoch with a new connection.
    pub(crate) fn connected(&mut self, now: Instant) {
        self.reset();
        self.clock = None;
        self.connected = Some(now);
    }

    /// Applies an event. Returns the agent whose activity changed.
    pub(crate) fn apply(&mut self, event: RunEvent) -> Option<String> {
        let agent = event.agent;
        if !self.agents.contains_key(&agent) && self.agents.len() == limits::AGENTS {
            return None;
        }
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
            RunEventKind::Run { id, phase, at_ms, job } => {
                let before = activity.clone();
                match (phase, job) {
                    (RunPhase::Start, _) => activity.start(&id, at_ms),
                    (RunPhase::End, false) => activity.end(&id, at_ms),
                    // A job has one id for all its runs, and must not count as ended. The session reports the run within the
                    // job.
                    (RunPhase::End, true) => {
                        activity.active.remove(&id);
                    }
                }
                (*activity != before).then_some(agent)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::openclaw::model::readers::raw;

    impl GatewayActivity {
        fn apply_raw(&mut self, event: &str, payload: &Value) -> Option<String> {
            self.apply(RunEvent::read(event, &raw(payload))?)
        }
    }

    fn changed(phase: &str, run: &str, ts: i64) -> Value {
        json!({ "sessionKey": "agent:mc-1:main", "agentId": "mc-1", "phase": phase, "runId": run, "ts": ts })
    }

    fn lifecycle(phase: &str, run: &str, at: i64) -> Value {
        json!({ "agentId": "mc-1", "runId": run, "stream": "lifecycle", "ts": at,
            "data": { "phase": phase, "startedAt": at, "endedAt": at } })
    }

    fn job(action: &str) -> Value {
        json!({ "jobId": "j", "action": action, "runAtMs": 5, "job": { "declarationKey": "heartbeat:mc-1" } })
    }

    #[test]
    fn a_run_lasts_from_its_start_to_its_end() {
        let mut activity = GatewayActivity::default();
        assert_eq!(activity.apply_raw("agent", &lifecycle("start", "r", 5)).as_deref(), Some("mc-1"));
        assert!(activity.of("mc-1").unwrap().is_running());
        assert_eq!(activity.apply_raw("agent", &lifecycle("end", "r", 9)).as_deref(), Some("mc-1"));
        let agent = activity.of("mc-1").unwrap();
        assert!(!agent.is_running() && agent.has_ended("r"));
        assert_eq!(agent.run(), Some(Run { id: "r".into(), started_ms: 5, ended_ms: Some(9) }));
    }

    #[test]
    fn a_late_event_of_an_ended_run_changes_nothing() {
        let mut activity = GatewayActivity::default();
        activity.apply_raw("agent", &lifecycle("start", "r", 5));
        activity.apply_raw("agent", &lifecycle("end", "r", 9));
        assert_eq!(activity.apply_raw("sessions.changed", &changed("start", "r", 5)), None);
        assert_eq!(activity.apply_raw("sessions.changed", &changed("end", "r", 9)), None);
        assert!(!activity.of("mc-1").unwrap().is_running());
    }

    #[test]
    fn an_agent_is_running_while_the_gateways_heartbeat_job_is() {
        let mut activity = GatewayActivity::default();
        activity.apply_raw("cron", &job("started"));
        assert!(activity.of("mc-1").unwrap().is_running());
        activity.apply_raw("sessions.changed", &changed("start", "r", 6));
        activity.apply_raw("sessions.changed", &changed("end", "r", 7));
        activity.apply_raw("cron", &job("finished"));
        let agent = activity.of("mc-1").unwrap();
        assert_eq!((agent.is_running(), agent.run().map(|r| r.id)), (false, Some("r".into())));
        activity.apply_raw("cron", &job("started"));
        assert!(activity.of("mc-1").unwrap().is_running(), "the next run of the job has the same id");
    }

    #[test]
    fn a_loss_of_events_starts_a_new_epoch() {
        let mut activity = GatewayActivity::default();
        activity.apply_raw("agent", &lifecycle("start", "r", 5));
        activity.reset();
        assert_eq!((activity.of("mc-1"), activity.epoch), (None, 1));
    }

    #[test]
    fn changes_of_a_session_are_counted() {
        let mut activity = GatewayActivity::default();
        for reason in ["patch", "reset", "delete"] {
            let payload = json!({ "sessionKey": "agent:mc-1:main", "reason": reason, "ts": 1 });
            assert_eq!(activity.apply_raw("sessions.changed", &payload).as_deref(), Some("mc-1"));
        }
        assert_eq!(activity.of("mc-1").map(|a| a.session_changes), Some(3));
    }

    #[test]
    fn an_agent_that_the_gateway_no_longer_has_is_forgotten() {
        let mut activity = GatewayActivity::default();
        let changed = |id: &str| json!({ "sessionKey": format!("agent:{id}:main"), "reason": "reset", "ts": 1 });
        for id in ["gone", "stays"] {
            activity.apply_raw("sessions.changed", &changed(id));
        }
        activity.forget_others(|id| id == "stays");
        assert_eq!(activity.agents.keys().collect::<Vec<_>>(), ["stays"]);
        activity.apply_raw("sessions.changed", &changed("gone"));
        assert_eq!(
            activity.of("gone").map(|agent| agent.session_changes),
            Some(3),
            "a later agent of the id is another"
        );
    }

    #[test]
    fn a_label_event_is_read_in_the_forms_of_old_and_new_gateways() {
        let mut activity = GatewayActivity::default();
        let labelled = LabelEvent { key: "agent:mc-1:main".into(), id: "s1".into(), label: Some("Ops".into()) };
        let session = json!({ "sessionId": "s1", "label": "Ops" });
        let mut old = json!({ "sessionKey": labelled.key, "reason": "patch", "sessionId": "s1", "label": "Ops" });
        for payload in [json!({ "sessionKey": labelled.key, "reason": "patch", "session": session }), old.clone()] {
            activity.apply_raw("sessions.changed", &payload);
            let agent = activity.of("mc-1").unwrap();
            assert_eq!((agent.labelled.as_ref(), agent.session_changes), (Some(&labelled), 0));
        }
        old["reason"] = json!("reset");
        activity.apply_raw("sessions.changed", &old);
        assert_eq!(activity.of("mc-1").map(|a| (a.labelled.clone(), a.session_changes)), Some((None, 1)));
    }

    #[test]
    fn events_without_a_run_are_ignored() {
        let mut activity = GatewayActivity::default();
        let events = [
            ("sessions.changed", json!({ "sessionKey": "agent:mc-1:main", "reason": "participants", "ts": 1 })),
            ("agent", json!({ "agentId": "mc-1", "runId": "r", "stream": "assistant", "data": { "phase": "start" } })),
            ("cron", json!({ "jobId": "j", "action": "started", "job": { "declarationKey": "other:mc-1" } })),
            ("tick", json!({ "ts": 1 })),
        ];
        for (event, payload) in events {
            assert_eq!(activity.apply_raw(event, &payload), None, "{event}");
        }
    }
}
