//! The objects to reconcile after a change.
//!
//! # Guarantees
//! The work of a trigger does not grow with the number of objects that the change does not concern.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::Resource;
use kube::api::ObjectMeta;
use tokio::sync::mpsc::UnboundedSender;

use super::changes::{ChangeScope, GatewayChange};
use crate::api::agent::{Agent, Role};
use crate::api::conditions::find;
use crate::api::object_key::ObjectKey;
use crate::api::requests::RequestKind;
use crate::api::{AgentGateway, Board, ConditionType, keys};
use crate::core::agent::binding::Binding;
use crate::core::gateway_ref::{agents_of_board, agents_of_gateway, resolved_gateway};
use crate::core::index::{awaited_place, board_key, observed_through, places};
use crate::core::objects::{AgentIndex, BoardIndex, GatewayIndex, Objects, Place};

/// An object to reconcile.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Trigger {
    /// The object.
    pub key: ObjectKey,
    /// Why it is reconciled.
    pub cause: Cause,
}

/// Why an object is reconciled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The object changed, or something that it depends on.
    Change,
    /// A place at its gateway is kept for it, for a while.
    Place,
    /// An Agent changed that its status only counts.
    Count,
}

impl From<ObjectKey> for Trigger {
    fn from(key: ObjectKey) -> Self {
        Self { key, cause: Cause::Change }
    }
}

/// The queues of the three controllers.
#[derive(Clone, Debug)]
pub struct Queues {
    /// Agents to reconcile.
    pub agents: UnboundedSender<Trigger>,
    /// Boards to reconcile.
    pub boards: UnboundedSender<Trigger>,
    /// AgentGateways to reconcile.
    pub gateways: UnboundedSender<Trigger>,
}

/// Adds an object to a queue. The receiver is open until the operator stops.
fn enqueue(queue: &UnboundedSender<Trigger>, trigger: impl Into<Trigger>) {
    let _ = queue.send(trigger.into());
}

/// Enqueues the objects to reconcile after a change.
#[derive(Clone, Debug)]
pub struct Triggers<O> {
    /// The cached objects.
    pub objects: O,
    /// The queues.
    pub queues: Queues,
}

impl<O: Objects> Triggers<O> {
    /// Handles an Agent that was created or changed. `before` is the Agent before the change.
    pub fn agent(&self, before: Option<&Agent>, now: &Agent) {
        // The place may have become free while the status that says it is taken was written.
        let begins_to_wait = awaited_place(now).is_some() && before.and_then(awaited_place) != awaited_place(now);
        if begins_to_wait || spec_changed(before, now) {
            self.enqueue_agent(now);
        }
        let is_bound_anew = before.and_then(Binding::of) != Binding::of(now);
        self.enqueue_parents(now, cause(now, is_bound_anew));
        if let Some(before) = before {
            let is_moved = board_key(before) != board_key(now) || before.spec.gateway_ref != now.spec.gateway_ref;
            let is_shown_elsewhere = observed_through(before) != observed_through(now);
            if is_moved || is_shown_elsewhere || is_bound_anew {
                self.enqueue_parents(before, Cause::Change);
            }
            let kept = places(now);
            self.enqueue_waiting(before, |place| !kept.contains(place));
        }
    }

    /// Handles an Agent that was deleted.
    pub fn agent_deleted(&self, agent: &Agent) {
        self.enqueue_parents(agent, Cause::Change);
        self.enqueue_waiting(agent, |_| true);
        // An Agent that was not set up had a place as a guest too, if it came before others.
        let namespace = agent.metadata.namespace.clone().unwrap_or_default();
        self.enqueue_agents(self.objects.agents_by(&AgentIndex::WaitsFor(Place::AsGuest(namespace))));
    }

    /// Enqueues the Board and the AgentGateways of an Agent: of its binding, of its references, and the one that counts it as an observer.
    fn enqueue_parents(&self, agent: &Agent, cause: Cause) {
        if let Some(key) = board_key(agent) {
            enqueue(&self.queues.boards, Trigger { key, cause });
        }
        let bound = Binding::of(agent).map(|binding| binding.gateway);
        let gateways = [bound, resolved_gateway(&self.objects, agent), observed_through(agent)];
        for key in gateways.into_iter().flatten().collect::<BTreeSet<_>>() {
            enqueue(&self.queues.gateways, Trigger { key, cause });
        }
    }

    /// Enqueues the Agents that wait for a place which an Agent had and may no longer have.
    fn enqueue_waiting(&self, agent: &Agent, is_vacated: impl Fn(&Place) -> bool) {
        for place in places(agent).into_iter().filter(is_vacated) {
            self.enqueue_agents(self.objects.agents_by(&AgentIndex::WaitsFor(place)));
        }
    }

    fn enqueue_agent(&self, agent: &Agent) {
        enqueue(&self.queues.agents, ObjectKey::of(&agent.metadata));
    }

    fn enqueue_agents(&self, agents: impl IntoIterator<Item = Arc<Agent>>) {
        for agent in agents {
            self.enqueue_agent(&agent);
        }
    }

    /// Handles a Board that was created, changed or deleted. `before` is the Board before a change.
    pub fn board(&self, before: Option<&Board>, now: &Board) {
        if spec_changed(before, now) {
            enqueue(&self.queues.boards, ObjectKey::of(&now.metadata));
            self.enqueue_agents(agents_of_board(&self.objects, now));
        }
    }

    /// Handles an AgentGateway that was created, changed or deleted. `before` is the AgentGateway before a change.
    pub fn gateway(&self, before: Option<&AgentGateway>, now: &AgentGateway) {
        let key = ObjectKey::of(&now.metadata);
        let spec_changed = spec_changed(before, now);
        let ready = |gateway: &AgentGateway| {
            let status = gateway.status.as_ref()?;
            find(&status.conditions, ConditionType::Ready).cloned()
        };
        if spec_changed || before.and_then(ready) != ready(now) {
            for board in self.objects.boards_by(&BoardIndex::Gateway(key.clone())) {
                enqueue(&self.queues.boards, ObjectKey::of(&board.metadata));
            }
        }
        if spec_changed {
            enqueue(&self.queues.gateways, key.clone());
            self.enqueue_agents_of(&key);
        }
    }

    fn enqueue_agents_of(&self, gateway: &ObjectKey) {
        self.enqueue_agents(agents_of_gateway(&self.objects, gateway));
    }

    /// Handles a ConfigMap that was created, changed or deleted.
    pub fn config_map(&self, key: &ObjectKey) {
        self.enqueue_agents(self.objects.agents_by(&AgentIndex::ConfigMap(key.clone())));
        for board in self.objects.boards_by(&BoardIndex::ConfigMap(key.clone())) {
            self.enqueue_agents(agents_of_board(&self.objects, &board));
        }
        for gateway in self.objects.gateways_by(&GatewayIndex::ConfigMap(key.clone())) {
            self.enqueue_agents_of(&ObjectKey::of(&gateway.metadata));
        }
    }

    /// Handles a change on a gateway.
    pub fn gateway_change(&self, change: &GatewayChange) {
        if !matches!(change.scope, ChangeScope::Agent(_) | ChangeScope::Place(_)) {
            enqueue(&self.queues.gateways, change.gateway.clone());
        }
        match &change.scope {
            ChangeScope::AllAgents => self.enqueue_agents_of(&change.gateway),
            ChangeScope::GatewayOnly => {}
            ChangeScope::Agent(key) => enqueue(&self.queues.agents, key.clone()),
            ChangeScope::Place(key) => {
                enqueue(&self.queues.agents, Trigger { key: key.clone(), cause: Cause::Place });
            }
            ChangeScope::AgentId(id) => self.enqueue_agent_id(&change.gateway, id),
        }
    }

    /// Enqueues the Agents that are bound to an agent, and the unbound Agents that request its id.
    fn enqueue_agent_id(&self, gateway: &ObjectKey, id: &str) {
        let bound = self.objects.agents_by(&AgentIndex::BoundAs(gateway.clone(), id.to_owned()));
        let requesting = self.objects.agents_by(&AgentIndex::RequestsId(id.to_owned()));
        let unbound = requesting.into_iter().filter(|agent| {
            Binding::of(agent).is_none() && resolved_gateway(&self.objects, agent).as_ref() == Some(gateway)
        });
        self.enqueue_agents(bound.into_iter().chain(unbound));
    }
}

/// What a change of an Agent means to its Board and its AgentGateway. They keep the ids of leads and of main agents. Until an AgentGateway has seen
/// the agents that are bound to it, the config writer may not know which heartbeats of others it keeps.
fn cause(now: &Agent, is_bound_anew: bool) -> Cause {
    if now.spec.role == Role::Worker && !is_bound_anew { Cause::Count } else { Cause::Change }
}

/// Whether the uid, the generation or a request of an object changed: the change is not only a change of the status.
fn spec_changed<K: Resource<DynamicType = ()>>(before: Option<&K>, now: &K) -> bool {
    let annotations = |meta: &ObjectMeta| {
        let all = meta.annotations.as_ref();
        let requests = RequestKind::ALL.map(|kind| all?.get(kind.annotation()).cloned());
        let others = [keys::RECONCILE_REQUESTED_AT, keys::PROTECTED].map(|key| all?.get(key).cloned());
        (requests, others)
    };
    before.is_none_or(|before| {
        let (before, now) = (before.meta(), now.meta());
        before.uid != now.uid || before.generation != now.generation || annotations(before) != annotations(now)
    })
}

#[cfg(test)]
#[path = "triggers_tests.rs"]
mod tests;
