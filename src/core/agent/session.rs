//! The reset of an agent's session.
//!
//! A reset begins with a record of the version of the session that it ends. So a reset with a lost answer is recognised and not
//! repeated.

use super::desired::Desired;
use super::observed::Observed;
use crate::api::agent::{AgentStatus, SessionStatus};
use crate::api::requests::RequestKind;

/// The change of the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionChange {
    /// No action.
    Nothing,
    /// Record the begin of a reset.
    Begin,
    /// End the session of this version.
    Reset {
        /// The version.
        version: String,
    },
}

/// Decides about the reset of an agent's session. The reset for a changed spec waits for the end of a run. A requested reset does not
/// wait.
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

/// The progress of a session reset in one pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetProgress {
    /// The pass changes nothing about a reset.
    Unchanged,
    /// The pass records the begin of a reset.
    Begins,
    /// The pass reset the session.
    Done,
}

/// The status of the session.
#[must_use]
pub fn status(
    desired: &Desired,
    old: &AgentStatus,
    observed: &Observed,
    reset: ResetProgress,
) -> Option<SessionStatus> {
    let session = observed.session.as_ref()?;
    let before = old.session.clone().unwrap_or(SessionStatus { generation: desired.generation, resetting: None });
    Some(match reset {
        ResetProgress::Done => SessionStatus { generation: desired.generation, resetting: None },
        ResetProgress::Begins => SessionStatus { resetting: Some(session.version.clone()), ..before },
        ResetProgress::Unchanged if desired.reset_on_update || before.resetting.is_some() => before,
        ResetProgress::Unchanged => SessionStatus { generation: desired.generation, ..before },
    })
}
