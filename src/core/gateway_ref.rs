//! Resolves a `gatewayRef` to the key of an AgentGateway. Every reader of a `gatewayRef` uses this module.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::api::ObjectMeta;
use kube::core::{Selector, SelectorExt};
use url::Url;

use super::agent::binding::Binding;
use super::objects::{AgentIndex, BoardIndex, GatewayIndex, Objects};
use crate::api::allowed_namespaces::NamespacesFrom;
use crate::api::conditions::find;
use crate::api::object_key::ObjectKey;
use crate::api::shared::GatewayRef;
use crate::api::{Agent, AgentGateway, Board, ConditionType, Reason};
use crate::core::error::ReconcileError;

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

/// The base URL of Muster's HTTP API for the agents of a gateway: its own, or else the default of the operator.
///
/// # Errors
/// Neither is set.
pub fn api_url<'a>(gateway: &'a AgentGateway, default: Option<&'a str>) -> Result<&'a str, ReconcileError> {
    gateway.spec.api_url.as_deref().or(default).ok_or_else(|| {
        let key = ObjectKey::of(&gateway.metadata);
        let message = format!(
            "spec.apiUrl of AgentGateway {key} is not set, and the operator runs without --api-url; set one of them to the URL at which agents reach Muster"
        );
        ReconcileError::permanent(Reason::InvalidSpec, message)
    })
}

/// The keys of the AgentGateways that stand for one gateway, with this one first. AgentGateways with the same address do.
pub fn same_gateways<O: Objects>(objects: &O, key: &ObjectKey) -> Vec<ObjectKey> {
    same_gateways_if(objects, key, |_| true)
}

/// The keys of the AgentGateways whose bindings claim ids and workspaces on the gateway of an AgentGateway: this one, and the others of
/// its address that are connected by their own credentials. An AgentGateway without a login at the gateway has no claim there.
pub fn claiming_gateways<O: Objects>(objects: &O, key: &ObjectKey) -> Vec<ObjectKey> {
    same_gateways_if(objects, key, is_authenticated)
}

/// The namespace whose Agents have plain folders on the gateway of an AgentGateway: that of the oldest AgentGateway with a claim there.
pub fn home_namespace<O: Objects>(objects: &O, gateway: &AgentGateway) -> Option<String> {
    let keys = claiming_gateways(objects, &ObjectKey::of(&gateway.metadata));
    let created = |gateway: &AgentGateway| gateway.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let claiming = keys.iter().filter_map(|key| Some((created(&*objects.gateway(key)?), key)));
    let oldest =
        claiming.min_by(|(one, a), (other, b)| (one, &a.namespace, &a.name).cmp(&(other, &b.namespace, &b.name)));
    oldest.map(|(_, key)| key.namespace.clone()).or_else(|| gateway.metadata.namespace.clone())
}

fn same_gateways_if<O: Objects>(
    objects: &O,
    key: &ObjectKey,
    is_one: impl Fn(&AgentGateway) -> bool,
) -> Vec<ObjectKey> {
    let index = objects.gateway(key).map(|gateway| GatewayIndex::Address(address(&gateway.spec.url)));
    let found = index.map(|index| objects.gateways_by(&index)).unwrap_or_default();
    let others = found.iter().filter(|gateway| is_one(gateway)).map(|gateway| ObjectKey::of(&gateway.metadata));
    std::iter::once(key.clone()).chain(others.filter(|other| other != key)).collect()
}

/// Whether the gateway accepted the credentials of an AgentGateway with its present spec.
fn is_authenticated(gateway: &AgentGateway) -> bool {
    let conditions = gateway.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    find(conditions, ConditionType::Authenticated)
        .is_some_and(|c| c.status == "True" && c.observed_generation == gateway.metadata.generation)
}

/// The Agents that are bound to a gateway, through any AgentGateway of its address.
pub fn bound_agents<O: Objects>(objects: &O, key: &ObjectKey) -> Vec<Arc<Agent>> {
    let Some(here) = objects.gateway(key).map(|gateway| address(&gateway.spec.url)) else {
        return objects.agents_by(&AgentIndex::BoundTo(key.clone()));
    };
    let is_here = |agent: &Arc<Agent>| Binding::of(agent).is_some_and(|b| b.gateway == *key || b.is_at(&here));
    let bound = same_gateways(objects, key).into_iter().flat_map(|key| objects.agents_by(&AgentIndex::BoundTo(key)));
    bound.filter(is_here).collect()
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

/// The scheme, host and port of a URL in one form.
#[must_use]
pub fn server(url: &Url) -> String {
    let (host, port) = (url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default());
    format!("{}://{host}:{port}", url.scheme())
}

/// The scheme, host, port and path of a gateway's URL in one form. AgentGateways with the same address stand for one gateway.
#[must_use]
pub fn address(url: &str) -> String {
    match Url::parse(url) {
        Ok(url) => server(&url) + url.path().trim_end_matches('/'),
        // Such an AgentGateway has no connection.
        Err(_) => url.to_owned(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_gateway_has_one_address_in_all_forms_of_its_url() {
        for (one, other) in [
            ("ws://gw", "WS://GW:80/"),
            ("ws://gw/a/", "ws://gw/a"),
            ("wss://gw.example:443/a/../b", "wss://gw.example/b"),
            ("ws://user@gw/?q#f", "ws://gw"),
        ] {
            assert_eq!(address(one), address(other));
        }
        for (one, other) in [("ws://gw", "wss://gw"), ("ws://gw:1", "ws://gw:2"), ("ws://gw/a", "ws://gw/b")] {
            assert_ne!(address(one), address(other));
        }
    }
}
