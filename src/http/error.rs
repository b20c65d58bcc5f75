//! Errors of the HTTP API, as JSON.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// A word for programs.
    pub code: &'static str,
    /// A sentence for people: what is wrong and what to do.
    pub message: String,
    /// When it is worth trying again, for `Retry-After`.
    pub retry_after: Option<Duration>,
}

impl ApiError {
    /// An error.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after: None }
    }

    /// The caller calls too often and is to wait.
    #[must_use]
    pub fn too_many(wait: Duration) -> Self {
        let message = "too many calls; wait as long as the header Retry-After says, in seconds";
        Self { retry_after: Some(wait), ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", message) }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "code": self.code, "message": self.message }))).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        let unavailable = (self.status == StatusCode::SERVICE_UNAVAILABLE).then_some(UNAVAILABLE);
        if let Some(wait) = self.retry_after.or(unavailable) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        response
    }
}

/// When to come back when the service is away.
const UNAVAILABLE: Duration = Duration::from_secs(5);

/// At least as long as `wait`, and at least a second.
fn whole_seconds(wait: Duration) -> u64 {
    let more = u64::from(wait.subsec_nanos() > 0);
    wait.as_secs().saturating_add(more).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_to_wait_is_told_how_long_in_whole_seconds() {
        for (wait, told) in [(0, "1"), (300, "1"), (1000, "1"), (1001, "2")] {
            let response = ApiError::too_many(Duration::from_millis(wait)).into_response();
            assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
            assert_eq!(response.headers()[header::RETRY_AFTER], told);
        }
    }
}
