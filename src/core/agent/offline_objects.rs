//! The objects of manifests, found as the operator finds the objects of a cluster. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use kube::api::ObjectMeta;

use super::templates::ConfigMapContent;
use crate::api::object_key::ObjectKey;
use crate::api::{Agent, AgentGateway, Board};
use crate::core::index::Indexed;
use crate::core::objects::{AgentIndex, BoardIndex, GatewayIndex, Objects};

/// The objects of manifests.
#[derive(Clone, Debug, Default)]
pub struct OfflineObjects {
    /// The AgentGateways.
    pub gateways: OfflineIndex<AgentGateway>,
    /// The Boards.
    pub boards: OfflineIndex<Board>,
    /// The Agents.
    pub agents: OfflineIndex<Agent>,
    /// The ConfigMaps.
    pub config_maps: BTreeMap<ObjectKey, ConfigMapContent>,
    /// The URL of Muster's HTTP API for gateways without `spec.apiUrl`.
    pub api_url: Option<String>,
}

/// The objects of a kind, by their keys and by their index keys.
#[derive(Clone, Debug)]
pub struct OfflineIndex<K: Indexed> {
    objects: BTreeMap<ObjectKey, Arc<K>>,
    by_index: HashMap<K::Index, BTreeSet<ObjectKey>>,
}

impl<K: Indexed> Default for OfflineIndex<K> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), by_index: HashMap::new() }
    }
}

impl<K: Indexed> OfflineIndex<K> {
    /// Adds an object. The API server in memory has refused a second object of the same key.
    pub fn insert(&mut self, key: ObjectKey, object: K) {
        for index in object.index_keys() {
            self.by_index.entry(index).or_default().insert(key.clone());
        }
        self.objects.insert(key, Arc::new(object));
    }

    /// The objects by their keys.
    #[must_use]
    pub fn all(&self) -> &BTreeMap<ObjectKey, Arc<K>> {
        &self.objects
    }

    /// An object.
    #[must_use]
    pub fn get(&self, key: &ObjectKey) -> Option<&Arc<K>> {
        self.objects.get(key)
    }

    fn values(&self) -> Vec<Arc<K>> {
        self.objects.values().cloned().collect()
    }

    fn indexed(&self, index: &K::Index) -> Vec<Arc<K>> {
        let keys = self.by_index.get(index).into_iter().flatten();
        keys.filter_map(|key| self.objects.get(key)).cloned().collect()
    }
}

impl Objects for OfflineObjects {
    fn agent(&self, key: &ObjectKey) -> Option<Arc<Agent>> {
        self.agents.get(key).cloned()
    }

    fn board(&self, key: &ObjectKey) -> Option<Arc<Board>> {
        self.boards.get(key).cloned()
    }

    fn gateway(&self, key: &ObjectKey) -> Option<Arc<AgentGateway>> {
        self.gateways.get(key).cloned()
    }

    fn agents_by(&self, index: &AgentIndex) -> Vec<Arc<Agent>> {
        self.agents.indexed(index)
    }

    fn boards_by(&self, index: &BoardIndex) -> Vec<Arc<Board>> {
        self.boards.indexed(index)
    }

    fn gateways_by(&self, index: &GatewayIndex) -> Vec<Arc<AgentGateway>> {
        self.gateways.indexed(index)
    }

    fn agents(&self) -> Vec<Arc<Agent>> {
        self.agents.values()
    }

    fn boards(&self) -> Vec<Arc<Board>> {
        self.boards.values()
    }

    fn gateways(&self) -> Vec<Arc<AgentGateway>> {
        self.gateways.values()
    }

    fn unreadable_agents(&self) -> Vec<ObjectMeta> {
        Vec::new()
    }

    fn unreadable_gateways(&self) -> Vec<ObjectMeta> {
        Vec::new()
    }
}
