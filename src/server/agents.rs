//! The API that agents call.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedSender;

use super::error::ApiError;
use super::tokens::{Tokens, same};
use crate::api::Agent;
use crate::api::agent::CheckIn;
use crate::metrics::Metrics;
use crate::reconcile::heartbeats::Report;
use crate::reconcile::{Key, Store, World};

/// The longest body that is read, in bytes.
const LONGEST_BODY: usize = 16 * 1024;
/// The longest task id that is taken, in characters.
const LONGEST_TASK: usize = 256;

/// What the handlers need.
#[derive(Debug)]
pub struct Api<S> {
    /// The handles of the reconcilers.
    pub world: Arc<World<S>>,
    /// The hashes of the agents' tokens.
    pub tokens: Arc<Tokens>,
    /// The queue of the agent controller.
    pub queue: UnboundedSender<Key>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
}

/// The routes that agents call.
pub fn router<S: Store>(api: Arc<Api<S>>) -> Router {
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
        "there is nothing here; the routes are POST /api/v1/agents/{id}/heartbeat, POST /api/v1/agent/heartbeat and GET /api/v1/agent/healthz",
    )
}

async fn method_not_allowed() -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "heartbeats are sent with POST, healthz is asked with GET",
    )
}

async fn heartbeat_by_id<S: Store>(
    State(api): State<Arc<Api<S>>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    let agent = api.authenticate(&headers)?;
    let gateway_id = agent.status.as_ref().and_then(|s| s.agent_id.as_deref());
    if agent.metadata.uid.as_deref() != Some(id.as_str()) && gateway_id != Some(id.as_str()) {
        let message = "this token belongs to another agent than the one in the URL; use the id and the token that stand together in your files";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "wrong_agent", message));
    }
    check_in(&api, &agent, body)
}

async fn heartbeat<S: Store>(
    State(api): State<Arc<Api<S>>>,
    headers: HeaderMap,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    let agent = api.authenticate(&headers)?;
    check_in(&api, &agent, body)
}

async fn healthz<S: Store>(State(api): State<Arc<Api<S>>>, headers: HeaderMap) -> Result<Json<Value>, ApiError> {
    let agent = api.authenticate(&headers)?;
    let due = api.world.heartbeats.alive(&agent, api.world.store.now());
    Ok(api.seen(&agent, due))
}

impl<S: Store> Api<S> {
    /// The agent whose token the request carries.
    fn authenticate(&self, headers: &HeaderMap) -> Result<Arc<Agent>, ApiError> {
        let unauthorized = |message: &str| ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message);
        let token = token(headers)
            .ok_or_else(|| unauthorized("send your token in the header X-Agent-Token, or as Authorization: Bearer"))?;
        let hash = crate::render::sha256_hex(token);
        let unknown = || {
            unauthorized("this token is not known; use the one in your files, and read them again if it was replaced")
        };
        let key = self.tokens.agent(&hash).ok_or_else(unknown)?;
        let agent = self.world.store.agent(&key).ok_or_else(unknown)?;
        let current = agent.status.as_ref().and_then(|s| s.token.as_ref()).is_some_and(|t| same(&t.sha256, &hash));
        if !current || agent.metadata.deletion_timestamp.is_some() {
            return Err(unknown());
        }
        Ok(agent)
    }

    /// Takes note that an agent was heard of, and has its status written when that is due.
    fn seen(&self, agent: &Agent, due: bool) -> Json<Value> {
        self.metrics.heartbeat();
        if due {
            // The receiver ends only when the operator does.
            let _ = self.queue.send(Key::of(&agent.metadata));
        }
        Json(json!({ "ok": true, "agent_id": agent.metadata.uid, "name": agent.display_name() }))
    }
}

fn token(headers: &HeaderMap) -> Option<&str> {
    let own = headers.get("x-agent-token").and_then(|v| v.to_str().ok());
    let bearer = || headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ");
    own.or_else(bearer).map(str::trim).filter(|t| !t.is_empty())
}

/// The body of a heartbeat.
#[derive(Debug, Default, Deserialize)]
struct Heartbeat {
    status: Option<String>,
    current_task_id: Option<String>,
}

fn check_in<S: Store>(
    api: &Api<S>,
    agent: &Agent,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    let body = body.map_err(|_| {
        let message =
            format!("the body is longer than {LONGEST_BODY} bytes; send {{\"status\", \"current_task_id\"}} only");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    })?;
    let due = api.world.heartbeats.record(agent, report(&body)?, api.world.store.now());
    Ok(api.seen(agent, due))
}

fn report(body: &[u8]) -> Result<Report, ApiError> {
    let bad = |message: String| ApiError::new(StatusCode::BAD_REQUEST, "bad_request", message);
    let heartbeat = match body {
        [] => Heartbeat::default(),
        body => serde_json::from_slice(body)
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
    Ok(Report { status, current_task })
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
    use super::*;

    #[test]
    fn an_empty_body_is_a_sign_of_life() {
        assert_eq!(report(b"").unwrap(), Report::default());
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
        for (body, says) in [("{\"status\":\"flying\"}", "flying"), ("nonsense", "JSON"), ("{\"status\":3}", "JSON")] {
            let error = report(body.as_bytes()).unwrap_err();
            assert_eq!(error.status, StatusCode::BAD_REQUEST);
            assert!(error.message.contains(says), "{}", error.message);
        }
    }

    #[test]
    fn the_token_is_taken_from_either_header() {
        let mut headers = HeaderMap::new();
        assert_eq!(token(&headers), None);
        headers.insert(header::AUTHORIZATION, "Bearer b".parse().unwrap());
        assert_eq!(token(&headers), Some("b"));
        headers.insert("x-agent-token", "a".parse().unwrap());
        assert_eq!(token(&headers), Some("a"));
    }
}
