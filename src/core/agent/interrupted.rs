//! Removals that a kill of the gateway may have interrupted. Pure.

use std::time::Duration;

use super::binding::Binding;
use super::deletion_policy::of_removal;
use crate::api::agent::{Agent, DeletionPolicy};
use crate::api::conditions::find;
use crate::api::{AgentGateway, ConditionType};
use crate::core::names::list;

/// The longest time for a boot of a gateway: 8 to 20 s on 2026.9.6 (`docs/gateway-facts.md#restarts`), with a reserve for a machine
/// under load. A gateway that is away for longer may have been killed during a removal.
pub const MAX_BOOT_TIME: Duration = Duration::from_mins(2);

/// The largest number of agents that one message names.
const MAX_NAMED_AGENTS: usize = 5;

/// The ids of agents whose deletion was requested before the gateway was last lost, by the transition time of its condition
/// Reachable. A kill may have interrupted the removal of one of these agents.
#[must_use]
pub fn interrupted_removals<'a>(gateway: &AgentGateway, bound: impl IntoIterator<Item = &'a Agent>) -> Vec<String> {
    let status = gateway.status.as_ref();
    let reachable = status.and_then(|status| find(&status.conditions, ConditionType::Reachable));
    let Some(lost) = reachable.filter(|c| c.status == "False").map(|c| c.last_transition_time.0) else {
        return Vec::new();
    };
    let asked = |agent: &&Agent| agent.metadata.deletion_timestamp.as_ref().is_some_and(|at| at.0 <= lost);
    let removed = |agent: &Agent| {
        let binding = Binding::of(agent)?;
        let is_kept = of_removal(agent, Some(gateway), &binding) == DeletionPolicy::Orphan;
        (!is_kept).then_some(binding.identity.agent_id)
    };
    bound.into_iter().filter(asked).filter_map(removed).collect()
}

/// The recovery steps for a gateway that does not boot after a kill during the removal of one of these agents. `None` without agents.
///
/// OpenClaw 2026.9.6 exits with status 78 at each boot after 4 of 8 kills, each 300 to 500 ms into the removal of an agent with a
/// session (`docs/gateway-facts.md#kills-during-a-deletion`). A wait and `openclaw doctor --fix` do not help.
#[must_use]
pub fn advice(ids: &[String]) -> Option<String> {
    let named = match ids {
        [] => return None,
        [id] => id.clone(),
        ids => format!("one of {}", list(ids, MAX_NAMED_AGENTS)),
    };
    Some(format!(
        "the gateway was lost during the removal of {named}: if it exits at each boot with status 78 and its log reports an agent database as \"unavailable while agent ...\", stop it, remove the entry of the agent in the log from agents.entries in openclaw.json, move the folder agents/<that id> out of its state directory, and start it; Muster then continues the removal"
    ))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::core::agent::fixtures;

    fn binding() -> Binding {
        fixtures::binding("/w")
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn gateway(lost: Option<i64>) -> AgentGateway {
        let condition = |second| {
            serde_json::json!([{ "type": "Reachable", "status": "False", "reason": "Unreachable", "message": "",
                "lastTransitionTime": at(second) }])
        };
        let conditions = lost.map_or(serde_json::json!([]), condition);
        serde_json::from_value(serde_json::json!({
            "apiVersion": "muster.dev/v1alpha1", "kind": "AgentGateway", "metadata": { "name": "gw" },
            "spec": { "url": "ws://gw:1", "auth": {}, "workspaceRoot": "/w", "apiUrl": "http://m" },
            "status": { "conditions": conditions }
        }))
        .unwrap()
    }

    fn deleted(second: i64, policy: DeletionPolicy) -> Agent {
        let mut agent = Agent::default();
        agent.metadata.uid = Some("u".into());
        agent.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(second)));
        agent.spec.deletion_policy = Some(policy);
        agent.status.get_or_insert_default().binding = Some(binding().to_status());
        agent
    }

    #[test]
    fn only_a_removal_requested_before_the_loss_counts_as_interrupted() {
        let delete = |second| deleted(second, DeletionPolicy::Delete);
        assert_eq!(interrupted_removals(&gateway(Some(100)), [&delete(99)]), ["mc-u"]);
        assert!(interrupted_removals(&gateway(Some(100)), [&delete(101)]).is_empty());
        assert!(interrupted_removals(&gateway(None), [&delete(99)]).is_empty(), "the gateway is reachable");
        assert!(interrupted_removals(&gateway(Some(100)), [&deleted(99, DeletionPolicy::Orphan)]).is_empty());
        assert!(interrupted_removals(&gateway(Some(100)), [&Agent::default()]).is_empty());
    }

    #[test]
    fn the_advice_names_at_most_five_agents() {
        let ids: Vec<_> = (1..=7).map(|n| format!("mc-{n}")).collect();
        assert_eq!(advice(&[]), None);
        assert!(advice(&ids[..1]).unwrap().contains("removal of mc-1:"));
        assert!(advice(&ids).unwrap().contains("one of mc-1, mc-2, mc-3, mc-4, mc-5 and 2 more:"));
    }
}
