//! One-shot requests: annotations with a time as their value.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::lenient;
use crate::api::keys;

/// The kind of a one-shot request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = super::schema::words)]
pub enum RequestKind {
    /// Muster reads and writes everything of the agent again.
    Sync,
    /// Like `Sync`, and Muster also writes files that it normally keeps.
    Overwrite,
    /// Muster replaces the token.
    Rotate,
    /// Muster writes BOOTSTRAP.md again.
    Bootstrap,
    /// Muster resets the session.
    ResetSession,
    /// Muster sends a wake message.
    Wake,
}

impl RequestKind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Sync, Self::Overwrite, Self::Rotate, Self::Bootstrap, Self::ResetSession, Self::Wake];

    /// The annotation of this request.
    #[must_use]
    pub fn annotation(self) -> &'static str {
        match self {
            Self::Sync => keys::SYNC_REQUESTED_AT,
            Self::Overwrite => keys::OVERWRITE_REQUESTED_AT,
            Self::Rotate => keys::ROTATE_REQUESTED_AT,
            Self::Bootstrap => keys::BOOTSTRAP_REQUESTED_AT,
            Self::ResetSession => keys::RESET_SESSION_REQUESTED_AT,
            Self::Wake => keys::WAKE_REQUESTED_AT,
        }
    }
}

/// A one-shot request that Muster handled for an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestStatus {
    /// The kind of the request. `Sync`: everything of the agent is read and written again. `Overwrite`: also files that Muster
    /// normally keeps. `Rotate`: the token is replaced. `Bootstrap`: BOOTSTRAP.md is written again. `ResetSession`: the session
    /// is reset. `Wake`: the agent gets a wake message.
    pub kind: RequestKind,
    /// The time of the request: the annotation's value.
    pub requested_at: Time,
    /// When Muster handled the request. Not set if the request is older than the agent, which leaves nothing to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handled_at: Option<Time>,
}

/// The progress of the latest one-shot request on a Board or an AgentGateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncStatus {
    /// The time of the request: the annotation's value.
    pub requested_at: Time,
    /// The kinds of the requests with this time.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "lenient::list")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub kinds: Vec<RequestKind>,
    /// Number of Agents for which Muster handled the request.
    #[serde(default)]
    pub updated: i32,
    /// Number of Agents with nothing to do: they are newer than the request, or are being deleted.
    #[serde(default)]
    pub skipped: i32,
    /// Number of Agents for which Muster has not handled the request yet.
    #[serde(default)]
    pub pending: i32,
    /// Errors of Agents for which Muster has not handled the request yet, at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), extend("x-kubernetes-list-type" = "atomic"))]
    pub errors: Vec<SyncError>,
}

/// An error that delays a request for one Agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SyncError {
    /// The Agent, as `namespace/name`.
    pub agent: String,
    /// The cause and the next step.
    pub message: String,
}
