//! The JSON of one agent with its details, without its secrets.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::request::PROFILE_FIELDS;
use crate::api::agent::{AgentStatus, FileState, FileStatus, LastError, TokenStatus, WakeStatus};
use crate::api::condition::Condition;
use crate::api::profile::IdentityProfile;
use crate::api::requests::{RequestKind, RequestStatus};
use crate::core::agent::heartbeat::AgentHeartbeat;
use crate::http::dto::{ApiTime, Item};

/// An agent with its details.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AgentDetail {
    #[serde(flatten)]
    pub(crate) item: Item,
    #[serde(flatten)]
    pub(crate) status: StatusDetail,
    /// The identity of the agent. Further keys are values for templates.
    pub(crate) identity_profile: Map<String, Value>,
    /// The heartbeat as the gateway has it: completed by the AgentGateway. Null for an agent that Muster only observes or that has no
    /// Agent resource, and for an adopted agent whose spec leaves the heartbeat to the gateway.
    pub(crate) heartbeat_config: Option<HeartbeatDetail>,
}

/// The details from the status of an agent.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct StatusDetail {
    /// The conditions of the Agent.
    conditions: Vec<ConditionDetail>,
    /// The workspace files.
    files: Vec<FileDetail>,
    /// Facts about the token, without the token itself.
    token: Option<TokenDetail>,
    /// The wake messages for the current spec.
    wake: Option<WakeDetail>,
    /// The latest one-shot request of each kind.
    requests: Vec<RequestDetail>,
    /// The last error. Null after a successful reconcile.
    last_error: Option<LastErrorDetail>,
    /// The path of the workspace on the gateway's host.
    workspace_path: Option<String>,
}

/// A condition of an Agent.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Condition")]
struct ConditionDetail {
    /// The name of the condition.
    #[serde(rename = "type")]
    kind: String,
    /// Whether the condition holds.
    #[schemars(extend("enum" = ["True", "False", "Unknown"]))]
    status: String,
    /// The cause as one word, for programs.
    reason: String,
    /// The cause and the next step, for people.
    message: String,
    /// When the status of the condition last changed.
    last_transition_time: ApiTime,
}

/// A workspace file.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "File")]
struct FileDetail {
    /// Name of the file.
    name: String,
    /// The state of the file.
    state: FileState,
    /// The file that contains this file as a section.
    into: Option<String>,
    /// Size of the file on the gateway, in bytes.
    size: Option<i64>,
}

/// Facts about the token of an agent.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Token")]
struct TokenDetail {
    /// The number of tokens that Muster has issued for the agent.
    revision: i64,
    /// When Muster began to accept this token.
    issued_at: Option<ApiTime>,
    /// When the agent first called with this token.
    confirmed_at: Option<ApiTime>,
}

/// The wake messages of an agent.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Wake")]
struct WakeDetail {
    /// The number of wake messages that Muster sent.
    attempts: i32,
    /// When Muster sent the last wake message.
    last_sent_at: Option<ApiTime>,
    /// The time by which the agent must check in.
    deadline: Option<ApiTime>,
}

/// A one-shot request.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Request")]
struct RequestDetail {
    /// The kind of the request.
    kind: RequestKind,
    /// The time of the request.
    requested_at: ApiTime,
    /// When Muster handled the request. Null if the request is older than the agent.
    handled_at: Option<ApiTime>,
}

/// An error that the gateway or Kubernetes returned.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "LastError")]
struct LastErrorDetail {
    /// The gateway's error code, or the reason of a condition.
    code: String,
    /// The error message.
    message: String,
    /// Whether a retry may succeed without a change of a resource.
    transient: bool,
    /// When an error with this code first occurred, without a success since.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<ApiTime>,
}

/// The heartbeat of an agent.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Heartbeat")]
pub(crate) struct HeartbeatDetail {
    /// Whether the gateway runs heartbeats for the agent. False while the agent or its board is suspended.
    enabled: bool,
    /// The time between two heartbeats, in seconds.
    #[serde(rename = "intervalSeconds")]
    interval_seconds: u64,
}

impl From<&AgentStatus> for StatusDetail {
    fn from(status: &AgentStatus) -> Self {
        Self {
            conditions: status.conditions.iter().map(ConditionDetail::from).collect(),
            files: status.files.iter().map(FileDetail::from).collect(),
            token: status.token.as_ref().map(TokenDetail::from),
            wake: status.wake.as_ref().map(WakeDetail::from),
            requests: status.requests.iter().map(RequestDetail::from).collect(),
            last_error: status.last_error.as_deref().map(LastErrorDetail::from),
            workspace_path: status.workspace_path.clone(),
        }
    }
}

fn time(time: Option<&Time>) -> Option<ApiTime> {
    time.map(ApiTime::from)
}

impl From<&Condition> for ConditionDetail {
    fn from(condition: &Condition) -> Self {
        Self {
            kind: condition.type_.to_string(),
            status: condition.status.to_string(),
            reason: condition.reason.to_string(),
            message: condition.message.to_string(),
            last_transition_time: ApiTime::from(&condition.last_transition_time),
        }
    }
}

impl From<&FileStatus> for FileDetail {
    fn from(file: &FileStatus) -> Self {
        let into = file.into.as_ref().map(ToString::to_string);
        Self { name: file.name.to_string(), state: file.state, into, size: file.size }
    }
}

impl From<&TokenStatus> for TokenDetail {
    fn from(token: &TokenStatus) -> Self {
        Self {
            revision: token.revision,
            issued_at: time(token.issued_at.as_ref()),
            confirmed_at: time(token.confirmed_at.as_ref()),
        }
    }
}

impl From<&WakeStatus> for WakeDetail {
    fn from(wake: &WakeStatus) -> Self {
        Self {
            attempts: wake.attempts,
            last_sent_at: time(wake.last_sent_at.as_ref()),
            deadline: time(wake.deadline.as_ref()),
        }
    }
}

impl From<&RequestStatus> for RequestDetail {
    fn from(request: &RequestStatus) -> Self {
        Self {
            kind: request.kind,
            requested_at: ApiTime::from(&request.requested_at),
            handled_at: time(request.handled_at.as_ref()),
        }
    }
}

impl From<&LastError> for LastErrorDetail {
    fn from(error: &LastError) -> Self {
        Self {
            code: error.code.clone(),
            message: error.message.clone(),
            transient: error.transient,
            since: time(error.since.as_ref()),
        }
    }
}

impl HeartbeatDetail {
    /// The heartbeat as the gateway has it. `None` for an adopted agent whose spec leaves the heartbeat to the gateway.
    pub(crate) fn of(heartbeat: &AgentHeartbeat) -> Option<Self> {
        let interval_seconds = heartbeat.interval.as_secs();
        heartbeat.every.map(|every| Self { enabled: !every.is_zero(), interval_seconds })
    }
}

/// A profile with the field names of the API. The values of `extra` are fields of the same object.
pub(crate) fn profile(profile: &IdentityProfile) -> Map<String, Value> {
    let mut spec = serde_json::to_value(profile).unwrap_or_default();
    let extra = spec.get_mut("extra").map(Value::take).unwrap_or_default();
    let extra = extra.as_object().cloned().unwrap_or_default();
    let known = PROFILE_FIELDS.iter().filter_map(|(name, spec_field)| {
        let value = spec.get_mut(*spec_field)?.take();
        Some(((*name).to_owned(), value))
    });
    let known: BTreeMap<String, Value> = known.collect();
    extra.into_iter().chain(known).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_details_contain_no_hash_of_a_token() {
        let token = TokenStatus { sha256: "abc123".into(), revision: 2, ..TokenStatus::default() };
        let status = AgentStatus { token: Some(token), ..AgentStatus::default() };
        let details = serde_json::to_string(&StatusDetail::from(&status)).unwrap();
        assert!(details.contains("\"revision\":2") && !details.contains("abc123"), "{details}");
    }

    #[test]
    fn a_profile_is_returned_as_it_was_sent() {
        let sent = json!({ "role": "SRE", "working_hours": "9-5", "expertise": ["Go"], "team": "infra" });
        let spec: IdentityProfile = serde_json::from_value(
            json!({ "role": "SRE", "workingHours": "9-5", "expertise": ["Go"], "extra": { "team": "infra" } }),
        )
        .unwrap();
        assert_eq!(Value::Object(profile(&spec)), sent);
    }
}
