//! Values of an agent's entry that the gateway stores in another form than they are sent.
//!
//! OpenClaw rewrites some values in a config write and answers `ok`: it replaces the names of retired models by the names of their
//! successors, and writes the provider of a model in lower case. 2026.5.28, 2026.7.1 and 2026.9.6 do so, 2026.3.2 does not
//! (`docs/gateway-facts.md#config-values`). Muster accepts the stored value as the desired one until the stored value changes.

use serde_json::{Map, Value};

use super::text::is_clean;
use crate::hash::sha256_hex;

/// The longest value that is kept as JSON, in characters. A hash replaces a longer value, and a value with control or format
/// characters.
const MAX_VALUE_CHARS: usize = 256;

/// A value that the gateway stores in another form than it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// The path in the entry, such as `heartbeat.model`.
    pub field: String,
    /// The sent value as JSON; `null` for a removal. `sha256:` and a hash replaces a value of more than 256 characters, and a
    /// value with control or format characters.
    pub sent: String,
    /// The stored value in the same form; `null` without a value.
    pub stored: String,
}

impl Rewritten {
    /// The values that a patch would change in an entry.
    pub(crate) fn all(patch: &Map<String, Value>, entry: &Map<String, Value>) -> Vec<Self> {
        let rewrite = |(field, sent): (String, &Value)| {
            let stored = value_at(entry, &field).map_or_else(|| recorded(&Value::Null), recorded);
            Self { field, sent: recorded(sent), stored }
        };
        values(patch).into_iter().map(rewrite).collect()
    }
}

/// The patch without the values that the entry has in their known stored form.
pub(crate) fn without(
    mut patch: Map<String, Value>,
    entry: &Map<String, Value>,
    known: &[Rewritten],
) -> Map<String, Value> {
    if known.is_empty() {
        return patch;
    }
    for rewrite in Rewritten::all(&patch, entry).iter().filter(|rewrite| known.contains(rewrite)) {
        match rewrite.field.split_once('.') {
            None => {
                patch.remove(&rewrite.field);
            }
            Some((outer, inner)) => {
                let rest = patch.get_mut(outer).and_then(Value::as_object_mut);
                if rest.is_some_and(|rest| {
                    rest.remove(inner);
                    rest.is_empty()
                }) {
                    patch.remove(outer);
                }
            }
        }
    }
    patch
}

/// The value at a path of an entry.
pub(crate) fn value_at<'a>(entry: &'a Map<String, Value>, field: &str) -> Option<&'a Value> {
    match field.split_once('.') {
        None => entry.get(field),
        Some((outer, inner)) => entry.get(outer)?.get(inner),
    }
}

/// The values of a patch with their paths. Each value of `identity` and `heartbeat` counts by itself.
fn values(patch: &Map<String, Value>) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    for (key, value) in patch {
        match value {
            Value::Object(inner) if key == "identity" || key == "heartbeat" => {
                found.extend(inner.iter().map(|(name, value)| (format!("{key}.{name}"), value)));
            }
            value => found.push((key.clone(), value)),
        }
    }
    found
}

fn recorded(value: &Value) -> String {
    let json = value.to_string();
    if is_clean(&json) && json.chars().count() <= MAX_VALUE_CHARS {
        json
    } else {
        format!("sha256:{}", sha256_hex(json.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: &Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    fn patch() -> Map<String, Value> {
        object(&json!({"model": "Google/a", "name": "A", "heartbeat": {"model": "X/b"}}))
    }

    #[test]
    fn a_known_rewrite_is_not_sent_again() {
        let there = object(&json!({"model": "google/b", "heartbeat": {"model": "x/b", "every": "5m"}}));
        let known = Rewritten::all(&patch(), &there);
        assert_eq!(known.len(), 3);
        let models: Vec<_> = known.into_iter().filter(|rewrite| rewrite.field != "name").collect();
        assert_eq!(without(patch(), &there, &models), object(&json!({"name": "A"})));
    }

    #[test]
    fn a_stored_value_that_changed_is_sent_again() {
        let there = object(&json!({"model": "google/b"}));
        let known = Rewritten::all(&object(&json!({"model": "Google/a"})), &there);
        let moved = object(&json!({"model": "google/c"}));
        assert_eq!(
            without(object(&json!({"model": "Google/a"})), &moved, &known),
            object(&json!({"model": "Google/a"}))
        );
    }

    #[test]
    fn another_desired_value_is_sent() {
        let there = object(&json!({"model": "google/b"}));
        let known = Rewritten::all(&object(&json!({"model": "Google/a"})), &there);
        let other = object(&json!({"model": "Google/z"}));
        assert_eq!(without(other.clone(), &there, &known), other);
    }

    #[test]
    fn a_hash_replaces_a_long_value_and_a_value_with_format_characters() {
        let long = "p".repeat(5000);
        let known = Rewritten::all(&object(&json!({"heartbeat": {"prompt": long}})), &Map::new());
        assert_eq!(known[0].field, "heartbeat.prompt");
        assert!(known[0].sent.starts_with("sha256:") && known[0].sent.len() == 71, "{}", known[0].sent);
        assert_eq!(known[0].stored, "null");
        let hidden = Rewritten::all(&object(&json!({"name": "a\u{202e}b"})), &Map::new());
        assert!(hidden[0].sent.starts_with("sha256:"), "{}", hidden[0].sent);
    }
}
