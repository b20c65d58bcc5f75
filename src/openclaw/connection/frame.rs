//! The frames of the gateway's protocol: requests, responses and events.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::openclaw::model::error::ErrorShape;

/// A frame from the gateway, with its payload as raw JSON.
#[derive(Debug)]
pub(crate) enum Incoming<'a> {
    /// The answer to a request.
    Response { id: String, result: Result<&'a RawValue, ErrorShape> },
    /// An event. `seq` counts the events of a connection; ticks have no `seq` (`docs/gateway-facts.md#events`).
    Event { name: Cow<'a, str>, payload: &'a RawValue, seq: Option<u64> },
    /// A frame of a kind that this client does not know.
    Unknown,
}

/// A frame from the gateway with the fields of all kinds.
#[derive(Deserialize)]
struct RawFrame<'a> {
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

/// Parses a frame.
pub(crate) fn parse(text: &str) -> Result<Incoming<'_>, serde_json::Error> {
    let raw: RawFrame<'_> = serde_json::from_str(text)?;
    let payload = raw.payload.unwrap_or(RawValue::NULL);
    Ok(match (raw.kind.as_ref(), raw.id, raw.event) {
        ("res", Some(id), _) if raw.ok => Incoming::Response { id, result: Ok(payload) },
        ("res", Some(id), _) => Incoming::Response { id, result: Err(raw.error.unwrap_or_default()) },
        ("event", _, Some(name)) => Incoming::Event { name, payload, seq: raw.seq },
        _ => Incoming::Unknown,
    })
}

/// A request to the gateway.
#[derive(Serialize)]
struct Request<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    method: &'a str,
    params: &'a Value,
}

/// The text of a request.
pub(crate) fn request(id: &str, method: &str, params: &Value) -> String {
    let frame = Request { kind: "req", id, method, params };
    // The serialization of a Value and three strings cannot fail.
    serde_json::to_string(&frame).unwrap_or_default()
}
