//! `Board`: a group of agents with a common purpose.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::requests::SyncStatus;
use super::shared::{GatewayRef, TemplatesRef, UserProfile, never_observed, on};
use super::text::{NOT_ONE_LINE, ONE_LINE};

/// A group of agents with a common purpose, a lead and rules.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "muster.dev",
    version = "v1alpha1",
    kind = "Board",
    namespaced,
    status = "BoardStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "brd",
    category = "muster",
    doc = "A group of agents with a common purpose. Lead and worker agents refer to it.",
    validation = Rule::new("oldSelf.hasValue() || self.metadata.name.size() <= 236").message("the name may have at most 236 characters, so that those of its events fit").optional_old_self(true),
    selectable = ".spec.gatewayRef.name",
    printcolumn(
        name = "Gateway",
        type_ = "string",
        json_path = ".spec.gatewayRef.name",
        description = "The AgentGateway that hosts the board's agents"
    ),
    printcolumn(
        name = "Lead",
        type_ = "string",
        json_path = ".status.lead",
        description = "The Agent that leads the board"
    ),
    printcolumn(name = "Agents", type_ = "integer", json_path = ".status.agents", description = "Agents of the board"),
    printcolumn(
        name = "Ready-Agents",
        type_ = "integer",
        json_path = ".status.readyAgents",
        description = "Agents of the board that are Ready"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether the board's gateway is ready and the board is within its quota"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "The reason of the Ready condition"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since the Board was created"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct BoardSpec {
    /// The AgentGateway that hosts the board's agents. It cannot be changed: create another Board and move the agents to it.
    #[x_kube(validation = Rule::new("self == oldSelf").message("gatewayRef cannot be changed; create another Board and move the agents to it"))]
    pub gateway_ref: GatewayRef,
    /// The board's display name. Default: the object's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new(ONE_LINE).message(NOT_ONE_LINE))]
    pub display_name: Option<String>,
    /// The subject of the board.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub description: Option<String>,
    /// The kind of work: `goal` for a board with an objective, or your own word, such as `workflow`. Default: goal.
    #[serde(default = "goal", rename = "type")]
    #[schemars(length(min = 1, max = 64))]
    pub board_type: String,
    /// The objective of the board.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub objective: Option<String>,
    /// How to measure whether the objective is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub success_metrics: Option<String>,
    /// The target date of the objective, such as `2026-12-31`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 10), regex(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"))]
    pub target_date: Option<String>,
    /// Whether a person has confirmed the objective. Default: false.
    #[serde(default)]
    pub goal_confirmed: bool,
    /// The rules that the board's agents follow.
    #[serde(default)]
    pub rules: BoardRules,
    /// The maximum number of agents of the board, 0 to 10000. Muster does not provision further agents. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10000))]
    pub max_agents: Option<i32>,
    /// Templates for this board's agents. They replace the templates of the AgentGateway and the built-in ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub templates: Option<TemplatesRef>,
    /// The person for whom this board's agents work. Default: `user` of the AgentGateway. No field is merged from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserProfile>,
    /// Pauses all agents of the board: the gateway runs no heartbeats and Muster sends no wake message. Their files stay.
    /// Default: false.
    #[serde(default)]
    pub suspend: bool,
    /// Why it is suspended, for the people who read the conditions, at most 256 characters on one line. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new(ONE_LINE).message(NOT_ONE_LINE))]
    pub suspend_reason: Option<String>,
}

fn goal() -> String {
    "goal".into()
}

/// Rules of a board. The files of its agents contain them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_excessive_bools, reason = "each is a rule that is on or off by itself")]
pub struct BoardRules {
    /// Whether a task has to be approved before it is done. Default: true.
    #[serde(default = "on")]
    pub require_approval_for_done: bool,
    /// Whether a task needs a review before it is done. Default: false.
    #[serde(default)]
    pub require_review_before_done: bool,
    /// Whether a request for a review needs a comment about the subject of the review. Default: false.
    #[serde(default)]
    pub comment_required_for_review: bool,
    /// Whether a pending approval blocks changes of a task's status. Default: false.
    #[serde(default)]
    pub block_status_changes_with_pending_approval: bool,
    /// Whether only the lead changes the status of tasks. Default: false.
    #[serde(default)]
    pub only_lead_can_change_status: bool,
}

impl Default for BoardRules {
    fn default() -> Self {
        Self {
            require_approval_for_done: true,
            require_review_before_done: false,
            comment_required_for_review: false,
            block_status_changes_with_pending_approval: false,
            only_lead_can_change_status: false,
        }
    }
}

/// The observed state of a board.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BoardStatus {
    /// The generation of the spec that this status describes; -1 before the first reconcile.
    #[serde(default = "never_observed")]
    pub observed_generation: i64,
    /// The value of the annotation `muster.dev/reconcile-requested-at` at the last reconcile, at most 253 characters of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub last_handled_reconcile_at: Option<String>,
    /// Name of the Agent that leads the board.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lead: Option<String>,
    /// The gateway's id of the lead that was provisioned last. If the lead's Agent is created again, it gets the same id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lead_agent_id: Option<String>,
    /// Number of Agents that refer to the board.
    #[serde(default)]
    pub agents: i32,
    /// Number of Agents of the board that are Ready.
    #[serde(default)]
    pub ready_agents: i32,
    /// Names of Agents that are not provisioned because the board is full, at most 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), extend("x-kubernetes-list-type" = "atomic"))]
    pub over_limit: Vec<String>,
    /// The progress of the latest one-shot request on this Board.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sync: Option<SyncStatus>,
    /// Messages about annotations that look like one-shot requests and are not valid: the cause and the next step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub invalid_requests: Vec<String>,
    /// The conditions Ready, LeadReady, WithinQuota and GatewayReady.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::schema::conditions")]
    pub conditions: Vec<Condition>,
}
