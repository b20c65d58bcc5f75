//! The conditions of kstatus, `Reconciling` and `Stalled`. Each is present only while true. All three resources share the rule.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::api::conditions::{ConditionStatus, ConditionUpdate, clear, find, set};
use crate::api::reason::Persistence;
use crate::api::{ConditionType, Reason};
use crate::core::error::ReconcileError;

/// Sets `Reconciling` or `Stalled`, or neither, from the condition Ready.
///
/// `error` is the error behind Ready, if there is an error. `reconciling` replaces the reason of Ready in `Reconciling`.
pub fn set_progress(
    conditions: &mut Vec<Condition>,
    ready: &ConditionUpdate,
    error: Option<&ReconcileError>,
    reconciling: Option<Reason>,
    generation: i64,
    now: Timestamp,
) {
    let since = |kind| find(conditions, kind).map_or(now, |condition| condition.last_transition_time.0);
    let progress = (ready.status != ConditionStatus::True).then(|| {
        let kind = progress(ready.reason, error);
        let reason = reconciling.filter(|_| kind == ConditionType::Reconciling).unwrap_or(ready.reason);
        (ConditionUpdate::new(kind, true, reason, ready.message.clone()), since(kind))
    });
    clear(conditions, ConditionType::Reconciling);
    clear(conditions, ConditionType::Stalled);
    if let Some((update, since)) = progress {
        set(conditions, &update, generation, since);
    }
}

/// The condition of an object whose Ready has this reason: `Stalled` or `Reconciling`.
fn progress(reason: Reason, error: Option<&ReconcileError>) -> ConditionType {
    let lasts = match reason.persistence() {
        Persistence::Lasting => true,
        Persistence::Passing => false,
        Persistence::OfTheError => error.is_some_and(|error| !error.transient),
    };
    if lasts { ConditionType::Stalled } else { ConditionType::Reconciling }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn present(conditions: &[Condition]) -> Vec<(&str, &str, i64)> {
        conditions.iter().map(|c| (c.type_.as_str(), c.reason.as_str(), c.last_transition_time.0.as_second())).collect()
    }

    #[test]
    fn a_lasting_reason_sets_stalled_a_passing_reason_sets_reconciling_and_ready_clears_both() {
        let mut conditions = Vec::new();
        let ready = |status: bool, reason| ConditionUpdate::new(ConditionType::Ready, status, reason, "x");
        set_progress(&mut conditions, &ready(false, Reason::InvalidSpec), None, None, 1, at(1));
        assert_eq!(present(&conditions), [("Stalled", "InvalidSpec", 1)]);
        set_progress(&mut conditions, &ready(false, Reason::BoardNotFound), None, None, 1, at(2));
        assert_eq!(present(&conditions), [("Stalled", "BoardNotFound", 1)], "the transition time stays");
        set_progress(&mut conditions, &ready(false, Reason::Connecting), None, Some(Reason::Progressing), 1, at(3));
        assert_eq!(present(&conditions), [("Reconciling", "Progressing", 3)]);
        set_progress(&mut conditions, &ready(true, Reason::Reconciled), None, None, 1, at(4));
        assert_eq!(present(&conditions), []);
    }

    #[test]
    fn a_failed_request_sets_stalled_only_when_a_retry_does_not_help() {
        let kind = |error: &ReconcileError| progress(error.reason, Some(error));
        for reason in [Reason::GatewayError, Reason::KubernetesError] {
            assert_eq!(kind(&ReconcileError::permanent(reason, "x")), ConditionType::Stalled);
            assert_eq!(kind(&ReconcileError::transient(reason, "x")), ConditionType::Reconciling);
        }
    }
}
