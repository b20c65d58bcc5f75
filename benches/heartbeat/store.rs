//! Agents in memory and a count of their status writes. The benchmark needs nothing else.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ObjectMeta;
use muster::api::agent::{Agent, AgentStatus};
use muster::api::object_key::ObjectKey;
use muster::api::{AgentGateway, AgentGatewayStatus, Board, BoardStatus};
use muster::core::agent::templates::ConfigMapContent;
use muster::core::event::Event;
use muster::core::objects::{AgentIndex, BoardIndex, GatewayIndex, Objects};
use muster::state::store::{BoundAgents, EventTarget, MetadataChange, Store, StoreError};

/// Agents in memory. Clones share them.
#[derive(Clone)]
pub(crate) struct BenchStore {
    agents: Arc<RwLock<HashMap<ObjectKey, Arc<Agent>>>>,
    writes: Arc<AtomicUsize>,
}

impl BenchStore {
    pub(crate) fn new(agents: Vec<Agent>) -> Self {
        let agents = agents.into_iter().map(|agent| (ObjectKey::of(&agent.metadata), Arc::new(agent))).collect();
        Self { agents: Arc::new(RwLock::new(agents)), writes: Arc::default() }
    }

    /// The number of status writes.
    pub(crate) fn writes(&self) -> usize {
        self.writes.load(Ordering::Relaxed)
    }
}

fn unused<T>() -> Result<T, StoreError> {
    Err(StoreError::Refused("the benchmark has only agents".into()))
}

impl Objects for BenchStore {
    fn agent(&self, key: &ObjectKey) -> Option<Arc<Agent>> {
        self.agents.read().unwrap().get(key).cloned()
    }

    fn board(&self, _: &ObjectKey) -> Option<Arc<Board>> {
        None
    }

    fn gateway(&self, _: &ObjectKey) -> Option<Arc<AgentGateway>> {
        None
    }

    fn agents_by(&self, _: &AgentIndex) -> Vec<Arc<Agent>> {
        Vec::new()
    }

    fn boards_by(&self, _: &BoardIndex) -> Vec<Arc<Board>> {
        Vec::new()
    }

    fn gateways_by(&self, _: &GatewayIndex) -> Vec<Arc<AgentGateway>> {
        Vec::new()
    }

    fn agents(&self) -> Vec<Arc<Agent>> {
        self.agents.read().unwrap().values().cloned().collect()
    }

    fn boards(&self) -> Vec<Arc<Board>> {
        Vec::new()
    }

    fn gateways(&self) -> Vec<Arc<AgentGateway>> {
        Vec::new()
    }

    fn unreadable_agents(&self) -> Vec<ObjectMeta> {
        Vec::new()
    }

    fn unreadable_gateways(&self) -> Vec<ObjectMeta> {
        Vec::new()
    }
}

impl Store for BenchStore {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(Timestamp::now().as_second()).unwrap()
    }

    fn namespaces(&self) -> BTreeSet<String> {
        BTreeSet::new()
    }

    async fn replace_agent_status(&self, agent: &Agent, status: &AgentStatus) -> Result<Arc<Agent>, StoreError> {
        let written = Arc::new(Agent { status: Some(status.clone()), ..agent.clone() });
        self.agents.write().unwrap().insert(ObjectKey::of(&agent.metadata), Arc::clone(&written));
        self.writes.fetch_add(1, Ordering::Relaxed);
        Ok(written)
    }

    async fn fresh_agent(&self, _: &ObjectKey) -> Result<Option<Arc<Agent>>, StoreError> {
        unused()
    }

    async fn secret(&self, _: &ObjectKey) -> Result<Option<Secret>, StoreError> {
        unused()
    }

    async fn config_map(&self, _: &ObjectKey) -> Result<Option<ConfigMapContent>, StoreError> {
        unused()
    }

    async fn namespace(&self, _: &str) -> Result<Option<ObjectMeta>, StoreError> {
        unused()
    }

    async fn bound_agents(&self, _: &ObjectKey) -> Result<BoundAgents, StoreError> {
        unused()
    }

    async fn create_secret(&self, _: &Secret) -> Result<Secret, StoreError> {
        unused()
    }

    async fn replace_secret(&self, _: &Secret) -> Result<Secret, StoreError> {
        unused()
    }

    async fn delete_secret(&self, _: &Secret) -> Result<(), StoreError> {
        unused()
    }

    async fn patch_agent_metadata(&self, _: &Agent, _: &MetadataChange) -> Result<Arc<Agent>, StoreError> {
        unused()
    }

    async fn patch_gateway_metadata(
        &self,
        _: &AgentGateway,
        _: &MetadataChange,
    ) -> Result<Arc<AgentGateway>, StoreError> {
        unused()
    }

    async fn replace_board_status(&self, _: &Board, _: &BoardStatus) -> Result<Arc<Board>, StoreError> {
        unused()
    }

    async fn replace_gateway_status(
        &self,
        _: &AgentGateway,
        _: &AgentGatewayStatus,
    ) -> Result<Arc<AgentGateway>, StoreError> {
        unused()
    }

    async fn publish(&self, _: EventTarget<'_>, _: &Event) {}
}
