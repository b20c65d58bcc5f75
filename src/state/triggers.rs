//! The objects to reconcile after a change.

use std::collections::HashMap;

use kube::api::ObjectMeta;
use tokio::sync::mpsc::UnboundedSender;

use super::changes::{ChangeScope, GatewayChange};
use super::store::Store;
use crate::api::agent::Agent;
use crate::api::object_key::ObjectKey;
use crate::api::requests::RequestKind;
use crate::api::{AgentGateway, Board};
use crate::core::agent::binding::Binding;
use crate::core::agent::templates::{config_maps, origins};
use crate::core::gateway_ref::{board_of, gateway_key, resolved_gateway};

/// The queues of the three controllers.
#[derive(Clone, Debug)]
pub struct Queues {
    /// Agents to reconcile.
    pub agents: UnboundedSender<ObjectKey>,
    /// Boards to reconcile.
    pub boards: UnboundedSender<ObjectKey>,
    /// AgentGateways to reconcile.
    pub gateways: UnboundedSender<ObjectKey>,
}

/// Adds a key to a queue. The receiver is open until the operator stops.
fn enqueue(queue: &UnboundedSender<ObjectKey>, key: ObjectKey) {
    let _ = queue.send(key);
}

/// Enqueues the objects to reconcile after a change.
#[derive(Clone, Debug)]
pub struct Triggers<S> {
    /// The cached objects.
    pub store: S,
    /// The queues.
    pub queues: Queues,
}

impl<S: Store> Triggers<S> {
    /// Handles an Agent that was created, changed or deleted. `spec_changed`: the change is not only a change of the status.
    pub fn agent(&self, agent: &Agent, spec_changed: bool, deleted: bool) {
        if spec_changed {
            enqueue(&self.queues.agents, ObjectKey::of(&agent.metadata));
        }
        let namespace = agent.metadata.namespace.clone().unwrap_or_default();
        if let Some(board) = &agent.spec.board_ref {
            enqueue(&self.queues.boards, ObjectKey::new(&namespace, &board.name));
        }
        let bound = Binding::of(agent).map(|b| b.gateway);
        for gateway in bound.into_iter().chain(resolved_gateway(&self.store, agent)) {
            enqueue(&self.queues.gateways, gateway);
        }
        if deleted {
            self.enqueue_rivals(agent);
        }
    }

    /// Enqueues the Agents that may now have the role or the place of a deleted Agent on its Board or AgentGateway.
    fn enqueue_rivals(&self, deleted: &Agent) {
        self.enqueue_agents_where(|other| {
            (deleted.spec.board_ref.is_some()
                && other.spec.board_ref == deleted.spec.board_ref
                && other.metadata.namespace == deleted.metadata.namespace)
                || (deleted.spec.gateway_ref.is_some() && other.spec.gateway_ref.is_some())
        });
    }

    fn enqueue_agents_where(&self, predicate: impl Fn(&Agent) -> bool) {
        for agent in self.store.agents().iter().filter(|agent| predicate(agent)) {
            enqueue(&self.queues.agents, ObjectKey::of(&agent.metadata));
        }
    }

    /// Handles a Board that was created, changed or deleted.
    pub fn board(&self, board: &Board) {
        enqueue(&self.queues.boards, ObjectKey::of(&board.metadata));
        self.enqueue_agents_where(|agent| {
            agent.metadata.namespace == board.metadata.namespace
                && agent.spec.board_ref.as_ref().map(|r| &r.name) == board.metadata.name.as_ref()
        });
    }

    /// Handles an AgentGateway that was created, changed or deleted. `spec_changed`: the change is not only a change of the
    /// status.
    pub fn gateway(&self, gateway: &AgentGateway, spec_changed: bool) {
        let key = ObjectKey::of(&gateway.metadata);
        for board in self.store.boards() {
            let namespace = board.metadata.namespace.as_deref().unwrap_or_default();
            if gateway_key(&board.spec.gateway_ref, namespace) == key {
                enqueue(&self.queues.boards, ObjectKey::of(&board.metadata));
            }
        }
        if spec_changed {
            enqueue(&self.queues.gateways, key.clone());
            self.enqueue_agents_of(&key);
        }
    }

    fn enqueue_agents_of(&self, gateway: &ObjectKey) {
        self.enqueue_agents_where(|agent| {
            Binding::of(agent).is_some_and(|b| b.gateway == *gateway)
                || resolved_gateway(&self.store, agent).as_ref() == Some(gateway)
        });
    }

    /// Handles a ConfigMap that was created, changed or deleted.
    pub fn config_map(&self, meta: &ObjectMeta) {
        let key = ObjectKey::of(meta);
        self.enqueue_agents_where(|agent| {
            let board = board_of(&self.store, agent);
            let gateway = resolved_gateway(&self.store, agent).and_then(|g| self.store.gateway(&g));
            config_maps(&origins(agent, board.as_deref(), gateway.as_deref())).contains(&key)
        });
    }

    /// Handles a change on a gateway.
    pub fn gateway_change(&self, change: &GatewayChange) {
        enqueue(&self.queues.gateways, change.gateway.clone());
        match &change.scope {
            ChangeScope::AllAgents => self.enqueue_agents_of(&change.gateway),
            ChangeScope::GatewayOnly => {}
            ChangeScope::Agent(key) => enqueue(&self.queues.agents, key.clone()),
            ChangeScope::AgentId(id) => self.enqueue_agents_where(|agent| {
                let names_id = || {
                    agent.spec.agent_id.as_ref() == Some(id)
                        && resolved_gateway(&self.store, agent).as_ref() == Some(&change.gateway)
                };
                Binding::of(agent).map_or_else(names_id, |b| b.gateway == change.gateway && b.identity.agent_id == *id)
            }),
        }
    }
}

/// The last seen generation and one-shot requests of each object. They distinguish a change of the spec from a change of the
/// status.
#[derive(Debug, Default)]
pub struct Generations(HashMap<ObjectKey, SpecVersion>);

/// Uid, generation and one-shot requests of an object.
type SpecVersion = (Option<String>, Option<i64>, Vec<Option<String>>);

impl Generations {
    /// Records an object. Returns whether its uid, its generation or a one-shot request changed since the last call.
    pub fn spec_changed(&mut self, meta: &ObjectMeta) -> bool {
        let request = |kind: RequestKind| meta.annotations.as_ref()?.get(kind.annotation()).cloned();
        let now = (meta.uid.clone(), meta.generation, RequestKind::ALL.map(request).into());
        self.0.insert(ObjectKey::of(meta), now.clone()) != Some(now)
    }

    /// Removes a deleted object.
    pub fn forget(&mut self, meta: &ObjectMeta) {
        self.0.remove(&ObjectKey::of(meta));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_one_shot_request_is_a_change_of_the_spec_and_another_annotation_is_not() {
        let mut generations = Generations::default();
        let meta = |key: &str, value: &str| ObjectMeta {
            name: Some("a".into()),
            annotations: Some([(key.to_owned(), value.to_owned())].into()),
            ..ObjectMeta::default()
        };
        let changed =
            [(RequestKind::Rotate.annotation(), "1"), (RequestKind::Rotate.annotation(), "2"), ("other", "3")]
                .map(|(key, value)| generations.spec_changed(&meta(key, value)));
        assert_eq!(changed, [true, true, true]);
        assert!(!generations.spec_changed(&meta("other", "4")));
    }

    #[test]
    fn a_new_generation_or_a_new_object_with_the_same_name_is_a_change_of_the_spec() {
        let mut generations = Generations::default();
        let meta = |uid: &str, generation| ObjectMeta {
            name: Some("a".into()),
            uid: Some(uid.into()),
            generation: Some(generation),
            ..ObjectMeta::default()
        };
        let changed: Vec<_> =
            [("u", 1), ("u", 1), ("u", 2), ("v", 2)].map(|(u, g)| generations.spec_changed(&meta(u, g))).into();
        assert_eq!(changed, [true, false, true, true]);
        generations.forget(&meta("v", 2));
        assert!(generations.spec_changed(&meta("v", 2)));
    }
}
