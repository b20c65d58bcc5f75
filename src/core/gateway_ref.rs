//! Resolves a `gatewayRef` to the key of an AgentGateway. Every reader of a `gatewayRef` uses this module.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::api::ObjectMeta;
use kube::core::{Selector, SelectorExt};

use super::objects::Objects;
use crate::api::gateway::NamespacesFrom;
use crate::api::object_key::ObjectKey;
use crate::api::shared::GatewayRef;
use crate::api::{Agent, AgentGateway, Board};

fn namespace(meta: &ObjectMeta) -> &str {
    meta.namespace.as_deref().unwrap_or_default()
}

/// The key of the AgentGateway that a reference in an object of `namespace` names.
#[must_use]
pub fn gateway_key(reference: &GatewayRef, namespace: &str) -> ObjectKey {
    ObjectKey::new(reference.namespace.as_deref().unwrap_or(namespace), &reference.name)
}

/// The key of a Board's AgentGateway.
#[must_use]
pub fn gateway_of_board(board: &Board) -> ObjectKey {
    gateway_key(&board.spec.gateway_ref, namespace(&board.metadata))
}

/// The Board that an Agent refers to, if it exists.
pub fn board_of<O: Objects>(objects: &O, agent: &Agent) -> Option<Arc<Board>> {
    let name = &agent.spec.board_ref.as_ref()?.name;
    objects.board(&ObjectKey::new(namespace(&agent.metadata), name))
}

/// The key of an Agent's AgentGateway: the gateway of the Agent's Board, or else the Agent's own `gatewayRef`. `None` when the
/// Agent has neither.
#[must_use]
pub fn gateway_of_agent(agent: &Agent, board: Option<&Board>) -> Option<ObjectKey> {
    let own = || agent.spec.gateway_ref.as_ref().map(|reference| gateway_key(reference, namespace(&agent.metadata)));
    board.map(gateway_of_board).or_else(own)
}

/// The key of an Agent's AgentGateway, with the Board from the cache.
pub fn resolved_gateway<O: Objects>(objects: &O, agent: &Agent) -> Option<ObjectKey> {
    gateway_of_agent(agent, board_of(objects, agent).as_deref())
}

/// Whether two AgentGateways stand for one gateway. Two AgentGateways with the same URL do.
pub fn is_same_gateway<O: Objects>(objects: &O, one: &ObjectKey, other: &ObjectKey) -> bool {
    let url = |key: &ObjectKey| objects.gateway(key).map(|gateway| normalized(&gateway.spec.url));
    one == other || url(one).is_some_and(|one| url(other).is_some_and(|other| one == other))
}

/// A URL in lower case and without a slash at its end.
fn normalized(url: &str) -> String {
    url.trim_end_matches('/').to_ascii_lowercase()
}

/// Whether an AgentGateway admits objects of another namespace with these labels. An invalid selector admits no namespace. An empty
/// selector admits all namespaces, as in Kubernetes.
#[must_use]
pub fn admits_labels(gateway: &AgentGateway, labels: &BTreeMap<String, String>) -> bool {
    let Some(allowed) = &gateway.spec.allowed_namespaces else { return false };
    match allowed.from {
        NamespacesFrom::Same => false,
        NamespacesFrom::All => true,
        NamespacesFrom::Selector => {
            let selector = allowed.selector.clone().map(Selector::try_from);
            selector.is_some_and(|selector| selector.is_ok_and(|selector| selector.matches(labels)))
        }
    }
}
