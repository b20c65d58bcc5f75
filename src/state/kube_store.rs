//! The reads and writes of Kubernetes that the reconcilers use.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::cache::Cache;
use super::caches::Caches;
use super::compact::compact;
use super::late_events::{EventWriter, LateEvents, ObjectEvent};
use super::request_limits::RequestLimits;
use super::request_limits::Urgency::{self, Awaited, Late};
use super::scope::of_scope;
use super::store::{BoundAgents, Denial, EventTarget, MetadataChange, StoreError};
use crate::api::agent::{Agent, AgentStatus};
use crate::api::conditions::is_true;
use crate::api::names::is_object_name;
use crate::api::object_key::ObjectKey;
use crate::api::watched_namespaces::WatchedNamespaces;
use crate::api::{AgentGateway, AgentGatewayStatus, Board, BoardStatus, ConditionType, keys};
use crate::core::agent::binding::Binding;
use crate::core::agent::status::is_ready;
use crate::core::agent::templates::ConfigMapContent;
use crate::core::event;
use crate::core::index::Indexed;
use crate::core::kstatus::Settled;
use crate::core::objects::{AgentIndex, BoardIndex, Coverage, GatewayIndex, Objects};

/// Tells the time of the day.
pub type WallClock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The reads and writes of Kubernetes, by one client.
///
/// # Guarantees
/// Reads of Agents, Boards and AgentGateways come from a cache, except [`Self::fresh_agent`] and [`Self::bound_agents`]. Reads of Secrets,
/// ConfigMaps and namespaces by name come from the API server. A Secret or a ConfigMap with an invalid name counts as absent, so that no name
/// becomes part of another API path. A write applies only to the resource version that was read, and returns the written object.
#[derive(Clone)]
pub struct KubeStore {
    client: Client,
    clock: WallClock,
    caches: Caches,
    namespaces: WatchedNamespaces,
    events: EventWriter,
    limits: RequestLimits,
}

impl std::fmt::Debug for KubeStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubeStore").finish_non_exhaustive()
    }
}

impl KubeStore {
    /// The API server of `client`, with these caches of the objects in these namespaces, and the events that it is to write.
    #[must_use]
    pub fn new(client: Client, caches: Caches, namespaces: WatchedNamespaces, clock: WallClock) -> (Self, LateEvents) {
        let limits = RequestLimits::default();
        let (events, late_events) = EventWriter::new(client.clone(), limits.clone());
        (Self { client, clock, caches, namespaces, events, limits }, late_events)
    }

    fn api<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>>(&self, namespace: &str) -> Api<K> {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn patch_metadata<K>(&self, object: &K, change: &MetadataChange) -> Result<K, StoreError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let ObjectKey { namespace, name } = ObjectKey::of(object.meta());
        let params = PatchParams { field_manager: Some(keys::FIELD_MANAGER.into()), ..PatchParams::default() };
        let patch = change.patch(object.meta());
        let api = self.api::<K>(&namespace);
        self.limits.write(Awaited, api.patch(&name, &params, &Patch::Merge(&patch))).await
    }

    async fn replace_status<K>(&self, object: &K) -> Result<K, kube::Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + Serialize
            + std::fmt::Debug,
    {
        let ObjectKey { namespace, name } = ObjectKey::of(object.meta());
        self.api::<K>(&namespace).replace_status(&name, &post_params(), object).await
    }
}

fn post_params() -> PostParams {
    PostParams { field_manager: Some(keys::FIELD_MANAGER.into()), ..PostParams::default() }
}

/// A Secret without what no code reads and the next write of the Secret would send back.
fn without_managed_fields(mut secret: Secret) -> Secret {
    secret.metadata.managed_fields = None;
    secret
}

/// A written object, which the cache shows from now on.
fn noted<K: Indexed>(cache: &Cache<K>, written: K) -> Arc<K> {
    let written = Arc::new(compact(written));
    cache.written(&written);
    written
}

impl Objects for KubeStore {
    fn agent(&self, key: &ObjectKey) -> Option<Arc<Agent>> {
        self.caches.agents.get(key)
    }

    fn board(&self, key: &ObjectKey) -> Option<Arc<Board>> {
        self.caches.boards.get(key)
    }

    fn gateway(&self, key: &ObjectKey) -> Option<Arc<AgentGateway>> {
        self.caches.gateways.get(key)
    }

    fn agents_by(&self, index: &AgentIndex) -> Vec<Arc<Agent>> {
        self.caches.agents.by(index)
    }

    fn boards_by(&self, index: &BoardIndex) -> Vec<Arc<Board>> {
        self.caches.boards.by(index)
    }

    fn gateways_by(&self, index: &GatewayIndex) -> Vec<Arc<AgentGateway>> {
        self.caches.gateways.by(index)
    }

    fn agents(&self) -> Vec<Arc<Agent>> {
        self.caches.agents.all()
    }

    fn boards(&self) -> Vec<Arc<Board>> {
        self.caches.boards.all()
    }

    fn gateways(&self) -> Vec<Arc<AgentGateway>> {
        self.caches.gateways.all()
    }

    fn unreadable_agents(&self) -> Vec<ObjectMeta> {
        self.caches.agents.unreadable()
    }

    fn unreadable_gateways(&self) -> Vec<ObjectMeta> {
        self.caches.gateways.unreadable()
    }

    fn coverage(&self, namespace: &str) -> Coverage {
        match (self.namespaces.contains(namespace), self.caches.are_complete(namespace)) {
            (false, _) => Coverage::NotWatched,
            (true, true) => Coverage::Complete,
            (true, false) => Coverage::Refused,
        }
    }
}

impl KubeStore {
    /// The current time.
    pub fn now(&self) -> Timestamp {
        // Kubernetes keeps whole seconds.
        let now = (self.clock)();
        Timestamp::from_second(now.as_second()).unwrap_or(now)
    }

    /// The namespaces with a readable Agent, Board or AgentGateway.
    pub fn namespaces(&self) -> BTreeSet<String> {
        let Caches { agents, boards, gateways } = &self.caches;
        let mut found = BTreeSet::new();
        agents.namespaces(&mut found);
        boards.namespaces(&mut found);
        gateways.namespaces(&mut found);
        found
    }

    /// An Agent from the API server, not from the cache.
    pub async fn fresh_agent(&self, key: &ObjectKey) -> Result<Option<Arc<Agent>>, StoreError> {
        let found = self.limits.read(Awaited, self.api::<Agent>(&key.namespace).get_opt(&key.name)).await?;
        Ok(found.map(compact).map(Arc::new))
    }

    /// A Secret by name.
    pub async fn secret(&self, key: &ObjectKey) -> Result<Option<Secret>, StoreError> {
        self.read_secret(key, Awaited).await
    }

    /// The token Secret of an Agent. After a restart Muster reads the Secrets of all Agents. The reads for settled Agents let other
    /// reads pass.
    pub async fn token_secret(&self, agent: &Agent, key: &ObjectKey) -> Result<Option<Secret>, StoreError> {
        self.read_secret(key, late_if(agent.is_settled())).await
    }

    async fn read_secret(&self, key: &ObjectKey, urgency: Urgency) -> Result<Option<Secret>, StoreError> {
        if !is_object_name(&key.name) {
            return Ok(None);
        }
        let found = self.limits.read(urgency, self.api::<Secret>(&key.namespace).get_opt(&key.name)).await?;
        Ok(found.map(without_managed_fields))
    }

    /// The metadata of a Secret by name.
    pub async fn secret_metadata(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>, StoreError> {
        if !is_object_name(&key.name) {
            return Ok(None);
        }
        let found = self.limits.read(Awaited, self.api::<Secret>(&key.namespace).get_metadata_opt(&key.name)).await?;
        Ok(found.map(|secret| secret.metadata))
    }

    /// The content of a ConfigMap by name.
    pub async fn config_map(&self, key: &ObjectKey) -> Result<Option<ConfigMapContent>, StoreError> {
        if !is_object_name(&key.name) {
            return Ok(None);
        }
        let found = self.limits.read(Awaited, self.api::<ConfigMap>(&key.namespace).get_opt(&key.name)).await?;
        Ok(found.map(|map| ConfigMapContent {
            data: map.data.unwrap_or_default(),
            binary: map.binary_data.unwrap_or_default().into_keys().collect(),
        }))
    }

    /// The metadata of a namespace.
    pub async fn namespace(&self, name: &str) -> Result<Option<ObjectMeta>, StoreError> {
        let found =
            self.limits.read(Awaited, Api::<Namespace>::all(self.client.clone()).get_metadata_opt(name)).await?;
        Ok(found.map(|namespace| namespace.metadata))
    }

    /// The Agents with a binding to this gateway, from the API server and not from the cache.
    pub async fn bound_agents(&self, gateway: &ObjectKey) -> Result<BoundAgents, StoreError> {
        let bound = |guard: &&DeserializeGuard<Agent>| match &guard.0 {
            Ok(agent) => Binding::of(agent).is_some_and(|b| b.gateway == *gateway),
            // An unreadable Agent may be bound. It counts, so that cleanup keeps the credentials.
            Err(invalid) => invalid.metadata.finalizers.iter().flatten().any(|f| f == keys::AGENT_FINALIZER),
        };
        let mut found = BoundAgents::default();
        for namespace in self.namespaces.watches() {
            let api: Api<DeserializeGuard<Agent>> = of_scope(&self.client, namespace.as_deref());
            match (self.limits.read(Awaited, api.list(&ListParams::default())).await, namespace) {
                (Ok(agents), _) => found.count += agents.items.iter().filter(bound).count(),
                (Err(StoreError::Denied { denial: Denial::Rights, .. }), Some(namespace)) => {
                    found.refused.push(namespace);
                }
                (Err(error), _) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Creates a Secret.
    pub async fn create_secret(&self, secret: &Secret) -> Result<Secret, StoreError> {
        let namespace = secret.namespace().unwrap_or_default();
        self.limits
            .write(Awaited, self.api::<Secret>(&namespace).create(&post_params(), secret))
            .await
            .map(without_managed_fields)
    }

    /// Replaces the version of a Secret that was read.
    pub async fn replace_secret(&self, secret: &Secret) -> Result<Secret, StoreError> {
        let ObjectKey { namespace, name } = ObjectKey::of(&secret.metadata);
        let written =
            self.limits.write(Awaited, self.api::<Secret>(&namespace).replace(&name, &post_params(), secret)).await;
        written.map(without_managed_fields)
    }

    /// Deletes the version of a Secret that was read. A Secret that does not exist is no error.
    pub async fn delete_secret(&self, secret: &Secret) -> Result<(), StoreError> {
        let ObjectKey { namespace, name } = ObjectKey::of(&secret.metadata);
        let only = Preconditions { uid: secret.uid(), resource_version: secret.resource_version() };
        let params = DeleteParams::default().preconditions(only);
        match self.limits.write(Awaited, self.api::<Secret>(&namespace).delete(&name, &params)).await {
            Ok(_) | Err(StoreError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Changes the finalizers of an Agent, and its annotation with the agent's id.
    pub async fn patch_agent_metadata(&self, agent: &Agent, change: &MetadataChange) -> Result<Arc<Agent>, StoreError> {
        Ok(noted(&self.caches.agents, self.patch_metadata(agent, change).await?))
    }

    /// Changes the finalizers of an AgentGateway.
    pub async fn patch_gateway_metadata(
        &self,
        gateway: &AgentGateway,
        change: &MetadataChange,
    ) -> Result<Arc<AgentGateway>, StoreError> {
        Ok(noted(&self.caches.gateways, self.patch_metadata(gateway, change).await?))
    }

    /// Replaces the status of an Agent.
    pub async fn replace_agent_status(&self, agent: &Agent, status: &AgentStatus) -> Result<Arc<Agent>, StoreError> {
        let new = Agent { status: Some(status.clone()), ..agent.clone() };
        let written = Box::pin(self.replace_status(&new));
        let written = self.limits.write(late_if(is_late(agent, status)), written).await?;
        Ok(noted(&self.caches.agents, written))
    }

    /// Replaces the status of a Board.
    pub async fn replace_board_status(&self, board: &Board, status: &BoardStatus) -> Result<Arc<Board>, StoreError> {
        let written = self
            .limits
            .write(Awaited, self.replace_status(&Board { status: Some(status.clone()), ..board.clone() }))
            .await?;
        Ok(noted(&self.caches.boards, written))
    }

    /// Replaces the status of an AgentGateway.
    pub async fn replace_gateway_status(
        &self,
        gateway: &AgentGateway,
        status: &AgentGatewayStatus,
    ) -> Result<Arc<AgentGateway>, StoreError> {
        let written = self
            .limits
            .write(Awaited, self.replace_status(&AgentGateway { status: Some(status.clone()), ..gateway.clone() }))
            .await?;
        Ok(noted(&self.caches.gateways, written))
    }

    /// Publishes an event, which `kubectl describe` shows, later, or at once if the object is being deleted: its end waits for its last event. Best
    /// effort: a refused event is no error.
    pub async fn publish(&self, target: EventTarget<'_>, event: &event::Event) {
        if target.is_being_deleted() {
            return self.publish_now(target, event).await;
        }
        self.events.later(self.event(target, event));
    }

    /// Publishes an event, and waits until it is written.
    pub async fn publish_now(&self, target: EventTarget<'_>, event: &event::Event) {
        self.events.now(self.event(target, event)).await;
    }

    fn event(&self, target: EventTarget<'_>, event: &event::Event) -> ObjectEvent {
        // Kubernetes takes the microseconds of an event, and its name has the nanoseconds.
        ObjectEvent { regarding: target.reference(), event: event.clone(), at: (self.clock)() }
    }
}

/// Whether nobody waits for a new status of an Agent: it is Ready before and after, and only a label or a time changes. A token, and what answers a
/// person, does not wait for other Agents.
fn is_late(agent: &Agent, new: &AgentStatus) -> bool {
    let is_same = |old: &AgentStatus| {
        old.token == new.token
            && old.observed_generation == new.observed_generation
            && old.last_handled_reconcile_at == new.last_handled_reconcile_at
            && old.requests == new.requests
    };
    is_ready(agent) && is_true(&new.conditions, ConditionType::Ready) && agent.status.as_ref().is_some_and(is_same)
}

fn late_if(is_late: bool) -> Urgency {
    if is_late { Late } else { Awaited }
}

#[cfg(test)]
#[path = "kube_store_tests.rs"]
mod tests;
