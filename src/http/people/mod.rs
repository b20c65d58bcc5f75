//! The API for people and their programs, which authenticate with a Kubernetes token.
//!
//! A read comes from the cache, if the caller may read the objects in Kubernetes. A write goes to Kubernetes with the caller's
//! token. This layer writes nothing with the operator's account, and the controllers reconcile the written objects.

pub mod authz;
mod details;
mod list;
mod lookup;
mod open_streams;
mod read;
mod request;
mod routes;
mod state;
mod stream;
mod template_sync;
mod write;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

pub use self::routes::OPENAPI;
pub use self::state::PeopleApi;
use crate::http::error::{ApiError, ErrorCode};
use crate::http::openapi::route;
use crate::state::authz::AccessError;

/// The maximum length of a body, in bytes.
const MAX_BODY_BYTES: usize = 256 * 1024;
/// How long a handler may take. The time is shorter than the server's timeout, so that the answer names the cause.
const HANDLER_TIMEOUT: Duration = Duration::from_secs(16);

/// The routes of the API for people. The router has no fallback for unknown routes; the router of the agents has one.
pub fn router(people: Arc<PeopleApi>) -> Router {
    route::router(routes::routes())
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
    ApiError::new(ErrorCode::MethodNotAllowed, message)
}
