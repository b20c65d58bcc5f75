//! What was observed of a gateway.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::config_policy::SharedHeartbeatsStatus;
use super::requests::SyncStatus;
use super::shared::never_observed;
use super::soul::SoulDirectoryStatus;

/// What was observed of a gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentGatewayStatus {
    /// The generation that this status is about; -1 before the first look.
    #[serde(default = "never_observed")]
    pub observed_generation: i64,
    /// The gateway's version, as it says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_version: Option<String>,
    /// The protocol version in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<i32>,
    /// What this gateway was found able to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<GatewayCapabilities>,
    /// Muster's device id at the gateway: the SHA-256 of its public key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<String>,
    /// The Secret that keeps this device's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_secret: Option<String>,
    /// The scopes that the gateway granted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub granted_scopes: Vec<String>,
    /// The pairing request that waits for approval. Absent when the gateway names none by a plain id: then
    /// `openclaw devices list` shows it where the gateway runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pairing: Option<Pairing>,
    /// The gateway's id of the main agent that was set up last. A main agent that is made anew has it again, in a further life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main_agent_id: Option<String>,
    /// How many agents there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agents: Option<AgentCounts>,
    /// Agents on the gateway that no Agent resource of this cluster declares, by id; the first 100 of them. An Agent with
    /// that `agentId` and `adoptionPolicy: IfExists` adopts one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub unmanaged: Vec<UnmanagedAgent>,
    /// What Muster made in the gateway's config for the heartbeats of agents that it did not make.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_heartbeats: Option<SharedHeartbeatsStatus>,
    /// When the connection was last established.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_connected: Option<Time>,
    /// The last one-shot request that was made here for all agents below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sync: Option<SyncStatus>,
    /// What was seen of the directory of souls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soul_directory: Option<SoulDirectoryStatus>,
    /// Annotations that look like one-shot requests and are none: what is wrong and what to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub invalid_requests: Vec<String>,
    /// Conditions: Ready, Reachable, Authenticated, Paired, Compatible, Settled, ConfigSynced, HeartbeatsShared, Suspended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// What a gateway was found able to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayCapabilities {
    /// Shape of the agent roster in its config: `list` or `entries`.
    pub roster: String,
    /// Workspace files that it accepts; others are folded into AGENTS.md.
    #[serde(default)]
    pub accepted_files: Vec<String>,
    /// Whether it gives content hashes and takes them as a precondition of a write.
    #[serde(default)]
    pub file_hashes: bool,
    /// Whether it deletes an agent's main session by itself; others take it away with the agent.
    #[serde(default)]
    pub main_session_delete: bool,
    /// Whether it can lose one of two config writes, so that Muster keeps them a second apart and reads each back.
    #[serde(default)]
    pub loses_writes: bool,
}

/// A pairing request at the gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pairing {
    /// The request's id.
    #[schemars(length(max = 64))]
    pub request_id: String,
    /// The command that approves it, to be run where the gateway runs.
    #[schemars(length(max = 128))]
    pub command: String,
    /// Until when the request can be approved at least. A request that the gateway still keeps then is given more time;
    /// otherwise another one takes its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
}

/// An agent on a gateway that no Agent resource of this cluster declares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnmanagedAgent {
    /// The gateway's id of the agent.
    pub id: String,
    /// Its name on the gateway, if it has one; of a long one the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Numbers of agents on a gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AgentCounts {
    /// Agents that Agent resources of this cluster declare.
    pub managed: i32,
    /// Of those, how many are Ready.
    pub ready: i32,
    /// Agents on the gateway that no Agent resource of this cluster declares, as last seen.
    pub unmanaged: i32,
}
