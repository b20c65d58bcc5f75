//! The observed state of a gateway.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::config_policy::SharedHeartbeatsStatus;
use super::requests::SyncStatus;
use super::shared::never_observed;
use super::soul::SoulDirectoryStatus;

/// The observed state of a gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentGatewayStatus {
    /// The generation of the spec that this status describes; -1 before the first reconcile.
    #[serde(default = "never_observed")]
    pub observed_generation: i64,
    /// The value of the annotation `muster.dev/reconcile-requested-at` at the last reconcile, at most 253 characters of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub last_handled_reconcile_at: Option<String>,
    /// The gateway's version, as the gateway reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_version: Option<String>,
    /// The protocol version of the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<i32>,
    /// The capabilities that Muster detected on this gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<GatewayCapabilities>,
    /// Muster's device id at the gateway: the SHA-256 of its public key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<String>,
    /// Name of the Secret that keeps the key of this device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_secret: Option<String>,
    /// The scopes that the gateway granted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub granted_scopes: Vec<String>,
    /// The pairing request that waits for approval. Not set when the gateway reports no plain id of the request; then run
    /// `openclaw devices list` on the gateway's host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pairing: Option<Pairing>,
    /// The gateway's id of the main agent that was provisioned last. If the main agent's Agent is created again, it gets the
    /// same id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main_agent_id: Option<String>,
    /// Numbers of agents on the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agents: Option<AgentCounts>,
    /// Agents on the gateway without an Agent resource in this cluster, sorted by id, at most 100. To adopt an agent, create an
    /// Agent with its id as `agentId` and with `adoptionPolicy: IfExists`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub unmanaged: Vec<UnmanagedAgent>,
    /// The `heartbeat` blocks that Muster added for agents that it did not create.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_heartbeats: Option<SharedHeartbeatsStatus>,
    /// When Muster last connected to the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_connected: Option<Time>,
    /// The progress of the latest one-shot request on this AgentGateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sync: Option<SyncStatus>,
    /// The observed state of the soul directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soul_directory: Option<SoulDirectoryStatus>,
    /// Messages about annotations that look like one-shot requests and are not valid: the cause and the next step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub invalid_requests: Vec<String>,
    /// The conditions Ready, Reachable, Authenticated, Paired, Compatible, Settled, ConfigSynced, HeartbeatsShared, TransportSecure
    /// and Suspended. Reconciling and Stalled are present only while true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// The detected capabilities of a gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayCapabilities {
    /// The shape of the agent roster in the gateway's config: `list` or `entries`.
    pub roster: String,
    /// The workspace files that the gateway accepts. Muster folds other files into AGENTS.md.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub accepted_files: Vec<String>,
    /// Whether the gateway returns content hashes of files and accepts them as preconditions of writes.
    #[serde(default)]
    pub file_hashes: bool,
    /// Whether the gateway supports the deletion of an agent's main session. Other gateways delete it with the agent.
    #[serde(default)]
    pub main_session_delete: bool,
    /// Whether the gateway can lose one of two config writes in quick succession. If so, Muster waits 1 s between config
    /// writes and reads each write back.
    #[serde(default)]
    pub loses_writes: bool,
}

/// A pairing request at the gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pairing {
    /// The id of the pairing request.
    #[schemars(length(max = 64))]
    pub request_id: String,
    /// The command that approves the request. Run it on the gateway's host.
    #[schemars(length(max = 128))]
    pub command: String,
    /// The earliest time at which the request expires. After that time, the status shows a later time if the gateway still
    /// keeps the request, or a new request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
}

/// An agent on a gateway without an Agent resource in this cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnmanagedAgent {
    /// The gateway's id of the agent.
    pub id: String,
    /// The agent's name on the gateway, shortened if it is long. Not set when the agent has no name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Numbers of agents on a gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AgentCounts {
    /// Number of agents that Muster manages for an Agent resource in this cluster.
    pub managed: i32,
    /// Number of managed agents whose Agent is Ready.
    pub ready: i32,
    /// Number of agents that Agent resources in this cluster only observe.
    #[serde(default)]
    pub observed: i32,
    /// Number of agents on the gateway without an Agent resource in this cluster, at the last observation.
    pub unmanaged: i32,
}
