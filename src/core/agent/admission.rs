//! The admission of an Agent: its role on the board or the gateway, the quota of the board, and its id on the gateway.

use kube::api::ObjectMeta;

use super::binding::{AgentIdentity, Binding};
use crate::api::agent::{Agent, Role};
use crate::api::object_key::ObjectKey;
use crate::api::{AgentGateway, Board, Reason};
use crate::core::error::ReconcileError;
use crate::core::gateway_ref::{gateway_key, is_same_gateway, resolved_gateway};
use crate::core::objects::Objects;

/// The names of an Agent at its gateway, derived from its role.
#[must_use]
pub fn identity(agent: &Agent, board: Option<&Board>, gateway: &AgentGateway) -> AgentIdentity {
    let anchor = match agent.spec.role {
        Role::Worker => &agent.metadata.uid,
        Role::Lead => board.map_or(&None, |b| &b.metadata.uid),
        Role::Main => &gateway.metadata.uid,
    };
    let anchor = anchor.as_deref().unwrap_or_default();
    AgentIdentity::derive(agent.spec.role, agent.spec.agent_id.as_deref(), anchor, &gateway.spec.workspace_root)
}

/// The names of an Agent at its gateway, and whether it was adopted there. An adopted agent keeps its workspace.
#[must_use]
pub fn kept_identity(agent: &Agent, gateway: &ObjectKey, derived: AgentIdentity) -> (AgentIdentity, bool) {
    let same = |b: &Binding| b.adopted && b.gateway == *gateway && b.identity.agent_id == derived.agent_id;
    match Binding::of(agent).filter(same) {
        Some(binding) => (binding.identity, true),
        None => (derived, false),
    }
}

/// The sort key for the order of creation: the creation time, then the name.
#[must_use]
pub fn creation_order(agent: &Agent) -> (Option<jiff::Timestamp>, ObjectKey) {
    (agent.metadata.creation_timestamp.as_ref().map(|t| t.0), ObjectKey::of(&agent.metadata))
}

/// Checks the role and the quota: one lead for a board, one main agent for a gateway, and at most `spec.maxAgents` agents for a
/// board. Older Agents take precedence.
///
/// # Errors
/// `RoleTaken` or `BoardFull`, with the next step.
pub fn check_role_and_quota<O: Objects>(
    objects: &O,
    agent: &Agent,
    board: Option<&Board>,
    gateway: &ObjectKey,
) -> Result<(), ReconcileError> {
    match (agent.spec.role, board) {
        (Role::Main, _) => check_sole_role(objects, agent, &format!("the main agent of gateway {gateway}"), |other| {
            let namespace = other.metadata.namespace.as_deref().unwrap_or_default();
            // An unbound Agent of another namespace may not be admitted, so that it does not count.
            let counts = other.metadata.namespace == agent.metadata.namespace
                || Binding::of(other).is_some_and(|b| b.gateway == *gateway);
            counts && other.spec.gateway_ref.as_ref().is_some_and(|r| gateway_key(r, namespace) == *gateway)
        }),
        (Role::Lead, Some(board)) => {
            check_sole_role(objects, agent, &format!("the lead of board {:?}", name(&board.metadata)), |other| {
                other.spec.role == Role::Lead && is_on_same_board(agent, other)
            })?;
            check_quota(objects, agent, board)
        }
        (Role::Worker, Some(board)) => check_quota(objects, agent, board),
        (Role::Lead | Role::Worker, None) => Ok(()),
    }
}

fn check_sole_role<O: Objects>(
    objects: &O,
    agent: &Agent,
    what: &str,
    competes: impl Fn(&Agent) -> bool,
) -> Result<(), ReconcileError> {
    let agents = objects.agents();
    let competitors = agents.iter().filter(|other| competes(other) && creation_order(other) < creation_order(agent));
    match competitors.min_by_key(|other| creation_order(other)) {
        None => Ok(()),
        Some(other) => Err(ReconcileError::permanent(
            Reason::RoleTaken,
            format!(
                "Agent {} is already {what}; there can be only one, so delete one of the two",
                ObjectKey::of(&other.metadata)
            ),
        )),
    }
}

fn check_quota<O: Objects>(objects: &O, agent: &Agent, board: &Board) -> Result<(), ReconcileError> {
    let Some(limit) = board.spec.max_agents.and_then(|n| usize::try_from(n).ok()) else { return Ok(()) };
    let comes_first = |other: &Agent| is_on_same_board(agent, other) && creation_order(other) < creation_order(agent);
    let before = objects.agents().iter().filter(|other| comes_first(other)).count();
    if before < limit {
        return Ok(());
    }
    let message = format!(
        "board {:?} has its {limit} agents already; raise spec.maxAgents of the Board, or delete one of its agents",
        name(&board.metadata)
    );
    Err(ReconcileError::permanent(Reason::BoardFull, message))
}

/// Checks that no other Agent has this id on the gateway, or requested the id first. A bound Agent has its id. The older of two bound
/// Agents has the id, and so has the older of two unbound Agents in one namespace.
///
/// # Errors
/// `AgentIdTaken`, with the next step.
pub fn check_agent_id<O: Objects>(
    objects: &O,
    agent: &Agent,
    gateway: &ObjectKey,
    id: &str,
) -> Result<(), ReconcileError> {
    let holds = |agent: &Agent| {
        Binding::of(agent).is_some_and(|b| b.identity.agent_id == id && is_same_gateway(objects, &b.gateway, gateway))
    };
    let requests = |other: &Agent| {
        other.spec.agent_id.as_deref() == Some(id)
            && other.metadata.namespace == agent.metadata.namespace
            && resolved_gateway(objects, other).is_some_and(|theirs| is_same_gateway(objects, &theirs, gateway))
    };
    let bound = holds(agent);
    let takes_precedence = |other: &Agent| {
        let older = creation_order(other) < creation_order(agent);
        (holds(other) && (older || !bound)) || (requests(other) && !bound && older)
    };
    let agents = objects.agents();
    let others = agents.iter().filter(|other| other.metadata.uid != agent.metadata.uid);
    match others.filter(|other| takes_precedence(other)).min_by_key(|other| creation_order(other)) {
        None => Ok(()),
        Some(other) => Err(ReconcileError::permanent(
            Reason::AgentIdTaken,
            format!(
                "Agent {} has the id {id:?} on gateway {}; choose another spec.agentId, or delete one of the two",
                ObjectKey::of(&other.metadata),
                Binding::of(other).map_or_else(|| gateway.to_string(), |binding| binding.gateway.to_string())
            ),
        )),
    }
}

/// Whether another Agent that is not being deleted is bound to the same agent of the same gateway. Two Agents that request one id at
/// the same moment may both be bound before the cache shows either binding.
pub fn is_shared<O: Objects>(objects: &O, agent: &Agent, binding: &Binding) -> bool {
    let same = |b: Binding| {
        b.identity.agent_id == binding.identity.agent_id && is_same_gateway(objects, &b.gateway, &binding.gateway)
    };
    objects.agents().iter().any(|other| {
        other.metadata.uid != agent.metadata.uid
            && other.metadata.deletion_timestamp.is_none()
            && Binding::of(other).is_some_and(same)
    })
}

fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

fn is_on_same_board(agent: &Agent, other: &Agent) -> bool {
    agent.metadata.namespace == other.metadata.namespace
        && agent.spec.board_ref.is_some()
        && agent.spec.board_ref == other.spec.board_ref
}
