//! The removal of an agent whose resource is deleted, or is bound to another agent now.

use std::time::Duration;

use jiff::Timestamp;

use super::binding::Binding;
use super::deletion_policy::of_removal;
use crate::api::agent::{Agent, DeletionPolicy};
use crate::api::conditions::find;
use crate::api::{AgentGateway, ConditionType, Reason};
use crate::core::error::ReconcileError;
use crate::core::names::list;
use crate::openclaw::model::{AgentRow, Inventory, same_path};

/// The longest time for a boot of a gateway: 8 to 20 s on 2026.9.6 (`docs/gateway-facts.md#restarts`), with a reserve for a machine
/// under load. A gateway that is away for longer may have been killed during a removal.
pub const MAX_BOOT_TIME: Duration = Duration::from_mins(2);

/// The largest number of agents that one message names.
const MAX_NAMED_AGENTS: usize = 5;

/// The state of the AgentGateway resource that a binding names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// The resource does not exist.
    Absent,
    /// The operator does not know the namespace of the resource.
    Unknown,
    /// The resource is being deleted.
    Terminating {
        /// The time of its deletion request.
        since: Timestamp,
        /// The longest time for the cleanup.
        timeout: Duration,
    },
    /// The resource exists.
    Present,
}

/// The decision about the agent on the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CleanupDecision {
    /// The agent is on no gateway.
    Nothing,
    /// Remove the agent.
    Remove {
        /// Whether its workspace is removed too.
        delete_files: bool,
    },
    /// Leave the agent on the gateway and report it.
    Leave {
        /// The remaining agent, its gateway and the reason.
        message: String,
        /// Whether the spec asks to leave the agent.
        asked: bool,
    },
    /// Wait for the gateway, which is unreachable.
    Wait {
        /// What the removal waits for.
        error: ReconcileError,
        /// The end of the wait, if there is one.
        until: Option<Timestamp>,
    },
}

/// The namespace of an Agent, while the Agent goes with the namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminatingNamespace<'a> {
    /// Its name.
    pub name: &'a str,
    /// The time from which both are being deleted.
    pub since: Timestamp,
    /// The longest time for the cleanup, of the AgentGateway.
    pub timeout: Duration,
}

/// The input of the decision about a cleanup.
#[derive(Clone, Copy, Debug)]
pub struct CleanupInput<'a> {
    /// The deletion policy that holds for the Agent.
    pub policy: DeletionPolicy,
    /// The state of the AgentGateway resource.
    pub gateway: Presence,
    /// The address to which the AgentGateway connects now, if the agent was bound at another address.
    pub moved_to: Option<&'a str>,
    /// Whether the gateway is reachable, or the error.
    pub reachable: Result<(), &'a ReconcileError>,
    /// The namespace of the Agent, if it is known to be deleted together with the Agent.
    pub namespace: Option<TerminatingNamespace<'a>>,
    /// The time.
    pub now: Timestamp,
}

/// Decides about the agent of a binding that is to be removed.
///
/// # Guarantees
/// The decision needs no valid spec and no Board. An unreachable gateway delays the removal. Muster leaves the agent on the gateway
/// only when the policy is `Orphan`, when the AgentGateway is absent or connects to another address than the address of the binding,
/// or when the deletion of the AgentGateway, or of the Agent's namespace, has lasted for its `cleanupTimeout`. The workspace of an adopted
/// agent stays.
#[must_use]
pub fn decide(binding: Option<&Binding>, input: &CleanupInput<'_>) -> CleanupDecision {
    let CleanupInput { policy, gateway, moved_to, reachable, namespace, now } = *input;
    let Some(binding) = binding else { return CleanupDecision::Nothing };
    let id = &binding.identity.agent_id;
    let at = &binding.gateway;
    if policy == DeletionPolicy::Orphan {
        let message = format!("agent {id} stays on gateway {at}, as deletionPolicy Orphan asks");
        return CleanupDecision::Leave { message, asked: true };
    }
    if gateway == Presence::Absent {
        let message = format!(
            "agent {id} may still be on gateway {at}: that AgentGateway no longer exists, so that Muster could not remove the agent"
        );
        return CleanupDecision::Leave { message, asked: false };
    }
    if let Some(address) = moved_to {
        let message = format!(
            "agent {id} may still be on the gateway at {}, where it was bound: AgentGateway {at} connects to {address} now",
            binding.address
        );
        return CleanupDecision::Leave { message, asked: false };
    }
    let Err(error) = reachable else {
        return CleanupDecision::Remove { delete_files: policy == DeletionPolicy::Delete && !binding.adopted };
    };
    let of_gateway = match gateway {
        Presence::Terminating { since, timeout } => Some((since, timeout, "the AgentGateway".to_owned())),
        Presence::Absent | Presence::Unknown | Presence::Present => None,
    };
    let of_namespace = namespace.map(|n| (n.since, n.timeout, format!("namespace {:?}", n.name)));
    let limit = |(since, timeout, what): (Timestamp, Duration, String)| {
        (since.saturating_add(timeout).unwrap_or(Timestamp::MAX), timeout, what)
    };
    let first = of_gateway.into_iter().chain(of_namespace).map(limit).min_by_key(|(end, _, _)| *end);
    if let Some((_, timeout, what)) = first.as_ref().filter(|(end, _, _)| now >= *end) {
        let message = format!(
            "agent {id} may still be on gateway {at}: {what} is being deleted and the gateway could not be reached for {} s ({error})",
            timeout.as_secs()
        );
        return CleanupDecision::Leave { message, asked: false };
    }
    let text = format!(
        "agent {id} cannot be removed from gateway {at} now ({error}); to leave the agent there, set spec.deletionPolicy to Orphan"
    );
    let error = ReconcileError { message: text, reason: Reason::DeletionBlocked, ..error.clone() };
    CleanupDecision::Wait { error, until: first.map(|(end, _, _)| end) }
}

/// Whether another client created the gateway's agent of a chosen id, after the binding was recorded and before Muster created its
/// agent. The foreign agent has another workspace, and no file was ever written for this Agent.
#[must_use]
pub fn is_foreign_agent(inventory: &Inventory, agent: &Agent, binding: &Binding) -> bool {
    let row = inventory.agents.get(&binding.identity.agent_id);
    let elsewhere =
        row.and_then(|row| row.workspace.as_deref()).is_some_and(|is| !same_path(&binding.identity.workspace, is));
    let chosen = agent.spec.agent_id.as_ref() == Some(&binding.identity.agent_id);
    let never_set_up = agent.status.as_ref().is_none_or(|status| status.files.is_empty());
    chosen && !binding.adopted && elsewhere && never_set_up
}

/// Whether the gateway would remove another workspace than the one of the binding, or another agent uses the workspace. An absent
/// agent has no workspace to remove.
#[must_use]
pub fn is_workspace_shared(inventory: &Inventory, binding: &Binding) -> bool {
    let ours = |row: &AgentRow| row.workspace.as_deref().is_some_and(|is| same_path(&binding.identity.workspace, is));
    inventory.agents.values().any(|row| (row.id == binding.identity.agent_id) != ours(row))
}

/// Whether a cleanup waits only for the permit of its gateway. A released permit triggers the next reconcile.
#[must_use]
pub fn waits_for_permit(error: &ReconcileError) -> bool {
    error.reason == Reason::Deleting
}

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
    use super::*;
    use crate::core::agent::fixtures;

    fn binding() -> Binding {
        fixtures::binding("/w")
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn input(
        policy: DeletionPolicy,
        gateway: Presence,
        reachable: Result<(), &ReconcileError>,
        second: i64,
    ) -> CleanupInput<'_> {
        CleanupInput { policy, gateway, moved_to: None, reachable, namespace: None, now: at(second) }
    }

    fn unreachable() -> ReconcileError {
        ReconcileError::transient(Reason::GatewayNotReady, "connection refused")
    }

    #[test]
    fn an_unbound_agent_needs_no_gateway() {
        let decision = decide(None, &input(DeletionPolicy::Delete, Presence::Absent, Err(&unreachable()), 0));
        assert_eq!(decision, CleanupDecision::Nothing);
    }

    #[test]
    fn the_policy_decides_about_the_workspace() {
        for (policy, delete_files) in [(DeletionPolicy::Delete, true), (DeletionPolicy::RetainFiles, false)] {
            let decision = decide(Some(&binding()), &input(policy, Presence::Present, Ok(()), 0));
            assert_eq!(decision, CleanupDecision::Remove { delete_files });
        }
    }

    #[test]
    fn an_adopted_agent_is_removed_and_its_workspace_stays() {
        let adopted = Binding { adopted: true, ..binding() };
        let decision = decide(Some(&adopted), &input(DeletionPolicy::Delete, Presence::Present, Ok(()), 0));
        assert_eq!(decision, CleanupDecision::Remove { delete_files: false });
    }

    #[test]
    fn orphan_leaves_the_agent_even_on_a_reachable_gateway() {
        let decision = decide(Some(&binding()), &input(DeletionPolicy::Orphan, Presence::Present, Ok(()), 0));
        assert!(matches!(decision, CleanupDecision::Leave { asked: true, .. }), "{decision:?}");
    }

    #[test]
    fn nothing_is_removed_at_another_address_than_that_of_the_binding() {
        let input = input(DeletionPolicy::Delete, Presence::Present, Ok(()), 0);
        let moved = CleanupInput { moved_to: Some("ws://other:80"), ..input };
        let CleanupDecision::Leave { message, asked: false } = decide(Some(&binding()), &moved) else {
            panic!("the agent must stay")
        };
        assert!(message.contains("ws://gw:80") && message.contains("ws://other:80"), "{message}");
    }

    #[test]
    fn an_unreachable_gateway_delays_the_removal_and_the_message_names_orphan() {
        let CleanupDecision::Wait { error, until: None } =
            decide(Some(&binding()), &input(DeletionPolicy::Delete, Presence::Present, Err(&unreachable()), 9_999_999))
        else {
            panic!("the removal must wait")
        };
        assert_eq!(error.reason, Reason::DeletionBlocked);
        assert!(error.message.contains("connection refused") && error.message.contains("Orphan"), "{error}");
    }

    #[test]
    fn a_gateway_that_is_going_bounds_the_wait() {
        let terminating = Presence::Terminating { since: at(100), timeout: Duration::from_mins(2) };
        let before = decide(Some(&binding()), &input(DeletionPolicy::Delete, terminating, Err(&unreachable()), 219));
        assert!(matches!(before, CleanupDecision::Wait { until: Some(end), .. } if end == at(220)), "{before:?}");
        let after = decide(Some(&binding()), &input(DeletionPolicy::Delete, terminating, Err(&unreachable()), 220));
        assert!(matches!(after, CleanupDecision::Leave { asked: false, .. }));
        let reachable = decide(Some(&binding()), &input(DeletionPolicy::Delete, terminating, Ok(()), 999));
        assert_eq!(reachable, CleanupDecision::Remove { delete_files: true });
    }

    #[test]
    fn a_namespace_that_is_going_bounds_the_wait_by_the_timeout_of_the_gateway() {
        let error = unreachable();
        let namespace = Some(TerminatingNamespace { name: "team", since: at(100), timeout: Duration::from_mins(2) });
        let decide_at = |gateway, reachable, second| {
            let input = input(DeletionPolicy::Delete, gateway, reachable, second);
            decide(Some(&binding()), &CleanupInput { namespace, ..input })
        };
        let before = decide_at(Presence::Present, Err(&error), 219);
        assert!(matches!(before, CleanupDecision::Wait { until: Some(end), .. } if end == at(220)), "{before:?}");
        let CleanupDecision::Leave { message, asked: false } = decide_at(Presence::Present, Err(&error), 220) else {
            panic!("the Agent must be let go")
        };
        assert!(message.contains("namespace \"team\"") && message.contains("120 s"), "{message}");
        let reachable = decide_at(Presence::Present, Ok(()), 999);
        assert_eq!(reachable, CleanupDecision::Remove { delete_files: true });
        let earlier = Presence::Terminating { since: at(10), timeout: Duration::from_mins(1) };
        assert!(matches!(decide_at(earlier, Err(&error), 70), CleanupDecision::Leave { .. }), "the earlier end counts");
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
