//! The condition `CheckedIn`.

use jiff::Timestamp;

use super::desired::Desired;
use super::liveness::Liveness;
use super::status_input::StatusInput;
use super::wake::{self, WakeDecision};
use crate::api::agent::AgentStatus;
use crate::api::conditions::ConditionUpdate;
use crate::api::{ConditionType, Reason};

/// Why an agent counts as online.
fn online_because(desired: &Desired, liveness: &Liveness, now: Timestamp) -> &'static str {
    if liveness.is_silent(desired, now) {
        "a run of the agent goes on; silence counts from the end of the run"
    } else if desired.heartbeat_interval.is_zero() {
        "the agent has called Muster's API; without a heartbeat no further call is expected"
    } else if !liveness.expects_calls(desired) || liveness.is_excused(desired, now) {
        "the agent has called Muster's API; no further call is due, see HeartbeatConfigured"
    } else if liveness.called_lately(desired, now) {
        "the agent calls Muster's API within two heartbeat intervals"
    } else {
        "the agent has called Muster's API, and less than two heartbeat intervals in which a call was due have passed since"
    }
}

/// The condition of the calls of an agent.
pub(super) fn checked_in(desired: &Desired, new: &AgentStatus, input: &StatusInput<'_>) -> ConditionUpdate {
    let (seen, now) = (new.heartbeat.as_ref().map(|h| h.last_seen.0), input.now);
    let liveness = Liveness::of(seen, new, input.observed);
    let say = |reason, message: &str| ConditionUpdate::new(ConditionType::CheckedIn, false, reason, message);
    if desired.paused.is_some() {
        return say(Reason::Suspended, "the agent is suspended, and Muster neither wakes it nor expects a check-in");
    }
    let decision = wake::decide(desired, new.wake.as_ref(), &liveness, now);
    // While no call is due, only the answer to a wake shows whether the agent is online. A new wake, for a changed spec for example, has
    // until its deadline.
    let is_in_time = decision == WakeDecision::Nothing || liveness.checked_in && decision.is_open();
    let unanswered = !liveness.expects_calls(desired) && !is_in_time;
    if liveness.is_fresh(desired, now) && !unanswered {
        return ConditionUpdate::new(
            ConditionType::CheckedIn,
            true,
            Reason::CheckedIn,
            online_because(desired, &liveness, now),
        );
    }
    if let Some(suspension) = input.blocker.filter(|blocker| blocker.is_suspension()) {
        let message = format!("{}; Muster wakes no agent there", suspension.error().message);
        return say(Reason::Suspended, &message);
    }
    let attempts = new.wake.as_ref().map_or(0, |wake| wake.attempts);
    let was_exhausted = desired.wake.is_some_and(|wake| attempts > wake.max_attempts);
    match decision {
        WakeDecision::AwaitCheckIn(deadline) if was_exhausted => say(
            Reason::MaxWakeAttempts,
            &format!(
                "the agent did not check in after the wakes that spec.wake.maxAttempts allows; it was woken once more and has until {deadline} to check in"
            ),
        ),
        WakeDecision::AwaitCheckIn(deadline) => {
            say(Reason::WaitingForCheckIn, &format!("the agent was woken and has until {deadline} to check in"))
        }
        WakeDecision::RetryAt(at) => say(
            Reason::DeadlineExceeded,
            &format!("the agent was woken and did not check in by its deadline; Muster wakes it again at {at}"),
        ),
        WakeDecision::Busy(_) => say(
            Reason::WaitingForCheckIn,
            "a run of the agent goes on; Muster does not wake the agent before the end of the run",
        ),
        WakeDecision::OutOfHours(opening) => say(
            Reason::OutsideActiveHours,
            &format!(
                "it is outside the active hours of the agent; Muster wakes it at {opening} if it does not call before"
            ),
        ),
        WakeDecision::Exhausted(until) => say(
            Reason::MaxWakeAttempts,
            &format!(
                "the agent did not check in after the wakes that spec.wake.maxAttempts allows, and its wakes are paused until {until}; check its session on the gateway, and its access to spec.apiUrl. A check-in, a changed spec or the annotation {} ends the pause",
                crate::api::keys::WAKE_REQUESTED_AT,
            ),
        ),
        WakeDecision::OverBudget(until) => say(
            Reason::WakesPaused,
            &format!(
                "the agent falls silent again after each wake; Muster sends at most {} wakes a day, and pauses them until {until}. Find out why its heartbeats bring no check-in: see HeartbeatConfigured, and its session on the gateway",
                wake::MAX_WAKES_A_DAY
            ),
        ),
        WakeDecision::Send { .. } | WakeDecision::Nothing if seen.is_some() => {
            say(Reason::Stale, "the agent has not called for two heartbeat intervals")
        }
        WakeDecision::Send { .. } => say(Reason::WaitingForCheckIn, "the agent is about to be woken"),
        WakeDecision::Nothing => say(Reason::NotWoken, "the agent is not woken and has not called yet"),
    }
}
