//! `Agent`: the desired state of an agent.

use std::time::Duration;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use super::agent_status::{
    AgentStatus, BindingStatus, CheckIn, FileState, FileStatus, HeartbeatStatus, LastError, Parents, Phase,
    PreviousToken, RevocationStatus, RewrittenField, RunStatus, SessionLabelStatus, SessionStatus, TokenStatus,
    WakeStatus,
};
pub use super::deletion_policy::DeletionPolicy;
pub use super::management_policy::{AdoptionPolicy, ManagementPolicy};
use super::names::OBJECT_PATTERN;
use super::profile::{IdentityProfile, OptionalProfile};
use super::shared::{GatewayRef, Heartbeat, Interval, LocalRef, TemplateSource, TemplatesRef, on};
use super::text::{NOT_ONE_LINE, ONE_LINE, one_line};

/// The desired state of an agent: its role, its identity, its files, its token and its wakes.
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
        description = "The agent's phase, derived from its conditions and heartbeats"
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
        description = "The reason of the Ready condition"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since the Agent was created"
    )
)]
#[x_kube(validation = Rule::new("self.role == 'Main' ? has(self.gatewayRef) && !has(self.boardRef) : has(self.boardRef) && !has(self.gatewayRef)").message("a Worker or Lead needs boardRef and no gatewayRef; a Main agent needs gatewayRef and no boardRef"))]
#[x_kube(validation = Rule::new("has(self.agentId) == has(oldSelf.agentId)").message("agentId cannot be added or removed; delete the Agent and create it again"))]
#[x_kube(validation = Rule::new("self.adoptionPolicy != 'IfExists' || has(self.agentId)").message("adoptionPolicy IfExists needs agentId, the gateway's id of the agent that is to be adopted"))]
#[x_kube(validation = Rule::new("!has(self.modelFallbacks) || has(self.model)").message("modelFallbacks goes with model, and only with it"))]
#[serde(rename_all = "camelCase")]
pub struct AgentSpec {
    /// The agent's display name. It is also the label of its session. Default: the object's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new(ONE_LINE).message(NOT_ONE_LINE))]
    pub display_name: Option<String>,
    /// The agent's role. It cannot be changed. `Worker`: works on a board. `Lead`: coordinates a board; a board has one lead.
    /// `Main`: manages a gateway; a gateway has one main agent. Default: Worker.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("role cannot be changed; delete the Agent and create it again"))]
    pub role: Role,
    /// The Board of a Worker or Lead, in the same namespace. A Worker or Lead needs it; a Main agent has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub board_ref: Option<LocalRef>,
    /// The AgentGateway of a Main agent. A Main agent needs it; a Worker or Lead has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_ref: Option<GatewayRef>,
    /// The agent's id on the gateway. It cannot be changed. Set it to keep an id across clusters, or to adopt an agent that
    /// the gateway already has. Gateways do not keep the ids `main`, `constructor`, `prototype`, `openclaw` and `crestodian`,
    /// so they are refused. An id of the form that Muster derives, such as `mc-` and a uid, needs `adoptionPolicy: IfExists`.
    /// Default: an id derived from the object's uid, which is unique.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[a-z0-9][a-z0-9_-]*$"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("agentId cannot be changed; delete the Agent and create it again"))]
    #[x_kube(validation = Rule::new("self != 'main'").message("the gateway reserves the agent id main"))]
    #[x_kube(validation = Rule::new("!(self in ['constructor', 'prototype', 'openclaw', 'crestodian'])").message("a gateway cannot keep an agent of this id; choose another one"))]
    pub agent_id: Option<String>,
    /// Whether Muster adopts an agent with the id `agentId` that the gateway already has. `Never`: Muster does not change that
    /// agent, and the Ready condition reports that the id is taken. `IfExists`: Muster adopts that agent. An adopted agent
    /// keeps its workspace, its sessions and their labels. Its config entry keeps the values of `displayName`, `model`,
    /// `emoji`, `avatar` and the `heartbeat` fields that this spec leaves out. Files are written by their policies; a file
    /// with policy `Once` counts as written. The workspace stays when the Agent is deleted. Default: Never.
    #[serde(default)]
    pub adoption_policy: AdoptionPolicy,
    /// Whether Muster manages the agent. `Manage`: Muster sets it up, maintains it and removes it. `Observe`: somebody else keeps
    /// the agent. Muster shows it in the status and on the fleet page, writes nothing to the gateway and makes no token Secret;
    /// the deletion of this object leaves the agent as it is. An Agent that Muster never managed needs `agentId` and the role
    /// Worker for `Observe`. A backup of an Agent that Muster managed has the id in the annotation `muster.dev/agent-id`. Fields about settings, files, tokens and wakes have no effect meanwhile. A change to `Manage` adopts the agent and needs
    /// `adoptionPolicy: IfExists`, unless Muster managed it before. Default: Manage.
    #[serde(default)]
    pub management_policy: ManagementPolicy,
    /// The agent's model, as `provider/model`. Default: the gateway's default model with its fallbacks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new(ONE_LINE).message(NOT_ONE_LINE))]
    pub model: Option<String>,
    /// Models that follow when `model` fails, in this order, at most 16. An empty list means none. Needs `model`. Default: the
    /// fallbacks that the agent's entry has, or else the fallbacks of the gateway's default model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 256)), extend("x-kubernetes-list-type" = "atomic"))]
    pub model_fallbacks: Option<Vec<String>>,
    /// The agent's emoji on the gateway. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(validation = Rule::new(ONE_LINE).message(NOT_ONE_LINE))]
    pub emoji: Option<String>,
    /// The agent's picture: a URL, or a path in its workspace. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new(ONE_LINE).message(NOT_ONE_LINE))]
    pub avatar: Option<String>,
    /// Further keys of the agent's entry in the gateway's config, such as `tools` or `sandbox`, which the gateway checks. Muster
    /// owns each key that is named here, as a whole, and removes it when it is no longer named. Not allowed are the keys that
    /// other fields set (`id`, `name`, `workspace`, `model`, `heartbeat`, and `name`, `emoji` and `avatar` of `identity`),
    /// `$include` and null at any depth, and more than 8 KiB of JSON. `${NAME}` in a text stays as written. An AgentGateway in
    /// another namespace must permit it. Default: none.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "super::schema::any_object")]
    pub config: Map<String, Value>,
    /// The agent's identity: values for the templates of its files.
    #[serde(default)]
    #[schemars(with = "IdentityProfile")]
    pub identity_profile: OptionalProfile,
    /// Templates for this agent. They replace the templates of the Board and of the AgentGateway and the built-in ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub templates: Option<TemplatesRef>,
    /// Workspace files with their own policy, drift policy or template, and additional files. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub files: Vec<FileSpec>,
    /// Settings of the heartbeat that the gateway runs for this agent. A field that is left out comes from the AgentGateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<Box<Heartbeat>>,
    /// Storage, delivery and rotation of the agent's token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Box<TokenSpec>>,
    /// Settings of the wake message that Muster sends to a provisioned agent.
    #[serde(default)]
    pub wake: WakeSpec,
    /// Settings of the agent's session.
    #[serde(default)]
    pub session: SessionSpec,
    /// What Muster removes from the gateway when this object is deleted. `Delete`: the agent, its session and its workspace; the
    /// gateway moves the workspace to its trash. `RetainFiles`: the agent and its session; the workspace stays. `Orphan`: nothing;
    /// Muster sends no request to the gateway. Default: `agentDefaults.deletionPolicy` of the AgentGateway, or Delete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
    /// Pauses the agent: the gateway runs no heartbeats and Muster sends no wake message. Its files stay. Default: false.
    #[serde(default)]
    pub suspend: bool,
    /// Why it is suspended, for the people who read the conditions, at most 256 characters on one line. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new(ONE_LINE).message(NOT_ONE_LINE))]
    pub suspend_reason: Option<String>,
}

/// The role of an agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = super::schema::words)]
pub enum Role {
    /// Works on a board.
    #[default]
    Worker,
    /// Coordinates a board.
    Lead,
    /// Manages a gateway.
    Main,
}

/// The policy, drift policy and template of one workspace file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.drift) || !has(self.policy) || self.policy == 'Always'").message("drift goes with the policy Always and only with it"))]
pub struct FileSpec {
    /// Name of the file, without a folder. It ends in `.md`.
    #[schemars(length(min = 4, max = 64), regex(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*\\.md$"))]
    pub name: String,
    /// When Muster writes the file. `Always`: when the file differs from the rendered text. `IfMissing`: when the file does
    /// not exist. `Once`: once in the agent's life. `Unmanaged`: never. Default: Once for BOOTSTRAP.md, IfMissing for
    /// MEMORY.md and USER.md (Always for a Main agent's USER.md), Always for every other file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<FilePolicy>,
    /// What Muster does when somebody else changed a file with policy `Always`. `Correct`: Muster writes the file again.
    /// `Report`: Muster keeps the changed file and reports it in the status and in an event. `Ignore`: Muster does not read
    /// the file. With each value, a change of the rendered text or a one-shot request replaces the file. Default: Correct.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<DriftPolicy>,
    /// The template of the file for this agent alone. Default: the template of this name from `templates` of the Agent, its
    /// Board or its AgentGateway, or the built-in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateSource>,
}

/// What Muster does when somebody else changed a file with policy `Always`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = super::schema::words)]
pub enum DriftPolicy {
    /// Muster writes the file again.
    #[default]
    Correct,
    /// Muster keeps the changed file and reports it in the status and in an event.
    Report,
    /// Muster does not read the file.
    Ignore,
}

/// When Muster writes a workspace file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = super::schema::words)]
pub enum FilePolicy {
    /// When the file differs from the rendered text.
    Always,
    /// When the file does not exist.
    IfMissing,
    /// Once in the agent's life.
    Once,
    /// Never.
    Unmanaged,
}

/// Storage, delivery and rotation of an agent's token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenSpec {
    /// Name of the Secret that keeps the token. Default: the name of the Agent followed by `-token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_PATTERN))]
    pub secret_name: Option<String>,
    /// Where the agent finds its token. `Workspace`: in its workspace files. `SecretOnly`: only in the Secret; mount the
    /// Secret into the gateway's pod at `/var/run/secrets/muster/<name of the Secret>`. Default: Workspace.
    #[serde(default)]
    pub delivery: TokenDelivery,
    /// When Muster replaces the token.
    #[serde(default)]
    pub rotation: RotationSpec,
}

/// Where an agent finds its token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = super::schema::words)]
pub enum TokenDelivery {
    /// In its workspace files.
    #[default]
    Workspace,
    /// Only in the Secret.
    SecretOnly,
}

/// When Muster replaces an agent's token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RotationSpec {
    /// The age at which Muster replaces the token, 1h to 8760h. Default: age does not cause a replacement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "duration(self) >= duration('1h') && duration(self) <= duration('8760h')",
        "message": "the interval must be between 1h and 8760h"
    }]))]
    pub interval: Option<Interval>,
    /// How long the old token works after Muster delivered the new token, 0s to 168h. The old token stops working earlier
    /// when the agent checks in with the new token. Default: 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "duration(self) >= duration('0s') && duration(self) <= duration('168h')",
        "message": "the grace period must be between 0s and 168h"
    }]))]
    pub grace_period: Option<Interval>,
}

impl RotationSpec {
    /// How long the old token works after Muster delivered the new token.
    #[must_use]
    pub fn grace_period(&self) -> Duration {
        self.grace_period.map_or(Duration::from_hours(1), Interval::get)
    }
}

/// Settings of an agent's session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionSpec {
    /// Whether a change of the spec resets the session. A reset removes the session's history and ends a run in progress.
    /// Default: false.
    #[serde(default)]
    pub reset_on_update: bool,
}

/// Settings of the wake message that Muster sends to a provisioned agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WakeSpec {
    /// Whether Muster sends a wake message to the agent's session. Default: true.
    #[serde(default = "on")]
    pub enabled: bool,
    /// Whether the gateway delivers the agent's answer to the agent's channel, if the agent has a channel. Default: true.
    #[serde(default = "on")]
    pub deliver: bool,
    /// How long Muster waits for the agent's check-in before it wakes the agent again, 30s to 24h. The time starts again when
    /// the run of the wake message ends. Default: 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "duration(self) >= duration('30s') && duration(self) <= duration('24h')",
        "message": "the deadline must be between 30s and 24h"
    }]))]
    pub deadline: Option<Interval>,
    /// The number of wake messages before the wakes pause, 1 to 10. One wake follows each pause; the pauses grow from 1 hour to 24 hours.
    /// Default: 3.
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
    /// How long Muster waits for the agent's check-in before it wakes the agent again.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.deadline.map_or(Duration::from_mins(5), Interval::get)
    }
}

impl Agent {
    /// Whether Muster only observes the agent.
    #[must_use]
    pub fn is_observer(&self) -> bool {
        self.spec.management_policy == ManagementPolicy::Observe
    }

    /// The agent's display name on one line, or the name of its object.
    #[must_use]
    pub fn display_name(&self) -> String {
        let given = self.spec.display_name.as_deref().and_then(one_line);
        given.or_else(|| self.metadata.name.clone()).unwrap_or_default()
    }

    /// The name of the Secret that keeps the agent's token.
    #[must_use]
    pub fn token_secret_name(&self) -> String {
        let given = self.spec.token.as_ref().and_then(|t| t.secret_name.clone());
        given.unwrap_or_else(|| Self::default_token_secret(self.metadata.name.as_deref().unwrap_or_default()))
    }

    /// The default name of the Secret that keeps the token of the Agent `name`.
    #[must_use]
    pub fn default_token_secret(name: &str) -> String {
        format!("{name}-token")
    }
}
