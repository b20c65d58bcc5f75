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

/// Ready changed its status, or its reason while it is not true.
fn ready_changed(old: &AgentGatewayStatus, new: &AgentGatewayStatus) -> Option<Event> {
    let ready = find(&new.conditions, ConditionType::Ready)?;
    let before = find(&old.conditions, ConditionType::Ready);
    let same = before.is_some_and(|b| (&b.status, &b.reason) == (&ready.status, &ready.reason));
    let quiet = [Reason::Connecting, Reason::NotSettled].iter().any(|r| r.as_str() == ready.reason);
    // Events of one reason are counted on the first of them, whose words stay: by then another request is to be approved.
    let message = if ready.reason == Reason::PairingRequired.as_str() {
        "the gateway wants this device to be approved; the condition Paired has the command that does it".to_owned()
    } else {
        ready.message.clone()
    };
    (!same && !quiet).then(|| Event {
        warning: ready.status != "True",
        reason: ready.reason.clone(),
        action: "Connect",
        message,
    })
}
