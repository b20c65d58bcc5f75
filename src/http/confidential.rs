//! People's tokens and the page, by TLS only.
//!
//! A Kubernetes token that goes over the network in clear text may be read and used by others. Agents are not concerned: the scheme
//! of `spec.apiUrl` is the choice of the AgentGateway's owner.

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::error::{ApiError, ErrorCode};
use super::origin::RequestOrigin;

/// Whether Kubernetes tokens are accepted without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpTokens {
    /// Only from loopback peers of a listener on loopback.
    LocalOnly,
    /// From all peers: a proxy before Muster ends TLS.
    Accepted,
}

impl HttpTokens {
    fn accepts(self, request: &Request) -> bool {
        self == Self::Accepted || RequestOrigin::of(request.extensions()).confidential
    }
}

/// Refuses a request that came in clear text, before its token is reviewed.
pub(super) async fn refuse(State(tokens): State<HttpTokens>, request: Request, next: Next) -> Response {
    if tokens.accepts(&request) { next.run(request).await } else { tls_required().into_response() }
}

/// Redirects a request that came in clear text to HTTPS on the same host and port: a person types a token into the page.
pub(super) async fn redirect(State(tokens): State<HttpTokens>, request: Request, next: Next) -> Response {
    if tokens.accepts(&request) {
        return next.run(request).await;
    }
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let location = host.and_then(|host| HeaderValue::try_from(format!("https://{host}{}", request.uri().path())).ok());
    match location {
        Some(location) => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)]).into_response(),
        None => tls_required().into_response(),
    }
}

fn tls_required() -> ApiError {
    let message = "Kubernetes tokens are taken over TLS only: call https:// on the same port, and replace a token that was sent without TLS; \
                   start muster with --allow-http-tokens if a proxy before it ends TLS";
    ApiError::new(ErrorCode::TlsRequired, message)
}
