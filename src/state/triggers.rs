//! Which objects are to be looked at when something changes.

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
    /// Agents to look at.
    pub agents: UnboundedSender<ObjectKey>,
    /// Boards to look at.
    pub boards: UnboundedSender<ObjectKey>,
    /// AgentGateways to look at.
    pub gateways: UnboundedSender<ObjectKey>,
}

/// Puts a key into a queue. The receiver ends only when the operator does.
fn push(queue: &UnboundedSender<ObjectKey>, key: ObjectKey) {
    let _ = queue.send(key);
}

/// Says which objects are to be looked at when something changes.
#[derive(Clone, Debug)]
pub struct Triggers<S> {
    /// The caches, through the port.
    pub store: S,
    /// The queues.
    pub queues: Queues,
}

impl<S: Store> Triggers<S> {
    /// An Agent came, changed or went. `spec` says whether more than its status did.
    pub fn agent(&self, agent: &Agent, spec: bool, gone: bool) {
        if spec {
            push(&self.queues.agents, ObjectKey::of(&agent.metadata));
        }
        let namespace = agent.metadata.namespace.clone().unwrap_or_default();
        if let Some(board) = &agent.spec.board_ref {
            push(&self.queues.boards, ObjectKey::new(&namespace, &board.name));
        }
        let bound = Binding::of(agent).map(|b| b.gateway);
        for gateway in bound.into_iter().chain(resolved_gateway(&self.store, agent)) {
            push(&self.queues.gateways, gateway);
        }
        if gone {
            self.rivals(agent);
        }
    }

    /// When an Agent is gone, another may take its place on the board or the gateway.
    fn rivals(&self, gone: &Agent) {
        let shares = |other: &Agent| {
            (gone.spec.board_ref.is_some()
                && other.spec.board_ref == gone.spec.board_ref
                && other.metadata.namespace == gone.metadata.namespace)
                || (gone.spec.gateway_ref.is_some() && other.spec.gateway_ref.is_some())
        };
        self.agents_where(shares);
    }

    fn agents_where(&self, wanted: impl Fn(&Agent) -> bool) {
        for agent in self.store.agents().iter().filter(|a| wanted(a)) {
            push(&self.queues.agents, ObjectKey::of(&agent.metadata));
        }
    }

    /// A Board came, changed or went.
    pub fn board(&self, board: &Board) {
        push(&self.queues.boards, ObjectKey::of(&board.metadata));
        self.agents_where(|agent| {
            agent.metadata.namespace == board.metadata.namespace
                && agent.spec.board_ref.as_ref().map(|r| &r.name) == board.metadata.name.as_ref()
        });
    }

    /// An AgentGateway came, changed or went. `spec` says whether more than its status did.
    pub fn gateway(&self, gateway: &AgentGateway, spec: bool) {
        let key = ObjectKey::of(&gateway.metadata);
        for board in self.store.boards() {
            let namespace = board.metadata.namespace.as_deref().unwrap_or_default();
            if gateway_key(&board.spec.gateway_ref, namespace) == key {
                push(&self.queues.boards, ObjectKey::of(&board.metadata));
            }
        }
        if spec {
            push(&self.queues.gateways, key.clone());
            self.agents_of(&key);
        }
    }

    fn agents_of(&self, key: &ObjectKey) {
        self.agents_where(|agent| {
            Binding::of(agent).is_some_and(|b| b.gateway == *key)
                || resolved_gateway(&self.store, agent).as_ref() == Some(key)
        });
    }

    /// A ConfigMap came, changed or went.
    pub fn config_map(&self, meta: &ObjectMeta) {
        let key = ObjectKey::of(meta);
        self.agents_where(|agent| {
            let board = board_of(&self.store, agent);
            let gateway = resolved_gateway(&self.store, agent).and_then(|g| self.store.gateway(&g));
            config_maps(&origins(agent, board.as_deref(), gateway.as_deref())).contains(&key)
        });
    }

    /// Something changed on a gateway.
    pub fn changed(&self, changed: &GatewayChange) {
        push(&self.queues.gateways, changed.gateway.clone());
        match &changed.concerns {
            ChangeScope::Everyone => self.agents_of(&changed.gateway),
            ChangeScope::Itself => {}
            ChangeScope::Agent(key) => push(&self.queues.agents, key.clone()),
            ChangeScope::Id(id) => self.agents_where(|agent| {
                let asks = || {
                    agent.spec.agent_id.as_ref() == Some(id)
                        && resolved_gateway(&self.store, agent).as_ref() == Some(&changed.gateway)
                };
                Binding::of(agent).map_or_else(asks, |b| b.gateway == changed.gateway && b.identity.agent_id == *id)
            }),
        }
    }
}

/// Remembers generations and one-shot requests, to tell a change of what is wanted from one of a status.
#[derive(Debug, Default)]
pub struct Generations(HashMap<ObjectKey, Wanted>);

/// Uid, generation and one-shot requests of an object.
type Wanted = (Option<String>, Option<i64>, Vec<Option<String>>);

impl Generations {
    /// Whether more than the status of an object changed since it was last seen.
    pub fn moved(&mut self, meta: &ObjectMeta) -> bool {
        let request = |kind: RequestKind| meta.annotations.as_ref()?.get(kind.annotation()).cloned();
        let now = (meta.uid.clone(), meta.generation, RequestKind::ALL.map(request).into());
        self.0.insert(ObjectKey::of(meta), now.clone()) != Some(now)
    }

    /// Forgets an object that is gone.
    pub fn forget(&mut self, meta: &ObjectMeta) {
        self.0.remove(&ObjectKey::of(meta));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_one_shot_request_counts_as_moved_and_another_annotation_does_not() {
        let mut generations = Generations::default();
        let meta = |key: &str, value: &str| ObjectMeta {
            name: Some("a".into()),
            annotations: Some([(key.to_owned(), value.to_owned())].into()),
            ..ObjectMeta::default()
        };
        let moved = [(RequestKind::Rotate.annotation(), "1"), (RequestKind::Rotate.annotation(), "2"), ("other", "3")]
            .map(|(key, value)| generations.moved(&meta(key, value)));
        assert_eq!(moved, [true, true, true]);
        assert!(!generations.moved(&meta("other", "4")));
    }

    #[test]
    fn only_a_new_generation_or_another_object_of_the_name_counts_as_moved() {
        let mut generations = Generations::default();
        let meta = |uid: &str, generation| ObjectMeta {
            name: Some("a".into()),
            uid: Some(uid.into()),
            generation: Some(generation),
            ..ObjectMeta::default()
        };
        let moved: Vec<_> =
            [("u", 1), ("u", 1), ("u", 2), ("v", 2)].map(|(u, g)| generations.moved(&meta(u, g))).into();
        assert_eq!(moved, [true, false, true, true]);
        generations.forget(&meta("v", 2));
        assert!(generations.moved(&meta("v", 2)));
    }
}
