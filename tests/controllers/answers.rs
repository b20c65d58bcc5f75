//! Answers of a test in place of an API server.

use std::convert::Infallible;

use axum::body::Bytes;
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

pub(crate) type AnswerBody = UnsyncBoxBody<Bytes, Infallible>;

/// An answer with this object.
pub(crate) fn answer(code: u16, object: &Value) -> Response<AnswerBody> {
    let mut response = Response::new(Full::from(object.to_string()).boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}

/// A refusal.
pub(crate) fn refused(code: u16, message: &str) -> Response<AnswerBody> {
    let reason = if code == 401 { "Unauthorized" } else { "Forbidden" };
    let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code });
    answer(code, &status)
}
