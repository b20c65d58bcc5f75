//! The names of an Agent at its gateway: by its binding, by its claim, or derived. Pure.

use super::admission::{anchor, check_agent_id, identity};
use super::binding::{AgentIdentity, Binding};
use super::claim::{claimed_id, is_live, uid_in, with_id};
use crate::api::agent::{AdoptionPolicy, Agent, Role};
use crate::api::object_key::ObjectKey;
use crate::api::{AgentGateway, Board, Reason};
use crate::core::error::ReconcileError;
use crate::core::gateway_ref::{address, home_namespace};
use crate::core::objects::Objects;

/// The names of an agent at its gateway, and how the Agent came to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedNames {
    /// The names.
    pub identity: AgentIdentity,
    /// Whether the gateway had the agent before the Agent was bound to it.
    pub adopted: bool,
    /// Whether a proof showed that the agent is the Agent's own.
    pub taken_up: bool,
    /// The uid that the id would derive from, if a claim gave another id.
    pub claimed_for: Option<String>,
    /// Whether the id is a claim that was not compared with the gateway yet.
    pub is_claim: bool,
}

impl ResolvedNames {
    fn derived(identity: AgentIdentity) -> Self {
        Self { identity, adopted: false, taken_up: false, claimed_for: None, is_claim: false }
    }
}

/// The names of an Agent at its gateway: from its binding, or from its claim, or else derived.
///
/// # Errors
/// `spec.agentId` has the form of a derived id and does not adopt; or another Agent has the id.
pub fn resolve<O: Objects>(
    objects: &O,
    agent: &Agent,
    board: Option<&Board>,
    gateway: &AgentGateway,
) -> Result<ResolvedNames, ReconcileError> {
    let key = ObjectKey::of(&gateway.metadata);
    let anchor = anchor(agent, board, gateway);
    let home = home_namespace(objects, gateway);
    let home = home.as_deref();
    let derived = identity(agent, board, gateway).of_namespace(&agent.metadata, home);
    check_form_of_chosen_id(objects, agent, anchor)?;
    let names = match Binding::of(agent) {
        Some(bound) => kept(agent, &bound, derived, &key, (anchor, gateway, home)),
        None => match effective(objects, agent, &key, anchor) {
            Some(id) => ResolvedNames {
                claimed_for: (id != derived.agent_id).then(|| anchor.to_owned()),
                is_claim: agent.spec.role != Role::Worker || id != derived.agent_id || agent.spec.agent_id.is_some(),
                ..ResolvedNames::derived(claimed(agent, id, gateway, home))
            },
            None => ResolvedNames::derived(derived),
        },
    };
    check_agent_id(objects, agent, &key, &names.identity.agent_id)?;
    Ok(names)
}

/// The names of a bound Agent. At its address it keeps its workspace, whatever `spec.workspaceRoot` says now. A claimed id stays as long as
/// the agent belongs to the same object. At another address the workspace is derived anew, and an adopted agent may be another one.
fn kept(
    agent: &Agent,
    bound: &Binding,
    derived: AgentIdentity,
    key: &ObjectKey,
    (anchor, gateway, home): (&str, &AgentGateway, Option<&str>),
) -> ResolvedNames {
    let is_claimed = bound.claimed_for.as_deref() == Some(anchor);
    if bound.gateway != *key || !(is_claimed || bound.identity.agent_id == derived.agent_id) {
        return ResolvedNames::derived(derived);
    }
    let Binding { identity, adopted, taken_up, claimed_for, .. } = bound.clone();
    let claimed_for = claimed_for.filter(|_| is_claimed);
    let stays = bound.is_at(&address(&gateway.spec.url));
    let adopted = adopted && stays;
    let identity = match (stays, is_claimed) {
        (true, _) => identity,
        (false, true) => claimed(agent, &identity.agent_id, gateway, home),
        (false, false) => derived,
    };
    ResolvedNames { identity, adopted, taken_up, claimed_for, is_claim: false }
}

/// The names with a claimed id.
fn claimed(agent: &Agent, id: &str, gateway: &AgentGateway, home: Option<&str>) -> AgentIdentity {
    with_id(agent, id, &gateway.spec.workspace_root).of_namespace(&agent.metadata, home)
}

/// The claimed id of an Agent, if no other object stands for it.
fn effective<'a, O: Objects>(objects: &O, agent: &'a Agent, gateway: &ObjectKey, anchor: &str) -> Option<&'a str> {
    let id = claimed_id(agent)?;
    let is_free = || uid_in(id).is_none_or(|uid| uid == anchor || !is_live(objects, uid));
    (is_free() && check_agent_id(objects, agent, gateway, id).is_ok()).then_some(id)
}

/// Checks a chosen id of the form that Muster derives: such an id belongs to the object of its uid. After that object, the id is there to
/// adopt its agent, or to take it up again.
fn check_form_of_chosen_id<O: Objects>(objects: &O, agent: &Agent, anchor: &str) -> Result<(), ReconcileError> {
    let Some((id, uid)) = agent.spec.agent_id.as_deref().and_then(|id| Some((id, uid_in(id)?))) else { return Ok(()) };
    if Binding::of(agent).is_some_and(|bound| bound.identity.agent_id == id) {
        return Ok(());
    }
    if uid != anchor && is_live(objects, uid) {
        let message = format!(
            "spec.agentId {id:?} has the uid of an object of this cluster, to which the id belongs; choose another spec.agentId"
        );
        return Err(ReconcileError::permanent(Reason::AgentIdTaken, message));
    }
    let is_reserved = (is_uuid(uid) || uid == anchor)
        && agent.spec.adoption_policy != AdoptionPolicy::IfExists
        && claimed_id(agent) != Some(id);
    if is_reserved {
        let message = format!(
            "spec.agentId {id:?} has the form of an id that Muster derives from a uid; to adopt that agent, set spec.adoptionPolicy to IfExists, or else choose another spec.agentId"
        );
        return Err(ReconcileError::permanent(Reason::InvalidSpec, message));
    }
    Ok(())
}

fn is_uuid(text: &str) -> bool {
    let is_dash = |place: usize| matches!(place, 8 | 13 | 18 | 23);
    text.len() == 36
        && text.bytes().enumerate().all(|(place, c)| if is_dash(place) { c == b'-' } else { c.is_ascii_hexdigit() })
}

#[cfg(test)]
#[path = "resolved_names_tests.rs"]
mod tests;
