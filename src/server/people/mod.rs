//! The API that people and their programs call, with a Kubernetes token.
//!
//! Reads come from the cache, for those who may read it there. What is written is written to Kubernetes with the
//! caller's own token: this layer has no rights of its own, and the controllers do the rest.

mod body;
mod find;
pub mod gate;
mod list;
mod query;
mod read;
mod stream;
mod sync;
mod write;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};

use self::gate::{Caller, Gate, refused};
use super::caller::address;
use super::error::ApiError;
use super::feed::Feed;
use super::limits::Strangers;
use super::probes::Probes;
use crate::reconcile::access::{Access, AccessError};
use crate::reconcile::{Store, World};
use stream::Streams;

/// The longest body that is read, in bytes.
const LONGEST_BODY: usize = 256 * 1024;
/// How long an answer may take. It is less than the server gives a request, so that it is told what was late.
const DEADLINE: Duration = Duration::from_secs(16);
/// The description of the whole HTTP API.
pub const OPENAPI: &str = include_str!("../openapi.json");

/// What the handlers need.
#[derive(Debug)]
pub struct People<S, A> {
    world: Arc<World<S>>,
    gate: Gate<A>,
    feed: Arc<Feed>,
    probes: Arc<Probes>,
    streams: Streams,
    strangers: Strangers,
}

impl<S: Store, A: Access> People<S, A> {
    /// The API over these resources, gateways and changes.
    #[must_use]
    pub fn new(world: Arc<World<S>>, access: A, feed: Arc<Feed>, probes: Arc<Probes>) -> Self {
        let (streams, strangers) = (Streams::default(), Strangers::default());
        Self { world, gate: Gate::new(access), feed, probes, streams, strangers }
    }
}

type State<S, A> = axum::extract::State<Arc<People<S, A>>>;

/// A path and its methods.
type Route<S, A> = (&'static str, MethodRouter<Arc<People<S, A>>>);

/// The routes.
fn routes<S: Store, A: Access>() -> Vec<Route<S, A>> {
    vec![
        ("/api/v1/agents", get(list::agents::<S, A>).post(write::create::<S, A>)),
        ("/api/v1/agents/stream", get(stream::agents::<S, A>)),
        ("/api/v1/agents/{id}", get(read::agent::<S, A>).patch(write::patch::<S, A>).delete(write::delete::<S, A>)),
        ("/api/v1/agents/{id}/events", get(read::events::<S, A>)),
        ("/api/v1/boards", get(list::boards::<S, A>)),
        ("/api/v1/gateways", get(list::gateways::<S, A>)),
        ("/api/v1/gateways/{id}/templates/sync", post(sync::templates::<S, A>)),
        ("/openapi.json", get(openapi)),
    ]
}

/// The paths of the routes that people call.
pub fn paths<S: Store, A: Access>() -> Vec<&'static str> {
    routes::<S, A>().into_iter().map(|(path, _)| path).collect()
}

/// The routes that people call. What is not found is left to the router that this one is merged into.
pub fn router<S: Store, A: Access>(people: Arc<People<S, A>>) -> Router {
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

/// Who asks. Nobody is let in before the caches have what there is: half of the agents would look like all.
pub(crate) struct Identified(Caller);

impl<S: Store, A: Access> FromRequestParts<Arc<People<S, A>>> for Identified {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, people: &Arc<People<S, A>>) -> Result<Self, ApiError> {
        let address = address(parts);
        if !people.gate.is_familiar(&parts.headers) {
            people.strangers.admit(address).map_err(ApiError::too_many)?;
        }
        let caller = match people.gate.caller(&parts.headers).await {
            Err(error) if error.status == StatusCode::UNAUTHORIZED => {
                people.strangers.refused(address).map_err(ApiError::too_many)?;
                return Err(error);
            }
            caller => caller?,
        };
        if !people.probes.synced.load(Ordering::Relaxed) {
            let message =
                "the operator has just started and does not know all resources yet; try again in some seconds";
            return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "starting", message));
        }
        Ok(Self(caller))
    }
}

/// The id in the path.
pub(crate) struct Id(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(id)| Self(id)).map_err(|_| query::bad("the id in the path is no text in UTF-8"))
    }
}
