//! The liveness of an agent: its calls to Muster, and the runs that its gateway shows.

use std::time::Duration;

use jiff::Timestamp;

use super::desired::Desired;
use super::observed::Observed;
use crate::api::ConditionType;
use crate::api::agent::AgentStatus;
use crate::api::conditions::is_true;

/// The time after which a run counts as over. `OpenClaw` ends a run after 48 hours (from 2026.5.28 on) or 10 minutes (2026.3.2),
/// unless its config sets another limit (`docs/gateway-facts.md#runs`). A run without an observed end, or a run that hangs, must not
/// block the wakes of an agent for days.
const MAX_RUN_TIME: Duration = Duration::from_hours(6);

/// The liveness of an agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Liveness {
    /// The time of its last call to Muster's API.
    pub last_seen: Option<Timestamp>,
    /// Whether the condition CheckedIn is true.
    checked_in: bool,
    /// The start of the first and of the last run that goes on.
    running: Option<(Timestamp, Timestamp)>,
    /// Start and end of the run that ended last.
    rested: Option<(Timestamp, Timestamp)>,
    /// While the gateway is unreachable: the assumed end of the run that the status records.
    may_run_until: Option<Timestamp>,
}

impl Liveness {
    /// The liveness of an agent whose last call was at `last_seen`.
    #[must_use]
    pub fn of(last_seen: Option<Timestamp>, status: &AgentStatus, observed: Option<&Observed>) -> Self {
        let ran = status.last_run.as_ref().filter(|run| run.ended_at.is_none() && observed.is_none());
        Self {
            last_seen,
            checked_in: is_true(&status.conditions, ConditionType::CheckedIn),
            running: observed.and_then(|observed| observed.activity.running),
            rested: observed.and_then(|observed| observed.activity.rested),
            may_run_until: ran.and_then(|run| Some(assumed_end(run.started_at.as_ref()?.0))),
        }
    }

    /// The assumed end of a run that goes on.
    #[must_use]
    pub fn running_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.running.map(|(_, last)| assumed_end(last)).filter(|over| now < *over)
    }

    /// Whether the agent called within two of its heartbeat intervals, or has run since. Without expected heartbeats, one call is
    /// enough. A run keeps an agent online, and does not bring a silent agent online.
    #[must_use]
    pub fn is_fresh(&self, desired: &Desired, now: Timestamp) -> bool {
        let runs = self.running_until(now).is_some() || self.may_run_until.is_some_and(|until| now < until);
        self.last_seen.is_some() && (self.checked_in && runs || !self.is_silent(desired, now))
    }

    /// Whether the agent's silence exceeds two of its heartbeat intervals.
    #[must_use]
    pub fn is_silent(&self, desired: &Desired, now: Timestamp) -> bool {
        self.stale_at(desired).is_some_and(|stale| stale <= now)
    }

    /// The time from which the agent counts as offline, unless a run goes on at that time. A silence while Muster could not receive
    /// calls does not count.
    ///
    /// Silence begins with the end of the latest run. Agents check in when the gateway's heartbeat runs them. An agent that runs and
    /// cannot reach Muster must not count as online for ever. So the end of a run that was shorter than a heartbeat interval counts only
    /// within two intervals after the last call.
    #[must_use]
    pub fn stale_at(&self, desired: &Desired) -> Option<Timestamp> {
        let interval = desired.heartbeat_interval;
        let seen = self.last_seen.filter(|_| !interval.is_zero())?;
        let assumed = self.running.map(|(first, last)| (first, assumed_end(last)));
        let run = self.rested.into_iter().chain(assumed).max_by_key(|(_, ended)| *ended).filter(|_| self.checked_in);
        let quiet = run.map_or(seen, |(started, ended)| {
            let is_long = later(started, interval) <= ended;
            if is_long { ended } else { ended.min(later(seen, interval * 2)) }
        });
        Some(later(seen.max(quiet).max(desired.silence_counts_from), interval * 2))
    }
}

fn assumed_end(started: Timestamp) -> Timestamp {
    later(started, MAX_RUN_TIME)
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::api::agent::RunStatus;
    use crate::core::agent::fixtures::{AgentFixture, applied, at};

    /// An agent with its last call at 1001 s and a heartbeat interval of 300 s.
    fn working() -> AgentFixture {
        let mut fixture = applied().working();
        fixture.status.last_run = None;
        fixture
    }

    fn ran(fixture: &mut AgentFixture, started: i64, ended: Option<i64>) {
        fixture.observed.activity.running = ended.is_none().then(|| (at(started), at(started)));
        fixture.observed.activity.rested = ended.map(|ended| (at(started), at(ended)));
    }

    fn liveness(fixture: &AgentFixture) -> Liveness {
        Liveness::of(fixture.seen.map(at), &fixture.status, Some(&fixture.observed))
    }

    fn stale_at(fixture: &AgentFixture) -> Option<i64> {
        liveness(fixture).stale_at(&fixture.desired).map(Timestamp::as_second)
    }

    #[test]
    fn silence_begins_with_the_end_of_the_latest_run() {
        let mut fixture = working();
        assert_eq!(stale_at(&fixture), Some(1601));
        ran(&mut fixture, 1500, Some(1505));
        assert_eq!(stale_at(&fixture), Some(2105));
        ran(&mut fixture, 1500, Some(9000));
        assert_eq!(stale_at(&fixture), Some(9600));
    }

    #[test]
    fn an_agent_that_runs_repeatedly_and_never_calls_goes_stale_after_four_intervals() {
        let mut fixture = working();
        for ended in [1300, 1600, 1900, 2200, 2500] {
            ran(&mut fixture, ended - 5, Some(ended));
            assert!(stale_at(&fixture) <= Some(1001 + 1200), "{ended}");
        }
    }

    #[test]
    fn a_running_agent_is_not_stale_and_a_run_without_an_end_is_over_after_six_hours() {
        let mut fixture = working();
        ran(&mut fixture, 1500, None);
        let over = 1500 + 6 * 3600;
        let fresh = |now| liveness(&fixture).is_fresh(&fixture.desired, at(now));
        assert!(fresh(over - 1));
        assert_eq!(liveness(&fixture).running_until(at(over)), None);
        assert!(fresh(over + 599) && !fresh(over + 600), "silence begins where the run counts as over");
    }

    #[test]
    fn a_run_does_not_bring_a_silent_agent_online() {
        let mut fixture = working();
        fixture.now = 1601;
        fixture.record(&crate::core::agent::plan::Plan::default(), None);
        ran(&mut fixture, 1700, None);
        assert!(!liveness(&fixture).is_fresh(&fixture.desired, at(1701)));
        ran(&mut fixture, 1700, Some(9000));
        assert_eq!(stale_at(&fixture), Some(1601));
    }

    #[test]
    fn a_recorded_run_goes_on_while_the_gateway_is_unreachable() {
        let mut fixture = working();
        fixture.status.last_run = Some(RunStatus { started_at: Some(Time(at(1500))), ended_at: None });
        let away = Liveness::of(fixture.seen.map(at), &fixture.status, None);
        assert!(away.is_fresh(&fixture.desired, at(5000)));
        assert!(!away.is_fresh(&fixture.desired, at(1500 + 6 * 3600)), "the run counts as over after six hours");
        assert!(!liveness(&fixture).is_fresh(&fixture.desired, at(5000)), "the gateway shows no run");
    }
}
