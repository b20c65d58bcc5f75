//! How an agent is removed, when its resource is deleted or stands for another agent now.

use std::time::Duration;

use jiff::Timestamp;

use super::binding::Binding;
use crate::api::agent::{Agent, DeletionPolicy};
use crate::api::conditions::find;
use crate::api::{AgentGateway, ConditionType, Reason};
use crate::core::error::ReconcileError;
use crate::openclaw::model::{AgentRow, Inventory, same_path};

/// How long a gateway may be away that comes back by itself: a boot was measured to take 20 s at most. One that stays
/// away for longer may have been killed in the middle of a removal.
pub const MAX_BOOT_TIME: Duration = Duration::from_mins(2);

/// Most agents that are named in one message.
const MAX_NAMED_AGENTS: usize = 5;

/// What there is of the AgentGateway that a binding names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// The resource does not exist.
    Absent,
    /// The resource is being deleted; cleanup may wait this long from then.
    Terminating {
        /// When its deletion was asked for.
        since: Timestamp,
        /// How long cleanup may wait.
        timeout: Duration,
    },
    /// The resource is there.
    Present,
}

/// What to do on the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CleanupDecision {
    /// There is nothing of it on any gateway.
    Nothing,
    /// Remove the agent.
    Remove {
        /// Whether its workspace goes with it.
        delete_files: bool,
    },
    /// Leave the agent where it is and say so.
    Leave {
        /// What is left, where, and why.
        message: String,
        /// Whether somebody asked for that.
        asked: bool,
    },
    /// The gateway cannot be asked now.
    Wait(ReconcileError),
}

/// Decides what to do on the gateway about a binding that is to go.
///
/// # Guarantees
/// Needs no valid spec and no Board. An unreachable gateway delays the removal; it is given up only when the policy
/// says so, or when the AgentGateway itself is gone or has been terminating for its `cleanupTimeout`. The workspace of an
/// adopted agent, which was not made for it, stays.
#[must_use]
pub fn decide(
    binding: Option<&Binding>,
    policy: DeletionPolicy,
    gateway: Presence,
    reachable: Result<(), &ReconcileError>,
    now: Timestamp,
) -> CleanupDecision {
    let Some(binding) = binding else { return CleanupDecision::Nothing };
    let id = &binding.identity.agent_id;
    let at = &binding.gateway;
    if policy == DeletionPolicy::Orphan {
        let message = format!("agent {id} stays on gateway {at}, as deletionPolicy Orphan asks");
        return CleanupDecision::Leave { message, asked: true };
    }
    if gateway == Presence::Absent {
        let message = format!(
            "agent {id} may still be on gateway {at}: that AgentGateway no longer exists, so that it could not be asked"
        );
        return CleanupDecision::Leave { message, asked: false };
    }
    let Err(error) = reachable else {
        return CleanupDecision::Remove { delete_files: policy == DeletionPolicy::Delete && !binding.adopted };
    };
    if let Presence::Terminating { since, timeout } = gateway
        && since.saturating_add(timeout).is_ok_and(|end| now >= end)
    {
        let message = format!(
            "agent {id} may still be on gateway {at}: the AgentGateway is being deleted and could not be reached for {} s ({error})",
            timeout.as_secs()
        );
        return CleanupDecision::Leave { message, asked: false };
    }
    let text = format!(
        "the agent {id} is to be removed from gateway {at}, which cannot be asked now ({error}); to let go of it, set spec.deletionPolicy to Orphan"
    );
    CleanupDecision::Wait(ReconcileError { message: text, reason: Reason::DeletionBlocked, ..error.clone() })
}

/// Whether the agent that the gateway has under a chosen id was made by somebody else, after the binding was recorded and
/// before this Agent's own could be made: it works elsewhere, and nothing was ever written for this Agent.
#[must_use]
pub fn is_foreign_agent(inventory: &Inventory, agent: &Agent, binding: &Binding) -> bool {
    let row = inventory.agents.get(&binding.identity.agent_id);
    let elsewhere =
        row.and_then(|row| row.workspace.as_deref()).is_some_and(|is| !same_path(&binding.identity.workspace, is));
    let chosen = agent.spec.agent_id.as_ref() == Some(&binding.identity.agent_id);
    let never_set_up = agent.status.as_ref().is_none_or(|status| status.files.is_empty());
    chosen && !binding.adopted && elsewhere && never_set_up
}

/// Whether the workspace that the gateway would remove is another one than ours, or another agent works in it. An agent that is gone
/// already has no workspace to remove.
#[must_use]
pub fn is_workspace_shared(inventory: &Inventory, binding: &Binding) -> bool {
    let ours = |row: &AgentRow| row.workspace.as_deref().is_some_and(|is| same_path(&binding.identity.workspace, is));
    inventory.agents.values().any(|row| (row.id == binding.identity.agent_id) != ours(row))
}

/// Whether a cleanup only waits for others on the gateway to end. A released permit triggers it.
#[must_use]
pub fn waits_for_permit(error: &ReconcileError) -> bool {
    error.reason == Reason::Deleting
}

/// The ids of those of a gateway's agents whose removal was asked for before the gateway was last lost, as its
/// condition Reachable tells: it may have been killed in the middle of one of them.
#[must_use]
pub fn interrupted_removals<'a>(gateway: &AgentGateway, bound: impl IntoIterator<Item = &'a Agent>) -> Vec<String> {
    let status = gateway.status.as_ref();
    let reachable = status.and_then(|status| find(&status.conditions, ConditionType::Reachable));
    let Some(lost) = reachable.filter(|c| c.status == "False").map(|c| c.last_transition_time.0) else {
        return Vec::new();
    };
    let asked = |agent: &&Agent| {
        agent.spec.deletion_policy != DeletionPolicy::Orphan
            && agent.metadata.deletion_timestamp.as_ref().is_some_and(|at| at.0 <= lost)
    };
    let ids = bound.into_iter().filter(asked).filter_map(Binding::of).map(|binding| binding.identity.agent_id);
    ids.collect()
}

/// What helps a gateway that does not boot since it was killed in the middle of the removal of one of these agents; `None`
/// when there are none.
///
/// OpenClaw 2026.9.6 then exits with status 78 at each boot; waiting and `openclaw doctor --fix` do not help, and this
/// does (measured: 4 of 8 kills 300 to 500 ms into the removal of an agent with a session).
#[must_use]
pub fn advice(ids: &[String]) -> Option<String> {
    let named = match ids {
        [] => return None,
        [id] => id.clone(),
        ids => {
            let more = ids.len().saturating_sub(MAX_NAMED_AGENTS);
            let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("one of {}{rest}", ids[..ids.len() - more].join(", "))
        }
    };
    Some(format!(
        "it was lost while the removal of {named} was under way: if it exits at each boot with status 78 and its log says that an agent database is \"unavailable while agent ...\", stop it, remove the entry of the agent that the log names from agents.entries in openclaw.json, move the folder agents/<that id> out of its state directory, and start it; Muster then goes on with the removal"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::agent::Role;
    use crate::api::object_key::ObjectKey;
    use crate::core::agent::binding::AgentIdentity;

    fn binding() -> Binding {
        Binding {
            uid: "u".into(),
            gateway: ObjectKey { namespace: "ns".into(), name: "gw".into() },
            identity: AgentIdentity::derive(Role::Worker, None, "u", "/w"),
            adopted: false,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn unreachable() -> ReconcileError {
        ReconcileError::transient(Reason::GatewayNotReady, "connection refused")
    }

    #[test]
    fn an_agent_that_was_never_bound_needs_no_gateway() {
        let decision = decide(None, DeletionPolicy::Delete, Presence::Absent, Err(&unreachable()), at(0));
        assert_eq!(decision, CleanupDecision::Nothing);
    }

    #[test]
    fn the_policy_decides_about_the_workspace() {
        for (policy, delete_files) in [(DeletionPolicy::Delete, true), (DeletionPolicy::RetainFiles, false)] {
            let decision = decide(Some(&binding()), policy, Presence::Present, Ok(()), at(0));
            assert_eq!(decision, CleanupDecision::Remove { delete_files });
        }
    }

    #[test]
    fn an_adopted_agent_is_removed_and_its_workspace_stays() {
        let adopted = Binding { adopted: true, ..binding() };
        let decision = decide(Some(&adopted), DeletionPolicy::Delete, Presence::Present, Ok(()), at(0));
        assert_eq!(decision, CleanupDecision::Remove { delete_files: false });
    }

    #[test]
    fn orphan_asks_no_gateway_even_one_that_is_there() {
        let decision = decide(Some(&binding()), DeletionPolicy::Orphan, Presence::Present, Ok(()), at(0));
        assert!(matches!(decision, CleanupDecision::Leave { asked: true, .. }), "{decision:?}");
    }

    #[test]
    fn an_unreachable_gateway_delays_and_the_message_says_how_to_let_go() {
        let CleanupDecision::Wait(error) =
            decide(Some(&binding()), DeletionPolicy::Delete, Presence::Present, Err(&unreachable()), at(9_999_999))
        else {
            panic!("it must wait")
        };
        assert_eq!(error.reason, Reason::DeletionBlocked);
        assert!(error.message.contains("connection refused") && error.message.contains("Orphan"), "{error}");
    }

    #[test]
    fn a_gateway_that_is_going_bounds_the_wait() {
        let terminating = Presence::Terminating { since: at(100), timeout: Duration::from_mins(2) };
        let before = decide(Some(&binding()), DeletionPolicy::Delete, terminating, Err(&unreachable()), at(219));
        assert!(matches!(before, CleanupDecision::Wait(_)));
        let after = decide(Some(&binding()), DeletionPolicy::Delete, terminating, Err(&unreachable()), at(220));
        assert!(matches!(after, CleanupDecision::Leave { asked: false, .. }));
        let reachable = decide(Some(&binding()), DeletionPolicy::Delete, terminating, Ok(()), at(999));
        assert_eq!(reachable, CleanupDecision::Remove { delete_files: true });
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
        agent.spec.deletion_policy = policy;
        agent.status.get_or_insert_default().binding = Some(binding().to_status());
        agent
    }

    #[test]
    fn only_a_removal_that_was_asked_for_before_the_loss_can_have_been_cut_off() {
        let delete = |second| deleted(second, DeletionPolicy::Delete);
        assert_eq!(interrupted_removals(&gateway(Some(100)), [&delete(99)]), ["mc-u"]);
        assert!(interrupted_removals(&gateway(Some(100)), [&delete(101)]).is_empty());
        assert!(interrupted_removals(&gateway(None), [&delete(99)]).is_empty(), "the gateway is there");
        assert!(interrupted_removals(&gateway(Some(100)), [&deleted(99, DeletionPolicy::Orphan)]).is_empty());
        assert!(interrupted_removals(&gateway(Some(100)), [&Agent::default()]).is_empty());
    }

    #[test]
    fn the_advice_names_the_agents_and_not_too_many_of_them() {
        let ids: Vec<_> = (1..=7).map(|n| format!("mc-{n}")).collect();
        assert_eq!(advice(&[]), None);
        assert!(advice(&ids[..1]).unwrap().contains("removal of mc-1 was"));
        assert!(advice(&ids).unwrap().contains("one of mc-1, mc-2, mc-3, mc-4, mc-5 and 2 more was"));
    }
}
