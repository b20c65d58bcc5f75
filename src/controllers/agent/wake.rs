//! Sends a wake message.

use super::work::StepContext;
use crate::api::agent::Agent;
use crate::core::agent::wake::{WakeInHistory, WakeMessage, WakeResult, in_history};
use crate::core::error::ReconcileError;
use crate::core::event::Event;
use crate::state::store::{EventTarget, Store};

/// Sends the wake message, unless the session already has it: the gateway forgets idempotency keys when it restarts
/// (`docs/gateway-facts.md#idempotency-of-messages`). A message that was sent before, and has no answer, is sent once more under its
/// key: the gateway that took it still knows the key, and a gateway that has restarted since does not go on with it by itself.
///
/// Nothing is sent, and `None` returned, when a run has begun since the agent was looked at: the message would go into it.
///
/// # Errors
/// The request to the gateway that failed.
pub(super) async fn send<S: Store>(
    step: &StepContext<'_, S>,
    agent: &Agent,
    message: &WakeMessage,
) -> Result<Option<WakeResult>, ReconcileError> {
    let WakeMessage { attempt, max_attempts, key, text, deliver, repeated } = message;
    let client = step.gateway.client();
    let session = &step.desired.identity.session_key;
    let history = client.chat_history(session).await;
    let seen = in_history(&history.map_err(|e| ReconcileError::gateway("to read its session", &e))?, key);
    let answered = seen == WakeInHistory::Answered;
    let result = WakeResult { attempt: *attempt, key: key.clone(), at: step.ctx.state.store.now(), answered };
    let was_sent = match seen {
        WakeInHistory::Absent => false,
        WakeInHistory::Unanswered => !repeated,
        WakeInHistory::Answered => true,
    };
    if was_sent {
        return Ok(Some(result));
    }
    if step.gateway.runs_now(&step.desired.identity.agent_id, result.at) {
        return Ok(None);
    }
    let sent = client.chat_send(session, text, *deliver, key).await;
    sent.map_err(|e| ReconcileError::gateway("to wake the agent", &e))?;
    let again = if *repeated { " again, since the gateway may have lost it" } else { "" };
    let event = Event {
        warning: false,
        reason: "Woken".into(),
        action: "Wake",
        message: format!("sent wake message {attempt} of at most {max_attempts}{again}"),
    };
    step.ctx.state.store.publish(EventTarget::Agent(agent), &event).await;
    Ok(Some(result))
}
