//! The admission of an Agent: its role on the board or the gateway, the quota of the board, and its id on the gateway.

use std::sync::Arc;

use kube::api::ObjectMeta;

use super::binding::{AgentIdentity, Binding};
use super::claim::{is_live, uid_in};
use crate::api::agent::{Agent, Role};
use crate::api::object_key::ObjectKey;
use crate::api::{AgentGateway, Board, Reason};
use crate::core::error::ReconcileError;
use crate::core::gateway_ref::{address, agents_of_board, claiming_gateways, resolved_gateway, same_gateways};
use crate::core::objects::{AgentIndex, Objects};

/// The names of an Agent at its gateway, derived from its role.
#[must_use]
pub fn identity(agent: &Agent, board: Option<&Board>, gateway: &AgentGateway) -> AgentIdentity {
    let anchor = anchor(agent, board, gateway);
    AgentIdentity::derive(agent.spec.role, agent.spec.agent_id.as_deref(), anchor, &gateway.spec.workspace_root)
}

/// The uid of the object that the role of an Agent belongs to: the Agent of a Worker, the Board of a Lead, the AgentGateway of a Main
/// agent.
#[must_use]
pub fn anchor<'a>(agent: &'a Agent, board: Option<&'a Board>, gateway: &'a AgentGateway) -> &'a str {
    let uid = match agent.spec.role {
        Role::Worker => agent.metadata.uid.as_deref(),
        Role::Lead => board.and_then(|board| board.metadata.uid.as_deref()),
        Role::Main => gateway.metadata.uid.as_deref(),
    };
    uid.unwrap_or_default()
}

/// The sort key for the order of creation: the creation time, then namespace and name.
#[must_use]
pub fn creation_order(agent: &Agent) -> (Option<jiff::Timestamp>, Option<&str>, Option<&str>) {
    let meta = &agent.metadata;
    (meta.creation_timestamp.as_ref().map(|t| t.0), meta.namespace.as_deref(), meta.name.as_deref())
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
        (Role::Main, _) => {
            let rivals = objects.agents_by(&AgentIndex::GatewayRef(gateway.clone()));
            // An unbound Agent of another namespace may not be admitted, so that it does not count.
            let counts = |other: &Agent| {
                other.metadata.namespace == agent.metadata.namespace
                    || Binding::of(other).is_some_and(|b| b.gateway == *gateway)
            };
            check_sole_role(agent, &format!("the main agent of gateway {gateway}"), &rivals, counts)
        }
        (Role::Lead, Some(board)) => {
            let rivals = agents_of_board(objects, board);
            let what = format!("the lead of board {:?}", name(&board.metadata));
            check_sole_role(agent, &what, &rivals, |other| other.spec.role == Role::Lead)?;
            check_quota(objects, agent, board)
        }
        (Role::Worker, Some(board)) => check_quota(objects, agent, board),
        (Role::Lead | Role::Worker, None) => Ok(()),
    }
}

fn check_sole_role(
    agent: &Agent,
    what: &str,
    rivals: &[Arc<Agent>],
    competes: impl Fn(&Agent) -> bool,
) -> Result<(), ReconcileError> {
    let older = rivals.iter().filter(|other| competes(other) && creation_order(other) < creation_order(agent));
    match older.min_by(|one, other| creation_order(one).cmp(&creation_order(other))) {
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
    let agents = agents_of_board(objects, board);
    let before = agents.iter().filter(|other| creation_order(other) < creation_order(agent)).count();
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
/// Agents has the id, and so has the older of two unbound Agents in one namespace. An Agent of another AgentGateway counts only while
/// that AgentGateway is connected by its own credentials.
///
/// # Errors
/// `AgentIdTaken`, with the next step.
pub fn check_agent_id<O: Objects>(
    objects: &O,
    agent: &Agent,
    gateway: &ObjectKey,
    id: &str,
) -> Result<(), ReconcileError> {
    let same = claiming_gateways(objects, gateway);
    let here = objects.gateway(gateway).map(|gateway| address(&gateway.spec.url)).unwrap_or_default();
    let holders = holders(objects, &same, &here, id);
    let requesters = objects.agents_by(&AgentIndex::RequestsId(id.to_owned()));
    // The annotation of another Agent claims nothing while the object exists that the id derives from.
    let is_claimable = uid_in(id).is_none_or(|uid| !is_live(objects, uid));
    let requests = |other: &Agent| {
        other.metadata.namespace == agent.metadata.namespace
            && !other.is_observer()
            && (other.spec.agent_id.is_some() || is_claimable)
            && resolved_gateway(objects, other).is_some_and(|theirs| same.contains(&theirs))
    };
    let is_other = |other: &Agent| other.metadata.uid != agent.metadata.uid;
    let is_older = |other: &Agent| creation_order(other) < creation_order(agent);
    let is_bound = |b: Binding| b.identity.agent_id == id && same.contains(&b.gateway) && b.is_at(&here);
    let bound = Binding::of(agent).is_some_and(is_bound);
    let holders = holders.iter().filter(|other| is_other(other) && (!bound || is_older(other)));
    let requesters = requesters.iter().filter(|other| is_other(other) && !bound && is_older(other) && requests(other));
    match holders.chain(requesters).min_by(|one, other| creation_order(one).cmp(&creation_order(other))) {
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

/// Checks that an Agent may observe the agent of this id. An observer takes no id from another Agent. Outside the namespace of the
/// AgentGateway, it does not show the agent of an Agent of another namespace.
///
/// # Errors
/// `AgentIdTaken`, with the next step.
pub fn check_observed_id<O: Objects>(
    objects: &O,
    agent: &Agent,
    gateway: &ObjectKey,
    id: &str,
) -> Result<(), ReconcileError> {
    let namespace = agent.metadata.namespace.as_deref().unwrap_or_default();
    if gateway.namespace == namespace {
        return Ok(());
    }
    let here = objects.gateway(gateway).map(|gateway| address(&gateway.spec.url)).unwrap_or_default();
    let holders = holders(objects, &claiming_gateways(objects, gateway), &here, id);
    if holders.iter().all(|other| other.metadata.namespace.as_deref() == Some(namespace)) {
        return Ok(());
    }
    let message = format!(
        "the agent {id:?} of gateway {gateway} belongs to an Agent of another namespace; observe it in that namespace, or in the namespace of the AgentGateway"
    );
    Err(ReconcileError::permanent(Reason::AgentIdTaken, message))
}

/// The Agents that are bound to the agent `id` of these AgentGateways. The first AgentGateway is the own one. A binding of another one
/// claims an id only at the address where it was made.
fn holders<O: Objects>(objects: &O, gateways: &[ObjectKey], address: &str, id: &str) -> Vec<Arc<Agent>> {
    let bound = gateways.iter().flat_map(|key| objects.agents_by(&AgentIndex::BoundAs(key.clone(), id.to_owned())));
    let is_here = |b: Binding| gateways.first() == Some(&b.gateway) || b.is_at(address);
    bound.filter(|agent| Binding::of(agent).is_some_and(is_here)).collect()
}

/// Whether another Agent that is not being deleted is bound to the same agent of the same gateway. Two Agents that request one id at
/// the same moment may both be bound before the cache shows either binding. An AgentGateway that was just disconnected counts too: its
/// agent must not be removed.
pub fn is_shared<O: Objects>(objects: &O, agent: &Agent, binding: &Binding) -> bool {
    let same = same_gateways(objects, &binding.gateway);
    let here = objects.gateway(&binding.gateway).map(|gateway| address(&gateway.spec.url));
    let here = here.filter(|_| binding.address.is_empty()).unwrap_or_else(|| binding.address.clone());
    holders(objects, &same, &here, &binding.identity.agent_id)
        .iter()
        .any(|other| other.metadata.uid != agent.metadata.uid && other.metadata.deletion_timestamp.is_none())
}

fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}
