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

/// The event of a change of Ready: its status changed, or its reason changed while Ready is not true.
fn ready_changed(old: &AgentGatewayStatus, new: &AgentGatewayStatus) -> Option<Event> {
    let ready = find(&new.conditions, ConditionType::Ready)?;
    let before = find(&old.conditions, ConditionType::Ready);
    let is_unchanged = before.is_some_and(|b| (&b.status, &b.reason) == (&ready.status, &ready.reason));
    let is_quiet =
        [Reason::Connecting, Reason::NotSettled, Reason::RestartRequired].iter().any(|r| r.as_str() == ready.reason);
    // Kubernetes counts events of one reason on the first event and keeps its message. A request id in the message would be outdated.
    let message = if ready.reason == Reason::PairingRequired.as_str() {
        "the gateway requires an approval of this device; run the command in the condition Paired".to_owned()
    } else {
        ready.message.clone()
    };
    (!is_unchanged && !is_quiet).then(|| Event {
        warning: ready.status != "True",
        reason: ready.reason.clone(),
        action: "Connect",
        message,
    })
}
