//! The query parameters of requests.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use url::form_urlencoded;

use super::schema::{inline, range, takes};
use crate::http::error::{ApiError, ErrorCode};
use crate::http::openapi::operation::{DescribedInput, Operation};

/// The query parameters of a request. Each field of the type is a parameter: a text, a number with its range, `true` or `false`, or a
/// time.
pub(crate) struct Parameters<T>(pub(crate) T);

/// The parameters of a route without parameters.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct NoParameters {}

impl<S: Send + Sync, T: DeserializeOwned + JsonSchema + 'static> FromRequestParts<S> for Parameters<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        read(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

impl<T: JsonSchema> DescribedInput for Parameters<T> {
    fn describe(operation: &mut Operation) {
        operation.query = Some(T::json_schema);
        operation.errors.insert(ErrorCode::BadRequest);
    }
}

/// Reads a query.
///
/// # Errors
/// 400 when a parameter is unknown, occurs twice, or has a value that its schema excludes.
fn read<T: DeserializeOwned + JsonSchema + 'static>(raw: &str) -> Result<T, ApiError> {
    let schema = inline::<T>();
    let none = Map::new();
    let fields = schema["properties"].as_object().unwrap_or(&none);
    let (mut names, mut values) = (Vec::new(), Map::new());
    for (name, text) in form_urlencoded::parse(raw.as_bytes()) {
        let Some(field) = fields.get(name.as_ref()) else {
            let known = fields.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            let known = if known.is_empty() { "none" } else { &known };
            return Err(ApiError::bad_request(format!("unknown parameter {name:?}; the parameters are: {known}")));
        };
        if names.contains(&name) {
            return Err(ApiError::bad_request(format!("the parameter {name} occurs twice; give it once")));
        }
        if let Some(value) = value(&name, &text, field)? {
            values.insert(name.to_string(), value);
        }
        names.push(name);
    }
    serde_json::from_value(Value::Object(values)).map_err(|e| ApiError::bad_request(format!("the parameters: {e}")))
}

/// The value of a parameter; `None` for an empty text.
fn value(name: &str, text: &str, field: &Value) -> Result<Option<Value>, ApiError> {
    if takes(field, "boolean") {
        return flag(name, text).map(|flag| Some(flag.into()));
    }
    if takes(field, "integer") {
        return number(name, text, field).map(|number| Some(number.into()));
    }
    if text.is_empty() {
        return Ok(None);
    }
    if field["format"] == "date-time" {
        return time(name, text).map(|time| Some(time.to_string().into()));
    }
    Ok(Some(text.into()))
}

fn flag(name: &str, text: &str) -> Result<bool, ApiError> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        other => Err(ApiError::bad_request(format!("the parameter {name} is true or false, not {other:?}"))),
    }
}

/// A whole number in the range of its schema.
fn number(name: &str, text: &str, field: &Value) -> Result<u64, ApiError> {
    let (min, max) = range(field);
    let number = text.parse().ok().filter(|number| (min..=max).contains(number));
    let message = || format!("the parameter {name} is a whole number from {min} to {max}, not {text:?}");
    number.ok_or_else(|| ApiError::bad_request(message()))
}

/// A time. A time without a zone is in UTC.
fn time(name: &str, text: &str) -> Result<Timestamp, ApiError> {
    // An unescaped plus was decoded to a space.
    let text = text.replace(' ', "+");
    let zoned = text.parse::<Timestamp>();
    let time = zoned.or_else(|_| text.parse::<DateTime>()?.to_zoned(TimeZone::UTC).map(|t| t.timestamp()));
    let message = || format!("the parameter {name} is a time such as 2026-03-05T12:00:00Z, not {text:?}");
    time.map_err(|_| ApiError::bad_request(message()))
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;
    use crate::http::dto::ApiTime;

    #[derive(Debug, Deserialize, JsonSchema)]
    struct Known {
        #[serde(default)]
        #[schemars(range(min = 1, max = 200))]
        limit: usize,
        #[serde(default)]
        force: bool,
        since: Option<ApiTime>,
        board_id: Option<String>,
    }

    fn query(raw: &str) -> Result<Known, ApiError> {
        read(raw)
    }

    #[test]
    fn an_error_names_the_parameter() {
        for (raw, word) in [
            ("limit=0", "limit"),
            ("limit=201", "limit"),
            ("limit=x", "limit"),
            ("limit=", "limit"),
            ("force=1", "force"),
            ("force=", "force"),
            ("since=now", "since"),
            ("bord_id=x", "bord_id"),
            ("limit=1&limit=2", "limit"),
            ("board_id=&board_id=", "board_id"),
        ] {
            let error = query(raw).unwrap_err();
            assert_eq!(error.status(), StatusCode::BAD_REQUEST);
            assert!(error.message.contains(word), "{}", error.message);
        }
    }

    #[test]
    fn a_parameter_has_the_type_of_its_field() {
        let known = query("limit=200&force=true").unwrap();
        assert_eq!((known.limit, known.force, known.since), (200, true, None));
    }

    #[test]
    fn a_time_is_accepted_with_and_without_a_zone() {
        let noon: Timestamp = "2026-03-05T12:00:00Z".parse().unwrap();
        for raw in ["2026-03-05T12:00:00Z", "2026-03-05T12:00:00", "2026-03-05T14:00:00+02:00"] {
            assert_eq!(query(&format!("since={raw}")).unwrap().since, Some(ApiTime(noon)), "{raw}");
        }
    }

    #[test]
    fn an_empty_text_is_none() {
        assert_eq!(query("board_id=").unwrap().board_id, None);
        assert_eq!(query("board_id=a%2Fb").unwrap().board_id.as_deref(), Some("a/b"));
    }
}
