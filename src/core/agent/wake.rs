//! When an agent is woken.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::desired::{Desired, Wake};
use super::liveness::Liveness;
use super::observed::Observed;
use crate::api::agent::WakeStatus;
use crate::backoff::doubled;
use crate::openclaw::model::ChatMessage;

/// The shortest time between the deadline of a wake and the next wake. Each attempt doubles the time.
const MIN_WAKE_BACKOFF: Duration = Duration::from_secs(30);
/// The longest time between the deadline of a wake and the next wake.
const MAX_WAKE_BACKOFF: Duration = Duration::from_mins(10);

/// What to do about waking an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WakeDecision {
    /// It has been heard of since, or is not to be woken.
    Nothing,
    /// It was woken and has until then.
    AwaitCheckIn(Timestamp),
    /// It did not check in by its deadline, and is woken again then.
    RetryAt(Timestamp),
    /// It is woken now.
    Send {
        /// The number of this attempt, from 1.
        attempt: i32,
        /// The key by which the gateway knows a repeated request.
        key: String,
    },
    /// It is not woken while a run goes on, until then at the latest.
    Busy(Timestamp),
    /// It was woken as often as it may be.
    Exhausted,
}

/// Decides about waking.
///
/// # Guarantees
/// One generation of the spec, and one silence, wakes an agent at most `max_attempts` times, never before the
/// deadline of the wake before, and never while it runs: `OpenClaw` puts a message into the run that goes on (queue mode
/// `steer`, the default), which then skips the tool calls that have not begun. The key depends on what is recorded in the
/// status alone, so that a wake which was sent and not recorded is sent again under the same key.
#[must_use]
pub fn decide(desired: &Desired, record: Option<&WakeStatus>, liveness: &Liveness, now: Timestamp) -> WakeDecision {
    let due = due(desired, record, liveness, now);
    let Some(until) = liveness.running_until(now) else { return due };
    // The run of the last wake may be the one that goes on, and may end with a check-in.
    let is_unanswered = record.is_some_and(|record| record.answered_at.is_none());
    match due {
        WakeDecision::Send { .. } | WakeDecision::RetryAt(_) => WakeDecision::Busy(until),
        WakeDecision::Exhausted if is_unanswered => WakeDecision::Busy(until),
        WakeDecision::Exhausted | WakeDecision::Nothing | WakeDecision::AwaitCheckIn(_) | WakeDecision::Busy(_) => due,
    }
}

/// What to do about waking an agent that does not run.
fn due(desired: &Desired, record: Option<&WakeStatus>, liveness: &Liveness, now: Timestamp) -> WakeDecision {
    let Some(wake) = desired.wake else { return WakeDecision::Nothing };
    let current = record.filter(|r| r.generation == desired.generation);
    let Some(current) = current else {
        return send(desired, 1, None);
    };
    let sent = current.last_sent_at.as_ref().map(|t| t.0);
    let answered = liveness.last_seen.is_some_and(|seen| sent.is_some_and(|sent| seen >= sent));
    if answered {
        return if liveness.is_fresh(desired, now) { WakeDecision::Nothing } else { send(desired, 1, sent) };
    }
    unanswered(desired, wake, current, now)
}

fn unanswered(desired: &Desired, wake: Wake, current: &WakeStatus, now: Timestamp) -> WakeDecision {
    let deadline = current.deadline.as_ref().map_or(now, |t| t.0);
    if now < deadline {
        return WakeDecision::AwaitCheckIn(deadline);
    }
    if current.attempts >= wake.max_attempts {
        return WakeDecision::Exhausted;
    }
    let again = deadline.saturating_add(backoff(current.attempts)).unwrap_or(Timestamp::MAX);
    if now < again {
        return WakeDecision::RetryAt(again);
    }
    send(desired, current.attempts + 1, current.last_sent_at.as_ref().map(|t| t.0))
}

/// The wait after the deadline of the `attempt`-th wake.
fn backoff(attempt: i32) -> Duration {
    doubled(MIN_WAKE_BACKOFF, MAX_WAKE_BACKOFF, u32::try_from(attempt).unwrap_or(0))
}

/// A wake after the one that was sent at `before`, as the status records it.
fn send(desired: &Desired, attempt: i32, before: Option<Timestamp>) -> WakeDecision {
    let before = before.map_or(0, Timestamp::as_second);
    let key = format!("muster-{}-{}-{before}-{attempt}", desired.uid, desired.generation);
    WakeDecision::Send { attempt, key }
}

/// A wake that was sent before the gateway's connection was made, and whose run was not seen to end: the gateway may
/// have lost it when it stopped (GATEWAY section 3). Its attempt and its key.
#[must_use]
pub fn possibly_lost(record: Option<&WakeStatus>, observed: &Observed) -> Option<(i32, String)> {
    let record = record.filter(|r| r.answered_at.is_none())?;
    let key = record.key.clone().filter(|key| !observed.activity.ended.contains(key))?;
    let before = record.last_sent_at.as_ref()?.0 < observed.connected_at?;
    before.then_some((record.attempts, key))
}

/// One wake message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WakeMessage {
    /// The number of the attempt, from 1.
    pub attempt: i32,
    /// The number of attempts that the spec allows.
    pub max_attempts: i32,
    /// The key by which the gateway knows a repeated request.
    pub key: String,
    /// The text.
    pub text: String,
    /// Whether the agent's answer is delivered to its channel.
    pub deliver: bool,
    /// Whether it was sent before, and the gateway may have lost it.
    pub repeated: bool,
}

impl WakeMessage {
    /// The message of one attempt.
    #[must_use]
    pub fn new(desired: &Desired, attempt: i32, key: String, repeated: bool) -> Self {
        let text = text(&desired.label, attempt, &key);
        let deliver = desired.wake.is_some_and(|wake| wake.deliver);
        let max_attempts = desired.wake.map_or(0, |wake| wake.max_attempts);
        Self { attempt, max_attempts, key, text, deliver, repeated }
    }
}

/// What the history of a session shows of a wake message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WakeInHistory {
    /// The message is not there.
    Absent,
    /// The message is there, and nothing came after it.
    Unanswered,
    /// The agent answered.
    Answered,
}

fn text(name: &str, attempt: i32, key: &str) -> String {
    let again = if attempt > 1 { " You have not checked in since the last message." } else { "" };
    format!(
        "Hello {name}. Your workspace has been provisioned.{again} Read AGENTS.md (and TOOLS.md, if it is there), then check in once with the heartbeat command that stands there. (Reference: {key})"
    )
}

/// What the history of a session shows of the wake message with this key.
#[must_use]
pub fn in_history(history: &[ChatMessage], key: &str) -> WakeInHistory {
    let reference = format!("(Reference: {key})");
    let is_ours = |m: &ChatMessage| {
        m.text.contains(&reference)
            || m.idempotency_key.as_deref().is_some_and(|k| k == key || k == format!("{key}:user"))
    };
    match history.iter().rposition(is_ours) {
        None => WakeInHistory::Absent,
        Some(at) if history[at..].iter().any(|m| m.role == "assistant") => WakeInHistory::Answered,
        Some(_) => WakeInHistory::Unanswered,
    }
}

/// What became of a wake in one reconcile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WakeResult {
    /// The number of the attempt.
    pub attempt: i32,
    /// The key of its message.
    pub key: String,
    /// When it was sent, or found to have been sent.
    pub at: Timestamp,
    /// Whether the session has the agent's answer.
    pub answered: bool,
}

/// What the status is to say of wakes. The deadline counts from the end of the wake's own run, once that was seen.
#[must_use]
pub fn status(
    desired: &Desired,
    old: Option<&WakeStatus>,
    observed: Option<&Observed>,
    woken: Option<&WakeResult>,
    now: Timestamp,
) -> Option<WakeStatus> {
    if let (Some(woken), Some(wake)) = (woken, desired.wake) {
        return Some(WakeStatus {
            generation: desired.generation,
            attempts: woken.attempt,
            last_sent_at: Some(Time(woken.at)),
            deadline: woken.at.saturating_add(wake.deadline).ok().map(Time),
            key: Some(woken.key.clone()),
            answered_at: woken.answered.then_some(Time(woken.at)),
        });
    }
    let mut wake = old?.clone();
    let ended = |observed: &Observed| wake.key.as_ref().is_some_and(|key| observed.activity.ended.contains(key));
    if wake.answered_at.is_none() && observed.is_some_and(ended) {
        wake.answered_at = Some(Time(now));
        // A run that took longer than the deadline has as long again from its end; the next runs give no more.
        let from_here = desired.wake.and_then(|how| now.saturating_add(how.deadline).ok()).map(Time);
        wake.deadline = wake.deadline.max(from_here);
    }
    Some(wake)
}

#[cfg(test)]
#[path = "wake_tests.rs"]
mod tests;
