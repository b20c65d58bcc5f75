//! The reads and writes of Kubernetes that the reconcilers use.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ObjectReference, Secret};
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tracing::debug;

use super::cache::Cache;
use super::caches::Caches;
use super::event_recorder::EventRecorder;
use super::scope::of_scope;
use super::store::{BoundAgents, Denial, EventTarget, MetadataChange, StoreError};
use crate::api::agent::{Agent, AgentStatus};
use crate::api::names::is_object_name;
use crate::api::object_key::ObjectKey;
use crate::api::watched_namespaces::WatchedNamespaces;
use crate::api::{AgentGateway, AgentGatewayStatus, Board, BoardStatus, keys};
use crate::core::agent::binding::Binding;
use crate::core::agent::templates::ConfigMapContent;
use crate::core::event;
use crate::core::index::Indexed;
use crate::core::objects::{AgentIndex, BoardIndex, Coverage, GatewayIndex, Objects};

/// The maximum number of open reads of the operator at the API server, without watches.
const MAX_READS: usize = 16;
/// The maximum number of open writes. Writes have places of their own: a new Agent does not wait for the reads of all others after a
/// restart.
const MAX_WRITES: usize = 16;
/// How long the API server may take to answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

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
    recorder: EventRecorder,
    reads: Arc<Semaphore>,
    writes: Arc<Semaphore>,
}

impl std::fmt::Debug for KubeStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubeStore").finish_non_exhaustive()
    }
}

impl KubeStore {
    /// The API server of `client`, with these caches of the objects in these namespaces.
    #[must_use]
    pub fn new(client: Client, caches: Caches, namespaces: WatchedNamespaces, clock: WallClock) -> Self {
        let recorder = EventRecorder::new(client.clone());
        let (reads, writes) = (Arc::new(Semaphore::new(MAX_READS)), Arc::new(Semaphore::new(MAX_WRITES)));
        Self { client, clock, caches, namespaces, recorder, reads, writes }
    }

    fn api<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>>(&self, namespace: &str) -> Api<K> {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn read<T>(&self, request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, StoreError> {
        send(&self.reads, request).await
    }

    async fn write<T>(&self, request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, StoreError> {
        send(&self.writes, request).await
    }

    async fn patch_metadata<K>(&self, object: &K, change: &MetadataChange) -> Result<K, StoreError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let ObjectKey { namespace, name } = ObjectKey::of(object.meta());
        let params = PatchParams { field_manager: Some(keys::FIELD_MANAGER.into()), ..PatchParams::default() };
        let patch = change.patch(object.meta());
        let api = self.api::<K>(&namespace);
        self.write(api.patch(&name, &params, &Patch::Merge(&patch))).await.map(without_managed_fields)
    }

    async fn replace_status<K>(&self, object: &K) -> Result<K, StoreError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + Serialize
            + std::fmt::Debug,
    {
        let ObjectKey { namespace, name } = ObjectKey::of(object.meta());
        let api = self.api::<K>(&namespace);
        self.write(api.replace_status(&name, &post_params(), object)).await.map(without_managed_fields)
    }
}

/// Waits for a permit, then for the answer.
async fn send<T>(permits: &Semaphore, request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, StoreError> {
    // The semaphore is never closed.
    let _permit = permits.acquire().await.map_err(|e| StoreError::Failed(e.to_string()))?;
    let answer = tokio::time::timeout(REQUEST_TIMEOUT, request).await;
    answer
        .map_err(|_| StoreError::Failed(format!("no answer within {} s", REQUEST_TIMEOUT.as_secs())))?
        .map_err(|e| store_error(&e))
}

fn post_params() -> PostParams {
    PostParams { field_manager: Some(keys::FIELD_MANAGER.into()), ..PostParams::default() }
}

/// Removes what no code reads and the next write of the object would send back.
fn without_managed_fields<K: Resource>(mut object: K) -> K {
    object.meta_mut().managed_fields = None;
    object
}

/// A written object, which the cache shows from now on.
fn noted<K: Indexed>(cache: &Cache<K>, written: K) -> Arc<K> {
    let written = Arc::new(written);
    cache.written(&written);
    written
}

fn store_error(error: &kube::Error) -> StoreError {
    match error {
        kube::Error::Api(status) => StoreError::of_answer(status.code, &status.message),
        _ => StoreError::Failed(error.to_string()),
    }
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
        let found = self.read(self.api::<Agent>(&key.namespace).get_opt(&key.name)).await?;
        Ok(found.map(without_managed_fields).map(Arc::new))
    }

    /// A Secret by name.
    pub async fn secret(&self, key: &ObjectKey) -> Result<Option<Secret>, StoreError> {
        if !is_object_name(&key.name) {
            return Ok(None);
        }
        self.read(self.api::<Secret>(&key.namespace).get_opt(&key.name)).await
    }

    /// The metadata of a Secret by name.
    pub async fn secret_metadata(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>, StoreError> {
        if !is_object_name(&key.name) {
            return Ok(None);
        }
        let found = self.read(self.api::<Secret>(&key.namespace).get_metadata_opt(&key.name)).await?;
        Ok(found.map(|secret| secret.metadata))
    }

    /// The content of a ConfigMap by name.
    pub async fn config_map(&self, key: &ObjectKey) -> Result<Option<ConfigMapContent>, StoreError> {
        if !is_object_name(&key.name) {
            return Ok(None);
        }
        let found = self.read(self.api::<ConfigMap>(&key.namespace).get_opt(&key.name)).await?;
        Ok(found.map(|map| ConfigMapContent {
            data: map.data.unwrap_or_default(),
            binary: map.binary_data.unwrap_or_default().into_keys().collect(),
        }))
    }

    /// The metadata of a namespace.
    pub async fn namespace(&self, name: &str) -> Result<Option<ObjectMeta>, StoreError> {
        let found = self.read(Api::<Namespace>::all(self.client.clone()).get_metadata_opt(name)).await?;
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
            match (self.read(api.list(&ListParams::default())).await, namespace) {
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
        self.write(self.api::<Secret>(&namespace).create(&post_params(), secret)).await
    }

    /// Replaces the version of a Secret that was read.
    pub async fn replace_secret(&self, secret: &Secret) -> Result<Secret, StoreError> {
        let ObjectKey { namespace, name } = ObjectKey::of(&secret.metadata);
        self.write(self.api::<Secret>(&namespace).replace(&name, &post_params(), secret)).await
    }

    /// Deletes the version of a Secret that was read. A Secret that does not exist is no error.
    pub async fn delete_secret(&self, secret: &Secret) -> Result<(), StoreError> {
        let ObjectKey { namespace, name } = ObjectKey::of(&secret.metadata);
        let only = Preconditions { uid: secret.uid(), resource_version: secret.resource_version() };
        let params = DeleteParams::default().preconditions(only);
        match self.write(self.api::<Secret>(&namespace).delete(&name, &params)).await {
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
        let written = self.replace_status(&Agent { status: Some(status.clone()), ..agent.clone() }).await?;
        Ok(noted(&self.caches.agents, written))
    }

    /// Replaces the status of a Board.
    pub async fn replace_board_status(&self, board: &Board, status: &BoardStatus) -> Result<Arc<Board>, StoreError> {
        let written = self.replace_status(&Board { status: Some(status.clone()), ..board.clone() }).await?;
        Ok(noted(&self.caches.boards, written))
    }

    /// Replaces the status of an AgentGateway.
    pub async fn replace_gateway_status(
        &self,
        gateway: &AgentGateway,
        status: &AgentGatewayStatus,
    ) -> Result<Arc<AgentGateway>, StoreError> {
        let written = self.replace_status(&AgentGateway { status: Some(status.clone()), ..gateway.clone() }).await?;
        Ok(noted(&self.caches.gateways, written))
    }

    /// Publishes an event, which `kubectl describe` shows. Best effort: a refused event is no error.
    pub async fn publish(&self, target: EventTarget<'_>, event: &event::Event) {
        let reference: ObjectReference = match target {
            EventTarget::Agent(agent) => agent.object_ref(&()),
            EventTarget::Board(board) => board.object_ref(&()),
            EventTarget::Gateway(gateway) => gateway.object_ref(&()),
            EventTarget::Unreadable { kind, metadata } => ObjectReference {
                api_version: Some(Agent::api_version(&()).into()),
                kind: Some(kind.into()),
                name: metadata.name.clone(),
                namespace: metadata.namespace.clone(),
                uid: metadata.uid.clone(),
                ..ObjectReference::default()
            },
        };
        // Kubernetes takes the microseconds of an event, and its name has the nanoseconds.
        let published = self.recorder.publish(&reference, event, (self.clock)());
        if let Err(error) = self.write(published).await {
            debug!(%error, reason = event.reason, "event refused");
        }
    }
}

#[cfg(test)]
#[path = "kube_store_tests.rs"]
mod tests;
