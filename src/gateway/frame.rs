//! The frames of the protocol: requests out; responses and events in.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A frame from the gateway.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Incoming {
    /// The answer to a request.
    Response { id: String, result: Result<Value, ErrorShape> },
    /// An event; numbered per connection, some (ticks) not at all.
    Event { name: String, payload: Value, seq: Option<u64> },
    /// A frame of a kind that this client does not know.
    Unknown,
}

/// An error as the gateway writes it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorShape {
    /// `INVALID_REQUEST`, `UNAVAILABLE`, `FORBIDDEN`, `NOT_PAIRED`.
    #[serde(default)]
    pub code: String,
    /// A sentence.
    #[serde(default)]
    pub message: String,
    /// Further facts, among them often a finer `code`.
    #[serde(default)]
    pub details: Option<Value>,
    /// Whether the gateway itself says that it may work later.
    #[serde(default)]
    pub retryable: bool,
    /// How long it asks to wait, in milliseconds.
    #[serde(default)]
    pub retry_after_ms: Option<u64>,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    ok: bool,
    #[serde(default)]
    payload: Value,
    #[serde(default)]
    error: Option<ErrorShape>,
    #[serde(default)]
    event: Option<String>,
    #[serde(default)]
    seq: Option<u64>,
}

/// Reads a frame.
pub(super) fn parse(text: &str) -> Result<Incoming, serde_json::Error> {
    let raw: Raw = serde_json::from_str(text)?;
    Ok(match (raw.kind.as_str(), raw.id, raw.event) {
        ("res", Some(id), _) if raw.ok => Incoming::Response { id, result: Ok(raw.payload) },
        ("res", Some(id), _) => Incoming::Response { id, result: Err(raw.error.unwrap_or_default()) },
        ("event", _, Some(name)) => Incoming::Event { name, payload: raw.payload, seq: raw.seq },
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
