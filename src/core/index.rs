//! The index keys of each object: under which keys the cache finds it.

use std::fmt::Debug;
use std::hash::Hash;

use kube::Resource;

use super::agent::binding::Binding;
use super::agent::claim::claimed_id;
use super::agent::templates::{config_maps, origins};
use super::gateway_ref::{address, gateway_key, gateway_of_board};
use super::objects::{AgentIndex, BoardIndex, GatewayIndex, Place};
use crate::api::conditions::find;
use crate::api::object_key::ObjectKey;
use crate::api::{Agent, AgentGateway, Board, ConditionType, Reason};

/// A kind that the cache indexes.
pub trait Indexed: Resource<DynamicType = ()> + Send + Sync + 'static {
    /// The keys of its index.
    type Index: Clone + Debug + Eq + Hash + Send + Sync;

    /// The index keys of this object. They follow from the object alone, so that a change of another object changes none of them.
    fn index_keys(&self) -> Vec<Self::Index>;

    /// Gives back the room in its lists that decoding left. A cache keeps thousands of objects.
    fn shrink_lists(&mut self) {}
}

impl Indexed for Agent {
    type Index = AgentIndex;

    fn index_keys(&self) -> Vec<AgentIndex> {
        let ObjectKey { namespace, .. } = ObjectKey::of(&self.metadata);
        let mut keys = Vec::new();
        let shown_id = self.status.as_ref().and_then(|status| status.agent_id.clone());
        keys.extend(self.metadata.uid.clone().into_iter().chain(shown_id).map(AgentIndex::Id));
        keys.extend(board_key(self).map(AgentIndex::Board));
        if let Some(named) = self.spec.gateway_ref.as_ref().map(|reference| gateway_key(reference, &namespace)) {
            keys.push(AgentIndex::GatewayRef(named.clone()));
            keys.push(AgentIndex::GatewayRefFrom(named, namespace.clone()));
        }
        if let Some(binding) = Binding::of(self) {
            keys.extend(keys_of_binding(binding, namespace));
        }
        keys.extend(observed_through(self).map(AgentIndex::Observes));
        let requested = self.spec.agent_id.as_deref().or_else(|| claimed_id(self));
        keys.extend(requested.map(|id| AgentIndex::RequestsId(id.to_owned())));
        keys.extend(config_maps(&origins(self, None, None)).into_iter().map(AgentIndex::ConfigMap));
        keys.extend(token_hashes(self).map(|hash| AgentIndex::Token(hash.to_owned())));
        keys.extend(awaited_place(self).map(AgentIndex::WaitsFor));
        keys
    }

    fn shrink_lists(&mut self) {
        if let Some(status) = &mut self.status {
            status.conditions.shrink_to_fit();
            status.files.shrink_to_fit();
        }
    }
}

/// The hashes of the current and of the previous token. An Agent whose admission was revoked has none.
fn token_hashes(agent: &Agent) -> impl Iterator<Item = &str> {
    let token =
        agent.status.as_ref().filter(|status| status.revocation.is_none()).and_then(|status| status.token.as_ref());
    let previous = token.and_then(|token| token.previous.as_ref()).map(|previous| previous.sha256.as_str());
    let current = token.map(|token| token.sha256.as_str());
    [current, previous].into_iter().flatten().filter(|hash| !hash.is_empty())
}

fn keys_of_binding(binding: Binding, namespace: String) -> Vec<AgentIndex> {
    let is_unusual = binding.has_unusual_folder();
    let Binding { gateway, identity, .. } = binding;
    let mut keys = vec![AgentIndex::BoundTo(gateway.clone()), AgentIndex::BoundAs(gateway.clone(), identity.agent_id)];
    if is_unusual {
        keys.push(AgentIndex::UnusualFolder(gateway.clone()));
    }
    if gateway.namespace != namespace {
        keys.push(AgentIndex::BoundFrom(gateway, namespace));
    }
    keys
}

impl Indexed for Board {
    type Index = BoardIndex;

    fn index_keys(&self) -> Vec<BoardIndex> {
        let ObjectKey { namespace, name } = ObjectKey::of(&self.metadata);
        let gateway = gateway_of_board(self);
        let mut keys = vec![BoardIndex::UidOrName(name), BoardIndex::Gateway(gateway.clone())];
        if gateway.namespace != namespace {
            keys.push(BoardIndex::GatewayFrom(gateway, namespace.clone()));
        }
        keys.extend(self.metadata.uid.clone().map(BoardIndex::UidOrName));
        let templates = self.spec.templates.as_ref();
        keys.extend(templates.map(|t| BoardIndex::ConfigMap(ObjectKey::new(namespace, &t.config_map_ref.name))));
        keys
    }
}

impl Indexed for AgentGateway {
    type Index = GatewayIndex;

    fn index_keys(&self) -> Vec<GatewayIndex> {
        let ObjectKey { namespace, name } = ObjectKey::of(&self.metadata);
        let mut keys = vec![GatewayIndex::UidOrName(name), GatewayIndex::Address(address(&self.spec.url))];
        keys.extend(self.metadata.uid.clone().map(GatewayIndex::UidOrName));
        let templates = self.spec.templates.as_ref();
        keys.extend(templates.map(|t| GatewayIndex::ConfigMap(ObjectKey::new(&namespace, &t.config_map_ref.name))));
        let secrets = self.device_secrets();
        keys.extend(secrets.into_iter().map(|name| GatewayIndex::DeviceSecret(ObjectKey::new(&namespace, name))));
        keys
    }
}

/// The key of the Board that an Agent names.
#[must_use]
pub fn board_key(agent: &Agent) -> Option<ObjectKey> {
    let name = &agent.spec.board_ref.as_ref()?.name;
    Some(ObjectKey::new(agent.metadata.namespace.clone().unwrap_or_default(), name))
}

/// The AgentGateway through which an Agent that only observes shows its agent, by its status.
#[must_use]
pub fn observed_through(agent: &Agent) -> Option<ObjectKey> {
    agent.status.as_ref()?.gateway.clone().filter(|_| agent.is_observer())
}

/// The places that an Agent has or may have: on its Board, as the main agent, its ids, and on an AgentGateway of another namespace. An Agent
/// that only observes takes no id by its spec.
#[must_use]
pub fn places(agent: &Agent) -> Vec<Place> {
    let (binding, namespace) = (Binding::of(agent), agent.metadata.namespace.clone().unwrap_or_default());
    let as_guest = binding.as_ref().filter(|binding| binding.gateway.namespace != namespace);
    let as_guest = as_guest.map(|_| Place::AsGuest(namespace));
    let chosen = agent.spec.agent_id.clone().filter(|_| !agent.is_observer());
    let ids = [chosen, binding.map(|binding| binding.identity.agent_id)];
    let ids = ids.into_iter().flatten().map(Place::AgentId);
    [place_of_role(agent), as_guest].into_iter().flatten().chain(ids).collect()
}

/// The place that an Agent waits for, by its status.
#[must_use]
pub fn awaited_place(agent: &Agent) -> Option<Place> {
    let ready = find(&agent.status.as_ref()?.conditions, ConditionType::Ready)?;
    let is = |reason: Reason| ready.reason == reason.as_str();
    if is(Reason::RoleTaken) || is(Reason::BoardFull) {
        return place_of_role(agent);
    }
    if is(Reason::NamespaceFull) {
        return agent.metadata.namespace.clone().map(Place::AsGuest);
    }
    is(Reason::AgentIdTaken).then(|| agent.spec.agent_id.clone().map(Place::AgentId)).flatten()
}

fn place_of_role(agent: &Agent) -> Option<Place> {
    let namespace = agent.metadata.namespace.as_deref().unwrap_or_default();
    let main = || agent.spec.gateway_ref.as_ref().map(|r| Place::MainAgent(gateway_key(r, namespace)));
    board_key(agent).map(Place::OnBoard).or_else(main)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::api::agent::{PreviousToken, RevocationStatus, TokenStatus};

    fn agent(current: &str, previous: Option<&str>) -> Agent {
        let previous = previous.map(|sha256| PreviousToken { sha256: sha256.into(), valid_until: None });
        let mut agent = Agent::default();
        let token = TokenStatus { sha256: current.into(), previous, ..TokenStatus::default() };
        agent.status.get_or_insert_default().token = Some(token);
        agent
    }

    fn tokens(agent: &Agent) -> Vec<String> {
        let token = |key| if let AgentIndex::Token(hash) = key { Some(hash) } else { None };
        agent.index_keys().into_iter().filter_map(token).collect()
    }

    #[test]
    fn an_agent_is_found_by_both_tokens_of_a_rotation_and_by_no_token_that_it_does_not_have() {
        assert_eq!(tokens(&agent("new", Some("old"))), ["new", "old"]);
        assert_eq!(tokens(&agent("new", None)), ["new"]);
        // While an agent has no valid token, its status says so with an empty hash.
        assert_eq!(tokens(&agent("", Some(""))), [""; 0]);
        assert_eq!(tokens(&Agent::default()), [""; 0]);
    }

    #[test]
    fn an_agent_is_not_found_by_its_token_while_its_admission_is_revoked() {
        let mut agent = agent("new", Some("old"));
        let gateway = ObjectKey::new("shared", "gw");
        let revocation = RevocationStatus { gateway, since: Time(Timestamp::UNIX_EPOCH), removed_at: None };
        agent.status.get_or_insert_default().revocation = Some(Box::new(revocation));
        assert_eq!(tokens(&agent), [""; 0]);
    }
}
