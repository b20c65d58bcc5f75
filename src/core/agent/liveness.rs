//! The liveness of life of an agent: what it says to Muster, and the runs that its gateway shows.

use std::time::Duration;

use jiff::Timestamp;

use super::desired::Desired;
use super::observed::Observed;
use crate::api::ConditionType;
use crate::api::agent::AgentStatus;
use crate::api::conditions::is_true;

/// How long a run may go on until it counts as over. `OpenClaw` ends a run after 48 hours (2026.5.28 and later) or 10 minutes
/// (2026.3.2), unless its config says otherwise: a run whose end was not seen, or one that hangs, must not keep an
/// agent from being woken for days.
const MAX_RUN_TIME: Duration = Duration::from_hours(6);

/// The liveness of life of an agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Liveness {
    /// When it last called Muster's API.
    pub last_seen: Option<Timestamp>,
    /// Whether the status says that it has checked in, and has not gone silent since.
    checked_in: bool,
    /// When the runs that go on began, the first and the last of them.
    running: Option<(Timestamp, Timestamp)>,
    /// Beginning and end of the run that ended last.
    rested: Option<(Timestamp, Timestamp)>,
    /// Until when a run may go on that was seen before, while the gateway cannot be asked.
    may_run_until: Option<Timestamp>,
}

impl Liveness {
    /// The liveness of an agent that was last heard of at `last_seen`.
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

    /// While a run goes on, when it counts as over at the latest.
    #[must_use]
    pub fn running_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.running.map(|(_, last)| assumed_end(last)).filter(|over| now < *over)
    }

    /// Whether the agent was heard of within two of its heartbeat intervals, or has run since; always so when none is
    /// expected. A run keeps an agent checked_in, and does not make a silent agent checked_in.
    #[must_use]
    pub fn is_fresh(&self, desired: &Desired, now: Timestamp) -> bool {
        let runs = self.running_until(now).is_some() || self.may_run_until.is_some_and(|until| now < until);
        self.last_seen.is_some() && (self.checked_in && runs || !self.is_silent(desired, now))
    }

    /// Whether the agent's silence is over two of its heartbeat intervals long.
    #[must_use]
    pub fn is_silent(&self, desired: &Desired, now: Timestamp) -> bool {
        self.stale_at(desired).is_some_and(|stale| stale <= now)
    }

    /// When the agent counts as offline, unless a run goes on at that time. A silence in which nobody listened does not count.
    ///
    /// Silence begins with the end of the latest run. But agents check in when the gateway's heartbeat runs them: an
    /// agent that runs and does not call, since it cannot reach Muster for example, must not count as checked_in for ever. So the end of a
    /// run that was shorter than a heartbeat interval counts for two intervals after the last call at most.
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
        Some(later(seen.max(quiet).max(desired.heard_since), interval * 2))
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

    /// An agent that was last seen at 1001, and beats every 300 seconds.
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
    fn an_agent_that_runs_again_and_again_and_never_calls_goes_stale_after_four_intervals() {
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
    fn a_run_does_not_make_a_silent_agent_present() {
        let mut fixture = working();
        fixture.now = 1601;
        fixture.record(&crate::core::agent::plan::Plan::default(), None);
        ran(&mut fixture, 1700, None);
        assert!(!liveness(&fixture).is_fresh(&fixture.desired, at(1701)));
        ran(&mut fixture, 1700, Some(9000));
        assert_eq!(stale_at(&fixture), Some(1601));
    }

    #[test]
    fn while_the_gateway_is_away_a_run_that_went_on_still_does() {
        let mut fixture = working();
        fixture.status.last_run = Some(RunStatus { started_at: Some(Time(at(1500))), ended_at: None });
        let away = Liveness::of(fixture.seen.map(at), &fixture.status, None);
        assert!(away.is_fresh(&fixture.desired, at(5000)));
        assert!(!away.is_fresh(&fixture.desired, at(1500 + 6 * 3600)), "and not for ever");
        assert!(!liveness(&fixture).is_fresh(&fixture.desired, at(5000)), "the gateway shows none");
    }
}
