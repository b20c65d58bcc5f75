//! Decides about the wakes of an agent.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::desired::{Desired, Wake};
use super::liveness::Liveness;
use super::observed::Observed;
use crate::api::agent::WakeStatus;
use crate::api::requests::RequestKind;
use crate::backoff::doubled;
use crate::openclaw::model::ChatMessage;

/// The shortest time between the deadline of a wake and the next wake. Each attempt doubles the time.
const MIN_WAKE_BACKOFF: Duration = Duration::from_secs(30);
/// The longest time between the deadline of a wake and the next wake.
const MAX_WAKE_BACKOFF: Duration = Duration::from_mins(10);
/// The first and the longest pause after `max_attempts` unanswered wakes. One wake follows each pause.
const WAKE_PAUSE: (Duration, Duration) = (Duration::from_hours(1), Duration::from_hours(24));
/// Most wake messages to one agent within [`WAKE_DAY`], for one generation of its spec. A wake that a person requests is not limited.
pub(crate) const MAX_WAKES_A_DAY: i32 = 24;
/// The time in which wake messages are counted. It begins with a wake message.
const WAKE_DAY: Duration = Duration::from_hours(24);

/// The decision about a wake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WakeDecision {
    /// No action: the agent called since the last wake, or wakes are off.
    Nothing,
    /// The agent was woken and has to check in until this deadline.
    AwaitCheckIn(Timestamp),
    /// The agent did not check in by its deadline. The next wake is at this time.
    RetryAt(Timestamp),
    /// Wake the agent now.
    Send {
        /// The number of this attempt, from 1.
        attempt: i32,
        /// The idempotency key of the message.
        key: String,
    },
    /// It is outside the active hours of the agent. They begin at this time.
    OutOfHours(Timestamp),
    /// A run goes on, so that the agent is not woken. The run counts as over at this time.
    Busy(Timestamp),
    /// The agent did not answer `max_attempts` wakes or more. The next wake is at this time.
    Exhausted(Timestamp),
    /// The agent was woken [`MAX_WAKES_A_DAY`] times since a day. The next wake is at this time at the earliest.
    OverBudget(Timestamp),
}

impl WakeDecision {
    /// Whether an answer to a wake may still come in time.
    #[must_use]
    pub fn is_open(&self) -> bool {
        match self {
            Self::AwaitCheckIn(_) | Self::Send { .. } | Self::OutOfHours(_) | Self::Busy(_) => true,
            Self::Nothing | Self::RetryAt(_) | Self::Exhausted(_) | Self::OverBudget(_) => false,
        }
    }
}

/// Decides about a wake.
///
/// # Guarantees
/// One generation of the spec, and one silence, wakes an agent at most `max_attempts` times; then one wake follows each pause, and the
/// pauses double from one hour to a day. An agent gets at most [`MAX_WAKES_A_DAY`] wakes a day. A wake never comes before the deadline
/// of the previous wake, never outside the agent's active hours, and never during a run: `OpenClaw` puts a message into the run, which then skips the tool calls that have not
/// begun (`docs/gateway-facts.md#sessions-and-messages`). The key depends only on the status. So a wake that was sent and not recorded
/// is sent again under the same key.
#[must_use]
pub fn decide(desired: &Desired, record: Option<&WakeStatus>, liveness: &Liveness, now: Timestamp) -> WakeDecision {
    let automatic = || match (due(desired, record, liveness, now), liveness.active_from(desired, now)) {
        (WakeDecision::Send { .. }, Some(opening)) => WakeDecision::OutOfHours(opening),
        (WakeDecision::RetryAt(at), Some(opening)) => WakeDecision::OutOfHours(opening.max(at)),
        (due, _) => due,
    };
    let due = requested(desired).unwrap_or_else(automatic);
    let Some(until) = liveness.running_until(now) else { return due };
    // The run that goes on may be the run of the last wake, and may end with a check-in.
    let is_unanswered = record.is_some_and(|record| record.answered_at.is_none());
    match due {
        WakeDecision::Send { .. } | WakeDecision::RetryAt(_) | WakeDecision::OutOfHours(_) => WakeDecision::Busy(until),
        WakeDecision::Exhausted(_) if is_unanswered => WakeDecision::Busy(until),
        WakeDecision::Exhausted(_)
        | WakeDecision::OverBudget(_)
        | WakeDecision::Nothing
        | WakeDecision::AwaitCheckIn(_)
        | WakeDecision::Busy(_) => due,
    }
}

/// The wake that a person requests. Neither a pause nor the active hours hold it back.
fn requested(desired: &Desired) -> Option<WakeDecision> {
    let at = desired.wake.and(desired.requests.due(RequestKind::Wake))?.as_second();
    let key = format!("muster-{}-{}-requested-{at}", desired.uid, desired.generation);
    Some(WakeDecision::Send { attempt: 1, key })
}

/// The decision about an agent without a run.
fn due(desired: &Desired, record: Option<&WakeStatus>, liveness: &Liveness, now: Timestamp) -> WakeDecision {
    let Some(wake) = desired.wake else { return WakeDecision::Nothing };
    let current = record.filter(|r| r.generation == desired.generation);
    let Some(current) = current else {
        return send(desired, 1, None);
    };
    let sent = current.last_sent_at.as_ref().map(|t| t.0);
    let answered = liveness.last_seen.is_some_and(|seen| sent.is_some_and(|sent| seen >= sent));
    let due = match answered {
        true if liveness.is_fresh(desired, now) => WakeDecision::Nothing,
        true => send(desired, 1, sent),
        false => unanswered(desired, wake, current, now),
    };
    match budget_spent_until(current, now) {
        Some(until) if matches!(due, WakeDecision::Send { .. }) => WakeDecision::OverBudget(until),
        Some(_) | None => due,
    }
}

/// The time until which the agent gets no wake, because it got [`MAX_WAKES_A_DAY`].
fn budget_spent_until(record: &WakeStatus, now: Timestamp) -> Option<Timestamp> {
    let since = record.day_began_at.as_ref()?.0;
    let until = since.saturating_add(WAKE_DAY).unwrap_or(Timestamp::MAX);
    (record.sent_in_day >= MAX_WAKES_A_DAY && now < until).then_some(until)
}

fn unanswered(desired: &Desired, wake: Wake, current: &WakeStatus, now: Timestamp) -> WakeDecision {
    let deadline = current.deadline.as_ref().map_or(now, |t| t.0);
    if now < deadline {
        return WakeDecision::AwaitCheckIn(deadline);
    }
    let paused = u32::try_from(current.attempts - wake.max_attempts).ok();
    let wait =
        paused.map_or_else(|| backoff(current.attempts), |pauses| doubled(WAKE_PAUSE.0, WAKE_PAUSE.1, pauses + 1));
    let again = deadline.saturating_add(wait).unwrap_or(Timestamp::MAX);
    if now < again {
        return if paused.is_some() { WakeDecision::Exhausted(again) } else { WakeDecision::RetryAt(again) };
    }
    send(desired, current.attempts + 1, current.last_sent_at.as_ref().map(|t| t.0))
}

/// The time between the deadline of this attempt and the next wake.
fn backoff(attempt: i32) -> Duration {
    doubled(MIN_WAKE_BACKOFF, MAX_WAKE_BACKOFF, u32::try_from(attempt).unwrap_or(0))
}

/// A wake. `before` is the time of the previous wake in the status.
fn send(desired: &Desired, attempt: i32, before: Option<Timestamp>) -> WakeDecision {
    let before = before.map_or(0, Timestamp::as_second);
    let key = format!("muster-{}-{}-{before}-{attempt}", desired.uid, desired.generation);
    WakeDecision::Send { attempt, key }
}

/// The wake message to be sent now: a new wake, or a wake that the gateway may have lost.
#[must_use]
pub fn next_message(
    desired: &Desired,
    record: Option<&WakeStatus>,
    liveness: &Liveness,
    observed: &Observed,
    now: Timestamp,
) -> Option<WakeMessage> {
    match decide(desired, record, liveness, now) {
        WakeDecision::Send { attempt, key } => Some(WakeMessage::new(desired, attempt, key, false)),
        WakeDecision::AwaitCheckIn(_) | WakeDecision::RetryAt(_) => {
            let may_be_sent = liveness.running_until(now).is_none() && liveness.active_from(desired, now).is_none();
            let (attempt, key) = possibly_lost(record, observed, now).filter(|_| may_be_sent)?;
            Some(WakeMessage::new(desired, attempt, key, true))
        }
        WakeDecision::Nothing
        | WakeDecision::Busy(_)
        | WakeDecision::OutOfHours(_)
        | WakeDecision::Exhausted(_)
        | WakeDecision::OverBudget(_) => None,
    }
}

/// The attempt and the key of a wake that the gateway may have lost: the wake was sent before the present connection, and no end of its
/// run was observed. A gateway that stops may lose a message (`docs/gateway-facts.md#idempotency-of-messages`).
#[must_use]
fn possibly_lost(record: Option<&WakeStatus>, observed: &Observed, now: Timestamp) -> Option<(i32, String)> {
    let record = record.filter(|r| r.answered_at.is_none() && budget_spent_until(r, now).is_none())?;
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
    /// The idempotency key of the message.
    pub key: String,
    /// The text.
    pub text: String,
    /// Whether the agent's answer is delivered to its channel.
    pub deliver: bool,
    /// Whether the message was sent before and may be lost.
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

/// The state of a wake message in the history of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WakeInHistory {
    /// The history does not have the message.
    Absent,
    /// The history has the message and no answer.
    Unanswered,
    /// The history has the message and an answer of the agent.
    Answered,
}

fn text(name: &str, attempt: i32, key: &str) -> String {
    let again = if attempt > 1 { " You have not checked in since the last message." } else { "" };
    format!(
        "Hello {name}. Your workspace has been provisioned.{again} Read AGENTS.md (and TOOLS.md, if it is there), then check in once with the heartbeat command that stands there. (Reference: {key})"
    )
}

/// The state of the wake message with this key in the history of a session.
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

/// The result of a wake in one reconcile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WakeResult {
    /// The number of the attempt.
    pub attempt: i32,
    /// The key of its message.
    pub key: String,
    /// The time when it was sent, or was found in the history.
    pub at: Timestamp,
    /// Whether the session has the agent's answer.
    pub answered: bool,
}

/// The input of the status of wakes.
#[derive(Clone, Copy, Debug)]
pub struct WakeStatusInput<'a> {
    /// The status so far.
    pub old: Option<&'a WakeStatus>,
    /// The observed state on the gateway, if the gateway was reachable.
    pub observed: Option<&'a Observed>,
    /// The wake of this pass.
    pub woken: Option<&'a WakeResult>,
    /// The time.
    pub now: Timestamp,
}

impl WakeStatusInput<'_> {
    /// The status of wakes. The deadline counts from the first sending of an attempt: a message that is sent again under its key keeps
    /// the deadline. Once the end of the wake's own run was observed, the deadline counts from that end.
    #[must_use]
    pub fn status(&self, desired: &Desired) -> Option<WakeStatus> {
        if let (Some(woken), Some(wake)) = (self.woken, desired.wake) {
            let from_here = woken.at.saturating_add(wake.deadline).ok().map(Time);
            let first = self.old.filter(|old| old.key.as_ref() == Some(&woken.key));
            let (day_began_at, sent_in_day) = self.day(desired, woken);
            return Some(WakeStatus {
                day_began_at: Some(Time(day_began_at)),
                sent_in_day,
                generation: desired.generation,
                attempts: woken.attempt,
                last_sent_at: Some(Time(woken.at)),
                deadline: match first {
                    Some(first) if !woken.answered => first.deadline.clone(),
                    Some(_) | None => from_here,
                },
                key: Some(woken.key.clone()),
                answered_at: woken.answered.then_some(Time(woken.at)),
            });
        }
        let mut wake = self.old?.clone();
        let ended = |observed: &Observed| wake.key.as_ref().is_some_and(|key| observed.activity.ended.contains(key));
        if wake.answered_at.is_none() && self.observed.is_some_and(ended) {
            wake.answered_at = Some(Time(self.now));
            // The deadline starts again at the end of the wake's own run. Later runs do not extend it.
            let from_here = desired.wake.and_then(|how| self.now.saturating_add(how.deadline).ok()).map(Time);
            wake.deadline = wake.deadline.max(from_here);
        }
        Some(wake)
    }

    /// The start of the day in which wakes are counted, and their number with this one. A changed spec begins a new day.
    fn day(&self, desired: &Desired, woken: &WakeResult) -> (Timestamp, i32) {
        let same_day = self.old.filter(|old| old.generation == desired.generation).and_then(|old| {
            let since = old.day_began_at.as_ref()?.0;
            let is_over = since.saturating_add(WAKE_DAY).is_ok_and(|end| end <= woken.at);
            (!is_over).then_some((since, old.sent_in_day))
        });
        let (since, sent) = same_day.unwrap_or((woken.at, 0));
        (since, sent.saturating_add(1))
    }
}

#[cfg(test)]
#[path = "wake_tests.rs"]
mod tests;
