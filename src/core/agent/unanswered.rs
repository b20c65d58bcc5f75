//! A request to the gateway that was not answered, while the agent was Ready.
//!
//! The connection was lost in the middle of a reconcile, or the gateway is busy for a moment. The gateway may be back at once, and a Ready
//! that comes and goes calls people for nothing. So the agent keeps its conditions for a while, and `lastError` has the error.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::blocked::Blocker;
use super::status_input::StatusInput;
use crate::api::ConditionType;
use crate::api::agent::LastError;
use crate::api::conditions::is_true;
use crate::core::error::ReconcileError;

/// How long a Ready agent keeps its conditions. A connection that falls silent is noticed after two ticks, which are 60 seconds, and another
/// one is open soon after.
const GRACE: SignedDuration = SignedDuration::from_secs(90);

/// The record of an error. The same error keeps the time of its first occurrence.
pub(super) fn last_error(error: &ReconcileError, old: Option<&LastError>, now: Timestamp) -> LastError {
    let code = error.code.clone().unwrap_or_else(|| error.reason.as_str().into());
    let since = old.filter(|old| old.code == code).and_then(|old| old.since.clone()).unwrap_or(Time(now));
    LastError { code, message: error.message.clone(), transient: error.transient, since: Some(since) }
}

/// Whether a Ready agent keeps its conditions although a request was not answered.
pub(super) fn keeps_conditions(input: &StatusInput<'_>, error: Option<&LastError>) -> bool {
    let Some(Blocker::Failed(failed)) = input.blocker else { return false };
    let was_ready =
        input.old.observed_generation == input.generation && is_true(&input.old.conditions, ConditionType::Ready);
    let since = error.and_then(|error| error.since.as_ref());
    was_ready && failed.is_unanswered() && since.is_some_and(|since| input.now.duration_since(since.0) < GRACE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::agent::conclude::{AppliedPlan, Outcome, PassEnd};
    use crate::core::agent::fixtures::{AgentFixture, applied};
    use crate::openclaw::model::CallError;

    fn ends(fixture: &AgentFixture, error: &CallError) -> [PassEnd; 2] {
        let failed = ReconcileError::gateway("to wake the agent", error);
        let outcome = Outcome { failed: Some(failed.clone()), ..Outcome::default() };
        let applied = AppliedPlan { plan: fixture.plan(), deferred: None, outcome };
        [PassEnd::Failed(failed), PassEnd::Applied(Box::new(applied))]
    }

    fn ready() -> AgentFixture {
        let mut fixture = applied().working();
        let applied = AppliedPlan { plan: fixture.plan(), deferred: None, outcome: Outcome::default() };
        fixture.status = fixture.conclude(&PassEnd::Applied(Box::new(applied))).status;
        fixture
    }

    #[test]
    fn a_ready_agent_keeps_its_conditions_while_requests_are_not_answered_for_a_moment() {
        for error in [CallError::Interrupted, CallError::Deadline(std::time::Duration::from_secs(15))] {
            let fixture = ready();
            for end in ends(&fixture, &error) {
                let status = fixture.conclude(&end).status;
                assert_eq!((&status.conditions, status.phase), (&fixture.status.conditions, fixture.status.phase));
                assert_eq!(status.last_error.map(|last| last.code), Some(error.code().to_owned()));
            }
        }
    }

    #[test]
    fn an_agent_is_not_ready_when_requests_are_not_answered_for_long() {
        let mut fixture = ready();
        let [end, _] = ends(&fixture, &CallError::Interrupted);
        fixture.status = fixture.conclude(&end).status;
        fixture.now += 120;
        assert!(!is_true(&fixture.conclude(&end).status.conditions, ConditionType::Ready));
    }

    #[test]
    fn an_agent_that_is_not_ready_yet_shows_an_unanswered_request_at_once() {
        let fixture = applied().bound().with_token().registered();
        let [end, _] = ends(&fixture, &CallError::Interrupted);
        let status = fixture.conclude(&end).status;
        assert!(!is_true(&status.conditions, ConditionType::Ready) && status.conditions != fixture.status.conditions);
    }

    #[test]
    fn an_error_keeps_the_time_of_its_first_occurrence() {
        let [first, later] = [1, 60].map(|second| Timestamp::from_second(second).unwrap());
        let error = |text| ReconcileError::transient(crate::api::Reason::GatewayError, text).with_code("UNAVAILABLE");
        let before = last_error(&error("busy"), None, first);
        assert_eq!(last_error(&error("still busy"), Some(&before), later).since, Some(Time(first)));
        assert_eq!(last_error(&error("busy").with_code("OTHER"), Some(&before), later).since, Some(Time(later)));
    }
}
