//! The JSON bodies of requests.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::schema::{inline, range, takes};
use crate::http::error::{ApiError, ErrorCode};
use crate::http::openapi::operation::{DescribedInput, Operation, RequestBody, schema_of};
use crate::http::people::MAX_BODY_BYTES;

/// The JSON body of a request. The header `Content-Type` does not matter.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + JsonSchema + 'static> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let body = Bytes::from_request(request, state).await.map_err(|rejection| unread(&rejection))?;
        read(&body).map(Self)
    }
}

impl<T: JsonSchema> DescribedInput for JsonBody<T> {
    fn describe(operation: &mut Operation) {
        operation.body = Some(RequestBody { schema: schema_of::<T>, required: true });
        operation.errors.extend([ErrorCode::BadRequest, ErrorCode::TooLarge, ErrorCode::Timeout]);
    }
}

/// The error for a body that could not be read.
fn unread(rejection: &BytesRejection) -> ApiError {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return ApiError::new(ErrorCode::TooLarge, format!("the body is longer than {MAX_BODY_BYTES} bytes"));
    }
    ApiError::bad_request("the body ended before it was complete")
}

/// Reads a body.
///
/// # Errors
/// 400 when the body is no JSON object, or a field is unknown or has a type or a number that its schema excludes. Kubernetes checks the
/// lengths of texts and lists. A handler checks whether the fields that it needs are there.
pub(super) fn read<T: DeserializeOwned + JsonSchema + 'static>(body: &[u8]) -> Result<T, ApiError> {
    let body: Value =
        serde_json::from_slice(body).map_err(|e| ApiError::bad_request(format!("the body is not valid JSON: {e}")))?;
    let Value::Object(fields) = &body else { return Err(ApiError::bad_request("the body is no JSON object")) };
    check_fields("", fields, &inline::<T>())?;
    serde_json::from_value(body).map_err(|e| ApiError::bad_request(format!("the body: {e}")))
}

/// Checks the fields of an object. `prefix` is the path of the object with a dot at its end.
fn check_fields(prefix: &str, fields: &Map<String, Value>, schema: &Value) -> Result<(), ApiError> {
    let known = schema["properties"].as_object();
    for (name, value) in fields {
        let path = format!("{prefix}{name}");
        let field = known.and_then(|known| known.get(name)).unwrap_or(&schema["additionalProperties"]);
        if !field.is_object() {
            let known: Vec<_> = known.into_iter().flat_map(Map::keys).map(String::as_str).collect();
            return Err(ApiError::bad_request(format!(
                "{path}: the field is unknown; the fields are: {}",
                known.join(", ")
            )));
        }
        check(&path, value, field)?;
    }
    Ok(())
}

/// Checks the type of a value, and the range of a number.
fn check(path: &str, value: &Value, schema: &Value) -> Result<(), ApiError> {
    let fits = match value {
        Value::Null => takes(schema, "null"),
        Value::Bool(_) => takes(schema, "boolean"),
        Value::String(_) => takes(schema, "string"),
        Value::Number(number) => {
            let (min, max) = range(schema);
            takes(schema, "integer") && number.as_u64().is_some_and(|number| (min..=max).contains(&number))
        }
        Value::Array(items) => {
            takes(schema, "array") && items.iter().all(|item| check(path, item, &schema["items"]).is_ok())
        }
        Value::Object(fields) if takes(schema, "object") => return check_fields(&format!("{path}."), fields, schema),
        Value::Object(_) => false,
    };
    if fits { Ok(()) } else { Err(ApiError::bad_request(format!("{path}: {}", expected(schema)))) }
}

/// The values that a schema takes, in words.
fn expected(schema: &Value) -> String {
    let value = if takes(schema, "boolean") {
        "true or false".to_owned()
    } else if takes(schema, "integer") {
        let (min, max) = range(schema);
        format!("a whole number from {min} to {max}")
    } else if takes(schema, "array") {
        "a list of texts".to_owned()
    } else if takes(schema, "object") {
        "an object".to_owned()
    } else {
        "a text".to_owned()
    };
    if takes(schema, "null") { format!("{value}, or null") } else { value }
}
