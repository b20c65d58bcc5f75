//! Recent reports of agents that may not be in the status yet.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::agent::{Agent, CheckIn, HeartbeatStatus};

/// The minimum time between two status writes for one agent, unless its report has changed.
const WRITE_INTERVAL: SignedDuration = SignedDuration::from_secs(30);

/// A report of one agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeartbeatReport {
    /// The agent's status; `None` keeps the status of the report before.
    pub status: Option<CheckIn>,
    /// The agent's current task; `None` if the agent has no task.
    pub current_task: Option<String>,
}

/// Recent reports of agents, by the uid of the Agent.
#[derive(Debug, Default)]
pub struct Heartbeats {
    reports: Mutex<HashMap<String, StoredReport>>,
    confirmed: Mutex<HashMap<String, (String, Timestamp)>>,
    listening_since: OnceLock<Timestamp>,
}

/// The last report of one agent.
#[derive(Debug)]
struct StoredReport {
    heartbeat: HeartbeatStatus,
    /// When the last status write became due.
    due_at: Timestamp,
}

impl Heartbeats {
    /// Records a report. Returns whether a write of the agent's status is due.
    pub fn record(&self, agent: &Agent, report: HeartbeatReport, now: Timestamp) -> bool {
        self.update(agent, report.status, |_| report.current_task, now)
    }

    /// Records a call without a report. Returns whether a write of the agent's status is due.
    pub fn touch(&self, agent: &Agent, now: Timestamp) -> bool {
        self.update(agent, None, |before| before.and_then(|b| b.current_task.clone()), now)
    }

    fn update(
        &self,
        agent: &Agent,
        status: Option<CheckIn>,
        task: impl FnOnce(Option<&HeartbeatStatus>) -> Option<String>,
        now: Timestamp,
    ) -> bool {
        let Some(uid) = agent.metadata.uid.clone() else { return false };
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        let in_status = agent.status.as_ref().and_then(|s| s.heartbeat.as_ref());
        let before = reports.get(&uid).map(|report| &report.heartbeat).or(in_status);
        let heartbeat = HeartbeatStatus {
            last_seen: Time(now),
            status: status.or_else(|| before.and_then(|b| b.status)),
            current_task: task(before),
        };
        let changed = before.is_none_or(|b| (b.status, &b.current_task) != (heartbeat.status, &heartbeat.current_task));
        let due_at = reports.get(&uid).map(|report| report.due_at);
        let due = changed || due_at.is_none_or(|at| now.duration_since(at) >= WRITE_INTERVAL);
        let due_at = if due { now } else { due_at.unwrap_or(now) };
        reports.insert(uid, StoredReport { heartbeat, due_at });
        due
    }

    /// Since when this operator receives reports: the time of the first call of this method.
    pub fn listening_since(&self, now: Timestamp) -> Timestamp {
        *self.listening_since.get_or_init(|| now)
    }

    /// The agent's last report, if it is newer than the report in the agent's status.
    #[must_use]
    pub fn newer_than_status(&self, agent: &Agent) -> Option<HeartbeatStatus> {
        let reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        let heartbeat = &reports.get(agent.metadata.uid.as_deref()?)?.heartbeat;
        let in_status = agent.status.as_ref().and_then(|s| s.heartbeat.as_ref());
        in_status.is_none_or(|in_status| is_newer(heartbeat, in_status)).then(|| heartbeat.clone())
    }

    /// Records the agent's first call with its current token.
    pub fn confirm(&self, agent: &Agent, sha256: &str, now: Timestamp) {
        let Some(uid) = agent.metadata.uid.clone() else { return };
        let mut confirmed = self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        confirmed.insert(uid, (sha256.to_owned(), now));
    }

    /// The SHA-256 of the token that the agent last used for the first time, and the time of that call.
    #[must_use]
    pub fn confirmed(&self, agent: &Agent) -> Option<(String, Timestamp)> {
        let confirmed = self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        confirmed.get(agent.metadata.uid.as_deref()?).cloned()
    }

    /// Removes an agent that no longer exists.
    pub fn forget(&self, uid: &str) {
        self.confirmed.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

/// Whether a report is newer than the report in the status. Kubernetes keeps whole seconds, and an agent may report twice in
/// one second.
fn is_newer(heartbeat: &HeartbeatStatus, in_status: &HeartbeatStatus) -> bool {
    let content = |h: &HeartbeatStatus| (h.status, h.current_task.clone());
    match heartbeat.last_seen.0.as_second().cmp(&in_status.last_seen.0.as_second()) {
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Equal => content(heartbeat) != content(in_status),
        std::cmp::Ordering::Less => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent() -> Agent {
        let mut agent = Agent::default();
        agent.metadata.uid = Some("u".into());
        agent
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn saying(status: CheckIn) -> HeartbeatReport {
        HeartbeatReport { status: Some(status), current_task: None }
    }

    #[test]
    fn a_repeated_report_makes_a_write_due_once_in_30_seconds() {
        let heartbeats = Heartbeats::default();
        let due: Vec<bool> =
            [0, 10, 29, 30, 31].map(|s| heartbeats.record(&agent(), saying(CheckIn::Idle), at(s))).into();
        assert_eq!(due, [true, false, false, true, false]);
    }

    #[test]
    fn a_changed_report_makes_a_write_due_at_once() {
        let heartbeats = Heartbeats::default();
        assert!(heartbeats.record(&agent(), saying(CheckIn::Idle), at(0)));
        assert!(heartbeats.record(&agent(), saying(CheckIn::Active), at(1)));
        let task = HeartbeatReport { status: None, current_task: Some("T1".into()) };
        assert!(heartbeats.record(&agent(), task, at(2)));
        let newest = heartbeats.newer_than_status(&agent()).unwrap();
        assert_eq!((newest.status, newest.current_task.as_deref()), (Some(CheckIn::Active), Some("T1")));
    }

    #[test]
    fn two_reports_in_one_second_are_both_recorded() {
        let heartbeats = Heartbeats::default();
        heartbeats.record(&agent(), saying(CheckIn::Idle), at(5));
        let mut recorded = agent();
        recorded.status =
            Some(crate::api::AgentStatus { heartbeat: heartbeats.newer_than_status(&agent()), ..Default::default() });
        heartbeats.record(&recorded, saying(CheckIn::Active), at(5));
        assert_eq!(heartbeats.newer_than_status(&recorded).and_then(|h| h.status), Some(CheckIn::Active));
    }

    #[test]
    fn a_call_without_a_report_keeps_the_report() {
        let heartbeats = Heartbeats::default();
        let task = HeartbeatReport { status: Some(CheckIn::Active), current_task: Some("T1".into()) };
        heartbeats.record(&agent(), task, at(0));
        assert!(!heartbeats.touch(&agent(), at(1)));
        let newest = heartbeats.newer_than_status(&agent()).unwrap();
        assert_eq!((newest.last_seen.0, newest.current_task.as_deref()), (at(1), Some("T1")));
    }

    #[test]
    fn a_report_that_is_in_the_status_is_not_newer() {
        let heartbeats = Heartbeats::default();
        heartbeats.record(&agent(), saying(CheckIn::Idle), at(5));
        let mut recorded = agent();
        recorded.status =
            Some(crate::api::AgentStatus { heartbeat: heartbeats.newer_than_status(&agent()), ..Default::default() });
        assert_eq!(heartbeats.newer_than_status(&recorded), None);
        heartbeats.forget("u");
        assert_eq!(heartbeats.newer_than_status(&agent()), None);
    }
}
