//! The observed state of an agent.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::agent_activity::{CheckIn, HeartbeatStatus, RunStatus, SessionLabelStatus, SessionStatus, WakeStatus};
use super::condition::Condition;
use super::deletion_policy::DeletionPolicy;
use super::lenient;
use super::object_key::ObjectKey;
use super::requests::RequestStatus;
use super::sha256_hex::Sha256Hex;
use super::shared::{ActiveHours, never_observed};
use super::shared_text::SharedText;
use super::soul::SoulStatus;

/// The observed state of an agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// The generation of the spec that this status describes; -1 before the first reconcile.
    #[serde(default = "never_observed")]
    pub observed_generation: i64,
    /// The value of the annotation `muster.dev/reconcile-requested-at` at the last reconcile, at most 253 characters of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub last_handled_reconcile_at: Option<String>,
    /// The agent's phase. It is derived from the conditions and the heartbeats; no controller reads it. `Provisioning`: Muster
    /// provisions the agent. `Ready`: it is provisioned and has not checked in yet. `Active`: it works on a task. `Idle`: it
    /// waits for work. `Paused`: it is suspended. `Offline`: it has not called Muster's API for two heartbeat intervals.
    /// `Failed`: Muster cannot provision it; the conditions show the cause. `Deleting`: Muster removes it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::option")]
    pub phase: Option<Phase>,
    /// The gateway's id of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// The AgentGateway on which the agent is registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<ObjectKey>,
    /// The key of the agent's main session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_key: Option<String>,
    /// The path of the agent's workspace on the gateway's host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace_path: Option<String>,
    /// The agent on a gateway that Muster removes when this Agent is deleted. Muster writes it before it changes the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<BindingStatus>,
    /// The admission that the AgentGateway in another namespace took back. Not set while the AgentGateway admits this
    /// namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation: Option<Box<RevocationStatus>>,
    /// Fields of the agent's config entry for which the gateway stores another value than Muster sent, such as the names of
    /// retired models. Muster accepts the stored values. When a stored value changes later, Muster sends its own value again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["field"]))]
    pub rewritten: Vec<RewrittenField>,
    /// The keys of the agent's config entry that Muster wrote because of `spec.config`, or is about to write; `identity.theme`
    /// for a key of `identity`. Muster removes a key from the entry when `spec.config` no longer names it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub config_keys: Vec<String>,
    /// The agent's workspace files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub files: Vec<FileStatus>,
    /// The soul for the agent's role from the AgentGateway's soul directory.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::option")]
    pub soul: Option<Box<SoulStatus>>,
    /// Facts about the agent's token, without the token itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenStatus>,
    /// The agent's last report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<HeartbeatStatus>,
    /// The daily window in which the gateway runs the agent's heartbeats, as the gateway's config last said: from the agent's entry, or
    /// from the defaults. Without `timezone`, the zone is the zone of the gateway's host. Not set without a window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_hours: Option<Box<ActiveHours>>,
    /// The latest run of the agent on its gateway. A message or the gateway's heartbeat starts a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<RunStatus>,
    /// Wake messages for the current generation of the spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wake: Option<WakeStatus>,
    /// The state of the agent's session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionStatus>,
    /// The label that Muster last sent for the agent's session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_label: Option<SessionLabelStatus>,
    /// The Board and the AgentGateway of the agent. Requests there that are older than the agent's move do not apply to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parents: Option<Parents>,
    /// One-shot requests that Muster handled, the latest of each kind. A request is an annotation on the Agent, its Board or its
    /// AgentGateway.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "lenient::list")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["kind"]))]
    pub requests: Vec<RequestStatus>,
    /// Messages about annotations that look like one-shot requests and are not valid: the cause and the next step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub invalid_requests: Vec<String>,
    /// The last error. A successful reconcile removes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<Box<LastError>>,
    /// The conditions Ready, Registered, FilesSynced, TokenIssued, HeartbeatConfigured, SessionReady, CheckedIn and Paused.
    /// Reconciling and Stalled are present only while true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// An agent on a gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BindingStatus {
    /// The uid of the Agent. A binding with the uid of another object, for example from a backup, is ignored.
    pub uid: String,
    /// The AgentGateway.
    pub gateway: ObjectKey,
    /// The address of the gateway at which Muster bound the agent: scheme, host, port and path of `spec.url` of the
    /// AgentGateway at that time. The binding claims nothing at another address, and Muster removes no agent there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// The gateway's id of the agent.
    pub agent_id: String,
    /// The key of the agent's main session.
    pub session_key: String,
    /// The path of the agent's workspace on the gateway's host.
    pub workspace: String,
    /// Whether the agent existed on the gateway before this Agent adopted it. The workspace of an adopted agent stays when
    /// the agent is removed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub adopted: bool,
    /// What Muster removes when this Agent is deleted, from `deletionPolicy` of the Agent or of the AgentGateway. `Delete`: the agent,
    /// its session and its workspace. `RetainFiles`: the agent and its session. `Orphan`: nothing. If the policy of the AgentGateway
    /// changes together with the deletion of the Agent, the policy that keeps more applies.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::option")]
    pub deletion_policy: Option<DeletionPolicy>,
    /// Whether the gateway had the agent, and the Agent took it up again as its own: the token of its Secret was in the agent's
    /// workspace.
    #[serde(default, skip_serializing_if = "is_false")]
    pub taken_up: bool,
    /// The uid of the Agent, Board or AgentGateway from which `agentId` would derive, if the annotation `muster.dev/agent-id`
    /// gave another id. The id stays as long as the agent belongs to this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed_for: Option<String>,
}

/// An admission that an AgentGateway took back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevocationStatus {
    /// The AgentGateway.
    pub gateway: ObjectKey,
    /// When Muster saw that the AgentGateway no longer admits this namespace. From then on, Muster's HTTP API refuses the
    /// agent's token.
    pub since: Time,
    /// When Muster removed the agent from the gateway. Not set before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed_at: Option<Time>,
}

/// A field for which the gateway stores another value than Muster sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RewrittenField {
    /// The path of the field in the config entry, such as `heartbeat.model`.
    #[schemars(length(max = 64))]
    pub field: String,
    /// The value that Muster sent, as JSON; `null` to remove the key. A value of more than 256 characters is shown as
    /// `sha256:` and its hash.
    #[schemars(length(max = 256))]
    pub sent: String,
    /// The value that the gateway stores, in the same form; `null` when the gateway stores no value.
    #[schemars(length(max = 256))]
    pub stored: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_false(value: &bool) -> bool {
    !value
}

/// The phase of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = super::schema::words)]
pub enum Phase {
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
    /// Muster cannot provision the agent. The conditions show the cause.
    Failed,
    /// Muster removes the agent.
    Deleting,
}

/// The state of one workspace file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FileStatus {
    /// Name of the file.
    #[schemars(with = "String")]
    pub name: SharedText,
    /// The state of the file. `Pending`: not written yet. `Synced`: it has the rendered content. `Drifted`: somebody else
    /// changed it, and its drift policy keeps the change. `Ignored`: written, and not read afterwards. `Held`: it keeps its last
    /// content until the soul directory answers again. `Kept`: written once; it now belongs to the agent. `Left`: the spec no
    /// longer asks for it, and it stays on the gateway. `Folded`: a section of the file in `into`. `TooLarge`: longer than the
    /// gateway passes to an agent, and not written. `Refused`: the gateway refuses to read or to write it; the condition
    /// FilesSynced shows the next step. `Unmanaged`: Muster does not touch it.
    #[serde(deserialize_with = "lenient::or_default")]
    pub state: FileState,
    /// SHA-256 of the content that Muster last wrote or read, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub sha256: Option<Sha256Hex>,
    /// The file that contains this file as a section, because the gateway refuses this file's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub into: Option<SharedText>,
    /// Size of the file on the gateway at the last comparison, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<i64>,
    /// Modification time of the file on the gateway at the last comparison, by the gateway's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified_at: Option<MicroTime>,
}

/// The state of a workspace file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = super::schema::words)]
pub enum FileState {
    /// Muster has not written the file yet.
    Pending,
    /// The file has the rendered content.
    Synced,
    /// Somebody else changed the file, and its drift policy keeps the change.
    Drifted,
    /// Muster wrote the file, and its drift policy does not read the file afterwards.
    // An unknown state counts as this one: the file may have been written, and is compared before its state is known.
    #[default]
    Ignored,
    /// The file keeps its last content, with the soul for the agent's role, until the soul directory answers again.
    Held,
    /// Muster wrote the file once. The file now belongs to the agent.
    Kept,
    /// The spec no longer asks for the file. The file stays on the gateway, because somebody changed it or it belongs to the
    /// agent.
    Left,
    /// The file is a section of another file.
    Folded,
    /// The file is longer than the gateway passes to an agent, so Muster did not write it.
    TooLarge,
    /// The gateway refuses to read or to write the file, for example because the path is a link. The condition `FilesSynced`
    /// shows the next step.
    Refused,
    /// Muster does not touch the file.
    Unmanaged,
}

/// Facts about an agent's token, without the token itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenStatus {
    /// The Secret that keeps the token.
    pub secret_name: String,
    /// SHA-256 of the token, in hexadecimal. Empty while the agent has no valid token.
    #[serde(default)]
    pub sha256: String,
    /// The number of tokens that Muster has issued for the agent, including this one.
    #[serde(default)]
    pub revision: i64,
    /// When Muster began to accept this token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_at: Option<Time>,
    /// When the agent first called Muster's API with this token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed_at: Option<Time>,
    /// The previous token, while Muster still accepts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<PreviousToken>,
}

/// A replaced token that Muster still accepts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreviousToken {
    /// SHA-256 of the token, in hexadecimal.
    pub sha256: String,
    /// When the token stops working at the latest. Not set before Muster delivered the new token: until then the agent has
    /// only this token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Time>,
}

/// The Board and the AgentGateway of an agent, by uid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Parents {
    /// Uid of the Board. Not set for a Main agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub board_uid: Option<String>,
    /// Uid of the AgentGateway.
    pub gateway_uid: String,
}

/// An error that the gateway or Kubernetes returned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LastError {
    /// The gateway's error code, such as `INVALID_REQUEST` or `UNAVAILABLE`, or the reason of a condition.
    pub code: String,
    /// The error message.
    pub message: String,
    /// Whether a retry may succeed without a change of a resource.
    pub transient: bool,
    /// When an error with this code first occurred, without a success since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
}
