//! The API that people and their programs call, with a Kubernetes token.
//!
//! Reads come from the cache, for those who may read it there. What is written is written to Kubernetes with the
//! caller's own token: this layer has no rights of its own, and the controllers do the rest.

pub mod authz;
mod body;
mod list;
mod lookup;
mod open_streams;
mod query;
mod read;
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

use self::authz::refused;
pub use self::state::PeopleApi;
use crate::http::error::ApiError;
use crate::state::authz::{Access, AccessError};
use crate::state::store::Store;

/// The longest body that is read, in bytes.
const LONGEST_BODY: usize = 256 * 1024;
/// How long an answer may take. It is less than the server gives a request, so that it is told what was late.
const DEADLINE: Duration = Duration::from_secs(16);
/// The description of the whole HTTP API.
pub const OPENAPI: &str = include_str!("../openapi.json");

/// A path and its methods.
type Route<S, A> = (&'static str, MethodRouter<Arc<PeopleApi<S, A>>>);

/// The routes.
fn routes<S: Store, A: Access>() -> Vec<Route<S, A>> {
    vec![
        ("/api/v1/agents", get(list::agents::<S, A>).post(write::create::<S, A>)),
        ("/api/v1/agents/stream", get(stream::agents::<S, A>)),
        ("/api/v1/agents/{id}", get(read::agent::<S, A>).patch(write::patch::<S, A>).delete(write::delete::<S, A>)),
        ("/api/v1/agents/{id}/events", get(read::events::<S, A>)),
        ("/api/v1/boards", get(list::boards::<S, A>)),
        ("/api/v1/gateways", get(list::gateways::<S, A>)),
        ("/api/v1/gateways/{id}/templates/sync", post(template_sync::templates::<S, A>)),
        ("/openapi.json", get(openapi)),
    ]
}

/// The paths of the routes that people call.
pub fn paths<S: Store, A: Access>() -> Vec<&'static str> {
    routes::<S, A>().into_iter().map(|(path, _)| path).collect()
}

/// The routes that people call. What is not found is left to the router that this one is merged into.
pub fn router<S: Store, A: Access>(people: Arc<PeopleApi<S, A>>) -> Router {
    let router = routes().into_iter().fold(Router::new(), |router, (path, methods)| router.route(path, methods));
    router
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .layer(axum::middleware::from_fn(in_time))
        .with_state(people)
}

/// What takes too long is Kubernetes: nothing else is waited for. It may have been done all the same.
async fn in_time(request: Request, next: Next) -> Response {
    let late = |_| refused(AccessError::Failed(format!("no answer within {} s", DEADLINE.as_secs()))).into_response();
    tokio::time::timeout(DEADLINE, next.run(request)).await.unwrap_or_else(late)
}

async fn method_not_allowed() -> ApiError {
    let message =
        "this route has no such method; the header Allow names those that it has, GET /openapi.json all routes";
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI)
}
