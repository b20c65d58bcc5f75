//! When an agent's session starts anew.
//!
//! A reset is begun by recording the mark of the session that it is to end, so that a reset whose answer was lost is
//! recognised and not repeated.

use super::desired::Desired;
use super::observed::Observed;
use crate::api::agent::{AgentStatus, SessionStatus};
use crate::api::requests::RequestKind;

/// What is to be done about the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionChange {
    /// Nothing.
    Rest,
    /// Record that a reset is begun.
    Begin,
    /// End the session that had this mark.
    Reset {
        /// Its mark.
        mark: String,
    },
}

/// Decides about the session of an agent that has one. A changed spec waits for the end of a run that goes on; a
/// requested reset is made at once.
#[must_use]
pub fn change(desired: &Desired, status: &AgentStatus, runs: bool) -> SessionChange {
    match &status.session {
        Some(SessionStatus { resetting: Some(mark), .. }) => SessionChange::Reset { mark: mark.clone() },
        Some(session) if wanted(desired, session, runs) => SessionChange::Begin,
        None if desired.requests.due(RequestKind::ResetSession).is_some() => SessionChange::Begin,
        Some(_) | None => SessionChange::Rest,
    }
}

fn wanted(desired: &Desired, session: &SessionStatus, runs: bool) -> bool {
    let updated = !runs && desired.reset_on_update && session.generation != desired.generation;
    updated || desired.requests.due(RequestKind::ResetSession).is_some()
}

/// What the status is to say of the session.
#[must_use]
pub fn status(
    desired: &Desired,
    old: &AgentStatus,
    observed: &Observed,
    begun: bool,
    reset: bool,
) -> Option<SessionStatus> {
    let session = observed.session.as_ref()?;
    let before = old.session.clone().unwrap_or(SessionStatus { generation: desired.generation, resetting: None });
    if reset {
        return Some(SessionStatus { generation: desired.generation, resetting: None });
    }
    if begun {
        return Some(SessionStatus { resetting: Some(session.mark.clone()), ..before });
    }
    let generation =
        if desired.reset_on_update || before.resetting.is_some() { before.generation } else { desired.generation };
    Some(SessionStatus { generation, ..before })
}
