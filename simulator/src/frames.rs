//! The text of frames. A large payload is serialised once, and frames copy its text.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::error::RpcError;

/// A JSON object of `fields` and of fields whose values are JSON text.
pub(crate) fn object_text(fields: &Value, texts: &[(&str, &str)]) -> String {
    let mut text = fields.to_string();
    text.reserve(texts.iter().map(|(name, value)| name.len() + value.len() + 4).sum::<usize>());
    text.pop();
    for (name, value) in texts {
        let separator = if text.len() > 1 { "," } else { "" };
        // Writing to a string does not fail.
        let _ = write!(text, "{separator}\"{name}\":{value}");
    }
    text.push('}');
    text
}

/// A response frame with a result.
pub(crate) fn ok_response(id: &str, payload: &str) -> String {
    object_text(&json!({"type": "res", "id": id, "ok": true}), &[("payload", payload)])
}

/// A response frame with an error.
pub(crate) fn error_response(id: &str, error: &RpcError) -> String {
    json!({"type": "res", "id": id, "ok": false, "error": error.to_json()}).to_string()
}

/// An event frame.
pub(crate) fn event(name: &str, payload: &str, seq: u64) -> String {
    object_text(&json!({"type": "event", "event": name, "seq": seq}), &[("payload", payload)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_has_its_fields_and_its_texts() {
        let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(parsed(&object_text(&json!({}), &[("a", "[1]"), ("b", "{}")])), json!({"a": [1], "b": {}}));
        assert_eq!(parsed(&object_text(&json!({"x": 1}), &[("a", "null")])), json!({"x": 1, "a": null}));
    }
}
