//! Text of a gateway, as it may reach a status, an event, a log or a terminal.
//!
//! The gateway decides what stands in it. A control character can drive a terminal, a format character can show text in another
//! order than it stands in, or hide it. What is written back to the gateway is not cleaned.

use icu_properties::CodePointMapData;
use icu_properties::props::GeneralCategory;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::openclaw::limits;

/// The text without control and format characters, and at most 512 characters of it. A line break becomes a blank.
#[must_use]
pub fn clean(text: &str) -> String {
    cut(text, limits::TEXT)
}

fn cut(text: &str, most: usize) -> String {
    text.chars().filter_map(shown).take(most).collect()
}

/// What is shown of a character.
fn shown(c: char) -> Option<char> {
    match CodePointMapData::<GeneralCategory>::new().get(c) {
        GeneralCategory::Control if c.is_whitespace() => Some(' '),
        GeneralCategory::LineSeparator | GeneralCategory::ParagraphSeparator => Some(' '),
        GeneralCategory::Control | GeneralCategory::Format => None,
        _ => Some(c),
    }
}

/// Whether a text is shown as it stands.
pub(crate) fn is_clean(text: &str) -> bool {
    text.chars().zip(1..).all(|(c, count)| count <= limits::TEXT && shown(c) == Some(c))
}

/// Whether a text has characters that reorder or hide what stands beside them.
#[must_use]
pub fn has_format_characters(text: &str) -> bool {
    text.chars().any(|c| CodePointMapData::<GeneralCategory>::new().get(c) == GeneralCategory::Format)
}

/// Reads a text, cleaned.
pub(crate) fn cleaned<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    String::deserialize(deserializer).map(|text| clean(&text))
}

/// Reads a code, cleaned: at most 64 characters.
pub(crate) fn code<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    String::deserialize(deserializer).map(|text| cut(&text, limits::CODE))
}

/// The same for a field in which something else may stand.
pub(crate) fn lax_code<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?;
    Ok(serde_json::from_str::<String>(raw.get()).ok().map(|text| cut(&text, limits::CODE)))
}

/// Reads a word that names something, and that would name nothing if it were cleaned; `None` for one that is not clean.
pub(crate) fn word<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?;
    Ok(serde_json::from_str::<String>(raw.get()).ok().filter(|text| is_clean(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_drives_a_terminal_or_hides_text_is_taken_out() {
        assert_eq!(clean("\u{1b}[31mred\u{1b}[0m \u{9b}2J\u{7}\u{7f}"), "[31mred[0m 2J");
        assert_eq!(clean("a\u{202e}b\u{2066}c\u{200b}d\u{feff}e\u{ad}f\u{e0041}g\u{61c}h"), "abcdefgh");
        assert_eq!(clean("one\ntwo\r\nthree\tfour\u{2028}five\u{85}six"), "one two  three four five six");
        assert_eq!(clean("Größe, 日本語, 🦞, e\u{301}"), "Größe, 日本語, 🦞, e\u{301}");
    }

    #[test]
    fn a_long_text_is_cut_to_512_characters() {
        assert_eq!(clean(&"ä".repeat(600)).chars().count(), 512);
        assert!(is_clean(&"ä".repeat(512)) && !is_clean(&"ä".repeat(513)) && !is_clean("a\nb"));
    }
}
