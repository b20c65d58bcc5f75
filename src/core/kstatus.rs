//! The conditions of kstatus, `Reconciling` and `Stalled`. Each is present only while true. All three resources share the rule.

use jiff::Timestamp;
use kube::api::ObjectMeta;

use crate::api::condition::Condition;
use crate::api::conditions::{ConditionStatus, ConditionUpdate, clear, find, is_true, set};
use crate::api::object_key::ObjectKey;
use crate::api::reason::Persistence;
use crate::api::{Agent, AgentGateway, Board, ConditionType, Reason};
use crate::core::error::ReconcileError;
use crate::core::index::board_key;

/// The input of `Reconciling` and `Stalled`.
#[derive(Clone, Copy, Debug)]
pub struct ProgressInput<'a> {
    /// The condition Ready.
    pub ready: &'a ConditionUpdate,
    /// The error behind Ready, if there is an error.
    pub error: Option<&'a ReconcileError>,
    /// The reason of `Reconciling`, if it differs from the reason of Ready.
    pub reconciling: Option<Reason>,
    /// Whether a suspension holds the object up: it does not reconcile, and stays stalled if it was.
    pub is_suspended: bool,
    /// The generation of the spec.
    pub generation: i64,
    /// The time.
    pub now: Timestamp,
}

/// Sets `Reconciling` or `Stalled`, or neither, from the condition Ready.
pub fn set_progress(conditions: &mut Vec<Condition>, input: &ProgressInput<'_>) {
    let ProgressInput { ready, error, reconciling, is_suspended, generation, now } = *input;
    if is_suspended {
        clear(conditions, ConditionType::Reconciling);
        // Nothing was observed: it cannot be stalled.
        if ready.status == ConditionStatus::Unknown {
            clear(conditions, ConditionType::Stalled);
        }
        return;
    }
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

/// A kind whose status says whether the object is as specified.
pub trait Settled {
    /// Whether the status shows this generation as Ready, and the object is not being deleted.
    fn is_settled(&self) -> bool;

    /// Whether Muster has begun to bring the object to its specified state.
    fn is_begun(&self) -> bool {
        true
    }

    /// What it has in common with objects that are best begun together.
    fn group(&self) -> Option<ObjectKey> {
        None
    }
}

impl Settled for Agent {
    /// The Board: its Agents are on one gateway, which takes many entries with one write.
    fn group(&self) -> Option<ObjectKey> {
        board_key(self)
    }

    /// Nothing begins before the binding is written.
    fn is_begun(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
            || self.status.as_ref().is_some_and(|status| status.binding.is_some())
    }

    fn is_settled(&self) -> bool {
        let status = self.status.as_ref();
        status.is_some_and(|status| is_settled(&self.metadata, status.observed_generation, &status.conditions))
    }
}

impl Settled for Board {
    fn is_settled(&self) -> bool {
        let status = self.status.as_ref();
        status.is_some_and(|status| is_settled(&self.metadata, status.observed_generation, &status.conditions))
    }
}

impl Settled for AgentGateway {
    fn is_settled(&self) -> bool {
        let status = self.status.as_ref();
        status.is_some_and(|status| is_settled(&self.metadata, status.observed_generation, &status.conditions))
    }
}

fn is_settled(meta: &ObjectMeta, observed_generation: i64, conditions: &[Condition]) -> bool {
    meta.generation == Some(observed_generation)
        && meta.deletion_timestamp.is_none()
        && is_true(conditions, ConditionType::Ready)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn present(conditions: &[Condition]) -> Vec<(String, String, i64)> {
        let shown = |c: &Condition| (c.type_.to_string(), c.reason.to_string(), c.last_transition_time.0.as_second());
        conditions.iter().map(shown).collect()
    }

    fn shown(kind: &str, reason: &str, second: i64) -> (String, String, i64) {
        (kind.to_owned(), reason.to_owned(), second)
    }

    #[test]
    fn a_lasting_reason_sets_stalled_a_passing_reason_sets_reconciling_and_ready_clears_both() {
        let mut conditions = Vec::new();
        let ready = |status: bool, reason| ConditionUpdate::new(ConditionType::Ready, status, reason, "x");
        let mut set = |ready: &ConditionUpdate, reconciling, second| {
            let input =
                ProgressInput { ready, error: None, reconciling, is_suspended: false, generation: 1, now: at(second) };
            set_progress(&mut conditions, &input);
            present(&conditions)
        };
        assert_eq!(set(&ready(false, Reason::InvalidSpec), None, 1), [shown("Stalled", "InvalidSpec", 1)]);
        assert_eq!(
            set(&ready(false, Reason::BoardNotFound), None, 2),
            [shown("Stalled", "BoardNotFound", 1)],
            "the transition time stays"
        );
        assert_eq!(
            set(&ready(false, Reason::Connecting), Some(Reason::Progressing), 3),
            [shown("Reconciling", "Progressing", 3)]
        );
        assert_eq!(set(&ready(true, Reason::Reconciled), None, 4), []);
    }

    #[test]
    fn an_object_is_settled_while_this_generation_is_ready_and_it_is_not_being_deleted() {
        let mut conditions = Vec::new();
        set(&mut conditions, &ConditionUpdate::new(ConditionType::Ready, true, Reason::Reconciled, "x"), 2, at(1));
        let meta = ObjectMeta { generation: Some(2), ..ObjectMeta::default() };
        assert!(is_settled(&meta, 2, &conditions));
        assert!(!is_settled(&meta, 1, &conditions), "the spec changed");
        assert!(!is_settled(&meta, 2, &[]));
        let deleted = ObjectMeta { deletion_timestamp: Some(Time(at(3))), ..meta };
        assert!(!is_settled(&deleted, 2, &conditions));
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
