//! What an agent refers to: its board, its gateway, its templates, its token.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use super::names;
use super::ports::{Key, Store, StoreError};
use super::role_soul::RoleSoul;
use super::templates::{self, Templates, TemplatesError};
use super::token::{self, Token};
use crate::api::agent::{Agent, GatewayKey, Parents, Role};
use crate::api::gateway::NamespacesFrom;
use crate::api::shared::GatewayRef;
use crate::api::{AgentGateway, Board, Reason};
use crate::plan::requests::{Asked, Requests};
use crate::plan::{Binding, Identity, Trouble};

/// What an agent refers to.
#[derive(Clone, Debug)]
pub struct References {
    /// Its board; a Main agent has none.
    pub board: Option<Arc<Board>>,
    /// Its gateway.
    pub gateway: Arc<AgentGateway>,
    /// The gateway's key.
    pub gateway_key: GatewayKey,
    /// Its names at the gateway.
    pub identity: Identity,
    /// Whether the gateway had it before this Agent stood for it.
    pub adopted: bool,
    /// The templates that replace built-in ones.
    pub templates: Templates,
    /// Its token Secret.
    pub token: Token,
    /// What is asked of it, once.
    pub requests: Requests,
    /// What the gateway's directory has for its role; filled in by who asks it.
    pub soul: RoleSoul,
}

/// Reads what an agent refers to.
///
/// # Errors
/// [`TemplatesError::Trouble`] names the reference that does not hold and what to do about it.
pub async fn read<S: Store>(store: &S, agent: &Agent) -> Result<References, TemplatesError> {
    names::of_agent(agent)?;
    let namespace = agent.metadata.namespace.clone().unwrap_or_default();
    let board = board(store, agent, &namespace)?;
    board.as_deref().map_or(Ok(()), names::of_board)?;
    let reference = match (&board, &agent.spec.gateway_ref) {
        (Some(board), _) => &board.spec.gateway_ref,
        (None, Some(reference)) => reference,
        (None, None) => return Err(Trouble::permanent(Reason::InvalidSpec, "spec.gatewayRef is missing").into()),
    };
    let gateway = gateway(store, reference, &namespace).await?;
    let gateway_key = gateway_key(reference, &namespace);
    place(store, agent, board.as_deref(), &gateway_key)?;
    let derived = identity(agent, board.as_deref(), &gateway);
    let (identity, adopted) = kept(agent, &gateway_key, derived);
    id_of_ones_own(store, agent, &gateway_key, &identity.agent_id)?;
    let templates = templates::gather(store, agent, board.as_deref(), &gateway).await?;
    let token = token::read(store, agent, &gateway.spec.api_url).await?;
    let requests = requests(agent, board.as_deref(), &gateway, store.now());
    Ok(References { board, gateway, gateway_key, identity, adopted, templates, token, requests, soul: RoleSoul::Off })
}

fn requests(agent: &Agent, board: Option<&Board>, gateway: &AgentGateway, now: jiff::Timestamp) -> Requests {
    let own = Asked::read(agent.metadata.annotations.as_ref(), now);
    let of_board = board.map(|board| Asked::read(board.metadata.annotations.as_ref(), now)).unwrap_or_default();
    let above = of_board.and(&Asked::read(gateway.metadata.annotations.as_ref(), now));
    let parents = Parents {
        board_uid: board.and_then(|board| board.metadata.uid.clone()),
        gateway_uid: gateway.metadata.uid.clone().unwrap_or_default(),
    };
    Requests::new(own, above, parents, &agent.status.clone().unwrap_or_default())
}

/// The names of an agent at a gateway, and whether it was adopted there: such a one keeps the workspace that it had.
#[must_use]
fn kept(agent: &Agent, gateway: &GatewayKey, derived: Identity) -> (Identity, bool) {
    let same = |b: &Binding| b.adopted && b.gateway == *gateway && b.identity.agent_id == derived.agent_id;
    match Binding::of(agent).filter(same) {
        Some(binding) => (binding.identity, true),
        None => (derived, false),
    }
}

fn identity(agent: &Agent, board: Option<&Board>, gateway: &AgentGateway) -> Identity {
    let anchor = match agent.spec.role {
        Role::Worker => &agent.metadata.uid,
        Role::Lead => board.map_or(&None, |b| &b.metadata.uid),
        Role::Main => &gateway.metadata.uid,
    };
    let anchor = anchor.as_deref().unwrap_or_default();
    Identity::derive(agent.spec.role, agent.spec.agent_id.as_deref(), anchor, &gateway.spec.workspace_root)
}

fn board<S: Store>(store: &S, agent: &Agent, namespace: &str) -> Result<Option<Arc<Board>>, Trouble> {
    let Some(reference) = &agent.spec.board_ref else { return Ok(None) };
    let name = &reference.name;
    let found = store.board(&Key::new(namespace, name));
    found.map(Some).ok_or_else(|| {
        let message = format!("Board {name:?}, which spec.boardRef names, does not exist in namespace {namespace:?}; create it or change spec.boardRef");
        Trouble::permanent(Reason::BoardNotFound, message)
    })
}

/// The key of the gateway that a reference means, for an object of this namespace.
#[must_use]
pub fn gateway_key(reference: &GatewayRef, namespace: &str) -> GatewayKey {
    GatewayKey {
        namespace: reference.namespace.clone().unwrap_or_else(|| namespace.to_owned()),
        name: reference.name.clone(),
    }
}

/// The board of an Agent, when there is one.
pub(crate) fn board_of<S: Store>(store: &S, agent: &Agent) -> Option<Arc<Board>> {
    let name = &agent.spec.board_ref.as_ref()?.name;
    store.board(&Key::new(agent.metadata.namespace.as_deref().unwrap_or_default(), name))
}

/// The key of the gateway that an Agent means now.
pub(crate) fn gateway_of<S: Store>(store: &S, agent: &Agent) -> Option<GatewayKey> {
    let board = board_of(store, agent);
    let reference = match &board {
        Some(board) => &board.spec.gateway_ref,
        None => agent.spec.gateway_ref.as_ref()?,
    };
    Some(gateway_key(reference, agent.metadata.namespace.as_deref().unwrap_or_default()))
}

/// The gateway that a reference means, if it admits this namespace and is not being deleted.
pub async fn gateway<S: Store>(
    store: &S,
    reference: &GatewayRef,
    namespace: &str,
) -> Result<Arc<AgentGateway>, TemplatesError> {
    let key = gateway_key(reference, namespace);
    let found = store.gateway(&Key::from(&key)).ok_or_else(|| {
        let message = format!("AgentGateway {key} does not exist; create it or change the gatewayRef that names it");
        Trouble::permanent(Reason::GatewayNotFound, message)
    })?;
    if found.metadata.deletion_timestamp.is_some() {
        let message = format!("AgentGateway {key} is being deleted");
        return Err(Trouble::permanent(Reason::GatewayNotFound, message).into());
    }
    if !admits(store, &found, &key, namespace).await? {
        let message = format!(
            "AgentGateway {key} does not admit namespace {namespace:?}; allow it in that gateway's spec.allowedNamespaces"
        );
        return Err(Trouble::permanent(Reason::NotAdmitted, message).into());
    }
    Ok(found)
}

async fn admits<S: Store>(
    store: &S,
    gateway: &AgentGateway,
    key: &GatewayKey,
    namespace: &str,
) -> Result<bool, StoreError> {
    if key.namespace == namespace {
        return Ok(true);
    }
    let Some(allowed) = &gateway.spec.allowed_namespaces else { return Ok(false) };
    Ok(match allowed.from {
        NamespacesFrom::Same => false,
        NamespacesFrom::All => true,
        NamespacesFrom::Selector => {
            let labels = store.namespace_labels(namespace).await?.unwrap_or_default();
            allowed.selector.as_ref().is_some_and(|selector| selects(selector, &labels))
        }
    })
}

/// The namespace labels that a selector is matched with.
type NamespaceLabels = std::collections::BTreeMap<String, String>;

/// Whether a label selector selects these labels. An empty selector selects everything, as in Kubernetes.
fn selects(selector: &LabelSelector, labels: &NamespaceLabels) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    equal && selector.match_expressions.iter().flatten().all(|requirement| meets(requirement, labels))
}

fn meets(requirement: &LabelSelectorRequirement, labels: &NamespaceLabels) -> bool {
    let value = labels.get(&requirement.key);
    let listed = || value.is_some_and(|v| requirement.values.iter().flatten().any(|w| w == v));
    match requirement.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

/// Whether there is a place for this agent: one lead for a board, one main agent for a gateway, no more agents than
/// the board may have. Older Agents come first.
fn place<S: Store>(store: &S, agent: &Agent, board: Option<&Board>, gateway: &GatewayKey) -> Result<(), Trouble> {
    match (agent.spec.role, board) {
        (Role::Main, _) => sole(store, agent, &format!("the main agent of gateway {gateway}"), |other| {
            let namespace = other.metadata.namespace.as_deref().unwrap_or_default();
            // Who is elsewhere and not bound may not be admitted, and then stands in nobody's way.
            let counts = other.metadata.namespace == agent.metadata.namespace
                || Binding::of(other).is_some_and(|b| b.gateway == *gateway);
            counts && other.spec.gateway_ref.as_ref().is_some_and(|r| gateway_key(r, namespace) == *gateway)
        }),
        (Role::Lead, Some(board)) => {
            sole(store, agent, &format!("the lead of board {:?}", name(&board.metadata)), |other| {
                other.spec.role == Role::Lead && same_board(agent, other)
            })?;
            quota(store, agent, board)
        }
        (Role::Worker, Some(board)) => quota(store, agent, board),
        (Role::Lead | Role::Worker, None) => Ok(()),
    }
}

fn sole<S: Store>(store: &S, agent: &Agent, what: &str, rival: impl Fn(&Agent) -> bool) -> Result<(), Trouble> {
    let rivals = store.agents();
    let older =
        rivals.iter().filter(|other| rival(other) && seniority(other) < seniority(agent)).min_by_key(|a| seniority(a));
    match older {
        None => Ok(()),
        Some(other) => Err(Trouble::permanent(
            Reason::RoleTaken,
            format!(
                "Agent {} is already {what}; there can be only one, so delete one of the two",
                Key::of(&other.metadata)
            ),
        )),
    }
}

/// An address of a gateway, in one spelling.
fn address(url: &str) -> String {
    url.trim_end_matches('/').to_ascii_lowercase()
}

/// Whether both stand for one gateway: two resources with one address do.
pub(super) fn same_gateway<S: Store>(store: &S, one: &GatewayKey, other: &GatewayKey) -> bool {
    let url = |key: &GatewayKey| store.gateway(&Key::from(key)).map(|gateway| address(&gateway.spec.url));
    one == other || url(one).is_some_and(|one| url(other).is_some_and(|other| one == other))
}

/// Whether no other Agent has this id of the gateway, or asked for it first. Who is bound to it has it; of two that are,
/// or of two in one namespace that are not, the older one.
fn id_of_ones_own<S: Store>(store: &S, agent: &Agent, gateway: &GatewayKey, id: &str) -> Result<(), Trouble> {
    let has = |agent: &Agent| {
        Binding::of(agent).is_some_and(|b| b.identity.agent_id == id && same_gateway(store, &b.gateway, gateway))
    };
    let asks = |other: &Agent| {
        other.spec.agent_id.as_deref() == Some(id)
            && other.metadata.namespace == agent.metadata.namespace
            && gateway_of(store, other).is_some_and(|theirs| same_gateway(store, &theirs, gateway))
    };
    let bound = has(agent);
    let goes_first = |other: &Agent| {
        let older = seniority(other) < seniority(agent);
        (has(other) && (older || !bound)) || (asks(other) && !bound && older)
    };
    let agents = store.agents();
    let others = agents.iter().filter(|other| other.metadata.uid != agent.metadata.uid);
    match others.filter(|other| goes_first(other)).min_by_key(|other| seniority(other)) {
        None => Ok(()),
        Some(other) => Err(Trouble::permanent(
            Reason::AgentIdTaken,
            format!(
                "Agent {} has the id {id:?} on gateway {}; choose another spec.agentId, or delete one of the two",
                Key::of(&other.metadata),
                Binding::of(other).map_or_else(|| gateway.to_string(), |binding| binding.gateway.to_string())
            ),
        )),
    }
}

fn quota<S: Store>(store: &S, agent: &Agent, board: &Board) -> Result<(), Trouble> {
    let Some(limit) = board.spec.max_agents.and_then(|n| usize::try_from(n).ok()) else { return Ok(()) };
    let before = store.agents().iter().filter(|a| same_board(agent, a) && seniority(a) < seniority(agent)).count();
    if before < limit {
        return Ok(());
    }
    let message = format!(
        "board {:?} has its {limit} agents already; raise spec.maxAgents of the Board, or delete one of its agents",
        name(&board.metadata)
    );
    Err(Trouble::permanent(Reason::BoardFull, message))
}

fn name(meta: &kube::api::ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

fn same_board(agent: &Agent, other: &Agent) -> bool {
    agent.metadata.namespace == other.metadata.namespace
        && agent.spec.board_ref.is_some()
        && agent.spec.board_ref == other.spec.board_ref
}

/// Older Agents come first; of the same second, by name.
#[must_use]
pub fn seniority(agent: &Agent) -> (Option<jiff::Timestamp>, Key) {
    (agent.metadata.creation_timestamp.as_ref().map(|t| t.0), Key::of(&agent.metadata))
}
