//! Errors of the HTTP API, as JSON.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

/// The cause of an error, as a word for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// A parameter or a field is unknown or invalid, the body broke off, or a name fits several objects.
    BadRequest,
    /// The token is missing, unknown, expired or replaced.
    Unauthorized,
    /// A right is missing. The message names the verb, the resource and the namespace.
    Forbidden,
    /// The call of a person came over HTTP. Kubernetes tokens are taken over TLS only.
    TlsRequired,
    /// The token belongs to another agent than `{id}`, or no agent has this `{id}`.
    WrongAgent,
    /// The agent, the board, the gateway or the route does not exist, or Muster does not work in the namespace.
    NotFound,
    /// The route takes another method. The header Allow lists its methods.
    MethodNotAllowed,
    /// The body did not arrive within 20 seconds.
    Timeout,
    /// The name is taken, or the object has changed meanwhile.
    Conflict,
    /// Several agents have this id.
    Ambiguous,
    /// The Agent is being deleted: stop working.
    Deleting,
    /// The body is longer than 256 KiB, or the body of an agent's call longer than 16 KiB.
    TooLarge,
    /// Kubernetes refuses the resource, or the field cannot be changed. The message names the field.
    Invalid,
    /// Too many calls of this caller, or too many calls with unknown tokens from this address. The header Retry-After has the wait in
    /// seconds.
    TooManyRequests,
    /// The operator has just started and does not know all resources yet. Retry after the time in Retry-After.
    Starting,
    /// Kubernetes does not answer. After a write, check whether it was done before you retry.
    KubernetesUnavailable,
    /// Muster's account may not review tokens and rights. An admin can grant both rights.
    ReviewsNotPermitted,
    /// The maximum number of streams is open: 16 of one user, 256 of all.
    TooManyStreams,
    /// No replica of the operator works at the moment. The call has waited 15 s for one.
    NoLeader,
}

impl ErrorCode {
    /// The HTTP status of the error.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden | Self::TlsRequired | Self::WrongAgent => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
            Self::Conflict | Self::Ambiguous | Self::Deleting => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::Starting
            | Self::KubernetesUnavailable
            | Self::ReviewsNotPermitted
            | Self::TooManyStreams
            | Self::NoLeader => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The header that each answer with this code has.
    pub(crate) fn header(self) -> Option<ErrorHeader> {
        match self.status() {
            StatusCode::UNAUTHORIZED => Some(ErrorHeader::WwwAuthenticate),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Some(ErrorHeader::RetryAfter),
            _ => None,
        }
    }
}

/// A header of the answer to a refused request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorHeader {
    /// How the caller authenticates.
    WwwAuthenticate,
    /// After how many seconds the caller may retry.
    RetryAfter,
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The error code for programs.
    pub code: ErrorCode,
    /// The message for people: the cause and the next step.
    pub message: String,
    /// When the caller may retry, for `Retry-After`.
    pub retry_after: Option<Duration>,
}

/// An error.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Error")]
pub(crate) struct ErrorBody {
    /// The cause, for programs.
    code: ErrorCode,
    /// The cause and the next step, for people. The message names the parameter, the field or the right.
    message: String,
}

impl ApiError {
    /// An error without `Retry-After`.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after: None }
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.code.status()
    }

    /// 400 `bad_request`.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::BadRequest, message)
    }

    /// 404 `not_found`.
    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotFound, message)
    }

    /// 422 `invalid`.
    #[must_use]
    pub fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Invalid, message)
    }

    /// 429 `too_many_requests`: the caller must wait.
    #[must_use]
    pub fn too_many(wait: Duration) -> Self {
        let message = "too many calls; wait for the number of seconds in the header Retry-After";
        Self { retry_after: Some(wait), ..Self::new(ErrorCode::TooManyRequests, message) }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status(), Json(ErrorBody { code: self.code, message: self.message })).into_response();
        let (name, value) = match self.code.header() {
            Some(ErrorHeader::WwwAuthenticate) => (header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
            Some(ErrorHeader::RetryAfter) => {
                let wait = self.retry_after.unwrap_or(DEFAULT_RETRY_AFTER);
                (header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait)))
            }
            None => return response,
        };
        response.headers_mut().insert(name, value);
        response
    }
}

/// `Retry-After` of an error that does not know when the caller may retry.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(5);

/// `wait` in whole seconds, rounded up, at least 1 s.
fn whole_seconds(wait: Duration) -> u64 {
    let more = u64::from(wait.subsec_nanos() > 0);
    wait.as_secs().saturating_add(more).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_in_whole_seconds_rounded_up() {
        for (wait, seconds) in [(0, "1"), (300, "1"), (1000, "1"), (1001, "2")] {
            let response = ApiError::too_many(Duration::from_millis(wait)).into_response();
            assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
            assert_eq!(response.headers()[header::RETRY_AFTER], seconds);
        }
    }
}
