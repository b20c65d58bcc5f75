//! The objects of manifests, found as the operator finds the objects of a cluster. Pure.

use std::collections::BTreeMap;
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
    pub gateways: BTreeMap<ObjectKey, Arc<AgentGateway>>,
    /// The Boards.
    pub boards: BTreeMap<ObjectKey, Arc<Board>>,
    /// The Agents.
    pub agents: BTreeMap<ObjectKey, Arc<Agent>>,
    /// The ConfigMaps.
    pub config_maps: BTreeMap<ObjectKey, ConfigMapContent>,
    /// The URL of Muster's HTTP API for gateways without `spec.apiUrl`.
    pub api_url: Option<String>,
}

fn all<K>(objects: &BTreeMap<ObjectKey, Arc<K>>) -> Vec<Arc<K>> {
    objects.values().cloned().collect()
}

fn indexed<K: Indexed>(objects: &BTreeMap<ObjectKey, Arc<K>>, index: &K::Index) -> Vec<Arc<K>> {
    objects.values().filter(|object| object.index_keys().contains(index)).cloned().collect()
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
        indexed(&self.agents, index)
    }

    fn boards_by(&self, index: &BoardIndex) -> Vec<Arc<Board>> {
        indexed(&self.boards, index)
    }

    fn gateways_by(&self, index: &GatewayIndex) -> Vec<Arc<AgentGateway>> {
        indexed(&self.gateways, index)
    }

    fn agents(&self) -> Vec<Arc<Agent>> {
        all(&self.agents)
    }

    fn boards(&self) -> Vec<Arc<Board>> {
        all(&self.boards)
    }

    fn gateways(&self) -> Vec<Arc<AgentGateway>> {
        all(&self.gateways)
    }

    fn unreadable_agents(&self) -> Vec<ObjectMeta> {
        Vec::new()
    }

    fn unreadable_gateways(&self) -> Vec<ObjectMeta> {
        Vec::new()
    }
}
