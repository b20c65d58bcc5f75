//! The events of an Agent. Pure.

use crate::api::agent::{AgentStatus, FileState};
use crate::api::condition::Condition;
use crate::api::conditions::{find, is_true};
use crate::api::{ConditionType, Reason};
use crate::core::event::Event;

/// The reasons of `HeartbeatConfigured` that have an event.
const HEARTBEAT_FLAWS: [Reason; 4] =
    [Reason::HeartbeatsOff, Reason::HeartbeatSkipped, Reason::HeartbeatFailed, Reason::FilesHidden];

/// The event of a change of the status, if there is one.
///
/// The reasons by precedence: a file that stays behind, which no later status reports; Ready became true; an invalid request; a
/// changed file; a refused label; a heartbeat that does not work; a changed `Stalled`.
#[must_use]
pub fn of_change(old: &AgentStatus, new: &AgentStatus) -> Option<Event> {
    if let Some(message) = stranded(old, new) {
        return Some(Event { warning: true, reason: "FileLeft".into(), action: "Reconcile", message });
    }
    let became_ready = find(&new.conditions, ConditionType::Ready)
        .filter(|ready| ready.status == "True" && !is_true(&old.conditions, ConditionType::Ready));
    if let Some(ready) = became_ready {
        let message = format!("agent {} is ready", new.agent_id.as_deref().unwrap_or_default());
        return Some(Event { warning: false, reason: ready.reason.to_string(), action: "Reconcile", message });
    }
    if new.invalid_requests != old.invalid_requests
        && let Some(message) = new.invalid_requests.first().cloned()
    {
        return Some(Event { warning: true, reason: "InvalidRequest".into(), action: "Reconcile", message });
    }
    let drifted = |s: &AgentStatus| {
        find(&s.conditions, ConditionType::FilesSynced).filter(|c| c.reason == Reason::Drifted.as_str()).cloned()
    };
    if let Some(now) = drifted(new)
        && drifted(old).is_none_or(|before| before.message != now.message)
    {
        return Some(warning(&now, "Reconcile"));
    }
    let unlabelled = |s: &AgentStatus| {
        find(&s.conditions, ConditionType::SessionReady).filter(|c| c.reason == Reason::LabelRefused.as_str()).cloned()
    };
    if let Some(now) = unlabelled(new)
        && unlabelled(old).is_none()
    {
        return Some(warning(&now, "LabelSession"));
    }
    let flawed = |s: &AgentStatus| {
        let is_flaw = |reason: &str| HEARTBEAT_FLAWS.iter().any(|flaw| flaw.as_str() == reason);
        find(&s.conditions, ConditionType::HeartbeatConfigured).filter(|c| is_flaw(&c.reason)).cloned()
    };
    if let Some(now) = flawed(new)
        && flawed(old).is_none_or(|before| before.reason != now.reason)
    {
        return Some(warning(&now, "Reconcile"));
    }
    let stalled = |s: &AgentStatus| {
        find(&s.conditions, ConditionType::Stalled).map(|c| (c.reason.to_string(), c.message.to_string()))
    };
    let stuck = stalled(new).filter(|now| stalled(old).as_ref() != Some(now));
    stuck.map(|(reason, message)| Event { warning: true, reason, action: "Reconcile", message })
}

/// The warning that a condition is.
fn warning(condition: &Condition, action: &'static str) -> Event {
    Event { warning: true, reason: condition.reason.to_string(), action, message: condition.message.to_string() }
}

/// The message about files that were written under their own name and are sections of another file now. The gateway refuses writes of
/// these names, so that the files keep their last content.
fn stranded(old: &AgentStatus, new: &AgentStatus) -> Option<String> {
    let written = |name: &str| {
        let before = old.files.iter().find(|f| f.name == name).map(|f| f.state);
        matches!(before, Some(FileState::Synced | FileState::Drifted | FileState::Ignored | FileState::Held))
    };
    let folded = new.files.iter().filter(|f| f.state == FileState::Folded && written(&f.name));
    let names: Vec<_> = folded.map(|f| f.name.as_str()).collect();
    (!names.is_empty()).then(|| {
        format!(
            "this gateway no longer accepts {}: the content is in AGENTS.md now, and the old file stays in the workspace; remove it there",
            names.join(", ")
        )
    })
}
