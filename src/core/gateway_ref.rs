//! Resolves a `gatewayRef` to the key of an AgentGateway. Every reader of a `gatewayRef` uses this module.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::api::ObjectMeta;
use kube::core::{Selector, SelectorExt};

use super::objects::{AgentIndex, BoardIndex, GatewayIndex, Objects};
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

/// The keys of the AgentGateways that stand for one gateway, with this one first. AgentGateways with the same URL do.
pub fn same_gateways<O: Objects>(objects: &O, key: &ObjectKey) -> Vec<ObjectKey> {
    let url = objects.gateway(key).map(|gateway| GatewayIndex::Url(normalized_url(&gateway.spec.url)));
    let of_url = url.map(|url| objects.gateways_by(&url)).unwrap_or_default();
    let others = of_url.iter().map(|gateway| ObjectKey::of(&gateway.metadata)).filter(|other| other != key);
    std::iter::once(key.clone()).chain(others).collect()
}

/// The Agents that are bound to a gateway, through any AgentGateway of its URL.
pub fn bound_agents<O: Objects>(objects: &O, key: &ObjectKey) -> Vec<Arc<Agent>> {
    same_gateways(objects, key).into_iter().flat_map(|key| objects.agents_by(&AgentIndex::BoundTo(key))).collect()
}

/// The Agents of an AgentGateway: the Agents that are bound to it, and the Agents whose references lead to it.
pub fn agents_of_gateway<O: Objects>(objects: &O, key: &ObjectKey) -> Vec<Arc<Agent>> {
    let boards = objects.boards_by(&BoardIndex::Gateway(key.clone()));
    let on_boards = boards.iter().flat_map(|board| agents_of_board(objects, board));
    let named = objects.agents_by(&AgentIndex::GatewayRef(key.clone()));
    let named = named.into_iter().filter(|agent| resolved_gateway(objects, agent).as_ref() == Some(key));
    let all = objects.agents_by(&AgentIndex::BoundTo(key.clone())).into_iter().chain(on_boards).chain(named);
    let mut seen = BTreeSet::new();
    all.filter(|agent| seen.insert(ObjectKey::of(&agent.metadata))).collect()
}

/// The Agents that name a Board.
pub fn agents_of_board<O: Objects>(objects: &O, board: &Board) -> Vec<Arc<Agent>> {
    objects.agents_by(&AgentIndex::Board(ObjectKey::of(&board.metadata)))
}

/// A URL in lower case and without a slash at its end.
#[must_use]
pub fn normalized_url(url: &str) -> String {
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
