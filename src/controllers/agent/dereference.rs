//! What an agent refers to: its board, its gateway, its templates, its token.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::templates::TemplatesError;
use crate::api::agent::{Agent, Parents};
use crate::api::gateway::NamespacesFrom;
use crate::api::object_key::ObjectKey;
use crate::api::shared::GatewayRef;
use crate::api::{AgentGateway, Board, Reason};
use crate::controllers::agent::{templates, token_secret};
use crate::core::agent::admission::{check_agent_id, check_place, identity, kept_identity};
use crate::core::agent::references::References;
use crate::core::agent::soul_files::RoleSoul;
use crate::core::error::ReconcileError;
use crate::core::gateway_ref::{admits_labels, gateway_key};
use crate::core::names;
use crate::core::requests::{RequestTimes, Requests};
use crate::state::store::{Store, StoreError};

/// Reads what an agent refers to.
///
/// # Errors
/// [`TemplatesError::Reconcile`] names the reference that does not hold and what to do about it.
pub async fn read<S: Store>(store: &S, agent: &Agent) -> Result<References, TemplatesError> {
    names::of_agent(agent)?;
    let namespace = agent.metadata.namespace.clone().unwrap_or_default();
    let board = board(store, agent, &namespace)?;
    board.as_deref().map_or(Ok(()), names::of_board)?;
    let reference = match (&board, &agent.spec.gateway_ref) {
        (Some(board), _) => &board.spec.gateway_ref,
        (None, Some(reference)) => reference,
        (None, None) => return Err(ReconcileError::permanent(Reason::InvalidSpec, "spec.gatewayRef is missing").into()),
    };
    let gateway = gateway(store, reference, &namespace).await?;
    let gateway_key = gateway_key(reference, &namespace);
    check_place(store, agent, board.as_deref(), &gateway_key)?;
    let derived = identity(agent, board.as_deref(), &gateway);
    let (identity, adopted) = kept_identity(agent, &gateway_key, derived);
    check_agent_id(store, agent, &gateway_key, &identity.agent_id)?;
    let templates = templates::gather(store, agent, board.as_deref(), &gateway).await?;
    let token = token_secret::read(store, agent, &gateway.spec.api_url).await?;
    let requests = requests(agent, board.as_deref(), &gateway, store.now());
    Ok(References { board, gateway, gateway_key, identity, adopted, templates, token, requests, soul: RoleSoul::Off })
}

fn requests(agent: &Agent, board: Option<&Board>, gateway: &AgentGateway, now: jiff::Timestamp) -> Requests {
    let own = RequestTimes::read(agent.metadata.annotations.as_ref(), now);
    let of_board = board.map(|board| RequestTimes::read(board.metadata.annotations.as_ref(), now)).unwrap_or_default();
    let above = of_board.and(&RequestTimes::read(gateway.metadata.annotations.as_ref(), now));
    let parents = Parents {
        board_uid: board.and_then(|board| board.metadata.uid.clone()),
        gateway_uid: gateway.metadata.uid.clone().unwrap_or_default(),
    };
    Requests::new(own, above, parents, &agent.status.clone().unwrap_or_default())
}

fn board<S: Store>(store: &S, agent: &Agent, namespace: &str) -> Result<Option<Arc<Board>>, ReconcileError> {
    let Some(reference) = &agent.spec.board_ref else { return Ok(None) };
    let name = &reference.name;
    let found = store.board(&ObjectKey::new(namespace, name));
    found.map(Some).ok_or_else(|| {
        let message = format!("Board {name:?}, which spec.boardRef names, does not exist in namespace {namespace:?}; create it or change spec.boardRef");
        ReconcileError::permanent(Reason::BoardNotFound, message)
    })
}

/// The gateway that a reference means, if it admits this namespace and is not being deleted.
pub async fn gateway<S: Store>(
    store: &S,
    reference: &GatewayRef,
    namespace: &str,
) -> Result<Arc<AgentGateway>, TemplatesError> {
    let key = gateway_key(reference, namespace);
    let found = store.gateway(&key).ok_or_else(|| {
        let message = format!("AgentGateway {key} does not exist; create it or change the gatewayRef that names it");
        ReconcileError::permanent(Reason::GatewayNotFound, message)
    })?;
    if found.metadata.deletion_timestamp.is_some() {
        let message = format!("AgentGateway {key} is being deleted");
        return Err(ReconcileError::permanent(Reason::GatewayNotFound, message).into());
    }
    if !admits(store, &found, &key, namespace).await? {
        let message = format!(
            "AgentGateway {key} does not admit namespace {namespace:?}; allow it in that gateway's spec.allowedNamespaces"
        );
        return Err(ReconcileError::permanent(Reason::NotAdmitted, message).into());
    }
    Ok(found)
}

async fn admits<S: Store>(
    store: &S,
    gateway: &AgentGateway,
    key: &ObjectKey,
    namespace: &str,
) -> Result<bool, StoreError> {
    if key.namespace == namespace {
        return Ok(true);
    }
    let Some(allowed) = &gateway.spec.allowed_namespaces else { return Ok(false) };
    let labels = match allowed.from {
        NamespacesFrom::Selector => store.namespace_labels(namespace).await?.unwrap_or_default(),
        NamespacesFrom::Same | NamespacesFrom::All => BTreeMap::new(),
    };
    Ok(admits_labels(gateway, &labels))
}
