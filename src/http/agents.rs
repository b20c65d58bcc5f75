//! The API that agents call.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::agent_auth::{AgentCaller, paused};
use super::api::AgentApi;
use super::dto::has_id;
use super::error::ApiError;
use crate::api::Agent;
use crate::api::agent::CheckIn;
use crate::api::object_key::ObjectKey;
use crate::state::heartbeats::HeartbeatReport;
use crate::state::store::Store;

/// The longest body that is read, in bytes.
const LONGEST_BODY: usize = 16 * 1024;
/// The longest task id that is taken, in characters.
const LONGEST_TASK: usize = 256;

/// The routes that agents call.
pub fn router<S: Store>(api: Arc<AgentApi<S>>) -> Router {
    Router::new()
        .route("/api/v1/agents/{id}/heartbeat", post(heartbeat_by_id::<S>))
        .route("/api/v1/agent/heartbeat", post(heartbeat::<S>))
        .route("/api/v1/agent/healthz", get(healthz::<S>))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .with_state(api)
}

async fn not_found() -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "not_found",
        "there is nothing here; agents call POST /api/v1/agents/{id}/heartbeat, POST /api/v1/agent/heartbeat and GET /api/v1/agent/healthz, and GET /openapi.json tells all routes",
    )
}

async fn method_not_allowed() -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "heartbeats are sent with POST, healthz is asked with GET",
    )
}

/// What an agent that was seen is told.
#[derive(Debug, Serialize)]
struct Seen {
    ok: bool,
    /// The uid of the Agent.
    agent_id: Option<String>,
    name: String,
    /// Whether it is suspended and is to do nothing.
    paused: bool,
}

// The caller comes first: who has no token learns nothing else.

async fn heartbeat_by_id<S: Store>(
    State(api): State<Arc<AgentApi<S>>>,
    caller: AgentCaller,
    id: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Seen>, ApiError> {
    let id = id.map(|Path(id)| id).unwrap_or_default();
    if !has_id(&caller.agent, &id) {
        return Err(another(api.state.store.agents().iter().any(|agent| has_id(agent, &id))));
    }
    check_in(&api, &caller.agent, body).await
}

async fn heartbeat<S: Store>(
    State(api): State<Arc<AgentApi<S>>>,
    caller: AgentCaller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Seen>, ApiError> {
    check_in(&api, &caller.agent, body).await
}

async fn healthz<S: Store>(State(api): State<Arc<AgentApi<S>>>, caller: AgentCaller) -> Json<Seen> {
    let due = api.state.heartbeats.touch(&caller.agent, api.state.store.now());
    seen(&api, &caller.agent, due).await
}

/// The id in the URL is not that of the caller.
fn another(exists: bool) -> ApiError {
    let advice = "use the id and the token that stand together in your files";
    if exists {
        let message = format!("this token belongs to another agent than the one in the URL; {advice}");
        return ApiError::new(StatusCode::FORBIDDEN, "wrong_agent", message);
    }
    let message = format!("there is no agent with the id in the URL; {advice}");
    ApiError::new(StatusCode::NOT_FOUND, "no_such_agent", message)
}

async fn check_in<S: Store>(
    api: &AgentApi<S>,
    agent: &Agent,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Seen>, ApiError> {
    let due = api.state.heartbeats.record(
        agent,
        report(&body.map_err(|rejection| unread(&rejection))?)?,
        api.state.store.now(),
    );
    Ok(seen(api, agent, due).await)
}

/// Takes note that an agent was heard of, and has its status written when that is due.
async fn seen<S: Store>(api: &AgentApi<S>, agent: &Agent, due: bool) -> Json<Seen> {
    api.probes.metrics.heartbeat();
    if due {
        // The receiver ends only when the operator does.
        let _ = api.due.send(ObjectKey::of(&agent.metadata)).await;
    }
    let name = agent.display_name();
    Json(Seen { ok: true, agent_id: agent.metadata.uid.clone(), name, paused: paused(agent) })
}

fn unread(rejection: &BytesRejection) -> ApiError {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        let message =
            format!("the body is longer than {LONGEST_BODY} bytes; send {{\"status\", \"current_task_id\"}} only");
        return ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message);
    }
    ApiError::new(StatusCode::BAD_REQUEST, "bad_request", "the body ended before it was complete")
}

/// The body of a heartbeat.
#[derive(Debug, Default, Deserialize)]
struct Heartbeat {
    status: Option<String>,
    current_task_id: Option<String>,
}

fn report(body: &[u8]) -> Result<HeartbeatReport, ApiError> {
    let bad = |message: String| ApiError::new(StatusCode::BAD_REQUEST, "bad_request", message);
    let heartbeat = match body {
        [] => Heartbeat::default(),
        // An object first: serde takes a list for a struct, too.
        body => serde_json::from_slice::<Map<String, Value>>(body)
            .and_then(|object| serde_json::from_value(Value::Object(object)))
            .map_err(|e| bad(format!("the body is not {{\"status\", \"current_task_id\"}} as JSON: {e}")))?,
    };
    let status = match heartbeat.status.as_deref() {
        None => None,
        Some(word) => Some(check_in_status(word).ok_or_else(|| {
            bad(format!("status {word:?} is not known; say active, busy, working, idle, ready, online, ok or paused"))
        })?),
    };
    let current_task = heartbeat.current_task_id.filter(|t| !t.is_empty());
    if current_task.as_ref().is_some_and(|t| t.chars().count() > LONGEST_TASK) {
        return Err(bad(format!("current_task_id is longer than {LONGEST_TASK} characters")));
    }
    Ok(HeartbeatReport { status, current_task })
}

fn check_in_status(word: &str) -> Option<CheckIn> {
    match word.to_ascii_lowercase().as_str() {
        "active" | "busy" | "working" => Some(CheckIn::Active),
        "idle" | "ready" | "online" | "ok" | "paused" => Some(CheckIn::Idle),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_empty_body_is_a_sign_of_life() {
        assert_eq!(report(b"").unwrap(), HeartbeatReport::default());
    }

    #[test]
    fn either_vocabulary_is_understood() {
        for (word, status) in
            [("active", CheckIn::Active), ("Busy", CheckIn::Active), ("online", CheckIn::Idle), ("idle", CheckIn::Idle)]
        {
            let body = json!({ "status": word, "current_task_id": "T1" }).to_string();
            let report = report(body.as_bytes()).unwrap();
            assert_eq!((report.status, report.current_task.as_deref()), (Some(status), Some("T1")));
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_with_a_word_about_it() {
        for (body, says) in [
            ("{\"status\":\"flying\"}", "flying"),
            ("nonsense", "JSON"),
            ("{\"status\":3}", "JSON"),
            ("[null,null]", "JSON"),
        ] {
            let error = report(body.as_bytes()).unwrap_err();
            assert_eq!(error.status, StatusCode::BAD_REQUEST);
            assert!(error.message.contains(says), "{}", error.message);
        }
    }
}
