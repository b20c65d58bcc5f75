//! The JSON of agents.

use schemars::JsonSchema;
use serde::Serialize;

use super::board::board_name;
use super::time::ApiTime;
use crate::api::agent::{Phase, Role};
use crate::api::conditions::{find, is_true};
use crate::api::object_key::ObjectKey;
use crate::api::{Agent, ConditionType};
use crate::core::agent::binding::Binding;
use crate::core::agent::claim::uid_in;
use crate::core::gateway::census::Unmanaged;
use crate::core::gateway_ref::gateway_of_board;
use crate::core::objects::Objects;
use crate::state::kube_store::KubeStore;

/// An agent. A field without a value is null and is not left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Agent")]
#[expect(clippy::struct_excessive_bools, reason = "the API defines the fields")]
pub struct Item {
    /// The uid of the Agent, or the gateway's id of an agent without an Agent resource.
    pub id: String,
    /// The agent's display name.
    pub name: String,
    /// Namespace of the Agent.
    pub namespace: Option<String>,
    /// Name of the Agent.
    pub resource_name: Option<String>,
    /// The agent's role. Null for an agent without an Agent resource.
    pub role: Option<Role>,
    /// The uid of the agent's Board.
    pub board_id: Option<String>,
    /// The Board's display name.
    pub board_name: Option<String>,
    /// The uid of the agent's AgentGateway.
    pub gateway_id: Option<String>,
    /// Name of the agent's AgentGateway.
    pub gateway_name: Option<String>,
    /// Whether the agent is the lead of its board.
    pub is_board_lead: bool,
    /// Whether the agent is the main agent of its gateway.
    pub is_gateway_main: bool,
    /// Whether the agent has an Agent resource.
    pub is_mc_agent: bool,
    /// Whether Muster only observes the agent, by `spec.managementPolicy` of its Agent.
    pub is_observed: bool,
    /// What the agent does. Null for an agent without an Agent resource.
    pub status: Option<StatusWord>,
    /// The gateway's id of the agent.
    pub openclaw_agent_id: Option<String>,
    /// The key of the agent's main session.
    pub openclaw_session_id: Option<String>,
    /// Whether the Ready condition is true.
    pub ready: bool,
    /// The reason of the Ready condition.
    pub reason: Option<String>,
    /// The message of the Ready condition.
    pub message: Option<String>,
    /// When the agent last called the API.
    pub last_seen_at: Option<ApiTime>,
    /// The id of the task that the agent reported.
    pub current_task_id: Option<String>,
    /// When the Agent was created.
    pub created_at: Option<ApiTime>,
    /// The latest time in the Agent's metadata and status.
    pub updated_at: Option<ApiTime>,
}

/// What an agent does: its phase, or that it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Status")]
pub enum StatusWord {
    /// Muster provisions the agent.
    Provisioning,
    /// The agent is provisioned and has not checked in yet.
    Ready,
    /// The agent works on a task.
    Active,
    /// The agent waits for work.
    Idle,
    /// The agent is suspended.
    Paused,
    /// The agent has not called Muster's API for two heartbeat intervals.
    Offline,
    /// Muster cannot provision the agent. The reason and the message show the cause.
    Failed,
    /// Muster removes the agent.
    Deleting,
    /// The agent is gone. Only the stream reports this.
    Deleted,
}

impl From<Phase> for StatusWord {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Provisioning => Self::Provisioning,
            Phase::Ready => Self::Ready,
            Phase::Active => Self::Active,
            Phase::Idle => Self::Idle,
            Phase::Paused => Self::Paused,
            Phase::Offline => Self::Offline,
            Phase::Failed => Self::Failed,
            Phase::Deleting => Self::Deleting,
        }
    }
}

/// An agent and its references. [`Entry::resolve`] looks up the names and uids of the references.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The agent without fields from other objects.
    pub item: Item,
    /// The agent's Board.
    pub board: Option<ObjectKey>,
    /// The AgentGateway from the Agent's spec, or else from its status.
    pub gateway: Option<ObjectKey>,
}

/// The latest time in an Agent's metadata and status.
fn updated_at(agent: &Agent) -> Option<ApiTime> {
    let created = agent.metadata.creation_timestamp.as_ref();
    let status = agent.status.as_ref();
    let conditions = status.into_iter().flat_map(|s| s.conditions.iter().map(|c| &c.last_transition_time));
    let heartbeat = status.and_then(|s| s.heartbeat.as_ref()).map(|h| &h.last_seen);
    let run = status.and_then(|s| s.last_run.as_ref());
    let run = run.into_iter().flat_map(|r| [r.started_at.as_ref(), r.ended_at.as_ref()]).flatten();
    let deleted = agent.metadata.deletion_timestamp.as_ref();
    let times = created.into_iter().chain(conditions).chain(heartbeat).chain(run).chain(deleted);
    times.map(ApiTime::from).max()
}

impl Entry {
    /// The entry of an Agent.
    #[must_use]
    pub fn of(agent: &Agent) -> Self {
        let meta = &agent.metadata;
        let status = agent.status.as_ref();
        let conditions = status.map(|s| s.conditions.as_slice()).unwrap_or_default();
        let ready = find(conditions, ConditionType::Ready);
        let namespace = meta.namespace.clone().unwrap_or_default();
        let phase = status.and_then(|s| s.phase).unwrap_or(Phase::Provisioning);
        let phase = if meta.deletion_timestamp.is_some() { Phase::Deleting } else { phase };
        let heartbeat = status.and_then(|s| s.heartbeat.as_ref());
        let board = agent.spec.board_ref.as_ref().map(|board| ObjectKey::new(&namespace, &board.name));
        let named = agent.spec.gateway_ref.as_ref();
        let named = named.map(|gw| ObjectKey::new(gw.namespace.as_ref().unwrap_or(&namespace), &gw.name));
        let gateway = named.or_else(|| status.and_then(|s| s.gateway.as_ref()).cloned());
        let item = Item {
            id: meta.uid.clone().unwrap_or_default(),
            name: agent.display_name(),
            namespace: meta.namespace.clone(),
            resource_name: meta.name.clone(),
            role: Some(agent.spec.role),
            board_id: None,
            board_name: None,
            gateway_id: None,
            gateway_name: None,
            is_board_lead: agent.spec.role == Role::Lead,
            is_gateway_main: agent.spec.role == Role::Main,
            is_mc_agent: true,
            is_observed: agent.is_observer(),
            status: Some(StatusWord::from(phase)),
            openclaw_agent_id: status.and_then(|s| s.agent_id.clone()),
            openclaw_session_id: status.and_then(|s| s.session_key.clone()),
            ready: is_true(conditions, ConditionType::Ready),
            reason: ready.map(|c| c.reason.to_string()),
            message: ready.map(|c| c.message.to_string()),
            last_seen_at: heartbeat.map(|h| ApiTime::from(&h.last_seen)),
            current_task_id: heartbeat.and_then(|h| h.current_task.clone()),
            created_at: meta.creation_timestamp.as_ref().map(ApiTime::from),
            updated_at: updated_at(agent),
        };
        Self { item, board, gateway }
    }

    /// Whether the Agent is deleted.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.item.status == Some(StatusWord::Deleted)
    }

    /// The entry of the same agent after its deletion.
    #[must_use]
    pub fn deleted(&self) -> Self {
        let item = Item { status: Some(StatusWord::Deleted), ready: false, ..self.item.clone() };
        Self { item, ..self.clone() }
    }

    /// The item with the names and uids of the references.
    pub fn resolve(&self, store: &KubeStore) -> Item {
        let mut item = self.item.clone();
        let board = self.board.as_ref().and_then(|key| store.board(key));
        let through_board = board.as_ref().map(|board| gateway_of_board(board));
        if let Some(key) = &self.board {
            item.board_id = board.as_ref().and_then(|b| b.metadata.uid.clone());
            item.board_name = Some(board.as_ref().map_or(&key.name, |b| board_name(b)).clone());
        }
        if let Some(key) = through_board.as_ref().or(self.gateway.as_ref()) {
            item.gateway_id = store.gateway(key).and_then(|gateway| gateway.metadata.uid.clone());
            item.gateway_name = Some(key.name.clone());
        }
        item
    }
}

/// Whether `id` is the uid of the Agent, the gateway's id of the agent, or the former uid of a Worker that was taken up again: a running
/// agent may still use it.
#[must_use]
pub fn has_id(agent: &Agent, id: &str) -> bool {
    let gateway_id = agent.status.as_ref().and_then(|s| s.agent_id.as_deref());
    let claimed = Binding::of(agent).filter(|b| agent.spec.role == Role::Worker && b.claimed_for.is_some());
    let is_former_uid = || claimed.is_some_and(|binding| uid_in(&binding.identity.agent_id) == Some(id));
    agent.metadata.uid.as_deref() == Some(id) || gateway_id == Some(id) || is_former_uid()
}

impl Item {
    /// The item of an agent without an Agent resource.
    pub fn unmanaged(agent: &Unmanaged, store: &KubeStore) -> Self {
        Self {
            id: agent.id.clone(),
            name: agent.name.clone().unwrap_or_else(|| agent.id.clone()),
            namespace: None,
            resource_name: None,
            role: None,
            board_id: None,
            board_name: None,
            gateway_id: store.gateway(&agent.gateway).and_then(|gateway| gateway.metadata.uid.clone()),
            gateway_name: Some(agent.gateway.name.clone()),
            is_board_lead: false,
            is_gateway_main: false,
            is_mc_agent: false,
            is_observed: false,
            status: None,
            openclaw_agent_id: Some(agent.id.clone()),
            openclaw_session_id: None,
            ready: false,
            reason: None,
            message: None,
            last_seen_at: None,
            current_task_id: None,
            created_at: None,
            updated_at: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    #[test]
    fn a_new_agent_has_the_status_provisioning() {
        let mut agent = Agent::default();
        agent.metadata.name = Some("ops".into());
        let item = Entry::of(&agent).item;
        assert_eq!((item.status, item.name.as_str(), item.ready), (Some(StatusWord::Provisioning), "ops", false));
    }

    #[test]
    fn updated_at_is_the_latest_time_of_the_agent() {
        let at = |second| Time(Timestamp::from_second(second).unwrap());
        let mut agent = Agent::default();
        agent.metadata.creation_timestamp = Some(at(1));
        assert_eq!(updated_at(&agent), Some(ApiTime(at(1).0)));
        let run = crate::api::agent::RunStatus { started_at: Some(at(7)), ended_at: None };
        agent.status = Some(crate::api::AgentStatus { last_run: Some(run), ..Default::default() });
        assert_eq!(updated_at(&agent), Some(ApiTime(at(7).0)));
    }
}
