//! Which agents are at work, from the gateway's events. Without I/O.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::run_event::{LabelEvent, RunEvent, RunEventKind, RunPhase};
use crate::openclaw::limits;

/// How many runs of an agent are remembered as ended. Events of one run come by several ways and not always in order.
const REMEMBERED: usize = 16;

/// What a gateway's clock showed, and when. It need not go as ours does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatewayClock {
    at: Instant,
    ms: i64,
}

impl GatewayClock {
    /// A clock that showed this time, in milliseconds since 1970, at `at`.
    #[must_use]
    pub fn shows(ms: i64, at: Instant) -> Self {
        Self { at, ms }
    }

    /// How long before `now` it showed this time.
    #[must_use]
    pub fn age(&self, ms: i64, now: Instant) -> Duration {
        now.saturating_duration_since(self.at)
            + Duration::from_millis(u64::try_from(self.ms.saturating_sub(ms)).unwrap_or(0))
    }
}

/// A run of an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Its id: the idempotency key of the message that began it, or one that the gateway made.
    pub id: String,
    /// When it began, in milliseconds since 1970 by the gateway's clock.
    pub started_ms: i64,
    /// When it ended; `None` while it goes on.
    pub ended_ms: Option<i64>,
}

/// What was heard of one agent since the connection stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentActivity {
    active: BTreeMap<String, i64>,
    ended: VecDeque<String>,
    last: Option<Run>,
    /// Counts how often its session was reset or deleted, or changed in a way that was not told, by whomever.
    pub session_changes: u64,
    /// The session that was labelled last, as it was told. Whoever has seen it so has missed nothing.
    pub labelled: Option<LabelEvent>,
}

impl AgentActivity {
    /// Whether a run goes on.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.active.is_empty()
    }

    /// The run that ended last.
    #[must_use]
    pub fn last(&self) -> Option<&Run> {
        self.last.as_ref()
    }

    /// When the runs that go on began, in milliseconds since 1970 by the gateway's clock.
    pub fn began_ms(&self) -> impl Iterator<Item = i64> {
        self.active.values().copied()
    }

    /// The run that goes on since the longest time, or else the one that ended last.
    #[must_use]
    pub fn run(&self) -> Option<Run> {
        let going_on = self.active.iter().min_by_key(|(_, started)| **started);
        let going_on = going_on.map(|(id, started)| Run { id: id.clone(), started_ms: *started, ended_ms: None });
        going_on.or_else(|| self.last.clone())
    }

    /// Whether a run of this id was heard of.
    #[must_use]
    pub fn knows(&self, run: &str) -> bool {
        self.active.contains_key(run) || self.has_ended(run)
    }

    /// Whether a run of this id was seen to end.
    #[must_use]
    pub fn has_ended(&self, run: &str) -> bool {
        self.ended.iter().any(|id| id == run)
    }

    /// The runs that were seen to end, as far as they are remembered.
    pub fn ended(&self) -> impl Iterator<Item = &str> {
        self.ended.iter().map(String::as_str)
    }

    fn start(&mut self, run: &str, at_ms: i64) {
        if !self.has_ended(run) && self.active.len() < limits::RUNS {
            self.active.entry(run.to_owned()).or_insert(at_ms);
        }
    }

    fn end(&mut self, run: &str, at_ms: i64) {
        let started_ms = self.active.remove(run).unwrap_or(at_ms);
        if self.has_ended(run) {
            return;
        }
        self.ended.push_back(run.to_owned());
        if self.ended.len() > REMEMBERED {
            self.ended.pop_front();
        }
        if self.last.as_ref().is_none_or(|last| last.ended_ms <= Some(at_ms)) {
            self.last = Some(Run { id: run.to_owned(), started_ms, ended_ms: Some(at_ms) });
        }
    }
}

/// What was heard of all agents of a gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayActivity {
    agents: BTreeMap<String, AgentActivity>,
    /// Counts how often everything was forgotten. What was read in an earlier epoch may have changed unheard.
    pub epoch: u64,
    /// Since when the connection stands.
    pub connected: Option<Instant>,
    /// The gateway's clock as it was last reported.
    pub clock: Option<GatewayClock>,
}

impl GatewayActivity {
    /// What was heard of an agent; `None` when nothing was.
    #[must_use]
    pub fn of(&self, agent_id: &str) -> Option<&AgentActivity> {
        self.agents.get(agent_id)
    }

    /// Forgets everything: events may have been lost.
    pub(crate) fn forget(&mut self) {
        self.agents.clear();
        self.epoch += 1;
    }

    /// The same, since there is a new connection.
    pub(crate) fn connected(&mut self, now: Instant) {
        self.forget();
        self.clock = None;
        self.connected = Some(now);
    }

    /// Takes an event. Gives the agent whose activity it changed.
    pub(crate) fn take(&mut self, event: RunEvent) -> Option<String> {
        let agent = event.agent;
        if !self.agents.contains_key(&agent) && self.agents.len() == limits::AGENTS {
            return None;
        }
        let activity = self.agents.entry(agent.clone()).or_default();
        match event.what {
            RunEventKind::LabelEvent(labelled) => {
                activity.labelled = Some(labelled);
                Some(agent)
            }
            RunEventKind::SessionChanged => {
                activity.labelled = None;
                activity.session_changes += 1;
                Some(agent)
            }
            RunEventKind::Run { id, phase, at_ms, job } => {
                let before = activity.clone();
                match (phase, job) {
                    (RunPhase::Start, _) => activity.start(&id, at_ms),
                    (RunPhase::End, false) => activity.end(&id, at_ms),
                    // A job keeps its id for all its runs; the run within it is told by the session.
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
        fn hear(&mut self, event: &str, payload: &Value) -> Option<String> {
            self.take(RunEvent::read(event, &raw(payload))?)
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
        let mut runs = GatewayActivity::default();
        assert_eq!(runs.hear("agent", &lifecycle("start", "r", 5)).as_deref(), Some("mc-1"));
        assert!(runs.of("mc-1").unwrap().is_running());
        assert_eq!(runs.hear("agent", &lifecycle("end", "r", 9)).as_deref(), Some("mc-1"));
        let activity = runs.of("mc-1").unwrap();
        assert!(!activity.is_running() && activity.has_ended("r"));
        assert_eq!(activity.run(), Some(Run { id: "r".into(), started_ms: 5, ended_ms: Some(9) }));
    }

    #[test]
    fn news_of_a_run_that_comes_after_its_end_changes_nothing() {
        let mut runs = GatewayActivity::default();
        runs.hear("agent", &lifecycle("start", "r", 5));
        runs.hear("agent", &lifecycle("end", "r", 9));
        assert_eq!(runs.hear("sessions.changed", &changed("start", "r", 5)), None);
        assert_eq!(runs.hear("sessions.changed", &changed("end", "r", 9)), None);
        assert!(!runs.of("mc-1").unwrap().is_running());
    }

    #[test]
    fn an_agent_is_at_work_while_the_gateways_heartbeat_job_is() {
        let mut runs = GatewayActivity::default();
        runs.hear("cron", &job("started"));
        assert!(runs.of("mc-1").unwrap().is_running());
        runs.hear("sessions.changed", &changed("start", "r", 6));
        runs.hear("sessions.changed", &changed("end", "r", 7));
        runs.hear("cron", &job("finished"));
        let activity = runs.of("mc-1").unwrap();
        assert_eq!((activity.is_running(), activity.run().map(|r| r.id)), (false, Some("r".into())));
        runs.hear("cron", &job("started"));
        assert!(runs.of("mc-1").unwrap().is_running(), "the job has the same id the next time");
    }

    #[test]
    fn what_was_heard_is_forgotten_when_events_may_have_been_lost() {
        let mut runs = GatewayActivity::default();
        runs.hear("agent", &lifecycle("start", "r", 5));
        runs.forget();
        assert_eq!((runs.of("mc-1"), runs.epoch), (None, 1));
    }

    #[test]
    fn what_was_done_to_a_session_is_counted() {
        let mut runs = GatewayActivity::default();
        for reason in ["patch", "reset", "delete"] {
            let told = json!({ "sessionKey": "agent:mc-1:main", "reason": reason, "ts": 1 });
            assert_eq!(runs.hear("sessions.changed", &told).as_deref(), Some("mc-1"));
        }
        assert_eq!(runs.of("mc-1").map(|a| a.session_changes), Some(3));
    }

    #[test]
    fn a_label_is_taken_as_it_is_told_in_the_words_of_old_and_new_gateways() {
        let mut runs = GatewayActivity::default();
        let labelled = LabelEvent { key: "agent:mc-1:main".into(), id: "s1".into(), label: Some("Ops".into()) };
        let session = json!({ "sessionId": "s1", "label": "Ops" });
        let mut old = json!({ "sessionKey": labelled.key, "reason": "patch", "sessionId": "s1", "label": "Ops" });
        for told in [json!({ "sessionKey": labelled.key, "reason": "patch", "session": session }), old.clone()] {
            runs.hear("sessions.changed", &told);
            let activity = runs.of("mc-1").unwrap();
            assert_eq!((activity.labelled.as_ref(), activity.session_changes), (Some(&labelled), 0));
        }
        old["reason"] = json!("reset");
        runs.hear("sessions.changed", &old);
        assert_eq!(runs.of("mc-1").map(|a| (a.labelled.clone(), a.session_changes)), Some((None, 1)));
    }

    #[test]
    fn what_says_nothing_of_a_run_is_passed_over() {
        let mut runs = GatewayActivity::default();
        let told = [
            ("sessions.changed", json!({ "sessionKey": "agent:mc-1:main", "reason": "participants", "ts": 1 })),
            ("agent", json!({ "agentId": "mc-1", "runId": "r", "stream": "assistant", "data": { "phase": "start" } })),
            ("cron", json!({ "jobId": "j", "action": "started", "job": { "declarationKey": "other:mc-1" } })),
            ("tick", json!({ "ts": 1 })),
        ];
        for (event, payload) in told {
            assert_eq!(runs.hear(event, &payload), None, "{event}");
        }
    }
}
