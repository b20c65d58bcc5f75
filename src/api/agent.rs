//! `Agent`: what an agent is to be.

use std::time::Duration;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::agent_status::{
    AgentStatus, BindingStatus, CheckIn, FileState, FileStatus, HeartbeatStatus, LastError, Parents, Phase,
    PreviousToken, RewrittenField, RunStatus, SessionLabelStatus, SessionStatus, TokenStatus, WakeStatus,
};
use super::names::OBJECT_PATTERN;
use super::profile::IdentityProfile;
use super::shared::{GatewayRef, Heartbeat, Interval, LocalRef, TemplateSource, TemplatesRef, on};
use super::text::{NOT_ONE_LINE, ONE_LINE, one_line};

/// What an agent is to be: its role, its identity, its files and how it is woken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "muster.dev",
    version = "v1alpha1",
    kind = "Agent",
    namespaced,
    status = "AgentStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "agt",
    category = "muster",
    doc = "An AI agent on an OpenClaw gateway: Muster registers it, writes its workspace files, issues its token, wakes it and removes it again.",
    validation = Rule::new("oldSelf.hasValue() || self.metadata.name.size() <= 236").message("the name may have at most 236 characters, so that those of its Secret and of its events fit").optional_old_self(true),
    selectable = ".spec.boardRef.name",
    selectable = ".spec.gatewayRef.name",
    selectable = ".spec.role",
    printcolumn(
        name = "Board",
        type_ = "string",
        json_path = ".spec.boardRef.name",
        description = "The board that the agent works on"
    ),
    printcolumn(name = "Role", type_ = "string", json_path = ".spec.role", description = "Worker, Lead or Main"),
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "What the agent is doing, derived from its conditions and heartbeats"
    ),
    printcolumn(
        name = "Agent-ID",
        type_ = "string",
        json_path = ".status.agentId",
        description = "The gateway's id of the agent",
        priority = 1
    ),
    printcolumn(
        name = "Last-Seen",
        type_ = "date",
        json_path = ".status.heartbeat.lastSeen",
        description = "Time since the agent last called Muster's API"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether the agent is provisioned as specified"
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
#[x_kube(validation = Rule::new("self.role == 'Main' ? has(self.gatewayRef) && !has(self.boardRef) : has(self.boardRef) && !has(self.gatewayRef)").message("a Worker or Lead needs boardRef and no gatewayRef; a Main agent needs gatewayRef and no boardRef"))]
#[x_kube(validation = Rule::new("has(self.agentId) == has(oldSelf.agentId)").message("agentId cannot be added or removed; delete the Agent and create it anew"))]
#[x_kube(validation = Rule::new("self.adoptionPolicy != 'IfExists' || has(self.agentId)").message("adoptionPolicy IfExists needs agentId, the gateway's id of the agent that is to be adopted"))]
#[serde(rename_all = "camelCase")]
pub struct AgentSpec {
    /// The agent's name as people read it, also the label of its session. Default: the object's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new(ONE_LINE).message(NOT_ONE_LINE))]
    pub display_name: Option<String>,
    /// `Worker`: works on a board. `Lead`: coordinates a board, one each. `Main`: looks after a gateway, one each.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("role cannot be changed; delete the Agent and create it anew"))]
    pub role: Role,
    /// The Board, in the same namespace, of a Worker or Lead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub board_ref: Option<LocalRef>,
    /// The AgentGateway of a Main agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_ref: Option<GatewayRef>,
    /// The id of the agent at the gateway. Default: derived from the uid, which never clashes. Set it to keep an id
    /// across clusters, or to adopt an agent that the gateway has. It cannot be changed. Ids that a gateway does not keep
    /// are refused: `main`, `constructor`, `prototype`, `openclaw`, `crestodian`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[a-z0-9][a-z0-9_-]*$"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("agentId cannot be changed; delete the Agent and create it anew"))]
    #[x_kube(validation = Rule::new("self != 'main'").message("the gateway reserves the agent id main"))]
    #[x_kube(validation = Rule::new("!(self in ['constructor', 'prototype', 'openclaw', 'crestodian'])").message("a gateway cannot keep an agent of this id; choose another one"))]
    pub agent_id: Option<String>,
    /// What happens when the gateway already has an agent with the id `agentId`. `Never`: nothing is done to it, and Ready
    /// says that the id is taken. `IfExists`: it is adopted. It keeps its workspace, its sessions and their labels, and what
    /// stands in its config and this spec does not name: `displayName`, `model`, `emoji`, `avatar` and the fields of
    /// `heartbeat`. Files are written by their policies, save that those of the policy `Once` count as written. Its
    /// workspace stays when the Agent is deleted.
    #[serde(default)]
    pub adoption_policy: AdoptionPolicy,
    /// The model, `provider/model`. Default: the gateway's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new(ONE_LINE).message(NOT_ONE_LINE))]
    pub model: Option<String>,
    /// An emoji that stands for the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(validation = Rule::new(ONE_LINE).message(NOT_ONE_LINE))]
    pub emoji: Option<String>,
    /// Picture of the agent: a URL, or a path in its workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new(ONE_LINE).message(NOT_ONE_LINE))]
    pub avatar: Option<String>,
    /// Who the agent is.
    #[serde(default)]
    pub identity_profile: IdentityProfile,
    /// A template of IDENTITY.md for this agent alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_template: Option<TemplateSource>,
    /// A template of SOUL.md for this agent alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soul_template: Option<TemplateSource>,
    /// Templates that replace the board's, the gateway's and the built-in ones for this agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub templates: Option<TemplatesRef>,
    /// Workspace files that are to be treated otherwise than usual, or that come on top.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub files: Vec<FileSpec>,
    /// The gateway's own heartbeat for this agent. What is left out comes from the AgentGateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<Heartbeat>,
    /// Where the agent's token is kept, how the agent gets it and when it is replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenSpec>,
    /// How the agent is woken once it is provisioned.
    #[serde(default)]
    pub wake: WakeSpec,
    /// How the agent's session is treated.
    #[serde(default)]
    pub session: SessionSpec,
    /// What happens on the gateway when this object is deleted. `Delete`: the agent, its session and its workspace
    /// go. `RetainFiles`: the agent goes, its workspace stays. `Orphan`: everything stays, the gateway is not asked.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// Pause the agent: no heartbeats, no wake; its files stay.
    #[serde(default)]
    pub suspend: bool,
}

/// What happens when the gateway already has an agent with the id that an Agent asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AdoptionPolicy {
    /// It is left alone, and the id counts as taken.
    #[default]
    Never,
    /// It is adopted.
    IfExists,
}

/// What an agent is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Role {
    /// Works on a board.
    #[default]
    Worker,
    /// Coordinates a board.
    Lead,
    /// Looks after a gateway.
    Main,
}

/// What happens on the gateway when an Agent is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// The agent, its session and its workspace go.
    #[default]
    Delete,
    /// The agent goes, its workspace stays.
    RetainFiles,
    /// Everything stays; the gateway is not asked.
    Orphan,
}

/// How one workspace file is treated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.drift) || !has(self.policy) || self.policy == 'Always'").message("drift goes with the policy Always and only with it"))]
pub struct FileSpec {
    /// Name of the file: one plain name that ends in `.md`.
    #[schemars(length(min = 4, max = 64), regex(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*\\.md$"))]
    pub name: String,
    /// `Always`: kept as rendered. `IfMissing`: written when it is not there. `Once`: written once in the agent's
    /// life. `Unmanaged`: never touched. Default: Once for BOOTSTRAP.md, IfMissing for MEMORY.md and USER.md (Always
    /// for a Main agent's USER.md), Always for the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<FilePolicy>,
    /// What is done when somebody else changed a file of the policy `Always`. `Correct`: it is written again. `Report`: it
    /// is left and told. `Ignore`: it is not looked at. Whatever is there is replaced when what is rendered changes, and
    /// by a request. Default: Correct.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<DriftPolicy>,
    /// The file's template. Default: the one of this name from `templates`, or the built-in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateSource>,
}

/// What is done when somebody else changed a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DriftPolicy {
    /// It is written again.
    #[default]
    Correct,
    /// It is left, and told in the status and in an event.
    Report,
    /// It is not looked at.
    Ignore,
}

/// When a workspace file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FilePolicy {
    /// Whenever it differs from what is rendered.
    Always,
    /// When it is not there.
    IfMissing,
    /// Once in the agent's life.
    Once,
    /// Never.
    Unmanaged,
}

/// Where an agent's token is kept, how the agent gets it and when it is replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenSpec {
    /// Name of the Secret. Default: the name of the Agent followed by `-token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_PATTERN))]
    pub secret_name: Option<String>,
    /// How the agent gets its token. `Workspace`: it stands in its files. `SecretOnly`: it stands in the Secret alone,
    /// which is to be mounted into the gateway's pod at `/var/run/secrets/muster/<name of the Secret>`.
    #[serde(default)]
    pub delivery: TokenDelivery,
    /// When the token is replaced.
    #[serde(default)]
    pub rotation: RotationSpec,
}

/// How an agent gets its token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TokenDelivery {
    /// It stands in the workspace files.
    #[default]
    Workspace,
    /// It stands in the Secret alone.
    SecretOnly,
}

/// When an agent's token is replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RotationSpec {
    /// The token is replaced when it is this old, 1h to 8760h. Default: it is not replaced by age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "duration(self) >= duration('1h') && duration(self) <= duration('8760h')",
        "message": "the interval must be between 1h and 8760h"
    }]))]
    pub interval: Option<Interval>,
    /// How long the old token works after the new one was delivered, unless the agent checks in with the new one
    /// before, 0s to 168h. Default: 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "duration(self) >= duration('0s') && duration(self) <= duration('168h')",
        "message": "the grace period must be between 0s and 168h"
    }]))]
    pub grace_period: Option<Interval>,
}

impl RotationSpec {
    /// How long the old token works after the new one was delivered.
    #[must_use]
    pub fn grace_period(&self) -> Duration {
        self.grace_period.map_or(Duration::from_hours(1), Interval::get)
    }
}

/// How an agent's session is treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionSpec {
    /// Start the session anew, without what was said in it, whenever the spec has changed. A run that goes on then ends
    /// before.
    #[serde(default)]
    pub reset_on_update: bool,
}

/// How an agent is woken once it is provisioned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WakeSpec {
    /// Whether a wake message is sent to the agent's session.
    #[serde(default = "on")]
    pub enabled: bool,
    /// Whether the gateway delivers the agent's answer to its channel, if it has one.
    #[serde(default = "on")]
    pub deliver: bool,
    /// How long the agent has to check in before it is woken again, 30s to 24h; counted anew when the run of the wake
    /// ends. Default: 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "duration(self) >= duration('30s') && duration(self) <= duration('24h')",
        "message": "the deadline must be between 30s and 24h"
    }]))]
    pub deadline: Option<Interval>,
    /// How often the agent is woken at most for one generation of its spec.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 10))]
    pub max_attempts: i32,
}

fn three() -> i32 {
    3
}

impl Default for WakeSpec {
    fn default() -> Self {
        Self { enabled: true, deliver: true, deadline: None, max_attempts: three() }
    }
}

impl WakeSpec {
    /// How long the agent has to check in.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.deadline.map_or(Duration::from_mins(5), Interval::get)
    }
}

impl Agent {
    /// The agent's name as people read it, on one line.
    #[must_use]
    pub fn display_name(&self) -> String {
        let given = self.spec.display_name.as_deref().and_then(one_line);
        given.or_else(|| self.metadata.name.clone()).unwrap_or_default()
    }

    /// The name of the Secret that keeps the agent's token.
    #[must_use]
    pub fn token_secret_name(&self) -> String {
        let given = self.spec.token.as_ref().and_then(|t| t.secret_name.clone());
        given.unwrap_or_else(|| format!("{}-token", self.metadata.name.as_deref().unwrap_or_default()))
    }
}
