//! What agents reported lately, before it is in their status.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::agent::{Agent, CheckIn, HeartbeatStatus};

/// At most one status write per agent in this time, unless what it reports has changed.
const COALESCE: SignedDuration = SignedDuration::from_secs(30);

/// What one agent reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeartbeatReport {
    /// What it says it is doing; `None` leaves what it said before.
    pub status: Option<CheckIn>,
    /// The task that it works on; `None` says that it works on none.
    pub current_task: Option<String>,
}

/// What agents reported lately, by the uid of their resource.
#[derive(Debug, Default)]
pub struct Heartbeats {
    seen: Mutex<HashMap<String, Seen>>,
    confirmed: Mutex<HashMap<String, (String, Timestamp)>>,
    since: OnceLock<Timestamp>,
}

#[derive(Debug)]
struct Seen {
    heartbeat: HeartbeatStatus,
    passed_on: Timestamp,
}

impl Heartbeats {
    /// Takes a report. Says whether the agent's status is to be written now.
    pub fn record(&self, agent: &Agent, report: HeartbeatReport, now: Timestamp) -> bool {
        self.take(agent, report.status, |_| report.current_task, now)
    }

    /// Takes a sign of life that reports nothing. Says whether the agent's status is to be written now.
    pub fn alive(&self, agent: &Agent, now: Timestamp) -> bool {
        self.take(agent, None, |before| before.and_then(|b| b.current_task.clone()), now)
    }

    fn take(
        &self,
        agent: &Agent,
        status: Option<CheckIn>,
        task: impl FnOnce(Option<&HeartbeatStatus>) -> Option<String>,
        now: Timestamp,
    ) -> bool {
        let Some(uid) = agent.metadata.uid.clone() else { return false };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let in_status = agent.status.as_ref().and_then(|s| s.heartbeat.as_ref());
        let before = seen.get(&uid).map(|s| &s.heartbeat).or(in_status);
        let heartbeat = HeartbeatStatus {
            last_seen: Time(now),
            status: status.or_else(|| before.and_then(|b| b.status)),
            current_task: task(before),
        };
        let changed = before.is_none_or(|b| (b.status, &b.current_task) != (heartbeat.status, &heartbeat.current_task));
        let passed_on = seen.get(&uid).map(|s| s.passed_on);
        let due = changed || passed_on.is_none_or(|at| now.duration_since(at) >= COALESCE);
        let passed_on = if due { now } else { passed_on.unwrap_or(now) };
        seen.insert(uid, Seen { heartbeat, passed_on });
        due
    }

    /// Since when there is somebody who hears agents: since this was first asked.
    pub fn heard_since(&self, now: Timestamp) -> Timestamp {
        *self.since.get_or_init(|| now)
    }

    /// What an agent reported, when that is newer than its status.
    #[must_use]
    pub fn newer(&self, agent: &Agent) -> Option<HeartbeatStatus> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let heartbeat = &seen.get(agent.metadata.uid.as_deref()?)?.heartbeat;
        let recorded = agent.status.as_ref().and_then(|s| s.heartbeat.as_ref());
        recorded.is_none_or(|recorded| newer(heartbeat, recorded)).then(|| heartbeat.clone())
    }

    /// Takes note that an agent called with its current token, which it had not used before.
    pub fn confirm(&self, agent: &Agent, sha256: &str, now: Timestamp) {
        let Some(uid) = agent.metadata.uid.clone() else { return };
        let mut confirmed = self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        confirmed.insert(uid, (sha256.to_owned(), now));
    }

    /// The SHA-256 of the token that an agent was last seen to use for the first time, and when.
    #[must_use]
    pub fn confirmed(&self, agent: &Agent) -> Option<(String, Timestamp)> {
        let confirmed = self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        confirmed.get(agent.metadata.uid.as_deref()?).cloned()
    }

    /// Forgets an agent that no longer exists.
    pub fn forget(&self, uid: &str) {
        self.confirmed.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

/// Kubernetes keeps whole seconds, in which an agent may report twice.
fn newer(heartbeat: &HeartbeatStatus, recorded: &HeartbeatStatus) -> bool {
    let said = |h: &HeartbeatStatus| (h.status, h.current_task.clone());
    match heartbeat.last_seen.0.as_second().cmp(&recorded.last_seen.0.as_second()) {
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Equal => said(heartbeat) != said(recorded),
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
    fn repeated_reports_are_passed_on_once_in_thirty_seconds() {
        let heartbeats = Heartbeats::default();
        let due: Vec<bool> =
            [0, 10, 29, 30, 31].map(|s| heartbeats.record(&agent(), saying(CheckIn::Idle), at(s))).into();
        assert_eq!(due, [true, false, false, true, false]);
    }

    #[test]
    fn a_change_is_passed_on_at_once() {
        let heartbeats = Heartbeats::default();
        assert!(heartbeats.record(&agent(), saying(CheckIn::Idle), at(0)));
        assert!(heartbeats.record(&agent(), saying(CheckIn::Active), at(1)));
        let task = HeartbeatReport { status: None, current_task: Some("T1".into()) };
        assert!(heartbeats.record(&agent(), task, at(2)));
        let newest = heartbeats.newer(&agent()).unwrap();
        assert_eq!((newest.status, newest.current_task.as_deref()), (Some(CheckIn::Active), Some("T1")));
    }

    #[test]
    fn two_reports_in_one_second_are_both_taken() {
        let heartbeats = Heartbeats::default();
        heartbeats.record(&agent(), saying(CheckIn::Idle), at(5));
        let mut recorded = agent();
        recorded.status = Some(crate::api::AgentStatus { heartbeat: heartbeats.newer(&agent()), ..Default::default() });
        heartbeats.record(&recorded, saying(CheckIn::Active), at(5));
        assert_eq!(heartbeats.newer(&recorded).and_then(|h| h.status), Some(CheckIn::Active));
    }

    #[test]
    fn a_sign_of_life_changes_nothing_that_was_reported() {
        let heartbeats = Heartbeats::default();
        let task = HeartbeatReport { status: Some(CheckIn::Active), current_task: Some("T1".into()) };
        heartbeats.record(&agent(), task, at(0));
        assert!(!heartbeats.alive(&agent(), at(1)));
        let newest = heartbeats.newer(&agent()).unwrap();
        assert_eq!((newest.last_seen.0, newest.current_task.as_deref()), (at(1), Some("T1")));
    }

    #[test]
    fn what_the_status_already_holds_is_not_newer() {
        let heartbeats = Heartbeats::default();
        heartbeats.record(&agent(), saying(CheckIn::Idle), at(5));
        let mut recorded = agent();
        recorded.status = Some(crate::api::AgentStatus { heartbeat: heartbeats.newer(&agent()), ..Default::default() });
        assert_eq!(heartbeats.newer(&recorded), None);
        heartbeats.forget("u");
        assert_eq!(heartbeats.newer(&agent()), None);
    }
}
