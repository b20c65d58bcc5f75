//! What the status of an Agent says about the agent of its id on the gateway.

use super::desired::{Desired, Origin};
use super::file_writes::records;
use crate::api::agent::AgentStatus;
use crate::api::{ConditionType, conditions};

/// Whether the gateway may have removed an agent of this id: an agent that this Agent registered, an earlier lead or main agent, or any
/// agent of a chosen or claimed id.
pub(crate) fn used_before(desired: &Desired, status: &AgentStatus) -> bool {
    let same = status.agent_id.as_deref() == Some(desired.identity.agent_id.as_str())
        && status.gateway.as_ref() == Some(&desired.gateway);
    let is_reusable = match desired.origin {
        Origin::Chosen | Origin::Claimed | Origin::TakenUp | Origin::Adopted | Origin::ParentReused => true,
        Origin::Derived | Origin::ParentDerived => false,
    };
    is_reusable || same && conditions::is_true(&status.conditions, ConditionType::Registered)
}

/// Whether an agent of this id may belong to another client: this Agent has not set it up, and others can have the id.
pub(crate) fn may_be_foreign_agent(desired: &Desired, status: &AgentStatus) -> bool {
    match desired.origin {
        Origin::Chosen | Origin::Claimed | Origin::ParentDerived | Origin::ParentReused => {
            records(desired, status).is_empty()
        }
        Origin::Derived | Origin::TakenUp | Origin::Adopted => false,
    }
}
