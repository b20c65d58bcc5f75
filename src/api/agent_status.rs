//! What was observed of an agent.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::object_key::ObjectKey;
use super::requests::RequestStatus;
use super::shared::never_observed;
use super::soul::SoulStatus;

/// What was observed of an agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// The generation that this status is about; -1 before the first look.
    #[serde(default = "never_observed")]
    pub observed_generation: i64,
    /// What the agent is doing. Derived from conditions and heartbeats, never an input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The gateway's id of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// The AgentGateway on which it is registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<ObjectKey>,
    /// Key of the agent's main session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_key: Option<String>,
    /// The agent's workspace on the gateway's host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace_path: Option<String>,
    /// What may be on a gateway because of this Agent, and is removed with it. Written before anything is done there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<BindingStatus>,
    /// Values of the agent's config entry that the gateway stores otherwise than Muster sent them, as it does with the names of
    /// retired models. They are left so; when the gateway's value changes afterwards, Muster's is sent again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["field"]))]
    pub rewritten: Vec<RewrittenField>,
    /// The workspace files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub files: Vec<FileStatus>,
    /// The soul that the AgentGateway's directory has for the agent's role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soul: Option<SoulStatus>,
    /// The agent's token; never the token itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenStatus>,
    /// What the agent last reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<HeartbeatStatus>,
    /// The latest run of the agent on its gateway: of a message, or of the gateway's own heartbeat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<RunStatus>,
    /// Wakes of the current generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wake: Option<WakeStatus>,
    /// The agent's session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionStatus>,
    /// The label of the agent's session, as it was last sent to the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_label: Option<SessionLabelStatus>,
    /// The Board and the AgentGateway that the agent has come to: what was requested there before does not concern it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parents: Option<Parents>,
    /// One-shot requests that were handled: the latest of each kind, of the Agent itself, its Board or its
    /// AgentGateway.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["kind"]))]
    pub requests: Vec<RequestStatus>,
    /// Annotations that look like one-shot requests and are none: what is wrong and what to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub invalid_requests: Vec<String>,
    /// The last error, until a reconcile succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
    /// Conditions: Ready, Registered, FilesSynced, TokenIssued, HeartbeatConfigured, SessionReady, CheckedIn, Paused;
    /// Reconciling and Stalled only while true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// An agent on a gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BindingStatus {
    /// The uid of the Agent that wrote it; one that came from another object, by a backup for example, does not count.
    pub uid: String,
    /// The AgentGateway.
    pub gateway: ObjectKey,
    /// The gateway's id of the agent.
    pub agent_id: String,
    /// Key of the agent's main session.
    pub session_key: String,
    /// The agent's workspace on the gateway's host.
    pub workspace: String,
    /// Whether the gateway had the agent before this Agent stood for it. Its workspace stays when it is removed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub adopted: bool,
}

/// A value that the gateway stores otherwise than it was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RewrittenField {
    /// Its place in the entry, `heartbeat.model` for example.
    #[schemars(length(max = 64))]
    pub field: String,
    /// What Muster sent, as JSON; `null` when the key was to be removed, `sha256:` and a hash for more than 256 characters.
    #[schemars(length(max = 256))]
    pub sent: String,
    /// What the gateway stores, in the same form; `null` when it stores nothing.
    #[schemars(length(max = 256))]
    pub stored: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_false(value: &bool) -> bool {
    !value
}

/// What an agent is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// It is being set up.
    Provisioning,
    /// It is set up and has not checked in yet.
    Ready,
    /// It works on something.
    Active,
    /// It waits for work.
    Idle,
    /// It is suspended.
    Paused,
    /// It has not been heard of for two heartbeat intervals.
    Offline,
    /// It cannot be set up; the conditions say why.
    Failed,
    /// It is being removed.
    Deleting,
}

/// One workspace file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FileStatus {
    /// Name of the file.
    pub name: String,
    /// What became of it.
    pub state: FileState,
    /// SHA-256 of the content that Muster last put there or found there, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The file that it was folded into, because the gateway refuses its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub into: Option<String>,
    /// Size in bytes on the gateway when it was last compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<i64>,
    /// The gateway's time of the file's last change when it was last compared, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified_ms: Option<i64>,
}

/// What became of a workspace file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FileState {
    /// It has not been written yet.
    Pending,
    /// It is as rendered.
    Synced,
    /// Somebody else changed it, and it is left so, as its drift policy asks.
    Drifted,
    /// It was written, and what became of it since is not looked at, as its drift policy asks.
    Ignored,
    /// It stays as it was last written with the soul for the agent's role, until the directory says again what it has.
    Held,
    /// It was written before and is now the agent's own.
    Kept,
    /// It is no longer wanted, and stays on the gateway: somebody has changed it, or it is the agent's own.
    Left,
    /// It is a section of another file.
    Folded,
    /// It is longer than the gateway passes on to an agent, and was not written.
    TooLarge,
    /// The gateway refuses to read or to write it: in its place stands a link, for example. The condition `FilesSynced`
    /// says what to do.
    Refused,
    /// Muster leaves it alone.
    Unmanaged,
}

/// An agent's token, without the token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenStatus {
    /// The Secret that keeps the token.
    pub secret_name: String,
    /// SHA-256 of the token, in hexadecimal; empty while there is none that works.
    #[serde(default)]
    pub sha256: String,
    /// How many tokens the agent has had, this one included.
    #[serde(default)]
    pub revision: i64,
    /// When Muster took this token into use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_at: Option<Time>,
    /// When the agent first called Muster's API with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed_at: Option<Time>,
    /// The token before this one, while it still works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<PreviousToken>,
}

/// A token that was replaced and still works.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreviousToken {
    /// SHA-256 of the token, in hexadecimal.
    pub sha256: String,
    /// When it stops working, whatever the agent does. Not set before the new token was delivered: until then the agent
    /// has no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Time>,
}

/// A run of an agent on its gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunStatus {
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended; not set while it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Time>,
}

/// The Board and the AgentGateway of an agent, by uid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Parents {
    /// Uid of the Board; a Main agent has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub board_uid: Option<String>,
    /// Uid of the AgentGateway.
    pub gateway_uid: String,
}

/// An agent's session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionStatus {
    /// The generation of the spec that the session was last made for, or reset for.
    pub generation: i64,
    /// A reset that was begun: the mark of the session that it is to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resetting: Option<String>,
}

/// The label of an agent's session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionLabelStatus {
    /// The agent's name that the label was made of.
    #[schemars(length(max = 512))]
    pub name: String,
    /// The label that was sent: the name, or, where the gateway refuses that, the name with the beginning of the agent's id.
    #[schemars(length(max = 512))]
    pub sent: String,
    /// The label as the gateway stored it; not set when it refused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub stored: Option<String>,
    /// The gateway's last refusal of a label for this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub refusal: Option<String>,
    /// When it was sent.
    pub sent_at: Time,
}

/// What an agent last reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeartbeatStatus {
    /// When the agent last called Muster's API.
    pub last_seen: Time,
    /// What it said it was doing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<CheckIn>,
    /// The task that it said it was working on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_task: Option<String>,
}

/// What an agent says it is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CheckIn {
    /// It works on something.
    Active,
    /// It waits for work.
    Idle,
}

/// Wakes of one generation of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WakeStatus {
    /// The generation that the wakes are for.
    pub generation: i64,
    /// How often the agent was woken.
    pub attempts: i32,
    /// When it was last woken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sent_at: Option<Time>,
    /// When it should have checked in: so long after the wake, or after the end of the wake's run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,
    /// The key by which the gateway knows the last wake message; it stands in the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// When the run of the last wake message was seen to have ended. Until then a gateway that restarts may have lost
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_at: Option<Time>,
}

/// An error as the gateway or Kubernetes gave it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LastError {
    /// The error's code: the gateway's own (`INVALID_REQUEST`, `UNAVAILABLE`, ...), or the reason of a condition.
    pub code: String,
    /// What went wrong.
    pub message: String,
    /// Whether it is worth trying again without a change.
    pub transient: bool,
}
