//! The JSON of Boards and AgentGateways.

use schemars::JsonSchema;
use serde::Serialize;

use super::time::ApiTime;
use crate::api::condition::Condition;
use crate::api::conditions::{find, is_true};
use crate::api::{AgentGateway, Board, ConditionType};
use crate::core::gateway_ref::gateway_of_board;
use crate::core::objects::Objects;
use crate::state::kube_store::KubeStore;

/// The common fields of Boards and AgentGateways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CommonFields {
    /// The uid of the resource.
    id: Option<String>,
    /// The display name.
    name: String,
    /// Namespace of the resource.
    namespace: Option<String>,
    /// Name of the resource.
    resource_name: Option<String>,
    /// Whether the Ready condition is true.
    ready: bool,
    /// The reason of the Ready condition.
    reason: Option<String>,
    /// The message of the Ready condition.
    message: Option<String>,
    /// When the resource was created.
    created_at: Option<ApiTime>,
}

impl CommonFields {
    fn of(meta: &kube::api::ObjectMeta, name: &str, conditions: &[Condition]) -> Self {
        let ready = find(conditions, ConditionType::Ready);
        Self {
            id: meta.uid.clone(),
            name: name.to_owned(),
            namespace: meta.namespace.clone(),
            resource_name: meta.name.clone(),
            ready: is_true(conditions, ConditionType::Ready),
            reason: ready.map(|c| c.reason.to_string()),
            message: ready.map(|c| c.message.to_string()),
            created_at: meta.creation_timestamp.as_ref().map(ApiTime::from),
        }
    }
}

/// A Board.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Board")]
pub struct BoardItem {
    #[serde(flatten)]
    common: CommonFields,
    /// The uid of the board's AgentGateway.
    gateway_id: Option<String>,
    /// Name of the board's AgentGateway.
    gateway_name: String,
    /// Name of the Agent that leads the board.
    lead: Option<String>,
    /// The number of Agents on the board.
    agents: i32,
    /// The number of these Agents that are Ready.
    ready_agents: i32,
    /// Whether the Board is suspended.
    suspended: bool,
}

impl BoardItem {
    /// The item of a Board.
    pub fn of(board: &Board, store: &KubeStore) -> Self {
        let status = board.status.clone().unwrap_or_default();
        let gateway = gateway_of_board(board);
        Self {
            common: CommonFields::of(&board.metadata, board_name(board), &status.conditions),
            gateway_id: store.gateway(&gateway).and_then(|gateway| gateway.metadata.uid.clone()),
            gateway_name: gateway.name,
            lead: status.lead,
            agents: status.agents,
            ready_agents: status.ready_agents,
            suspended: board.spec.suspend,
        }
    }
}

/// An AgentGateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Gateway")]
pub struct GatewayItem {
    #[serde(flatten)]
    common: CommonFields,
    /// The version of OpenClaw that the gateway reported.
    version: Option<String>,
    /// The number of agents on the gateway that Muster manages.
    agents: i32,
    /// The number of these Agents that are Ready.
    ready_agents: i32,
    /// The number of agents on the gateway that Muster only observes.
    observed_agents: i32,
    /// The number of agents on the gateway without an Agent resource.
    unmanaged_agents: i32,
    /// Whether the AgentGateway is suspended.
    suspended: bool,
}

impl GatewayItem {
    /// The item of an AgentGateway.
    #[must_use]
    pub fn of(gateway: &AgentGateway) -> Self {
        let status = gateway.status.clone().unwrap_or_default();
        let counts = status.agents.unwrap_or_default();
        let name = gateway.metadata.name.clone().unwrap_or_default();
        Self {
            common: CommonFields::of(&gateway.metadata, &name, &status.conditions),
            version: status.server_version,
            agents: counts.managed,
            ready_agents: counts.ready,
            observed_agents: counts.observed,
            unmanaged_agents: counts.unmanaged,
            suspended: gateway.spec.suspend,
        }
    }
}

/// The display name of a Board.
pub(super) fn board_name(board: &Board) -> &String {
    const NONE: &String = &String::new();
    board.spec.display_name.as_ref().or(board.metadata.name.as_ref()).unwrap_or(NONE)
}
