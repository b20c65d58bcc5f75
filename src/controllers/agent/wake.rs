//! Sends a wake message.

use super::work::StepContext;
use crate::api::agent::Agent;
use crate::core::agent::wake::{WakeInHistory, WakeMessage, WakeResult, in_history};
use crate::core::error::ReconcileError;
use crate::core::event::Event;
use crate::state::store::EventTarget;

/// Sends the wake message, unless the history of the session contains it: the gateway forgets idempotency keys in a restart
/// (`docs/gateway-facts.md#idempotency-of-messages`). A sent message without an answer is sent once more with the same key: a gateway
/// that has not restarted ignores it, and a restarted gateway does not continue with the first one.
///
/// Sends nothing and returns `None` if a run has begun since the agent was observed: the message would go into that run.
///
/// # Errors
/// The request to the gateway that failed.
pub(super) async fn send(
    step: &StepContext<'_>,
    agent: &Agent,
    message: &WakeMessage,
) -> Result<Option<WakeResult>, ReconcileError> {
    let WakeMessage { attempt, max_attempts, key, text, deliver, repeated } = message;
    let client = step.gateway.client();
    let session = &step.desired.identity.session_key;
    let history = client.chat_history(session).await;
    let found = in_history(&history.map_err(|e| ReconcileError::gateway("to read its session", &e))?, key);
    let answered = found == WakeInHistory::Answered;
    let result = WakeResult { attempt: *attempt, key: key.clone(), at: step.ctx.state.store.now(), answered };
    let was_sent = match found {
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
    let number = match attempt.checked_sub(*max_attempts) {
        Some(more @ 1..) => format!("wake message {attempt}, after pause {more}"),
        Some(_) | None => format!("wake message {attempt} of at most {max_attempts}"),
    };
    let event =
        Event { warning: false, reason: "Woken".into(), action: "Wake", message: format!("sent {number}{again}") };
    step.ctx.state.store.publish(EventTarget::Agent(agent), &event).await;
    Ok(Some(result))
}
