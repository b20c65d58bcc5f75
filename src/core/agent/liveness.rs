//! The liveness of an agent: its calls to Muster, and the runs that its gateway shows.

use std::time::Duration;

use jiff::Timestamp;

use super::active_hours::HeartbeatHours;
use super::desired::Desired;
use super::heartbeat_state::DueCalls;
use super::observed::Observed;
use crate::api::ConditionType;
use crate::api::agent::AgentStatus;
use crate::api::conditions::is_true;

/// The time after which a run counts as over. `OpenClaw` ends a run after 48 hours (from 2026.5.28 on) or 10 minutes (2026.3.2),
/// unless its config sets another limit (`docs/gateway-facts.md#runs`). A run without an observed end, or a run that hangs, must not
/// block the wakes of an agent for days.
const MAX_RUN_TIME: Duration = Duration::from_hours(6);

/// The liveness of an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Liveness {
    /// The time of its last call to Muster's API.
    pub last_seen: Option<Timestamp>,
    /// Whether the condition CheckedIn is true.
    pub(super) checked_in: bool,
    /// The start of the first and of the last run that goes on.
    running: Option<(Timestamp, Timestamp)>,
    /// Start and end of the run that ended last.
    rested: Option<(Timestamp, Timestamp)>,
    /// While the gateway is unreachable: the assumed end of the run that the status records.
    may_run_until: Option<Timestamp>,
    /// When calls are due.
    due: DueCalls,
    /// When the gateway last skipped a heartbeat.
    skipped: Option<Timestamp>,
    /// Whether the gateway skipped the last heartbeat because of its hours.
    is_quiet: bool,
}

impl Liveness {
    /// The liveness of an agent whose last call was at `last_seen`.
    #[must_use]
    pub fn of(last_seen: Option<Timestamp>, status: &AgentStatus, observed: Option<&Observed>) -> Self {
        let heartbeat = observed.map(|observed| &observed.heartbeat);
        let ran = status.last_run.as_ref().filter(|run| run.ended_at.is_none() && observed.is_none());
        Self {
            last_seen,
            checked_in: is_true(&status.conditions, ConditionType::CheckedIn),
            running: observed.and_then(|observed| observed.activity.running),
            rested: observed.and_then(|observed| observed.activity.rested),
            may_run_until: ran.and_then(|run| Some(assumed_end(run.started_at.as_ref()?.0))),
            due: DueCalls::of(heartbeat, status),
            skipped: heartbeat.and_then(|heartbeat| heartbeat.skipped_at),
            is_quiet: heartbeat.is_some_and(|heartbeat| heartbeat.is_quiet),
        }
    }

    /// The assumed end of a run that goes on.
    #[must_use]
    pub fn running_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.running.map(|(_, last)| assumed_end(last)).filter(|over| now < *over)
    }

    /// Whether the agent called within two of its heartbeat intervals, or has run since. While no call is due, one call is
    /// enough. A run keeps an agent online, and does not bring a silent agent online.
    #[must_use]
    pub fn is_fresh(&self, desired: &Desired, now: Timestamp) -> bool {
        let runs = self.running_until(now).is_some() || self.may_run_until.is_some_and(|until| now < until);
        self.last_seen.is_some() && (self.checked_in && runs || !self.is_silent(desired, now))
    }

    /// Whether heartbeats bring calls of the agent.
    #[must_use]
    pub fn expects_calls(&self, desired: &Desired) -> bool {
        !desired.heartbeat_interval.is_zero() && !self.due.are_none()
    }

    /// The time at which the active hours of the agent begin, while it is outside of them. In a time zone that Muster does not know, it
    /// is the time of the next heartbeat, which shows more.
    #[must_use]
    pub fn active_from(&self, desired: &Desired, now: Timestamp) -> Option<Timestamp> {
        if desired.heartbeat_interval.is_zero() {
            return None;
        }
        match &self.due.hours {
            HeartbeatHours::Within(window) => window.opening(now).filter(|opening| now < *opening),
            HeartbeatHours::Always => self.is_quiet.then(|| later(now, desired.heartbeat_interval)),
            HeartbeatHours::Never | HeartbeatHours::Unknown => None,
        }
    }

    /// Whether the agent called within two of its heartbeat intervals.
    #[must_use]
    pub fn called_lately(&self, desired: &Desired, now: Timestamp) -> bool {
        self.last_seen.is_some_and(|seen| now < later(seen, desired.heartbeat_interval * 2))
    }

    /// Whether the agent need not call at present: outside its active hours, and while the gateway skips the heartbeats since the last call.
    #[must_use]
    pub fn is_excused(&self, desired: &Desired, now: Timestamp) -> bool {
        let is_skipped = self.skipped > self.last_seen && !self.called_lately(desired, now);
        is_skipped || self.active_from(desired, now).is_some()
    }

    /// Whether the agent's silence exceeds two of its heartbeat intervals.
    #[must_use]
    pub fn is_silent(&self, desired: &Desired, now: Timestamp) -> bool {
        self.stale_at(desired).is_some_and(|stale| stale <= now)
    }

    /// The time from which the agent counts as offline, unless a run goes on at that time. A silence while Muster could not receive
    /// calls does not count, and neither does a silence in which no call is due: outside the active hours, and up to the last heartbeat
    /// that the gateway skipped.
    ///
    /// Silence begins with the end of the latest run. Agents check in when the gateway's heartbeat runs them. An agent that runs and
    /// cannot reach Muster must not count as online for ever. So the end of a run that was shorter than a heartbeat interval counts only
    /// within two intervals after the last call.
    #[must_use]
    pub fn stale_at(&self, desired: &Desired) -> Option<Timestamp> {
        let interval = desired.heartbeat_interval;
        let seen = self.last_seen.filter(|_| self.expects_calls(desired))?;
        let assumed = self.running.map(|(first, last)| (first, assumed_end(last)));
        let run = self.rested.into_iter().chain(assumed).max_by_key(|(_, ended)| *ended).filter(|_| self.checked_in);
        let quiet = run.map_or(seen, |(started, ended)| {
            let is_long = later(started, interval) <= ended;
            if is_long { ended } else { ended.min(later(seen, interval * 2)) }
        });
        let skipped = self.skipped.filter(|_| self.checked_in).unwrap_or(seen);
        let since = seen.max(quiet).max(skipped).max(desired.silence_counts_from);
        match &self.due.hours {
            HeartbeatHours::Within(window) => window.silent_from(since, interval * 2),
            HeartbeatHours::Always => Some(later(since, interval * 2)),
            HeartbeatHours::Never | HeartbeatHours::Unknown => None,
        }
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
    use crate::api::shared::ActiveHours;
    use crate::core::agent::fixtures::{AgentFixture, applied, at};
    use crate::core::agent::heartbeat_state::HeartbeatFlaw;

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

    #[test]
    fn a_skipped_heartbeat_moves_the_silence_of_an_agent_that_has_not_fallen_silent() {
        let mut fixture = working();
        fixture.observed.heartbeat.skipped_at = Some(at(1500));
        assert_eq!(stale_at(&fixture), Some(2100));
        fixture.observed.heartbeat.skipped_at = None;
        fixture.now = 1601;
        fixture.record(&crate::core::agent::plan::Plan::default(), None);
        fixture.observed.heartbeat.skipped_at = Some(at(1900));
        assert_eq!(stale_at(&fixture), Some(1601), "it was silent before");
    }

    #[test]
    fn silence_counts_only_in_the_active_hours_and_lasts_through_the_night() {
        let mut fixture = working();
        let hours = |start: &str, end: &str| {
            Some(ActiveHours { start: start.into(), end: end.into(), timezone: Some("UTC".into()) })
        };
        // The last call was at 00:16:41.
        fixture.observed.heartbeat.hours = hours("23:00", "00:20");
        assert_eq!(stale_at(&fixture), Some(23 * 3600 + 600));
        assert_eq!(liveness(&fixture).active_from(&fixture.desired, at(3600)), Some(at(23 * 3600)));
        fixture.observed.heartbeat.hours = hours("00:00", "00:30");
        assert!(!liveness(&fixture).is_silent(&fixture.desired, at(1600)));
        assert!(liveness(&fixture).is_silent(&fixture.desired, at(50_000)), "it was silent when the window closed");
    }

    #[test]
    fn without_a_working_heartbeat_no_call_is_due_also_while_the_gateway_is_unreachable() {
        let mut fixture = working();
        fixture.observed.heartbeat.flaw = Some(HeartbeatFlaw::SchedulerOff { by_config: true });
        assert_eq!(stale_at(&fixture), None);
        fixture.record(&crate::core::agent::plan::Plan::default(), None);
        let away = Liveness::of(fixture.seen.map(at), &fixture.status, None);
        assert_eq!(away.stale_at(&fixture.desired), None);
        assert!(away.is_fresh(&fixture.desired, at(1_000_000)));
    }

    #[test]
    fn the_active_hours_hold_for_wakes_also_while_the_heartbeat_does_not_work() {
        let mut fixture = working();
        let hours = ActiveHours { start: "01:00".into(), end: "02:00".into(), timezone: Some("UTC".into()) };
        fixture.observed.heartbeat.hours = Some(hours);
        fixture.observed.heartbeat.flaw = Some(HeartbeatFlaw::NotScheduled);
        assert_eq!(liveness(&fixture).active_from(&fixture.desired, at(2000)), Some(at(3600)));
        assert_eq!(stale_at(&fixture), None);
    }

    #[test]
    fn a_heartbeat_in_quiet_hours_delays_wakes_to_the_next_heartbeat() {
        let mut fixture = working();
        fixture.observed.heartbeat.is_quiet = true;
        assert_eq!(liveness(&fixture).active_from(&fixture.desired, at(2000)), Some(at(2300)));
    }
}
