//! Objects and inventories in memory, for tests.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::api::ObjectMeta;

use crate::api::object_key::ObjectKey;
use crate::api::{Agent, AgentGateway, Board};
use crate::core::index::Indexed;
use crate::core::objects::{AgentIndex, BoardIndex, GatewayIndex, Objects};
use crate::openclaw::model::{
    AgentRow, Capabilities, HeartbeatRule, Inventory, PromptLimits, RosterShape, StoredEntry,
};

/// Objects in memory, found by their index keys.
#[derive(Default)]
pub(crate) struct MemoryObjects {
    pub(crate) agents: RefCell<BTreeMap<ObjectKey, Arc<Agent>>>,
    pub(crate) boards: Vec<Arc<Board>>,
    pub(crate) gateways: Vec<Arc<AgentGateway>>,
}

impl MemoryObjects {
    /// Adds or replaces an Agent.
    pub(crate) fn insert(&self, agent: Agent) {
        self.agents.borrow_mut().insert(ObjectKey::of(&agent.metadata), Arc::new(agent));
    }
}

fn indexed<'a, K: Indexed>(objects: impl IntoIterator<Item = &'a Arc<K>>, index: &K::Index) -> Vec<Arc<K>> {
    objects.into_iter().filter(|object| object.index_keys().contains(index)).cloned().collect()
}

impl Objects for MemoryObjects {
    fn agent(&self, key: &ObjectKey) -> Option<Arc<Agent>> {
        self.agents.borrow().get(key).cloned()
    }

    fn board(&self, key: &ObjectKey) -> Option<Arc<Board>> {
        self.boards.iter().find(|board| ObjectKey::of(&board.metadata) == *key).cloned()
    }

    fn gateway(&self, key: &ObjectKey) -> Option<Arc<AgentGateway>> {
        self.gateways.iter().find(|gateway| ObjectKey::of(&gateway.metadata) == *key).cloned()
    }

    fn agents_by(&self, index: &AgentIndex) -> Vec<Arc<Agent>> {
        indexed(self.agents.borrow().values(), index)
    }

    fn boards_by(&self, index: &BoardIndex) -> Vec<Arc<Board>> {
        indexed(&self.boards, index)
    }

    fn gateways_by(&self, index: &GatewayIndex) -> Vec<Arc<AgentGateway>> {
        indexed(&self.gateways, index)
    }

    fn agents(&self) -> Vec<Arc<Agent>> {
        self.agents.borrow().values().cloned().collect()
    }

    fn boards(&self) -> Vec<Arc<Board>> {
        self.boards.clone()
    }

    fn gateways(&self) -> Vec<Arc<AgentGateway>> {
        self.gateways.clone()
    }

    fn unreadable_agents(&self) -> Vec<ObjectMeta> {
        Vec::new()
    }

    fn unreadable_gateways(&self) -> Vec<ObjectMeta> {
        Vec::new()
    }
}

/// The inventory of a gateway with these agents and workspaces.
pub(crate) fn inventory(agents: &[(&str, &str)]) -> Inventory {
    let row = |(id, workspace): &(&str, &str)| {
        let row = AgentRow { id: (*id).into(), workspace: Some((*workspace).into()), ..AgentRow::default() };
        (row.id.clone(), AgentRow { entry: Some(StoredEntry::from(&serde_json::Map::new())), in_roster: true, ..row })
    };
    Inventory {
        capabilities: Capabilities {
            roster: RosterShape::Entries,
            accepted_files: BTreeSet::new(),
            file_hashes: true,
            main_session_delete: false,
        },
        agents: agents.iter().map(row).collect(),
        config_hash: String::new(),
        explicit_ownership: true,
        default_fallbacks: Vec::new(),
        prompt_limits: PromptLimits::default(),
        heartbeats: HeartbeatRule::default(),
        heartbeat_defaults: crate::openclaw::model::HeartbeatDefaults::default(),
        settled: true,
        obstacle: None,
        reload_is_off: false,
    }
}
