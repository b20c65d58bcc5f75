//! An Agent, with the objects that its settings come from. Pure.

use std::time::Duration;

use crate::api::{Agent, AgentGateway, AgentStatus, Board};
use crate::core::agent::heartbeat::AgentHeartbeat;
use crate::openclaw::model::{
    AgentEntry, EntryFallbacks, EntryModel, HeartbeatEntry, Inventory, Rewritten, config_duration,
};

/// An Agent and what its settings come from.
#[derive(Debug)]
pub(super) struct AgentTarget {
    pub(super) agent: Agent,
    pub(super) board: Option<Board>,
    pub(super) gateway: AgentGateway,
}

impl AgentTarget {
    pub(super) fn status(&self) -> Option<&AgentStatus> {
        self.agent.status.as_ref()
    }

    /// The gateway's id of the agent.
    pub(super) fn id(&self) -> Option<&str> {
        let status = self.status()?;
        let bound = status.binding.as_ref().map(|binding| binding.agent_id.as_str());
        bound.or(status.agent_id.as_deref()).filter(|id| !id.is_empty())
    }

    /// The time between two heartbeats by the specs; zero if they are off, `None` if Muster leaves them as they are.
    pub(super) fn every(&self) -> Option<Duration> {
        let binding = self.status().and_then(|status| status.binding.as_ref());
        let is_adopted = binding.is_some_and(|binding| binding.adopted);
        AgentHeartbeat::of(&self.agent, self.board.as_ref(), Some(&self.gateway), is_adopted).every
    }

    /// The parts of the config entry that the status and the specs say. The values that the gateway rewrites count as equal.
    pub(super) fn entry(&self, id: &str, inventory: &Inventory) -> AgentEntry {
        let status = self.status().cloned().unwrap_or_default();
        let fallbacks = EntryFallbacks::Kept(inventory.default_fallbacks.clone());
        let stored = inventory.agents.get(id).and_then(|row| row.workspace.clone());
        AgentEntry {
            id: id.to_owned(),
            workspace: status.workspace_path.or(stored).unwrap_or_default(),
            model: self.agent.spec.model.clone().map(|primary| EntryModel { primary, fallbacks }),
            heartbeat: HeartbeatEntry { every: self.every().map(config_duration), ..HeartbeatEntry::default() },
            keeps_the_rest: true,
            rewritten: status.rewritten.iter().map(Rewritten::from).collect(),
            ..AgentEntry::default()
        }
    }
}
