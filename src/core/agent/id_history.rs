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
    // Registered is False from the first look at which the agent is gone. The records of its files stay.
    let was_registered = conditions::is_true(&status.conditions, ConditionType::Registered);
    is_reusable || same && was_registered || !records(desired, status).is_empty()
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

#[cfg(test)]
mod tests {
    use crate::core::agent::fixtures::applied;
    use crate::core::agent::observed::Observed;
    use crate::core::agent::step::Step;

    #[test]
    fn an_agent_that_was_removed_at_the_gateway_is_created_and_never_written_as_an_entry() {
        let mut fixture = applied().working();
        for settled in [false, false, true] {
            fixture.observed = Observed { settled, ..Observed::default() };
            let plan = fixture.plan();
            let names: Vec<_> = plan.steps.iter().map(Step::name).collect();
            assert_eq!(names, if settled { vec!["create"] } else { vec![] });
            fixture.record(&plan, None);
        }
    }
}
