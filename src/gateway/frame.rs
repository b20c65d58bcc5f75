//! The frames of the protocol: requests out; responses and events in.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use std::time::Duration;

use super::limits;
use super::payload::lax;
use super::text::{cleaned, code, lax_code};

/// A frame from the gateway, its payload unread.
#[derive(Debug)]
pub(super) enum Incoming<'a> {
    /// The answer to a request.
    Response { id: String, result: Result<&'a RawValue, ErrorShape> },
    /// An event; numbered per connection, some (ticks) not at all.
    Event { name: Cow<'a, str>, payload: &'a RawValue, seq: Option<u64> },
    /// A frame of a kind that this client does not know.
    Unknown,
}

/// An error as the gateway writes it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorShape {
    /// `INVALID_REQUEST`, `UNAVAILABLE`, `FORBIDDEN`, `NOT_PAIRED`.
    #[serde(default, deserialize_with = "code")]
    pub code: String,
    /// A sentence.
    #[serde(default, deserialize_with = "cleaned")]
    pub message: String,
    /// Further facts, among them often a finer `code`.
    #[serde(default, deserialize_with = "lax")]
    pub details: Option<ErrorDetails>,
    /// Whether the gateway itself says that it may work later.
    #[serde(default)]
    pub retryable: bool,
    /// How long it asks to wait, in milliseconds.
    #[serde(default)]
    pub retry_after_ms: Option<u64>,
}

/// What is read of the further facts of an error.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ErrorDetails {
    /// A finer code.
    #[serde(deserialize_with = "lax_code")]
    pub code: Option<String>,
    /// A word for what happened.
    #[serde(rename = "type", deserialize_with = "lax_code")]
    pub kind: Option<String>,
    /// The request for approval of this device.
    #[serde(deserialize_with = "lax")]
    pub request_id: Option<String>,
    /// Why that is needed.
    #[serde(deserialize_with = "lax_code")]
    pub reason: Option<String>,
    /// The protocol version that the gateway expects.
    #[serde(deserialize_with = "lax")]
    pub expected_protocol: Option<u64>,
    /// How long it asks to wait, in milliseconds.
    #[serde(deserialize_with = "lax")]
    pub retry_after_ms: Option<u64>,
}

impl ErrorShape {
    /// How long the gateway asks to wait.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let told = self.retry_after_ms.or_else(|| self.details.as_ref()?.retry_after_ms);
        told.map(|time| Duration::from_millis(time).min(limits::WAIT))
    }
}

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(rename = "type", default, borrow)]
    kind: Cow<'a, str>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    ok: bool,
    #[serde(default, borrow)]
    payload: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<ErrorShape>,
    #[serde(default, borrow)]
    event: Option<Cow<'a, str>>,
    #[serde(default)]
    seq: Option<u64>,
}

/// Reads a frame.
pub(super) fn parse(text: &str) -> Result<Incoming<'_>, serde_json::Error> {
    let raw: Raw<'_> = serde_json::from_str(text)?;
    let payload = raw.payload.unwrap_or(RawValue::NULL);
    Ok(match (raw.kind.as_ref(), raw.id, raw.event) {
        ("res", Some(id), _) if raw.ok => Incoming::Response { id, result: Ok(payload) },
        ("res", Some(id), _) => Incoming::Response { id, result: Err(raw.error.unwrap_or_default()) },
        ("event", _, Some(name)) => Incoming::Event { name, payload, seq: raw.seq },
        _ => Incoming::Unknown,
    })
}

#[derive(Serialize)]
struct Request<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    method: &'a str,
    params: &'a Value,
}

/// Writes a request.
pub(super) fn request(id: &str, method: &str, params: &Value) -> String {
    let frame = Request { kind: "req", id, method, params };
    // A Value and three strings always serialize.
    serde_json::to_string(&frame).unwrap_or_default()
}
