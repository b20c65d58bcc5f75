//! Kubernetes in memory: optimistic locking, finalizers, owned Secrets, and a crash after any write.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::ObjectMeta;
use kube::{Resource, ResourceExt};
use muster::api::agent::{Agent, AgentStatus};
use muster::api::object_key::ObjectKey;
use muster::api::{AgentGateway, AgentGatewayStatus, Board, BoardStatus};
use muster::core::agent::binding::Binding;
use muster::core::agent::templates::ConfigMapContent;
use muster::core::event::Event;
use muster::core::index::Indexed;
use muster::core::objects::{AgentIndex, BoardIndex, Coverage, GatewayIndex, Objects};
use muster::state::store::{BoundAgents, EventTarget, MetadataChange, Store, StoreError};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Kubernetes in memory. Clones share the state.
#[derive(Clone)]
pub(crate) struct MemoryStore {
    state: Arc<Mutex<MemoryState>>,
    pub crashed: Arc<Notify>,
    epoch: Instant,
}

#[derive(Default)]
pub(crate) struct MemoryState {
    pub agents: BTreeMap<ObjectKey, Agent>,
    pub boards: BTreeMap<ObjectKey, Board>,
    pub gateways: BTreeMap<ObjectKey, AgentGateway>,
    /// Agents and AgentGateways of which the operator can read only the metadata.
    pub unreadable_agents: Vec<ObjectMeta>,
    pub unreadable_gateways: Vec<ObjectMeta>,
    pub secrets: BTreeMap<ObjectKey, Secret>,
    pub config_maps: BTreeMap<ObjectKey, ConfigMapContent>,
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// Whether the operator has no right to get namespaces.
    pub denies_namespaces: bool,
    /// The namespaces of which the operator does not know all objects. Their AgentGateways are in no cache.
    pub coverage: BTreeMap<String, Coverage>,
    /// The namespaces that are being deleted, and the times of the deletions.
    pub deleted_namespaces: BTreeMap<String, Timestamp>,
    pub events: Vec<(String, Event)>,
    pub writes: usize,
    pub crash_at: BTreeSet<usize>,
    /// The number of next writes that fail.
    pub failures: usize,
    /// The answer to each new Secret, if Kubernetes denies it.
    pub denied_secrets: Option<StoreError>,
    /// The Secret that somebody puts in the place of the next Secret which the operator deletes, just before the deletion.
    pub replaced_before_deletion: Option<Secret>,
    version: u64,
}

impl MemoryState {
    fn bump_version(&mut self, meta: &mut ObjectMeta) {
        self.version += 1;
        meta.resource_version = Some(self.version.to_string());
    }

    /// Does the work of the garbage collector.
    fn collect_garbage(&mut self) {
        let mut uids: Vec<_> = self.agents.values().filter_map(kube::ResourceExt::uid).collect();
        uids.extend(self.gateways.values().filter_map(kube::ResourceExt::uid));
        uids.extend(self.unreadable_agents.iter().chain(&self.unreadable_gateways).filter_map(|meta| meta.uid.clone()));
        self.secrets.retain(|_, secret| {
            let orphaned = secret.metadata.owner_references.iter().flatten().any(|o| !uids.contains(&o.uid));
            if orphaned {
                secret.metadata.deletion_timestamp.get_or_insert(Time(Timestamp::UNIX_EPOCH));
            }
            !is_deletable(&secret.metadata)
        });
    }
}

/// Whether an object goes away: it is being deleted and has no finalizers.
fn is_deletable(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some() && meta.finalizers.as_ref().is_none_or(Vec::is_empty)
}

impl MemoryStore {
    pub(crate) fn new() -> Self {
        Self { state: Arc::default(), crashed: Arc::default(), epoch: Instant::now() }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, MemoryState> {
        self.state.lock().unwrap()
    }

    /// Applies an object as a user does: a changed spec is a new generation.
    pub(crate) fn apply<K: InMemory>(&self, mut object: K) {
        let mut state = self.state();
        let key = ObjectKey::of(object.meta());
        let old = K::table(&mut state).get(&key).cloned();
        let meta = object.meta_mut();
        match old {
            None => {
                let next = state.version + 1;
                meta.uid.get_or_insert_with(|| format!("00000000-0000-4000-8000-{next:012}"));
                meta.generation = Some(1);
                meta.creation_timestamp = Some(Time(Timestamp::from_second(i64::try_from(next).unwrap()).unwrap()));
            }
            Some(old) => {
                *meta = ObjectMeta { generation: old.meta().generation.map(|g| g + 1), ..old.meta().clone() };
                object.keep_status(&old);
            }
        }
        state.bump_version(object.meta_mut());
        K::table(&mut state).insert(key, object);
    }

    /// Gives the next objects uids that no object of another store has.
    pub(crate) fn skip_uids(&self) {
        self.state().version += 1_000_000;
    }

    /// Annotates an object as a user does, which is no new generation.
    pub(crate) fn annotate<K: InMemory>(&self, key: &ObjectKey, name: &str, value: &str) {
        let mut state = self.state();
        let Some(mut object) = K::table(&mut state).get(key).cloned() else { return };
        object.meta_mut().annotations.get_or_insert_default().insert(name.to_owned(), value.to_owned());
        state.bump_version(object.meta_mut());
        K::table(&mut state).insert(key.clone(), object);
    }

    /// Deletes an object as a user does: finalizers keep it.
    pub(crate) fn delete<K: InMemory>(&self, key: &ObjectKey) {
        let now = self.now();
        let mut state = self.state();
        let Some(mut object) = K::table(&mut state).get(key).cloned() else { return };
        object.meta_mut().deletion_timestamp.get_or_insert(Time(now));
        state.bump_version(object.meta_mut());
        K::table(&mut state).insert(key.clone(), object);
        K::table(&mut state).retain(|_, o| !is_deletable(o.meta()));
        state.collect_garbage();
    }

    /// Counts a write, and never returns when the operator crashes after this write.
    async fn count_write(&self) {
        let crash = {
            let mut state = self.state();
            state.writes += 1;
            let write = state.writes;
            state.crash_at.contains(&write)
        };
        if crash {
            self.crashed.notify_one();
            std::future::pending::<()>().await;
        }
    }

    async fn change<K: InMemory>(&self, object: &K, change: impl FnOnce(&mut K)) -> Result<K, StoreError> {
        let changed = {
            let mut state = self.state();
            if state.failures > 0 {
                state.failures -= 1;
                return Err(StoreError::Failed("away".into()));
            }
            let key = ObjectKey::of(object.meta());
            let Some(mut now) = K::table(&mut state).get(&key).cloned() else {
                return Err(StoreError::NotFound(key.to_string()));
            };
            if now.meta().resource_version != object.meta().resource_version {
                return Err(StoreError::Conflict(key.to_string()));
            }
            change(&mut now);
            state.bump_version(now.meta_mut());
            K::table(&mut state).insert(key, now.clone());
            K::table(&mut state).retain(|_, o| !is_deletable(o.meta()));
            state.collect_garbage();
            now
        };
        self.count_write().await;
        Ok(changed)
    }
}

/// A resource that is stored in memory.
pub(crate) trait InMemory: Resource<DynamicType = ()> + Clone {
    fn table(state: &mut MemoryState) -> &mut BTreeMap<ObjectKey, Self>;
    fn keep_status(&mut self, _old: &Self) {}
}

impl InMemory for Agent {
    fn table(state: &mut MemoryState) -> &mut BTreeMap<ObjectKey, Self> {
        &mut state.agents
    }
    fn keep_status(&mut self, old: &Self) {
        self.status.clone_from(&old.status);
    }
}

impl InMemory for Board {
    fn table(state: &mut MemoryState) -> &mut BTreeMap<ObjectKey, Self> {
        &mut state.boards
    }
    fn keep_status(&mut self, old: &Self) {
        self.status.clone_from(&old.status);
    }
}

impl InMemory for AgentGateway {
    fn table(state: &mut MemoryState) -> &mut BTreeMap<ObjectKey, Self> {
        &mut state.gateways
    }
    fn keep_status(&mut self, old: &Self) {
        self.status.clone_from(&old.status);
    }
}

impl InMemory for Secret {
    fn table(state: &mut MemoryState) -> &mut BTreeMap<ObjectKey, Self> {
        &mut state.secrets
    }
}

/// Applies a merge patch of finalizers and annotations as the API server does.
fn apply_metadata<K: Resource>(object: &mut K, change: &MetadataChange) {
    let patch = change.patch(object.meta());
    let meta = object.meta_mut();
    meta.finalizers = serde_json::from_value(patch["metadata"]["finalizers"].clone()).unwrap();
    let annotations = patch["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
    for (key, value) in annotations {
        let all = meta.annotations.get_or_insert_default();
        match value.as_str() {
            Some(value) => all.insert(key, value.to_owned()),
            None => all.remove(&key),
        };
    }
}

/// The objects with an index key.
fn indexed<K: Indexed + Clone>(table: &BTreeMap<ObjectKey, K>, index: &K::Index) -> Vec<Arc<K>> {
    table.values().filter(|object| object.index_keys().contains(index)).cloned().map(Arc::new).collect()
}

impl Objects for MemoryStore {
    fn agent(&self, key: &ObjectKey) -> Option<Arc<Agent>> {
        self.state().agents.get(key).cloned().map(Arc::new)
    }

    fn board(&self, key: &ObjectKey) -> Option<Arc<Board>> {
        self.state().boards.get(key).cloned().map(Arc::new)
    }

    fn gateway(&self, key: &ObjectKey) -> Option<Arc<AgentGateway>> {
        let state = self.state();
        let found = state.gateways.get(key).filter(|_| !state.coverage.contains_key(&key.namespace));
        found.cloned().map(Arc::new)
    }

    fn coverage(&self, namespace: &str) -> Coverage {
        self.state().coverage.get(namespace).copied().unwrap_or(Coverage::Complete)
    }

    fn agents_by(&self, index: &AgentIndex) -> Vec<Arc<Agent>> {
        indexed(&self.state().agents, index)
    }

    fn boards_by(&self, index: &BoardIndex) -> Vec<Arc<Board>> {
        indexed(&self.state().boards, index)
    }

    fn gateways_by(&self, index: &GatewayIndex) -> Vec<Arc<AgentGateway>> {
        indexed(&self.state().gateways, index)
    }

    fn agents(&self) -> Vec<Arc<Agent>> {
        self.state().agents.values().cloned().map(Arc::new).collect()
    }

    fn boards(&self) -> Vec<Arc<Board>> {
        self.state().boards.values().cloned().map(Arc::new).collect()
    }

    fn gateways(&self) -> Vec<Arc<AgentGateway>> {
        self.state().gateways.values().cloned().map(Arc::new).collect()
    }

    fn unreadable_agents(&self) -> Vec<ObjectMeta> {
        self.state().unreadable_agents.clone()
    }

    fn unreadable_gateways(&self) -> Vec<ObjectMeta> {
        self.state().unreadable_gateways.clone()
    }
}

impl Store for MemoryStore {
    fn now(&self) -> Timestamp {
        // From 2026-01-01 on, by the runtime's clock, in seconds as Kubernetes stores them.
        let seconds = i64::try_from(self.epoch.elapsed().as_secs()).unwrap();
        Timestamp::from_second(1_767_225_600 + seconds).unwrap()
    }

    fn namespaces(&self) -> BTreeSet<String> {
        let state = self.state();
        let keys = state.agents.keys().chain(state.boards.keys()).chain(state.gateways.keys());
        keys.map(|key| key.namespace.clone()).collect()
    }

    async fn fresh_agent(&self, key: &ObjectKey) -> Result<Option<Arc<Agent>>, StoreError> {
        Ok(self.state().agents.get(key).cloned().map(Arc::new))
    }

    async fn secret(&self, key: &ObjectKey) -> Result<Option<Secret>, StoreError> {
        Ok(self.state().secrets.get(key).cloned())
    }

    async fn config_map(&self, key: &ObjectKey) -> Result<Option<ConfigMapContent>, StoreError> {
        Ok(self.state().config_maps.get(key).cloned())
    }

    async fn namespace(&self, name: &str) -> Result<Option<ObjectMeta>, StoreError> {
        let state = self.state();
        if state.denies_namespaces {
            let message =
                format!("namespaces {name:?} is forbidden: User \"muster\" cannot get resource \"namespaces\"");
            return Err(StoreError::of_answer(403, &message));
        }
        let labels = state.namespaces.get(name).cloned();
        let deletion_timestamp = state.deleted_namespaces.get(name).map(|at| Time(*at));
        let is_known = labels.is_some() || deletion_timestamp.is_some();
        Ok(is_known.then(|| ObjectMeta { labels, deletion_timestamp, ..ObjectMeta::default() }))
    }

    async fn bound_agents(&self, gateway: &ObjectKey) -> Result<BoundAgents, StoreError> {
        let state = self.state();
        let refused = state.coverage.iter().filter(|(_, coverage)| **coverage == Coverage::Refused);
        let refused: Vec<_> = refused.map(|(namespace, _)| namespace.clone()).collect();
        let bound = |agent: &&Agent| Binding::of(agent).is_some_and(|b| b.gateway == *gateway);
        let seen = |agent: &&Agent| agent.namespace().is_none_or(|namespace| !refused.contains(&namespace));
        let count = state.agents.values().filter(seen).filter(bound).count();
        Ok(BoundAgents { count, refused })
    }

    async fn create_secret(&self, secret: &Secret) -> Result<Secret, StoreError> {
        let made = {
            let mut state = self.state();
            let key = ObjectKey::of(&secret.metadata);
            if let Some(denied) = &state.denied_secrets {
                return Err(denied.clone());
            }
            if state.secrets.contains_key(&key) {
                return Err(StoreError::Conflict(key.to_string()));
            }
            let mut made = secret.clone();
            state.bump_version(&mut made.metadata);
            made.metadata.uid = Some(format!("00000000-0000-4000-8000-{:012}", state.version));
            state.secrets.insert(key, made.clone());
            made
        };
        self.count_write().await;
        Ok(made)
    }

    async fn replace_secret(&self, secret: &Secret) -> Result<Secret, StoreError> {
        let new = secret.clone();
        self.change(secret, move |now| *now = new).await
    }

    async fn delete_secret(&self, secret: &Secret) -> Result<(), StoreError> {
        let key = ObjectKey::of(&secret.metadata);
        let now = {
            let mut state = self.state();
            if let Some(mut other) = state.replaced_before_deletion.take() {
                state.bump_version(&mut other.metadata);
                state.secrets.insert(key.clone(), other);
            }
            state.secrets.get(&key).cloned()
        };
        let Some(Secret { metadata: now, .. }) = now else { return Ok(()) };
        if now.uid != secret.metadata.uid || now.resource_version != secret.metadata.resource_version {
            return Err(StoreError::Conflict(key.to_string()));
        }
        self.delete::<Secret>(&key);
        self.count_write().await;
        Ok(())
    }

    async fn patch_agent_metadata(&self, agent: &Agent, claim: &MetadataChange) -> Result<Arc<Agent>, StoreError> {
        self.change(agent, |now| apply_metadata(now, claim)).await.map(Arc::new)
    }

    async fn patch_gateway_metadata(
        &self,
        gateway: &AgentGateway,
        claim: &MetadataChange,
    ) -> Result<Arc<AgentGateway>, StoreError> {
        self.change(gateway, |now| apply_metadata(now, claim)).await.map(Arc::new)
    }

    async fn replace_agent_status(&self, agent: &Agent, status: &AgentStatus) -> Result<Arc<Agent>, StoreError> {
        self.change(agent, |now| now.status = Some(status.clone())).await.map(Arc::new)
    }

    async fn replace_board_status(&self, board: &Board, status: &BoardStatus) -> Result<Arc<Board>, StoreError> {
        self.change(board, |now| now.status = Some(status.clone())).await.map(Arc::new)
    }

    async fn replace_gateway_status(
        &self,
        gateway: &AgentGateway,
        status: &AgentGatewayStatus,
    ) -> Result<Arc<AgentGateway>, StoreError> {
        self.change(gateway, |now| now.status = Some(status.clone())).await.map(Arc::new)
    }

    async fn publish(&self, subject: EventTarget<'_>, event: &Event) {
        let name = match subject {
            EventTarget::Agent(agent) => agent.name_any(),
            EventTarget::Board(board) => board.name_any(),
            EventTarget::Gateway(gateway) => gateway.name_any(),
            EventTarget::Unreadable { metadata, .. } => metadata.name.clone().unwrap_or_default(),
        };
        self.state().events.push((name, event.clone()));
    }
}
