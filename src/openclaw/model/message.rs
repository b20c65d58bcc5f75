//! Messages of a session.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::readers::{List, lax};
use crate::openclaw::limits;

/// A message of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChatMessage {
    /// `user`, `assistant` or `toolResult`.
    pub role: String,
    /// Its text.
    pub text: String,
    /// The key that it was sent with, where the gateway keeps it.
    pub idempotency_key: Option<String>,
    /// Whether it marks that the session was reset, as 2026.9.6 does.
    pub marks_reset: bool,
    /// When it was written, in milliseconds since 1970.
    pub written_ms: i64,
}

#[derive(Deserialize)]
struct Part {
    #[serde(default, deserialize_with = "lax")]
    text: Option<String>,
}

/// What a message is marked with.
#[derive(Default, Deserialize)]
pub(crate) struct MessageMark {
    #[serde(default)]
    pub(crate) kind: String,
}

/// Reads the text of a message: a string, or a list of parts.
pub(crate) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?.get();
    if let Ok(text) = serde_json::from_str(raw) {
        return Ok(text);
    }
    let parts: List<&RawValue, { limits::PARTS }> = serde_json::from_str(raw).unwrap_or_default();
    let texts = parts.0.iter().filter_map(|part| serde_json::from_str::<Part>(part.get()).ok()?.text);
    Ok(texts.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Message(#[serde(deserialize_with = "text")] String);

    #[test]
    fn the_text_of_a_message_is_a_string_or_that_of_its_parts() {
        let read = |text: &str| serde_json::from_str::<Message>(text).unwrap().0;
        assert_eq!(read(r#""a""#), "a");
        assert_eq!(
            read(r#"[{"type": "text", "text": "a"}, {"type": "image"}, 1, {"text": 2}, {"text": "b"}]"#),
            "a\nb"
        );
        assert_eq!(read("null") + &read("{}"), "");
    }
}
