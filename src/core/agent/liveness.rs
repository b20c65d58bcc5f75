//! The signs of life of an agent: what it says to Muster, and the runs that its gateway shows.

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
const LONGEST_RUN: Duration = Duration::from_hours(6);

/// The signs of life of an agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Liveness {
    /// When it last called Muster's API.
    pub last_seen: Option<Timestamp>,
    /// Whether the status says that it has checked in, and has not gone silent since.
    present: bool,
    /// When the runs that go on began, the first and the last of them.
    running: Option<(Timestamp, Timestamp)>,
    /// Beginning and end of the run that ended last.
    rested: Option<(Timestamp, Timestamp)>,
    /// Until when a run may go on that was seen before, while the gateway cannot be asked.
    perhaps_runs_until: Option<Timestamp>,
}

impl Liveness {
    /// The signs of an agent that was last heard of at `last_seen`.
    #[must_use]
    pub fn of(last_seen: Option<Timestamp>, status: &AgentStatus, observed: Option<&Observed>) -> Self {
        let ran = status.last_run.as_ref().filter(|run| run.ended_at.is_none() && observed.is_none());
        Self {
            last_seen,
            present: is_true(&status.conditions, ConditionType::CheckedIn),
            running: observed.and_then(|observed| observed.activity.running),
            rested: observed.and_then(|observed| observed.activity.rested),
            perhaps_runs_until: ran.and_then(|run| Some(over_at_latest(run.started_at.as_ref()?.0))),
        }
    }

    /// While a run goes on, when it counts as over at the latest.
    #[must_use]
    pub fn running_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.running.map(|(_, last)| over_at_latest(last)).filter(|over| now < *over)
    }

    /// Whether the agent was heard of within two of its heartbeat intervals, or has run since; always so when none is
    /// expected. A run keeps an agent present, and does not make a silent agent present.
    #[must_use]
    pub fn fresh(&self, desired: &Desired, now: Timestamp) -> bool {
        let runs = self.running_until(now).is_some() || self.perhaps_runs_until.is_some_and(|until| now < until);
        self.last_seen.is_some() && (self.present && runs || !self.silent(desired, now))
    }

    /// Whether the agent's silence is over two of its heartbeat intervals long.
    #[must_use]
    pub fn silent(&self, desired: &Desired, now: Timestamp) -> bool {
        self.stale_at(desired).is_some_and(|stale| stale <= now)
    }

    /// When the agent counts as offline, unless a run goes on at that time. A silence in which nobody listened does not count.
    ///
    /// Silence begins with the end of the latest run. But agents check in when the gateway's heartbeat runs them: an
    /// agent that runs and does not call, since it cannot reach Muster for example, must not count as present for ever. So the end of a
    /// run that was shorter than a heartbeat interval counts for two intervals after the last call at most.
    #[must_use]
    pub fn stale_at(&self, desired: &Desired) -> Option<Timestamp> {
        let interval = desired.heartbeat_interval;
        let seen = self.last_seen.filter(|_| !interval.is_zero())?;
        let given_up = self.running.map(|(first, last)| (first, over_at_latest(last)));
        let run = self.rested.into_iter().chain(given_up).max_by_key(|(_, ended)| *ended).filter(|_| self.present);
        let quiet = run.map_or(seen, |(started, ended)| {
            let is_long = later(started, interval) <= ended;
            if is_long { ended } else { ended.min(later(seen, interval * 2)) }
        });
        Some(later(seen.max(quiet).max(desired.heard_since), interval * 2))
    }
}

fn over_at_latest(started: Timestamp) -> Timestamp {
    later(started, LONGEST_RUN)
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::api::agent::RunStatus;
    use crate::core::agent::fixtures::{Situation, applied, at};

    /// An agent that was last seen at 1001, and beats every 300 seconds.
    fn working() -> Situation {
        let mut situation = applied().working();
        situation.status.last_run = None;
        situation
    }

    fn ran(situation: &mut Situation, started: i64, ended: Option<i64>) {
        situation.observed.activity.running = ended.is_none().then(|| (at(started), at(started)));
        situation.observed.activity.rested = ended.map(|ended| (at(started), at(ended)));
    }

    fn signs(situation: &Situation) -> Liveness {
        Liveness::of(situation.seen.map(at), &situation.status, Some(&situation.observed))
    }

    fn stale_at(situation: &Situation) -> Option<i64> {
        signs(situation).stale_at(&situation.desired).map(Timestamp::as_second)
    }

    #[test]
    fn silence_begins_with_the_end_of_the_latest_run() {
        let mut situation = working();
        assert_eq!(stale_at(&situation), Some(1601));
        ran(&mut situation, 1500, Some(1505));
        assert_eq!(stale_at(&situation), Some(2105));
        ran(&mut situation, 1500, Some(9000));
        assert_eq!(stale_at(&situation), Some(9600));
    }

    #[test]
    fn an_agent_that_runs_again_and_again_and_never_calls_goes_stale_after_four_intervals() {
        let mut situation = working();
        for ended in [1300, 1600, 1900, 2200, 2500] {
            ran(&mut situation, ended - 5, Some(ended));
            assert!(stale_at(&situation) <= Some(1001 + 1200), "{ended}");
        }
    }

    #[test]
    fn a_running_agent_is_not_stale_and_a_run_without_an_end_is_over_after_six_hours() {
        let mut situation = working();
        ran(&mut situation, 1500, None);
        let over = 1500 + 6 * 3600;
        let fresh = |now| signs(&situation).fresh(&situation.desired, at(now));
        assert!(fresh(over - 1));
        assert_eq!(signs(&situation).running_until(at(over)), None);
        assert!(fresh(over + 599) && !fresh(over + 600), "silence begins where the run counts as over");
    }

    #[test]
    fn a_run_does_not_make_a_silent_agent_present() {
        let mut situation = working();
        situation.now = 1601;
        situation.record(&crate::core::agent::plan::Plan::default(), None);
        ran(&mut situation, 1700, None);
        assert!(!signs(&situation).fresh(&situation.desired, at(1701)));
        ran(&mut situation, 1700, Some(9000));
        assert_eq!(stale_at(&situation), Some(1601));
    }

    #[test]
    fn while_the_gateway_is_away_a_run_that_went_on_still_does() {
        let mut situation = working();
        situation.status.last_run = Some(RunStatus { started_at: Some(Time(at(1500))), ended_at: None });
        let away = Liveness::of(situation.seen.map(at), &situation.status, None);
        assert!(away.fresh(&situation.desired, at(5000)));
        assert!(!away.fresh(&situation.desired, at(1500 + 6 * 3600)), "and not for ever");
        assert!(!signs(&situation).fresh(&situation.desired, at(5000)), "the gateway shows none");
    }
}
