//! The removal of an agent whose resource is deleted, or is bound to another agent now.

use std::time::Duration;

use jiff::Timestamp;

use super::binding::Binding;
use super::folder::Folder;
use super::leftovers::TOKEN;
use super::removal;
use crate::api::Reason;
use crate::api::agent::{Agent, DeletionPolicy};
use crate::core::error::ReconcileError;
use crate::openclaw::model::{Inventory, clean, same_path};

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
    /// Wait until the agent can be removed.
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
    /// The field that gives the policy, with its value.
    pub given_by: &'a str,
    /// The state of the AgentGateway resource.
    pub gateway: Presence,
    /// The address to which the AgentGateway connects now, if the agent was bound at another address.
    pub moved_to: Option<&'a str>,
    /// Why the agent cannot be removed now: the gateway is unreachable, or a removal failed, or it left something
    /// ([`leftovers::error`](super::leftovers::error)).
    pub obstacle: Option<&'a ReconcileError>,
    /// The namespace of the Agent, if it is known to be deleted together with the Agent.
    pub namespace: Option<TerminatingNamespace<'a>>,
    /// The time.
    pub now: Timestamp,
}

/// Decides about the agent of a binding that is to be removed.
///
/// # Guarantees
/// The decision needs no valid spec and no Board. An obstacle delays the removal. Muster leaves the agent, or the rest of it, on the
/// gateway only when the policy is `Orphan`, when the AgentGateway is absent or connects to another address than the address of the
/// binding, or when the deletion of the AgentGateway, or of the Agent's namespace, has lasted for its `cleanupTimeout`. The workspace of an
/// adopted agent stays.
#[must_use]
pub fn decide(binding: Option<&Binding>, input: &CleanupInput<'_>) -> CleanupDecision {
    let CleanupInput { policy, given_by, gateway, moved_to, obstacle, .. } = *input;
    let Some(binding) = binding else { return CleanupDecision::Nothing };
    let id = &binding.identity.agent_id;
    let at = &binding.gateway;
    if policy == DeletionPolicy::Orphan {
        let workspace = &binding.identity.workspace;
        let folder = if workspace.is_empty() { String::new() } else { format!(", with its folder {workspace}") };
        let message = format!("agent {id}, or the rest of it, stays on gateway {at}{folder}, as {given_by} asks");
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
    match obstacle {
        Some(error) => delayed(binding, input, error),
        None => CleanupDecision::Remove { delete_files: policy == DeletionPolicy::Delete && !binding.adopted },
    }
}

/// The decision while an obstacle delays the removal.
fn delayed(binding: &Binding, input: &CleanupInput<'_>, error: &ReconcileError) -> CleanupDecision {
    let (id, at, workspace) = (&binding.identity.agent_id, &binding.gateway, &binding.identity.workspace);
    let is_incomplete = error.reason == Reason::DeletionIncomplete;
    let end = end_of_wait(input);
    if let Some((_, timeout, what)) = end.as_ref().filter(|(end, _, _)| input.now >= *end) {
        let message = if is_incomplete {
            format!(
                "{error}; {what} is being deleted, so that Muster no longer waits: correct that on the gateway's host and run openclaw agents delete {id} --force there. {TOKEN}"
            )
        } else {
            format!(
                "agent {id} and its folder {workspace} may still be on gateway {at}: {what} is being deleted, and the agent could not be removed for {} s ({error})",
                timeout.as_secs()
            )
        };
        return CleanupDecision::Leave { message, asked: false };
    }
    let until = end.map(|(end, _, _)| end);
    let (reason, message) = if is_incomplete {
        let message = format!(
            "{error}; correct that on the gateway's host, and Muster completes the removal; to leave the rest there, set spec.deletionPolicy to RetainFiles. {TOKEN}"
        );
        (Reason::DeletionIncomplete, message)
    } else {
        let message = format!(
            "agent {id} cannot be removed from gateway {at} now ({error}); to leave the agent and its folder {workspace} there, set spec.deletionPolicy to Orphan"
        );
        (Reason::DeletionBlocked, message)
    };
    CleanupDecision::Wait { error: ReconcileError { reason, message, ..error.clone() }, until }
}

/// The end of the wait for an obstacle, the length of the wait, and the object whose deletion bounds the wait.
fn end_of_wait(input: &CleanupInput<'_>) -> Option<(Timestamp, Duration, String)> {
    let of_gateway = match input.gateway {
        Presence::Terminating { since, timeout } => Some((since, timeout, "the AgentGateway".to_owned())),
        Presence::Absent | Presence::Unknown | Presence::Present => None,
    };
    let of_namespace = input.namespace.map(|n| (n.since, n.timeout, format!("namespace {:?}", n.name)));
    let limit = |(since, timeout, what): (Timestamp, Duration, String)| {
        (since.saturating_add(timeout).unwrap_or(Timestamp::MAX), timeout, what)
    };
    of_gateway.into_iter().chain(of_namespace).map(limit).min_by_key(|(end, _, _)| *end)
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

/// Why the gateway must not remove the folder of a bound agent together with the agent: the agent works in another folder, or the folder
/// is, contains or is within the folder of another agent. An absent agent has no folder of its own to remove.
#[must_use]
pub fn folder_obstacle(inventory: &Inventory, binding: &Binding) -> Option<String> {
    let (id, workspace) = (&binding.identity.agent_id, &binding.identity.workspace);
    let own = inventory.agents.get(id).and_then(|row| row.workspace.as_deref());
    if let Some(other) = own.filter(|other| !same_path(workspace, other)) {
        return Some(format!("the agent works in {}, which is not the folder {workspace} of this Agent", clean(other)));
    }
    let folder = Folder::parse(workspace);
    let others = inventory.agents.values().filter(|row| row.id != *id);
    let meets = |other: &str| same_path(workspace, other) || folder.meets(&Folder::parse(other));
    let mut met = others.filter_map(|row| Some((&row.id, row.workspace.as_deref().filter(|other| meets(other))?)));
    let (other, path) = met.next()?;
    Some(format!(
        "its folder {workspace} is, contains or is within the folder {} of agent {:?} of the gateway",
        clean(path),
        clean(other)
    ))
}

/// The error of a deletion that cannot remove the folder. An agent without an entry is removed already, in part.
#[must_use]
pub fn blocked_by_folder(inventory: &Inventory, binding: &Binding, obstacle: &str) -> ReconcileError {
    if inventory.entry(&binding.identity.agent_id).is_none() {
        return ReconcileError::permanent(Reason::DeletionIncomplete, removal::kept(binding, obstacle));
    }
    let message = format!(
        "{obstacle}; correct that on the gateway, or set spec.deletionPolicy to RetainFiles to remove the agent without its files"
    );
    ReconcileError::permanent(Reason::DeletionBlocked, message)
}

/// Whether a cleanup waits only for the permit of its gateway. A released permit triggers the next reconcile.
#[must_use]
pub fn waits_for_permit(error: &ReconcileError) -> bool {
    error.reason == Reason::Deleting
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::agent::fixtures;
    use crate::core::agent::memory_objects::inventory;

    fn binding() -> Binding {
        fixtures::binding("/w")
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn input(
        policy: DeletionPolicy,
        gateway: Presence,
        obstacle: Option<&ReconcileError>,
        second: i64,
    ) -> CleanupInput<'_> {
        CleanupInput {
            policy,
            given_by: "deletionPolicy",
            gateway,
            moved_to: None,
            obstacle,
            namespace: None,
            now: at(second),
        }
    }

    fn unreachable() -> ReconcileError {
        ReconcileError::transient(Reason::GatewayNotReady, "connection refused")
    }

    #[test]
    fn an_unbound_agent_needs_no_gateway() {
        let decision = decide(None, &input(DeletionPolicy::Delete, Presence::Absent, Some(&unreachable()), 0));
        assert_eq!(decision, CleanupDecision::Nothing);
    }

    #[test]
    fn the_policy_decides_about_the_workspace() {
        for (policy, delete_files) in [(DeletionPolicy::Delete, true), (DeletionPolicy::RetainFiles, false)] {
            let decision = decide(Some(&binding()), &input(policy, Presence::Present, None, 0));
            assert_eq!(decision, CleanupDecision::Remove { delete_files });
        }
    }

    #[test]
    fn an_adopted_agent_is_removed_and_its_workspace_stays() {
        let adopted = Binding { adopted: true, ..binding() };
        let decision = decide(Some(&adopted), &input(DeletionPolicy::Delete, Presence::Present, None, 0));
        assert_eq!(decision, CleanupDecision::Remove { delete_files: false });
    }

    #[test]
    fn orphan_leaves_the_agent_even_on_a_reachable_gateway() {
        let decision = decide(Some(&binding()), &input(DeletionPolicy::Orphan, Presence::Present, None, 0));
        let CleanupDecision::Leave { message, asked: true } = decision else { panic!("the agent must stay") };
        assert!(message.contains("with its folder /w/workspace-mc-u"), "{message}");
    }

    #[test]
    fn nothing_is_removed_at_another_address_than_that_of_the_binding() {
        let input = input(DeletionPolicy::Delete, Presence::Present, None, 0);
        let moved = CleanupInput { moved_to: Some("ws://other:80"), ..input };
        let CleanupDecision::Leave { message, asked: false } = decide(Some(&binding()), &moved) else {
            panic!("the agent must stay")
        };
        assert!(message.contains("ws://gw:80") && message.contains("ws://other:80"), "{message}");
    }

    #[test]
    fn an_unreachable_gateway_delays_the_removal_and_the_message_names_orphan() {
        let CleanupDecision::Wait { error, until: None } = decide(
            Some(&binding()),
            &input(DeletionPolicy::Delete, Presence::Present, Some(&unreachable()), 9_999_999),
        ) else {
            panic!("the removal must wait")
        };
        assert_eq!(error.reason, Reason::DeletionBlocked);
        assert!(error.message.contains("connection refused") && error.message.contains("Orphan"), "{error}");
    }

    #[test]
    fn a_gateway_that_is_going_bounds_the_wait() {
        let terminating = Presence::Terminating { since: at(100), timeout: Duration::from_mins(2) };
        let before = decide(Some(&binding()), &input(DeletionPolicy::Delete, terminating, Some(&unreachable()), 219));
        assert!(matches!(before, CleanupDecision::Wait { until: Some(end), .. } if end == at(220)), "{before:?}");
        let after = decide(Some(&binding()), &input(DeletionPolicy::Delete, terminating, Some(&unreachable()), 220));
        assert!(matches!(after, CleanupDecision::Leave { asked: false, .. }));
        let without = decide(Some(&binding()), &input(DeletionPolicy::Delete, terminating, None, 999));
        assert_eq!(without, CleanupDecision::Remove { delete_files: true });
    }

    #[test]
    fn a_partial_removal_waits_with_its_own_way_out_and_ends_with_its_gateway() {
        let error =
            ReconcileError::permanent(Reason::DeletionIncomplete, "gateway ns/gw removed agent mc-u only in part");
        let decide_at =
            |gateway, second| decide(Some(&binding()), &input(DeletionPolicy::Delete, gateway, Some(&error), second));
        let CleanupDecision::Wait { error: waits, until: None } = decide_at(Presence::Present, 9_999_999) else {
            panic!("the deletion must wait")
        };
        assert_eq!(waits.reason, Reason::DeletionIncomplete);
        assert!(waits.message.contains("RetainFiles") && !waits.message.contains("Orphan"), "{waits}");
        let terminating = Presence::Terminating { since: at(100), timeout: Duration::from_mins(2) };
        let CleanupDecision::Leave { message, asked: false } = decide_at(terminating, 220) else {
            panic!("the Agent must be let go")
        };
        assert!(message.contains("only in part") && message.contains("openclaw agents delete mc-u"), "{message}");
        let orphan = decide(Some(&binding()), &input(DeletionPolicy::Orphan, Presence::Present, Some(&error), 0));
        assert!(matches!(orphan, CleanupDecision::Leave { asked: true, .. }), "{orphan:?}");
    }

    #[test]
    fn a_folder_that_another_agent_uses_in_part_is_an_obstacle() {
        let inventory = |own: &str, other: &str| inventory(&[("mc-u", own), ("other", other)]);
        let own = "/w/workspace-mc-u";
        for other in [own, "/w", "/w/workspace-mc-u/notes", "/w/x/../workspace-mc-u"] {
            let obstacle = folder_obstacle(&inventory(own, other), &binding()).unwrap();
            assert!(obstacle.contains(other) && obstacle.contains("\"other\""), "{obstacle}");
        }
        assert_eq!(folder_obstacle(&inventory(own, "/w/workspace-mc-u2"), &binding()), None);
        let moved = inventory("/v/mc-u", "/x");
        let elsewhere = folder_obstacle(&moved, &binding()).unwrap();
        assert!(elsewhere.contains("works in /v/mc-u"), "{elsewhere}");
        let error = blocked_by_folder(&moved, &binding(), &elsewhere);
        assert!(error.message.contains("RetainFiles") && !error.transient, "{error}");
    }

    #[test]
    fn the_folder_of_an_agent_without_an_entry_is_the_rest_of_a_removed_agent() {
        let others = inventory(&[("inner", "/w/workspace-mc-u/notes")]);
        let obstacle = folder_obstacle(&others, &binding()).unwrap();
        let error = blocked_by_folder(&others, &binding(), &obstacle);
        assert_eq!((error.reason, error.transient), (Reason::DeletionIncomplete, false));
        let words = ["agent mc-u is removed from gateway ns/gw", "/w/workspace-mc-u/notes", "\"inner\""];
        assert!(words.iter().all(|words| error.message.contains(words)), "{error}");
    }

    #[test]
    fn a_namespace_that_is_going_bounds_the_wait_by_the_timeout_of_the_gateway() {
        let error = unreachable();
        let namespace = Some(TerminatingNamespace { name: "team", since: at(100), timeout: Duration::from_mins(2) });
        let decide_at = |gateway, obstacle, second| {
            let input = input(DeletionPolicy::Delete, gateway, obstacle, second);
            decide(Some(&binding()), &CleanupInput { namespace, ..input })
        };
        let before = decide_at(Presence::Present, Some(&error), 219);
        assert!(matches!(before, CleanupDecision::Wait { until: Some(end), .. } if end == at(220)), "{before:?}");
        let CleanupDecision::Leave { message, asked: false } = decide_at(Presence::Present, Some(&error), 220) else {
            panic!("the Agent must be let go")
        };
        assert!(message.contains("namespace \"team\"") && message.contains("120 s"), "{message}");
        let without = decide_at(Presence::Present, None, 999);
        assert_eq!(without, CleanupDecision::Remove { delete_files: true });
        let earlier = Presence::Terminating { since: at(10), timeout: Duration::from_mins(1) };
        assert!(
            matches!(decide_at(earlier, Some(&error), 70), CleanupDecision::Leave { .. }),
            "the earlier end counts"
        );
    }
}
