//! Agents' calls on a replica that does not lead: the leader answers them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Response as HttpResponse, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use tokio::time::Instant;
use tracing::debug;

use super::api::{self, MAX_BODY_BYTES};
use super::error::{ApiError, ErrorCode};
use crate::leadership::{Leader, Peer, Standing};

/// How long a call waits for a leader, below the server's timeout for a request.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a call waits after a failed try, unless another replica leads earlier.
const RETRY_WAIT: Duration = Duration::from_millis(500);
/// The header of a call that another replica has passed on. Such a call is passed on no further.
const FORWARDED: HeaderName = HeaderName::from_static("x-muster-forwarded");
/// The header with an agent's token.
const AGENT_TOKEN: HeaderName = HeaderName::from_static("x-agent-token");
/// The headers of a call that the leader needs.
const PASSED_ON: [HeaderName; 3] = [AGENT_TOKEN, header::AUTHORIZATION, header::CONTENT_TYPE];

/// The headers of an answer that the agent needs.
const PASSED_BACK: [HeaderName; 3] = [header::CONTENT_TYPE, header::RETRY_AFTER, header::WWW_AUTHENTICATE];

/// Sends requests to other replicas.
pub trait PeerTransport: Send + Sync + 'static {
    /// Sends a request and returns its answer. An answer that is long, or slow, is an error.
    ///
    /// # Errors
    /// A text about the failure. The other replica may have handled the request.
    fn send<'a>(&'a self, peer: &'a Peer, request: HttpRequest) -> BoxFuture<'a, Result<HttpResponse<Bytes>, String>>;
}

/// A request to another replica.
pub type HttpRequest = axum::http::Request<Bytes>;

/// The way to the replica that leads.
#[derive(Clone)]
pub struct WayToLeader {
    /// The replica that leads.
    pub standing: Standing,
    /// Sends requests to other replicas.
    pub transport: Arc<dyn PeerTransport>,
}

impl WayToLeader {
    /// The way of the only replica, which leads.
    #[must_use]
    pub fn alone() -> Self {
        Self { standing: Standing::alone(), transport: Arc::new(NoPeers) }
    }
}

/// There are no other replicas.
struct NoPeers;

impl PeerTransport for NoPeers {
    fn send<'a>(&'a self, _: &'a Peer, _: HttpRequest) -> BoxFuture<'a, Result<HttpResponse<Bytes>, String>> {
        Box::pin(async { Err("there is no other replica".to_owned()) })
    }
}

impl fmt::Debug for WayToLeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WayToLeader").field("standing", &self.standing).finish_non_exhaustive()
    }
}

/// Handles a call if this replica leads, and else has the leader handle it. A call waits for the next leader while nobody leads.
pub(super) async fn to_leader(State(way): State<WayToLeader>, request: Request, next: Next) -> Response {
    if way.standing.may_work() {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY_BYTES).await else { return api::too_large().into_response() };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let leader = way.standing.until_known(deadline.saturating_duration_since(Instant::now())).await;
        let peer = match &leader {
            Leader::This if way.standing.may_work() => return next.run(Request::from_parts(parts, body.into())).await,
            Leader::Other(peer) if !parts.headers.contains_key(FORWARDED) => peer,
            Leader::This | Leader::Other(_) | Leader::Unknown => return no_leader().into_response(),
        };
        match way.transport.send(peer, passed_on(&parts, body.clone())).await {
            // The other replica has just stopped to lead.
            Ok(answer) if answer.headers().contains_key(FORWARDED) => {}
            Ok(answer) => return passed_back(answer),
            Err(error) => debug!(%error, peer = %peer.address, "failed to pass a call on to the leader"),
        }
        if Instant::now() + RETRY_WAIT >= deadline {
            return no_leader().into_response();
        }
        way.standing.until_other_than(&leader, RETRY_WAIT).await;
    }
}

/// The call as the leader gets it: its own route, and the headers that belong to the agent.
fn passed_on(parts: &Parts, body: Bytes) -> HttpRequest {
    let mut request = HttpRequest::new(body);
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = parts.uri.clone();
    for name in PASSED_ON {
        if let Some(value) = parts.headers.get(&name) {
            request.headers_mut().insert(name, value.clone());
        }
    }
    request.headers_mut().insert(FORWARDED, HeaderValue::from_static("1"));
    request
}

/// The leader's answer, as the agent gets it.
fn passed_back(answer: HttpResponse<Bytes>) -> Response {
    let (parts, body) = answer.into_parts();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = parts.status;
    for name in PASSED_BACK {
        if let Some(value) = parts.headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

/// The answer when nobody leads. The header tells another replica that this one did not handle the call.
fn no_leader() -> impl IntoResponse {
    let message = "no replica of the operator leads at the moment; retry in a few seconds";
    ([(FORWARDED, "not-leading")], ApiError::new(ErrorCode::NoLeader, message))
}
