//! When an agent is woken.

use jiff::Timestamp;

use super::desired::{Desired, Wake};
use crate::api::agent::WakeStatus;

/// What to do about waking an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waking {
    /// It has been heard of since, or is not to be woken.
    Rest,
    /// It was woken and has until then.
    Until(Timestamp),
    /// It is woken now.
    Send {
        /// The number of this attempt, from 1.
        attempt: i32,
        /// The key by which the gateway knows a repeated request.
        key: String,
    },
    /// It was woken as often as it may be.
    Exhausted,
}

/// Whether an agent was heard of within two of its heartbeat intervals; always so when none is expected.
#[must_use]
pub fn fresh(desired: &Desired, last_seen: Option<Timestamp>, now: Timestamp) -> bool {
    last_seen.is_some_and(|seen| stale_at(desired, seen).is_none_or(|stale| now < stale))
}

/// When an agent that was last heard of at `seen` counts as offline.
#[must_use]
pub fn stale_at(desired: &Desired, seen: Timestamp) -> Option<Timestamp> {
    let interval = desired.heartbeat_interval;
    (!interval.is_zero()).then(|| seen.saturating_add(interval * 2).unwrap_or(Timestamp::MAX))
}

/// Decides about waking.
///
/// # Guarantees
/// One generation of the spec, and one silence, wakes an agent at most `max_attempts` times, never before the
/// deadline of the wake before. The key depends on what is recorded in the status alone, so that a wake which was
/// sent and not recorded is sent again under the same key.
#[must_use]
pub fn waking(desired: &Desired, record: Option<&WakeStatus>, last_seen: Option<Timestamp>, now: Timestamp) -> Waking {
    let Some(wake) = desired.wake else { return Waking::Rest };
    let current = record.filter(|r| r.generation == desired.generation);
    let Some(current) = current else {
        return send(desired, 1, None);
    };
    let sent = current.last_sent_at.as_ref().map(|t| t.0);
    let answered = last_seen.is_some_and(|seen| sent.is_some_and(|sent| seen > sent));
    if answered {
        return if fresh(desired, last_seen, now) { Waking::Rest } else { send(desired, 1, sent) };
    }
    unanswered(desired, wake, current, now)
}

fn unanswered(desired: &Desired, wake: Wake, current: &WakeStatus, now: Timestamp) -> Waking {
    match current.deadline.as_ref().map(|t| t.0) {
        Some(deadline) if now < deadline => Waking::Until(deadline),
        Some(_) | None if current.attempts >= wake.max_attempts => Waking::Exhausted,
        Some(_) | None => send(desired, current.attempts + 1, current.last_sent_at.as_ref().map(|t| t.0)),
    }
}

/// A wake after the one that was sent at `before`, as the status records it.
fn send(desired: &Desired, attempt: i32, before: Option<Timestamp>) -> Waking {
    let before = before.map_or(0, Timestamp::as_second);
    let key = format!("muster-{}-{}-{before}-{attempt}", desired.uid, desired.generation);
    Waking::Send { attempt, key }
}

#[cfg(test)]
#[path = "wake_tests.rs"]
mod tests;
