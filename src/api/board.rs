//! `Board`: a group of agents with a common purpose.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
        description = "The gateway that hosts the board's agents"
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
        description = "Whether the board can work"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why it is or is not ready"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since it was created"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct BoardSpec {
    /// The gateway that hosts the board's agents. It cannot be changed: delete the board and create it anew.
    #[x_kube(validation = Rule::new("self == oldSelf").message("gatewayRef cannot be changed; create another Board and move the agents to it"))]
    pub gateway_ref: GatewayRef,
    /// The board's name as people and agents read it. Default: the object's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new(ONE_LINE).message(NOT_ONE_LINE))]
    pub display_name: Option<String>,
    /// What the board is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub description: Option<String>,
    /// Kind of work: `goal` (there is something to reach) or another word of yours, such as `workflow`.
    #[serde(default = "goal", rename = "type")]
    #[schemars(length(min = 1, max = 64))]
    pub board_type: String,
    /// What the board wants to reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub objective: Option<String>,
    /// How one can tell that it was reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub success_metrics: Option<String>,
    /// The day by which it should be reached, `2026-12-31`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 10), regex(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"))]
    pub target_date: Option<String>,
    /// Whether people have confirmed the objective.
    #[serde(default)]
    pub goal_confirmed: bool,
    /// The rules that the board's agents follow.
    #[serde(default)]
    pub rules: BoardRules,
    /// Most agents that the board may have; further ones are not provisioned. No limit when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10000))]
    pub max_agents: Option<i32>,
    /// Templates that replace the gateway's and the built-in ones for this board's agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub templates: Option<TemplatesRef>,
    /// The person whom this board's agents work for; replaces the gateway's as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserProfile>,
    /// Pause all agents of the board: no heartbeats, no wake; their files stay.
    #[serde(default)]
    pub suspend: bool,
}

fn goal() -> String {
    "goal".into()
}

/// Rules of a board, as its agents are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_excessive_bools, reason = "each is a rule that is on or off by itself")]
pub struct BoardRules {
    /// Nothing is done before somebody approved it.
    #[serde(default = "on")]
    pub require_approval_for_done: bool,
    /// Nothing is done before somebody reviewed it.
    #[serde(default)]
    pub require_review_before_done: bool,
    /// Who asks for a review says in a comment what to look at.
    #[serde(default)]
    pub comment_required_for_review: bool,
    /// A task's status stays as it is while an approval is pending.
    #[serde(default)]
    pub block_status_changes_with_pending_approval: bool,
    /// Only the lead changes the status of tasks.
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

/// What was observed of a board.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BoardStatus {
    /// The generation that this status is about; -1 before the first look.
    #[serde(default = "never_observed")]
    pub observed_generation: i64,
    /// Name of the Agent that leads the board.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lead: Option<String>,
    /// The gateway's id of the lead that was set up last. A lead of the board that is made anew has it again, in a further life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lead_agent_id: Option<String>,
    /// Number of Agents that refer to the board.
    #[serde(default)]
    pub agents: i32,
    /// Of those, how many are Ready.
    #[serde(default)]
    pub ready_agents: i32,
    /// Names of Agents that are not provisioned because the board is full, at most 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub over_limit: Vec<String>,
    /// The last one-shot request that was made here for all agents below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sync: Option<SyncStatus>,
    /// Annotations that look like one-shot requests and are none: what is wrong and what to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub invalid_requests: Vec<String>,
    /// Conditions: Ready, LeadReady, WithinQuota, GatewayReady.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
