//! The functions that read and set conditions.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::condition::Condition;
pub use super::condition::{ConditionStatus, ConditionType};
use super::reason::Reason;

/// A new value of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionUpdate {
    /// The condition's type.
    pub kind: ConditionType,
    /// The condition's status.
    pub status: ConditionStatus,
    /// The condition's reason.
    pub reason: Reason,
    /// A sentence for the person who reads `kubectl describe`.
    pub message: String,
}

impl ConditionUpdate {
    /// A new value of the condition `kind`.
    #[must_use]
    pub fn new(
        kind: ConditionType,
        status: impl Into<ConditionStatus>,
        reason: Reason,
        message: impl Into<String>,
    ) -> Self {
        Self { kind, status: status.into(), reason, message: message.into() }
    }
}

/// The maximum length of a condition's message in Kubernetes, in bytes.
const MAX_MESSAGE_BYTES: usize = 32_768;

/// Sets one condition. The transition time changes only when the status changes.
pub fn set(conditions: &mut Vec<Condition>, update: &ConditionUpdate, generation: i64, now: Timestamp) {
    let status = update.status.as_str();
    let old = conditions.iter().position(|c| c.type_ == update.kind.as_str());
    let since = match old.and_then(|i| conditions.get(i)) {
        Some(c) if c.status == status => c.last_transition_time.clone(),
        _ => Time(now),
    };
    let end = update.message.floor_char_boundary(MAX_MESSAGE_BYTES);
    let new = Condition {
        type_: update.kind.into(),
        status: update.status.into(),
        reason: update.reason.into(),
        message: update.message[..end].into(),
        observed_generation: Some(generation),
        last_transition_time: since,
    };
    match old {
        Some(i) => conditions[i] = new,
        None => conditions.push(new),
    }
}

/// Adds the missing conditions of these types, as unknown. From its first status on, an object has all conditions of its kind.
pub fn fill(conditions: &mut Vec<Condition>, kinds: &[ConditionType], generation: i64, now: Timestamp) {
    for kind in kinds.iter().filter(|kind| find(conditions, **kind).is_none()).copied().collect::<Vec<_>>() {
        let message = "nothing is known yet; see the condition Ready";
        let unknown = ConditionUpdate::new(kind, ConditionStatus::Unknown, Reason::NotObserved, message);
        set(conditions, &unknown, generation, now);
    }
}

/// Begins the sentence that a suspension adds to the message of a kept condition.
const SUSPENSION: &str = "; as last observed, because ";

/// Keeps the condition `Ready` of an object that a suspension holds up: its status and its reason stay, and its message adds the
/// suspension. `Unknown` when nothing was observed before.
#[must_use]
pub fn kept_ready(conditions: &[Condition], suspension: &str) -> ConditionUpdate {
    let known = find(conditions, ConditionType::Ready).filter(|c| c.reason != Reason::Suspended.as_str());
    let Some((ready, reason)) = known.and_then(|ready| Some((ready, Reason::parse(&ready.reason)?))) else {
        let message = format!("nothing was observed, because {suspension}");
        return ConditionUpdate::new(ConditionType::Ready, ConditionStatus::Unknown, Reason::Suspended, message);
    };
    let observed = ready.message.split(SUSPENSION).next().unwrap_or_default();
    let message = format!("{observed}{SUSPENSION}{suspension}");
    ConditionUpdate::new(ConditionType::Ready, ConditionStatus::parse(&ready.status), reason, message)
}

/// Removes a condition that is present only while true.
pub fn clear(conditions: &mut Vec<Condition>, kind: ConditionType) {
    conditions.retain(|c| c.type_ != kind.as_str());
}

/// The condition of a type.
#[must_use]
pub fn find(conditions: &[Condition], kind: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|c| c.type_ == kind.as_str())
}

/// Whether a condition is present and `True`.
#[must_use]
pub fn is_true(conditions: &[Condition], kind: ConditionType) -> bool {
    find(conditions, kind).is_some_and(|c| c.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_transition_time_changes_only_with_the_status() {
        let mut conditions = Vec::new();
        set(&mut conditions, &ConditionUpdate::new(ConditionType::Ready, false, Reason::Progressing, "a"), 1, at(1));
        set(&mut conditions, &ConditionUpdate::new(ConditionType::Ready, false, Reason::BoardNotFound, "b"), 2, at(2));
        assert_eq!(conditions.len(), 1);
        assert_eq!(conditions[0].last_transition_time.0, at(1));
        assert_eq!((conditions[0].reason.as_str(), conditions[0].observed_generation), ("BoardNotFound", Some(2)));
        set(&mut conditions, &ConditionUpdate::new(ConditionType::Ready, true, Reason::Reconciled, "c"), 2, at(3));
        assert_eq!(conditions[0].last_transition_time.0, at(3));
    }

    #[test]
    fn the_missing_conditions_are_added_as_unknown() {
        let mut conditions = Vec::new();
        set(&mut conditions, &ConditionUpdate::new(ConditionType::Ready, false, Reason::Progressing, "a"), 1, at(1));
        fill(&mut conditions, &[ConditionType::Ready, ConditionType::Paused], 1, at(1));
        let shown: Vec<_> =
            conditions.iter().map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str())).collect();
        assert_eq!(shown, [("Ready", "False", "Progressing"), ("Paused", "Unknown", "NotObserved")]);
        let before = conditions.clone();
        fill(&mut conditions, &[ConditionType::Ready, ConditionType::Paused], 1, at(2));
        assert_eq!(conditions, before);
    }

    #[test]
    fn a_suspension_keeps_ready_and_names_itself_once() {
        let mut conditions = Vec::new();
        let unknown = kept_ready(&conditions, "x is suspended");
        assert_eq!((unknown.status, unknown.reason), (ConditionStatus::Unknown, Reason::Suspended));
        for status in [true, false] {
            let ready = ConditionUpdate::new(ConditionType::Ready, status, Reason::Connected, "connected");
            set(&mut conditions, &ready, 1, at(1));
            for suspension in ["x is suspended", "x is suspended (holidays)"] {
                let kept = kept_ready(&conditions, suspension);
                assert_eq!((kept.status, kept.reason), (status.into(), Reason::Connected));
                assert_eq!(kept.message, format!("connected; as last observed, because {suspension}"));
                set(&mut conditions, &kept, 2, at(2));
                assert_eq!(find(&conditions, ConditionType::Ready).unwrap().last_transition_time.0, at(1));
            }
        }
        set(&mut conditions, &unknown, 3, at(3));
        assert_eq!(kept_ready(&conditions, "x is suspended"), unknown);
    }

    #[test]
    fn clear_removes_a_condition() {
        let mut conditions = Vec::new();
        set(&mut conditions, &ConditionUpdate::new(ConditionType::Stalled, true, Reason::TemplateError, "x"), 1, at(1));
        assert!(is_true(&conditions, ConditionType::Stalled));
        clear(&mut conditions, ConditionType::Stalled);
        assert!(find(&conditions, ConditionType::Stalled).is_none());
    }
}
