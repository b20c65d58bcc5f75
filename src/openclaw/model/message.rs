//! Messages of a session.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::readers::{List, lax};
use crate::openclaw::limits;

/// A message of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChatMessage {
    /// The role: `user`, `assistant` or `toolResult`.
    pub role: String,
    /// The text.
    pub text: String,
    /// The idempotency key of the `chat.send`, on gateways that keep the key.
    pub idempotency_key: Option<String>,
    /// Whether the message marks a reset of the session (2026.9.6, `docs/gateway-facts.md#sessions-and-messages`).
    pub marks_reset: bool,
    /// The time of the message, in milliseconds since 1970 by the gateway's clock.
    pub written_ms: i64,
}

/// A part of the content of a message.
#[derive(Deserialize)]
struct RawPart {
    #[serde(default, deserialize_with = "lax")]
    text: Option<String>,
}

/// The field `__openclaw` of a message.
#[derive(Default, Deserialize)]
pub(crate) struct MessageMark {
    #[serde(default)]
    pub(crate) kind: String,
}

/// Reads the text of a message from a string or a list of parts. The texts of the parts are joined by line breaks.
pub(crate) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?.get();
    if let Ok(text) = serde_json::from_str(raw) {
        return Ok(text);
    }
    let parts: List<&RawValue, { limits::PARTS }> = serde_json::from_str(raw).unwrap_or_default();
    let texts = parts.0.iter().filter_map(|part| serde_json::from_str::<RawPart>(part.get()).ok()?.text);
    Ok(texts.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct RawContent(#[serde(deserialize_with = "text")] String);

    #[test]
    fn the_text_of_a_message_is_read_from_a_string_or_from_parts() {
        let read = |text: &str| serde_json::from_str::<RawContent>(text).unwrap().0;
        assert_eq!(read(r#""a""#), "a");
        assert_eq!(
            read(r#"[{"type": "text", "text": "a"}, {"type": "image"}, 1, {"text": 2}, {"text": "b"}]"#),
            "a\nb"
        );
        assert_eq!(read("null") + &read("{}"), "");
    }
}
