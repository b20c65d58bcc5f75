//! The API for people and their programs, which authenticate with a Kubernetes token.
//!
//! A read comes from the cache, if the caller may read the objects in Kubernetes. A write goes to Kubernetes with the caller's
//! token. This layer writes nothing with the operator's account, and the controllers reconcile the written objects.

pub mod authz;
mod list;
mod lookup;
mod open_streams;
mod read;
mod request;
mod state;
mod stream;
mod template_sync;
mod write;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};

pub use self::state::PeopleApi;
use crate::http::error::ApiError;
use crate::state::authz::AccessError;

/// The maximum length of a body, in bytes.
const MAX_BODY_BYTES: usize = 256 * 1024;
/// How long a handler may take. The time is shorter than the server's timeout, so that the answer names the cause.
const HANDLER_TIMEOUT: Duration = Duration::from_secs(16);
/// The `OpenAPI` document of the whole HTTP API.
pub const OPENAPI: &str = include_str!("../openapi.json");

/// A path and its methods.
type Route = (&'static str, MethodRouter<Arc<PeopleApi>>);

/// The routes.
fn routes() -> Vec<Route> {
    vec![
        ("/api/v1/agents", get(list::agents).post(write::create)),
        ("/api/v1/agents/stream", get(stream::agents)),
        ("/api/v1/agents/{id}", get(read::agent).patch(write::patch).delete(write::delete)),
        ("/api/v1/agents/{id}/events", get(read::events)),
        ("/api/v1/boards", get(list::boards)),
        ("/api/v1/gateways", get(list::gateways)),
        ("/api/v1/gateways/{id}/templates/sync", post(template_sync::templates)),
        ("/openapi.json", get(openapi)),
    ]
}

/// The paths of the routes of the API for people.
pub fn paths() -> Vec<&'static str> {
    routes().into_iter().map(|(path, _)| path).collect()
}

/// The routes of the API for people. The router has no fallback for unknown routes; the router of the agents has one.
pub fn router(people: Arc<PeopleApi>) -> Router {
    let router = routes().into_iter().fold(Router::new(), |router, (path, methods)| router.route(path, methods));
    router
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(axum::middleware::from_fn(with_timeout))
        .with_state(people)
}

/// Limits the time of a handler. Handlers only wait for Kubernetes, so a timeout is an error of Kubernetes. Kubernetes may have
/// done the request.
async fn with_timeout(request: Request, next: Next) -> Response {
    let error = || AccessError::Failed(format!("no answer within {} s", HANDLER_TIMEOUT.as_secs()));
    let answer = tokio::time::timeout(HANDLER_TIMEOUT, next.run(request)).await;
    answer.unwrap_or_else(|_| ApiError::from(error()).into_response())
}

async fn method_not_allowed() -> ApiError {
    let message =
        "this route does not have the method; the header Allow lists its methods, and GET /openapi.json all routes";
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI)
}
