//! The HTTP API for agents.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{DefaultBodyLimit, FromRequest, Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::{Json, Router};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::agent_auth::{AgentCaller, is_paused};
use super::api::{self, AgentApi, MAX_BODY_BYTES};
use super::dto::has_id;
use super::error::{ApiError, ErrorCode};
use super::forward::{self, WayToLeader};
use super::openapi::operation::{Audience, DescribedInput, Operation, RequestBody, schema_of};
use super::openapi::route::{self, About, Route};
use crate::api::Agent;
use crate::api::agent::CheckIn;
use crate::api::object_key::ObjectKey;
use crate::state::heartbeats::HeartbeatReport;

/// The maximum length of a task id, in characters.
const MAX_TASK_ID_CHARS: usize = 256;

/// The routes of the API for agents.
pub(crate) fn routes() -> Vec<Route<Arc<AgentApi>>> {
    let by_id = About {
        id: "heartbeatById",
        summary: "Checks in and reports the agent's work.",
        description: "The id is the uid of the Agent, or the agent's id on the gateway.",
        errors: &[ErrorCode::WrongAgent, ErrorCode::NotFound],
        ..About::default()
    };
    let by_token = About {
        id: "heartbeat",
        summary: "Checks in and reports the agent's work. The token identifies the agent.",
        ..About::default()
    };
    let health = About {
        id: "healthz",
        summary: "Shows whether the token is accepted.",
        description: "The call counts as a sign of life. The reported status and task stay as they were.",
        ..About::default()
    };
    vec![
        Route::post("/api/v1/agents/{id}/heartbeat", heartbeat_by_id, by_id),
        Route::post("/api/v1/agent/heartbeat", heartbeat, by_token),
        Route::get("/api/v1/agent/healthz", healthz, health),
    ]
}

/// The router of the API for agents. A replica that does not lead passes the calls on.
pub fn router(api: Arc<AgentApi>, leader: WayToLeader) -> Router {
    route::router(routes())
        .route_layer(from_fn_with_state(leader, forward::to_leader))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(api)
}

async fn not_found() -> ApiError {
    ApiError::new(
        ErrorCode::NotFound,
        "this route does not exist; agents call POST /api/v1/agents/{id}/heartbeat, POST /api/v1/agent/heartbeat and GET /api/v1/agent/healthz, and GET /openapi.json describes all routes",
    )
}

async fn method_not_allowed() -> ApiError {
    ApiError::new(ErrorCode::MethodNotAllowed, "send heartbeats with POST; read healthz with GET")
}

/// The call was recorded.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Seen")]
struct HeartbeatResponse {
    /// Always true.
    ok: bool,
    /// The uid of the Agent.
    agent_id: Option<String>,
    /// The agent's display name.
    name: String,
    /// Whether the agent or its board is suspended: the agent does nothing until this is false again.
    paused: bool,
}

impl DescribedInput for AgentCaller {
    fn describe(operation: &mut Operation) {
        operation.audience = Audience::Agent;
        operation.errors.extend([
            ErrorCode::Unauthorized,
            ErrorCode::TooManyRequests,
            ErrorCode::Starting,
            ErrorCode::Deleting,
            ErrorCode::NoLeader,
        ]);
    }
}

/// The id in the URL. An id that is not valid UTF-8 is not the caller's.
type AnyId = Result<Path<String>, PathRejection>;

impl DescribedInput for AnyId {
    fn describe(_: &mut Operation) {}
}

/// The body of a heartbeat before it is parsed: the id in the URL is compared first.
struct ReportBody(Result<Bytes, BytesRejection>);

impl<S: Send + Sync> FromRequest<S> for ReportBody {
    type Rejection = Infallible;

    async fn from_request(request: Request, state: &S) -> Result<Self, Infallible> {
        Ok(Self(Bytes::from_request(request, state).await))
    }
}

impl DescribedInput for ReportBody {
    fn describe(operation: &mut Operation) {
        operation.body = Some(RequestBody { schema: schema_of::<HeartbeatBody>, required: false });
        operation.errors.extend([ErrorCode::BadRequest, ErrorCode::TooLarge, ErrorCode::Timeout]);
    }
}

// The caller is the first extractor, so that a request without a token gets no other answer than 401.

async fn heartbeat_by_id(
    State(api): State<Arc<AgentApi>>,
    caller: AgentCaller,
    id: AnyId,
    body: ReportBody,
) -> Result<Json<HeartbeatResponse>, ApiError> {
    let id = id.map(|Path(id)| id).unwrap_or_default();
    if !has_id(&caller.agent, &id) {
        return Err(wrong_id());
    }
    check_in(&api, &caller.agent, body).await
}

async fn heartbeat(
    State(api): State<Arc<AgentApi>>,
    caller: AgentCaller,
    body: ReportBody,
) -> Result<Json<HeartbeatResponse>, ApiError> {
    check_in(&api, &caller.agent, body).await
}

async fn healthz(State(api): State<Arc<AgentApi>>, caller: AgentCaller) -> Json<HeartbeatResponse> {
    let due = api.state.heartbeats.touch(&caller.agent, api.state.store.now());
    respond(&api, &caller.agent, due).await
}

/// The error for an id in the URL that is not the caller's. The answer does not show whether another agent has the id.
fn wrong_id() -> ApiError {
    let message = "this token belongs to another agent than the one in the URL; use the id and the token that stand together in your files";
    ApiError::new(ErrorCode::WrongAgent, message)
}

async fn check_in(
    api: &AgentApi,
    agent: &Agent,
    ReportBody(body): ReportBody,
) -> Result<Json<HeartbeatResponse>, ApiError> {
    let report = parse_report(&body.map_err(|rejection| body_error(&rejection))?)?;
    let due = api.state.heartbeats.record(agent, report, api.state.store.now());
    Ok(respond(api, agent, due).await)
}

/// Answers a call, and requests a write of the agent's status if it is `due`.
async fn respond(api: &AgentApi, agent: &Agent, due: bool) -> Json<HeartbeatResponse> {
    api.probes.metrics.count_heartbeat();
    if due {
        // The receiver is open until the operator stops.
        let _ = api.due.send(ObjectKey::of(&agent.metadata)).await;
    }
    let name = agent.display_name();
    Json(HeartbeatResponse { ok: true, agent_id: agent.metadata.uid.clone(), name, paused: is_paused(agent) })
}

/// The error for a body that could not be read.
fn body_error(rejection: &BytesRejection) -> ApiError {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return api::too_large();
    }
    ApiError::bad_request("the body ended before it was complete")
}

/// The report of an agent. Unknown fields are ignored.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Report", example = json!({ "status": "active", "current_task_id": "T-17" }))]
struct HeartbeatBody {
    /// What the agent does, in upper or lower case. `active`, `busy` and `working`: it works on something. The other words: it waits
    /// for work. Left out: the last reported status stays.
    #[schemars(schema_with = "check_in_words")]
    status: Option<String>,
    /// The id of the agent's current task. Left out or empty: the agent works on no task.
    #[schemars(length(max = MAX_TASK_ID_CHARS))]
    current_task_id: Option<String>,
}

/// The words for an agent that works on something.
const ACTIVE_WORDS: [&str; 3] = ["active", "busy", "working"];
/// The words for an agent that waits for work.
const IDLE_WORDS: [&str; 5] = ["idle", "ready", "online", "ok", "paused"];

/// The schema of the status in a report.
fn check_in_words(_: &mut SchemaGenerator) -> Schema {
    let words = ACTIVE_WORDS.into_iter().chain(IDLE_WORDS).map(Value::from).chain([Value::Null]);
    json_schema!({ "type": ["string", "null"], "enum": words.collect::<Vec<_>>() })
}

fn parse_report(body: &[u8]) -> Result<HeartbeatReport, ApiError> {
    let heartbeat = match body {
        [] => HeartbeatBody::default(),
        // The body is parsed as an object first, because serde also accepts a list for a struct.
        body => serde_json::from_slice::<Map<String, Value>>(body)
            .and_then(|object| serde_json::from_value(Value::Object(object)))
            .map_err(|e| {
                ApiError::bad_request(format!("the body is not {{\"status\", \"current_task_id\"}} as JSON: {e}"))
            })?,
    };
    let status = match heartbeat.status.as_deref() {
        None => None,
        Some(word) => Some(check_in_status(word).ok_or_else(|| {
            let known = ACTIVE_WORDS.into_iter().chain(IDLE_WORDS).collect::<Vec<_>>().join(", ");
            ApiError::bad_request(format!("status {word:?} is unknown; send one of: {known}"))
        })?),
    };
    let current_task = heartbeat.current_task_id.filter(|t| !t.is_empty());
    if current_task.as_ref().is_some_and(|t| t.chars().count() > MAX_TASK_ID_CHARS) {
        return Err(ApiError::bad_request(format!("current_task_id is longer than {MAX_TASK_ID_CHARS} characters")));
    }
    Ok(HeartbeatReport { status, current_task })
}

fn check_in_status(word: &str) -> Option<CheckIn> {
    let word = word.to_ascii_lowercase();
    let active = ACTIVE_WORDS.contains(&word.as_str()).then_some(CheckIn::Active);
    active.or_else(|| IDLE_WORDS.contains(&word.as_str()).then_some(CheckIn::Idle))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_empty_body_is_an_empty_report() {
        assert_eq!(parse_report(b"").unwrap(), HeartbeatReport::default());
    }

    #[test]
    fn the_status_words_of_both_vocabularies_are_accepted() {
        for (word, status) in
            [("active", CheckIn::Active), ("Busy", CheckIn::Active), ("online", CheckIn::Idle), ("idle", CheckIn::Idle)]
        {
            let body = json!({ "status": word, "current_task_id": "T1" }).to_string();
            let report = parse_report(body.as_bytes()).unwrap();
            assert_eq!((report.status, report.current_task.as_deref()), (Some(status), Some("T1")));
        }
    }

    #[test]
    fn an_invalid_body_is_refused_with_its_cause() {
        for (body, cause) in [
            ("{\"status\":\"flying\"}", "flying"),
            ("nonsense", "JSON"),
            ("{\"status\":3}", "JSON"),
            ("[null,null]", "JSON"),
        ] {
            let error = parse_report(body.as_bytes()).unwrap_err();
            assert_eq!(error.status(), StatusCode::BAD_REQUEST);
            assert!(error.message.contains(cause), "{}", error.message);
        }
    }
}
