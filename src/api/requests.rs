//! One-shot requests: annotations whose value is a time.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::keys;

/// What a one-shot request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RequestKind {
    /// Everything is read and written again.
    Sync,
    /// Files that are normally kept are written too.
    Overwrite,
    /// The token is replaced.
    Rotate,
    /// BOOTSTRAP.md is written again.
    Bootstrap,
    /// The session starts anew.
    ResetSession,
}

impl RequestKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Sync, Self::Overwrite, Self::Rotate, Self::Bootstrap, Self::ResetSession];

    /// The annotation that makes the request.
    #[must_use]
    pub fn annotation(self) -> &'static str {
        match self {
            Self::Sync => keys::SYNC_REQUESTED_AT,
            Self::Overwrite => keys::OVERWRITE_REQUESTED_AT,
            Self::Rotate => keys::ROTATE_REQUESTED_AT,
            Self::Bootstrap => keys::BOOTSTRAP_REQUESTED_AT,
            Self::ResetSession => keys::RESET_SESSION_REQUESTED_AT,
        }
    }
}

/// A one-shot request that an agent has dealt with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestStatus {
    /// What was asked for.
    pub kind: RequestKind,
    /// The time of the request, as the annotation has it.
    pub requested_at: Time,
    /// When it was done. Not set when there was nothing to do, since the request was there before the agent was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handled_at: Option<Time>,
}

/// What became of the latest one-shot request that was made on a Board or an AgentGateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncStatus {
    /// The time of the request, as the annotation has it.
    pub requested_at: Time,
    /// What was asked for at that time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<RequestKind>,
    /// Agents that have done it.
    #[serde(default)]
    pub updated: i32,
    /// Agents that had nothing to do: they came after the request, or are being deleted.
    #[serde(default)]
    pub skipped: i32,
    /// Agents that have still to do it.
    #[serde(default)]
    pub pending: i32,
    /// What keeps agents from doing it, at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<SyncError>,
}

/// What keeps an agent from doing what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SyncError {
    /// The Agent, as namespace/name.
    pub agent: String,
    /// What is wrong and what to do.
    pub message: String,
}
