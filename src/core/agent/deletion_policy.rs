//! The deletion policy that holds for an Agent. Pure.

use super::binding::Binding;
use crate::api::agent::{Agent, DeletionPolicy};
use crate::api::gateway::AgentGateway;

/// The policy of an Agent by its own spec and by its AgentGateway. The binding records it.
#[must_use]
pub fn declared(agent: &Agent, gateway: &AgentGateway) -> DeletionPolicy {
    agent.spec.deletion_policy.unwrap_or_else(|| gateway.spec.deletion_policy())
}

/// The policy for the removal of a bound agent.
///
/// # Guarantees
/// `spec.deletionPolicy` of the Agent holds as it is. Without it, of the policy that the binding recorded and the policy of the
/// AgentGateway the one holds that keeps more: an AgentGateway that was replaced or restored without its defaults removes no more than
/// the Agent showed before. `gateway` is the AgentGateway of the binding, if it exists. The agent of an Agent that only observes stays.
#[must_use]
pub fn of_removal(agent: &Agent, gateway: Option<&AgentGateway>, binding: &Binding) -> DeletionPolicy {
    if agent.is_observer() {
        return DeletionPolicy::Orphan;
    }
    let recorded = binding.deletion_policy;
    let inherited = recorded.into_iter().chain(gateway.map(|gateway| gateway.spec.deletion_policy())).max();
    agent.spec.deletion_policy.or(inherited).unwrap_or_default()
}

/// The field of an Agent that leaves its agent on the gateway, with its value.
#[must_use]
pub fn given_by(agent: &Agent) -> &'static str {
    if agent.is_observer() { "managementPolicy Observe" } else { "deletionPolicy Orphan" }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::core::agent::fixtures;

    use DeletionPolicy::{Delete, Orphan, RetainFiles};

    fn gateway(default: Option<DeletionPolicy>) -> AgentGateway {
        serde_json::from_value(json!({
            "apiVersion": "muster.dev/v1alpha1", "kind": "AgentGateway", "metadata": { "name": "gw" },
            "spec": { "url": "ws://gw:1", "auth": {}, "workspaceRoot": "/w", "apiUrl": "http://m",
                "agentDefaults": { "deletionPolicy": default } }
        }))
        .unwrap()
    }

    fn agent(policy: Option<DeletionPolicy>) -> Agent {
        let mut agent = Agent::default();
        agent.spec.deletion_policy = policy;
        agent
    }

    fn removal(
        own: Option<DeletionPolicy>,
        gateway: Option<&AgentGateway>,
        recorded: Option<DeletionPolicy>,
    ) -> DeletionPolicy {
        let binding = Binding { deletion_policy: recorded, ..fixtures::binding("/w") };
        of_removal(&agent(own), gateway, &binding)
    }

    #[test]
    fn the_policy_of_the_agent_replaces_the_default_of_the_gateway() {
        for (own, default, expected) in [
            (None, None, Delete),
            (None, Some(RetainFiles), RetainFiles),
            (Some(Delete), Some(Orphan), Delete),
            (Some(Orphan), None, Orphan),
        ] {
            assert_eq!(declared(&agent(own), &gateway(default)), expected, "{own:?} {default:?}");
            assert_eq!(removal(own, Some(&gateway(default)), None), expected, "{own:?} {default:?}");
        }
    }

    #[test]
    fn an_inherited_policy_that_changes_with_the_deletion_removes_no_more_than_before() {
        for (default, recorded, expected) in
            [(None, RetainFiles, RetainFiles), (Some(Delete), Orphan, Orphan), (Some(Orphan), Delete, Orphan)]
        {
            let now = removal(None, Some(&gateway(default)), Some(recorded));
            assert_eq!(now, expected, "{default:?} {recorded:?}");
        }
        assert_eq!(removal(None, None, Some(RetainFiles)), RetainFiles, "without the AgentGateway");
    }

    #[test]
    fn the_agent_of_an_observer_stays_whatever_its_deletion_policy_is() {
        let mut observer = agent(Some(Delete));
        observer.spec.management_policy = crate::api::agent::ManagementPolicy::Observe;
        assert_eq!(of_removal(&observer, Some(&gateway(None)), &fixtures::binding("/w")), Orphan);
        assert_eq!(given_by(&observer), "managementPolicy Observe");
    }

    #[test]
    fn a_policy_in_the_spec_holds_whatever_was_recorded() {
        assert_eq!(removal(Some(Delete), Some(&gateway(Some(Orphan))), Some(Orphan)), Delete);
    }
}
