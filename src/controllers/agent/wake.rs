//! Sending a wake message.

use super::step_context::StepContext;
use crate::api::agent::Agent;
use crate::controllers::gateway_handle::trouble;
use crate::core::agent::wake::WakeResult;
use crate::core::error::ReconcileError;
use crate::core::event::Event;
use crate::openclaw::model::ChatMessage;
use crate::state::store::{EventTarget, Store};

/// What the history of a session tells of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// It is not there.
    Nothing,
    /// It is there, and nothing came after it.
    Unanswered,
    /// The agent answered.
    Answered,
}

/// Sends the wake message, unless the session already has it: the gateway forgets idempotency keys when it restarts
/// (GATEWAY section 3). One that was sent before, and has no answer, is sent once more under its key: the gateway that
/// took it still knows the key, and one that has restarted since does not go on with it by itself.
///
/// Nothing is sent, and `None` given, when a run has begun since the agent was looked at: the message would go into it.
///
/// # Errors
/// The request to the gateway that failed.
pub(crate) async fn send<S: Store>(
    scene: &StepContext<'_, S>,
    agent: &Agent,
    attempt: i32,
    key: &str,
    repeated: bool,
) -> Result<Option<WakeResult>, ReconcileError> {
    let client = scene.link.client();
    let session = &scene.desired.identity.session_key;
    let history = client.chat_history(session).await.map_err(|e| trouble("to read its session", &e))?;
    let told = told(&history, key);
    let woken =
        WakeResult { attempt, key: key.to_owned(), at: scene.ctx.state.store.now(), answered: told == Told::Answered };
    let sent = match told {
        Told::Nothing => false,
        Told::Unanswered => !repeated,
        Told::Answered => true,
    };
    if sent {
        return Ok(Some(woken));
    }
    if scene.link.runs_now(&scene.desired.identity.agent_id, woken.at) {
        return Ok(None);
    }
    let deliver = scene.desired.wake.is_some_and(|w| w.deliver);
    let text = text(&scene.desired.label, attempt, key);
    client.chat_send(session, &text, deliver, key).await.map_err(|e| trouble("to wake the agent", &e))?;
    let again = if repeated { " again, since the gateway may have lost it" } else { "" };
    let most = scene.desired.wake.map_or(0, |w| w.max_attempts);
    let message = format!("sent wake message {attempt} of at most {most}{again}");
    let note = Event { warning: false, reason: "Woken".into(), action: "Wake", message };
    scene.ctx.state.store.publish(EventTarget::Agent(agent), &note).await;
    Ok(Some(woken))
}

fn text(name: &str, attempt: i32, key: &str) -> String {
    let again = if attempt > 1 { " You have not checked in since the last message." } else { "" };
    format!(
        "Hello {name}. Your workspace has been provisioned.{again} Read AGENTS.md (and TOOLS.md, if it is there), then check in once with the heartbeat command that stands there. (Reference: {key})"
    )
}

fn told(history: &[ChatMessage], key: &str) -> Told {
    let reference = format!("(Reference: {key})");
    let is_ours = |m: &ChatMessage| {
        m.text.contains(&reference)
            || m.idempotency_key.as_deref().is_some_and(|k| k == key || k == format!("{key}:user"))
    };
    match history.iter().rposition(is_ours) {
        None => Told::Nothing,
        Some(at) if history[at..].iter().any(|m| m.role == "assistant") => Told::Answered,
        Some(_) => Told::Unanswered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(role: &str, text: &str) -> ChatMessage {
        ChatMessage { role: role.into(), text: text.into(), ..ChatMessage::default() }
    }

    #[test]
    fn the_history_tells_whether_a_wake_arrived_and_was_answered() {
        let ours = said("user", &text("One", 1, "k-1"));
        assert_eq!(told(&[], "k-1"), Told::Nothing);
        assert_eq!(told(&[said("user", "hi"), said("assistant", "ho")], "k-1"), Told::Nothing);
        assert_eq!(told(&[said("assistant", "ho"), ours.clone()], "k-1"), Told::Unanswered);
        assert_eq!(told(&[ours, said("assistant", "Done.")], "k-1"), Told::Answered);
    }

    #[test]
    fn the_key_of_a_tenth_attempt_is_not_taken_for_that_of_the_first() {
        let tenth = said("user", &text("One", 10, "k-10"));
        assert_eq!(told(&[tenth], "k-1"), Told::Nothing);
        let keyed = ChatMessage { idempotency_key: Some("k-1:user".into()), ..said("user", "x") };
        assert_eq!(told(&[keyed], "k-1"), Told::Unanswered);
    }
}
