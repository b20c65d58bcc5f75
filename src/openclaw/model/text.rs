//! Texts of a gateway that reach a status, an event, a log or a terminal.
//!
//! The gateway controls these texts. A control character can drive a terminal; a format character can reorder or hide text.
//! Values that Muster writes back to the gateway are not cleaned.

use icu_properties::CodePointMapData;
use icu_properties::props::GeneralCategory;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::openclaw::limits;

/// The first 512 characters of the text without control and format characters. A line break becomes a space.
#[must_use]
pub fn clean(text: &str) -> String {
    clean_to(text, limits::TEXT)
}

fn clean_to(text: &str, max_chars: usize) -> String {
    text.chars().filter_map(cleaned_char).take(max_chars).collect()
}

/// The replacement of a character; `None` removes the character.
fn cleaned_char(c: char) -> Option<char> {
    match CodePointMapData::<GeneralCategory>::new().get(c) {
        GeneralCategory::Control if c.is_whitespace() => Some(' '),
        GeneralCategory::LineSeparator | GeneralCategory::ParagraphSeparator => Some(' '),
        GeneralCategory::Control | GeneralCategory::Format => None,
        _ => Some(c),
    }
}

/// Whether [`clean`] keeps the text unchanged.
pub(crate) fn is_clean(text: &str) -> bool {
    text.chars().zip(1..).all(|(c, count)| count <= limits::TEXT && cleaned_char(c) == Some(c))
}

/// Whether a text has characters that reorder or hide other characters.
#[must_use]
pub fn has_format_characters(text: &str) -> bool {
    text.chars().any(|c| CodePointMapData::<GeneralCategory>::new().get(c) == GeneralCategory::Format)
}

/// Reads a text and cleans it.
pub(crate) fn cleaned<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    String::deserialize(deserializer).map(|text| clean(&text))
}

/// The first 64 characters of a code without control and format characters.
pub(crate) fn clean_code(text: &str) -> String {
    clean_to(text, limits::CODE)
}

/// Reads a code and cleans it to at most 64 characters.
pub(crate) fn code<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    String::deserialize(deserializer).map(|text| clean_to(&text, limits::CODE))
}

/// Reads a code like [`code`]; `None` for a value of another type.
pub(crate) fn lax_code<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?;
    Ok(serde_json::from_str::<String>(raw.get()).ok().map(|text| clean_to(&text, limits::CODE)))
}

/// Reads a name, such as an id or a path; `None` for a name that is not clean, because a cleaned name would name something
/// else. A name beyond [`limits::WORD`] is an error.
pub(crate) fn word<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?;
    if raw.get().len() > limits::WORD {
        let bound = format!("an id, a path or another name has more than {} bytes", limits::WORD);
        return Err(D::Error::custom(limits::Exceeded(bound)));
    }
    Ok(serde_json::from_str::<String>(raw.get()).ok().filter(|text| is_clean(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_format_characters_are_removed() {
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
