//! Texts as Go writes them.

use serde_json::Value;

/// A text in double quotes, as Go's `%q` writes it.
pub(crate) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
