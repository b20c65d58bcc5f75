//! The events of a Board. Pure.

use crate::api::conditions::find;
use crate::api::{BoardStatus, ConditionType};
use crate::core::event::Event;

/// The event of a change of Ready: its status or its reason changed. A Board whose gateway has no state yet has no event.
#[must_use]
pub fn of_change(old: &BoardStatus, new: &BoardStatus) -> Option<Event> {
    let ready = find(&new.conditions, ConditionType::Ready)?;
    let before = find(&old.conditions, ConditionType::Ready);
    let is_unchanged = before.is_some_and(|before| (&before.status, &before.reason) == (&ready.status, &ready.reason));
    (!is_unchanged && ready.status != "Unknown").then(|| Event {
        warning: ready.status != "True",
        reason: ready.reason.to_string(),
        action: "Reconcile",
        message: ready.message.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::api::Reason;
    use crate::api::conditions::{ConditionStatus, ConditionUpdate, set};

    fn status(ready: impl Into<ConditionStatus>, reason: Reason, message: &str) -> BoardStatus {
        let mut status = BoardStatus::default();
        let ready = ConditionUpdate::new(ConditionType::Ready, ready, reason, message);
        set(&mut status.conditions, &ready, 1, Timestamp::UNIX_EPOCH);
        status
    }

    #[test]
    fn a_board_has_an_event_when_ready_changes_and_none_when_its_message_does() {
        let none = BoardStatus::default();
        let unknown = status(ConditionStatus::Unknown, Reason::GatewayNotReady, "no condition yet");
        let missing = status(false, Reason::GatewayNotFound, "AgentGateway a does not exist");
        let ready = status(true, Reason::Reconciled, "0 of 1 agents are ready");
        assert_eq!(of_change(&none, &unknown), None);
        let warning = of_change(&unknown, &missing).unwrap();
        assert_eq!((warning.warning, warning.reason.as_str()), (true, "GatewayNotFound"));
        assert_eq!(warning.message, "AgentGateway a does not exist");
        let normal = of_change(&missing, &ready).unwrap();
        assert_eq!((normal.warning, normal.reason.as_str()), (false, "Reconciled"));
        assert_eq!(of_change(&ready, &status(true, Reason::Reconciled, "1 of 1 agents are ready")), None);
        assert!(of_change(&ready, &status(false, Reason::OverLimit, "x")).is_some());
    }
}
