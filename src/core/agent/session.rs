//! When an agent's session starts anew.
//!
//! A reset is begins_reset by recording the mark of the session that it is to end, so that a reset whose answer was lost is
//! recognised and not repeated.

use super::desired::Desired;
use super::observed::Observed;
use crate::api::agent::{AgentStatus, SessionStatus};
use crate::api::requests::RequestKind;

/// What is to be done about the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionChange {
    /// Nothing.
    Nothing,
    /// Record that a reset is begins_reset.
    Begin,
    /// End the session that had this mark.
    Reset {
        /// Its mark.
        version: String,
    },
}

/// Decides about the session of an agent that has one. A changed spec waits for the end of a run that goes on; a
/// requested reset is made at once.
#[must_use]
pub fn change(desired: &Desired, status: &AgentStatus, is_running: bool) -> SessionChange {
    match &status.session {
        Some(SessionStatus { resetting: Some(version), .. }) => SessionChange::Reset { version: version.clone() },
        Some(session) if wanted(desired, session, is_running) => SessionChange::Begin,
        None if desired.requests.due(RequestKind::ResetSession).is_some() => SessionChange::Begin,
        Some(_) | None => SessionChange::Nothing,
    }
}

fn wanted(desired: &Desired, session: &SessionStatus, is_running: bool) -> bool {
    let updated = !is_running && desired.reset_on_update && session.generation != desired.generation;
    updated || desired.requests.due(RequestKind::ResetSession).is_some()
}

/// What the status is to say of the session.
#[must_use]
pub fn status(
    desired: &Desired,
    old: &AgentStatus,
    observed: &Observed,
    begins_reset: bool,
    was_reset: bool,
) -> Option<SessionStatus> {
    let session = observed.session.as_ref()?;
    let before = old.session.clone().unwrap_or(SessionStatus { generation: desired.generation, resetting: None });
    if was_reset {
        return Some(SessionStatus { generation: desired.generation, resetting: None });
    }
    if begins_reset {
        return Some(SessionStatus { resetting: Some(session.mark.clone()), ..before });
    }
    let generation =
        if desired.reset_on_update || before.resetting.is_some() { before.generation } else { desired.generation };
    Some(SessionStatus { generation, ..before })
}
