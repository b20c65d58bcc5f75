//! The events of an AgentGateway.

use super::shared_heartbeats;
use crate::api::conditions::find;
use crate::api::{AgentGatewayStatus, ConditionType, Reason};
use crate::core::event::Event;

/// The events that follow from a change of the status.
#[must_use]
pub fn of_change(old: &AgentGatewayStatus, new: &AgentGatewayStatus) -> Vec<Event> {
    ready_changed(old, new).into_iter().chain(shared_heartbeats::stopped_event(old, new)).collect()
}

/// The event of a change of Ready: its status or its reason changed, or the message about the spec, which names another object.
fn ready_changed(old: &AgentGatewayStatus, new: &AgentGatewayStatus) -> Option<Event> {
    let ready = find(&new.conditions, ConditionType::Ready)?;
    let before = find(&old.conditions, ConditionType::Ready);
    let is_of_the_spec = Reason::parse(&ready.reason).is_some_and(Reason::is_of_the_spec);
    let is_unchanged = before.is_some_and(|b| {
        (&b.status, &b.reason) == (&ready.status, &ready.reason) && (!is_of_the_spec || b.message == ready.message)
    });
    let is_quiet =
        [Reason::Connecting, Reason::NotSettled, Reason::RestartRequired].iter().any(|reason| ready.reason == *reason);
    // Events with the same message are counted on the first one. A request id in the message would be outdated.
    let message = if ready.reason == Reason::PairingRequired.as_str() {
        "the gateway requires an approval of this device; run the command in the condition Paired".to_owned()
    } else {
        ready.message.to_string()
    };
    (!is_unchanged && !is_quiet).then(|| Event {
        warning: ready.status != "True",
        reason: ready.reason.to_string(),
        action: "Connect",
        message,
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::api::conditions::{ConditionUpdate, set};

    fn status(reason: Reason, message: &str) -> AgentGatewayStatus {
        let mut status = AgentGatewayStatus::default();
        let ready = ConditionUpdate::new(ConditionType::Ready, false, reason, message);
        set(&mut status.conditions, &ready, 1, Timestamp::UNIX_EPOCH);
        status
    }

    #[test]
    fn another_object_that_the_spec_names_is_another_event_and_another_error_of_the_network_is_none() {
        for (reason, events) in [(Reason::SecretNotFound, 1), (Reason::InvalidSpec, 1), (Reason::Unreachable, 0)] {
            let (old, new) = (status(reason, "Secret a"), status(reason, "Secret b"));
            assert_eq!(of_change(&old, &new).len(), events, "{reason:?}");
            assert!(of_change(&new, &new).is_empty());
        }
    }
}
