//! The claim of an Agent: the id in its annotation `muster.dev/agent-id`. Uid and status do not survive a backup, the annotation does.
//! Pure.
//!
//! A claim counts only while the Agent has no binding and no other object stands for the id. A claim never names what is removed: the
//! binding alone does.

use kube::api::ObjectMeta;

use super::binding::{AgentIdentity, Binding};
use crate::api::agent::Agent;
use crate::api::object_key::ObjectKey;
use crate::api::{Reason, keys};
use crate::core::error::ReconcileError;
use crate::core::objects::{AgentIndex, BoardIndex, GatewayIndex, Objects};
use crate::openclaw::model::same_path;

/// The beginnings of the ids and of the folder names that Muster derives from uids. The first one that fits counts.
const DERIVED_FORMS: [&str; 4] = ["mc-gateway-", "gateway-", "lead-", "mc-"];
/// The maximum length of an agent's id, in characters.
const MAX_ID_LENGTH: usize = 64;

/// The names with this id, which the spec or a claim gives.
#[must_use]
pub fn with_id(agent: &Agent, id: &str, workspace_root: &str) -> AgentIdentity {
    let chosen = agent.spec.agent_id.as_deref();
    AgentIdentity::derive(agent.spec.role, chosen, uid_in(id).unwrap_or_default(), workspace_root)
}

/// The id in the annotation of an Agent.
#[must_use]
pub fn annotated_id(agent: &Agent) -> Option<&str> {
    agent.metadata.annotations.as_ref()?.get(keys::AGENT_ID).map(String::as_str)
}

/// The id that an Agent without a binding claims: the one of `spec.agentId`, or one that derives from the uid of an object of its role.
/// Any other text claims nothing.
#[must_use]
pub fn claimed_id(agent: &Agent) -> Option<&str> {
    let id = annotated_id(agent).filter(|id| is_id(id) && Binding::of(agent).is_none())?;
    let is_claim = match &agent.spec.agent_id {
        Some(chosen) => chosen == id,
        None => uid_in(id).is_some() && with_id(agent, id, "").agent_id == id,
    };
    is_claim.then_some(id)
}

fn is_id(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    text.len() <= MAX_ID_LENGTH && text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(plain)
}

/// The uid in an id, or in the name of a folder, of the form that Muster derives.
#[must_use]
pub fn uid_in(id: &str) -> Option<&str> {
    DERIVED_FORMS.iter().find_map(|form| id.strip_prefix(form)).filter(|uid| !uid.is_empty())
}

/// Whether an Agent, a Board or an AgentGateway of this uid exists.
pub fn is_live<O: Objects>(objects: &O, uid: &str) -> bool {
    let is = |meta: &ObjectMeta| meta.uid.as_deref() == Some(uid);
    objects.agents_by(&AgentIndex::Id(uid.to_owned())).iter().any(|agent| is(&agent.metadata))
        || objects.boards_by(&BoardIndex::UidOrName(uid.to_owned())).iter().any(|board| is(&board.metadata))
        || objects.gateways_by(&GatewayIndex::UidOrName(uid.to_owned())).iter().any(|gateway| is(&gateway.metadata))
        || objects.unreadable_agents().iter().any(is)
        || objects.unreadable_gateways().iter().any(is)
}

/// The agent that a gateway has under a claimed id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundAgent {
    /// The path of its workspace.
    pub workspace: String,
    /// Whether a file in its workspace holds the token of the Agent's Secret.
    pub is_proven: bool,
}

/// The decision about a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimDecision {
    /// The agent is the Agent's own.
    TakeUp,
    /// The agent is taken up as an adopted one: its workspace stays at the deletion.
    Adopt,
    /// The gateway has no agent of the id. It is created under the id.
    Create,
    /// The id is the usual one of the Agent, by the usual rules.
    Ignore,
    /// Nothing proves the claim, and nothing permits it without a proof.
    Refuse,
}

/// The input of a decision about a claim.
#[derive(Clone, Copy, Debug)]
pub struct ClaimInput<'a> {
    /// The agent that the gateway has under the claimed id.
    pub found: Option<&'a FoundAgent>,
    /// The workspace that Muster gives an agent of the id.
    pub own_workspace: &'a str,
    /// Whether the Agent may take up an agent without a proof.
    pub is_permitted: bool,
    /// Whether the spec, or the uid of the Board or AgentGateway, gives the same id.
    pub is_usual_id: bool,
    /// Whether the token Secret was written for this Agent. Muster then wrote the annotation just before, and claims nothing by it.
    pub has_own_secret: bool,
}

/// Decides about a claim.
#[must_use]
pub fn decide(input: &ClaimInput<'_>) -> ClaimDecision {
    let ClaimInput { found, own_workspace, is_permitted, is_usual_id, has_own_secret } = *input;
    match found {
        Some(found) if found.is_proven && same_path(own_workspace, &found.workspace) => ClaimDecision::TakeUp,
        Some(found) if found.is_proven => ClaimDecision::Adopt,
        Some(_) if is_usual_id && has_own_secret => ClaimDecision::Ignore,
        Some(_) if is_permitted => ClaimDecision::Adopt,
        None if is_usual_id => ClaimDecision::Ignore,
        None if is_permitted => ClaimDecision::Create,
        Some(_) | None => ClaimDecision::Refuse,
    }
}

/// The error of a refused claim. It is the same whether the gateway has such an agent or not.
#[must_use]
pub fn unproven(agent: &Agent, id: &str, gateway: &ObjectKey) -> ReconcileError {
    let annotation = keys::AGENT_ID;
    let message = format!(
        "annotation {annotation} names the agent {id:?}, and no file of such an agent on gateway {gateway} holds the token of Secret {:?}; restore that Secret from the backup, or permit takingUp in spec.allowedNamespaces.permissions of the AgentGateway, or remove the annotation for a new agent",
        agent.token_secret_name()
    );
    ReconcileError::permanent(Reason::ClaimUnproven, message)
}

#[cfg(test)]
#[path = "claim_tests.rs"]
mod tests;
