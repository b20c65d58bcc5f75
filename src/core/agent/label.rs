//! The label of an agent's session. The label is for users of a gateway, and no other Step waits for it.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::desired::{Desired, Origin};
use super::observed::Observed;
use crate::api::agent::SessionLabelStatus;
use crate::core::error::ReconcileError;

/// The limit of a label on every gateway, in UTF-16 code units: the limit of 2026.3.2. The limit is 512 from 2026.5.28 on
/// (`docs/gateway-facts.md#sessions-and-messages`).
const MAX_LABEL_UNITS: usize = 64;

/// The time between the refusal of every label and the retry.
const REFUSED_LABEL_RETRY_INTERVAL: Duration = Duration::from_mins(10);

/// The shortest time between two writes of an accepted label to one session.
const MIN_LABEL_INTERVAL: Duration = Duration::from_secs(10);

/// The largest number of characters of a gateway's text that the status keeps.
const MAX_STORED_CHARS: usize = 512;

/// The decision about the label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabelDecision {
    /// No action.
    Nothing,
    /// Send this label now.
    Send(String),
    /// Send a label at this time.
    RetryAt(Timestamp),
}

/// The result of a label that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelResult {
    /// The label that was sent.
    pub sent: String,
    /// The label that the gateway stored, or the error.
    pub outcome: Result<Option<String>, ReconcileError>,
}

impl LabelResult {
    /// Whether the gateway may accept the same label later without a change.
    #[must_use]
    pub fn may_work_later(&self) -> bool {
        self.outcome.as_ref().is_err_and(|error| error.transient)
    }
}

/// Decides about the label.
///
/// # Guarantees
/// A label that the gateway accepted and stores in another form is not sent again, unless the stored label changes. If the gateway
/// refuses the agent's name, because another session may have it as its label, Muster sends a label with a suffix until the name changes.
/// If the gateway refuses both, Muster retries every 10 minutes.
#[must_use]
pub fn decide(
    desired: &Desired,
    record: Option<&SessionLabelStatus>,
    observed: &Observed,
    now: Timestamp,
) -> LabelDecision {
    let name = &desired.label;
    let label = observed.session.as_ref().and_then(|session| session.label.as_deref());
    if desired.origin == Origin::Adopted || label == Some(name) {
        return LabelDecision::Nothing;
    }
    let Some(record) = record.filter(|record| record.name == *name) else {
        return LabelDecision::Send(name.clone());
    };
    let after = |pause: Duration, label: &str| match record.sent_at.0.saturating_add(pause) {
        Ok(at) if now < at => LabelDecision::RetryAt(at),
        Ok(_) | Err(_) => LabelDecision::Send(label.to_owned()),
    };
    let shown = observed.session.as_ref().and_then(|session| session.shown_label.as_deref());
    match &record.stored {
        Some(stored) if shown.is_some_and(|shown| truncated(shown) == *stored) || label == Some(&record.sent) => {
            LabelDecision::Nothing
        }
        Some(_) => after(MIN_LABEL_INTERVAL, &record.sent),
        None if record.sent == *name => LabelDecision::Send(suffixed_label(name, &desired.identity.agent_id)),
        None => after(REFUSED_LABEL_RETRY_INTERVAL, name),
    }
}

/// The label for a name that the gateway refuses: the name with the prefix of the agent's id, within the limit of every gateway.
fn suffixed_label(name: &str, agent_id: &str) -> String {
    let suffix = format!(" ({})", id_prefix(agent_id));
    let mut room = MAX_LABEL_UNITS.saturating_sub(suffix.encode_utf16().count());
    let fits = |c: &char| {
        let rest = room.checked_sub(c.len_utf16());
        room = rest.unwrap_or(0);
        rest.is_some()
    };
    let name: String = name.chars().take_while(fits).collect();
    format!("{}{suffix}", name.trim_end())
}

/// The prefix of an agent's id. A uid is cut to its first part, which distinguishes agents.
fn id_prefix(agent_id: &str) -> &str {
    /// The length of a uid after its first part: `-1111-4111-8111-111111111111`.
    const REST_OF_UID: usize = 28;
    const MAX_ID_CHARS: usize = 32;
    let (start, rest) = agent_id.split_at_checked(agent_id.len().saturating_sub(REST_OF_UID)).unwrap_or((agent_id, ""));
    let is_uid = rest.split('-').map(str::len).eq([0, 4, 4, 4, 12]);
    let whole = if is_uid { start } else { agent_id };
    whole.get(..MAX_ID_CHARS).unwrap_or(whole)
}

/// A gateway's text within the limit of the status.
fn truncated(text: &str) -> String {
    text.chars().take(MAX_STORED_CHARS).collect()
}

/// The status of the label.
#[must_use]
pub fn status(
    desired: &Desired,
    old: Option<&SessionLabelStatus>,
    labelled: Option<&LabelResult>,
    now: Timestamp,
) -> Option<SessionLabelStatus> {
    let old = old.cloned();
    let Some(LabelResult { sent, outcome }) = labelled else { return old };
    let name = desired.label.clone();
    let (stored, refusal) = match outcome {
        Ok(stored) => {
            let refusal = old.filter(|old| old.name == name && *sent != name).and_then(|old| old.refusal);
            (Some(truncated(stored.as_deref().unwrap_or_default())), refusal)
        }
        Err(error) if error.transient => return old,
        Err(error) => (None, Some(truncated(&error.message))),
    };
    Some(SessionLabelStatus { name, sent: sent.clone(), stored, refusal, sent_at: Time(now) })
}

#[cfg(test)]
#[path = "label_tests.rs"]
mod tests;
