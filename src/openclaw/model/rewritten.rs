//! Values of an agent's entry that the gateway stores otherwise than they are sent.
//!
//! OpenClaw rewrites some values when it takes a config: retired model names become those of their successors, and the
//! provider of a model becomes lower case (measured with 2026.5.28, 2026.7.1 and 2026.9.6; 2026.3.2 stores what it is
//! sent). It answers `ok`. So what it stores is taken as what was asked for, as long as it stays as it is.

use serde_json::{Map, Value};

use super::text::is_clean;
use crate::hash::sha256_hex;

/// The longest value that is kept as it is, in characters. Of a longer one its hash is kept, and of one that would not be shown as
/// it stands.
const LONGEST: usize = 256;

/// A value that the gateway stores otherwise than it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// Its place in the entry, as `heartbeat.model`.
    pub field: String,
    /// What was sent, as JSON, or `sha256:` and its hash where that has more than 256 characters, or control or format characters;
    /// `null` for a removal.
    pub sent: String,
    /// What the gateway stores, in the same form; `null` for nothing.
    pub stored: String,
}

impl Rewritten {
    /// What a patch would change in an entry, value by value.
    pub(crate) fn all(patch: &Map<String, Value>, there: &Map<String, Value>) -> Vec<Self> {
        let rewrite = |(field, sent): (String, &Value)| {
            let stored = value_at(there, &field).map_or_else(|| shown(&Value::Null), shown);
            Self { field, sent: shown(sent), stored }
        };
        values(patch).into_iter().map(rewrite).collect()
    }
}

/// The patch without the values that stand in the entry as the gateway is known to store them.
pub(crate) fn without(
    mut patch: Map<String, Value>,
    there: &Map<String, Value>,
    known: &[Rewritten],
) -> Map<String, Value> {
    if known.is_empty() {
        return patch;
    }
    for rewrite in Rewritten::all(&patch, there).iter().filter(|rewrite| known.contains(rewrite)) {
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

/// The value at a place of an entry.
pub(crate) fn value_at<'a>(entry: &'a Map<String, Value>, field: &str) -> Option<&'a Value> {
    match field.split_once('.') {
        None => entry.get(field),
        Some((outer, inner)) => entry.get(outer)?.get(inner),
    }
}

/// The values of a patch with their places: those of `identity` and `heartbeat` each by itself.
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

fn shown(value: &Value) -> String {
    let json = value.to_string();
    if is_clean(&json) && json.chars().count() <= LONGEST {
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
    fn what_the_gateway_is_known_to_store_otherwise_is_not_sent_again() {
        let there = object(&json!({"model": "google/b", "heartbeat": {"model": "x/b", "every": "5m"}}));
        let known = Rewritten::all(&patch(), &there);
        assert_eq!(known.len(), 3);
        let models: Vec<_> = known.into_iter().filter(|rewrite| rewrite.field != "name").collect();
        assert_eq!(without(patch(), &there, &models), object(&json!({"name": "A"})));
    }

    #[test]
    fn a_value_that_changed_on_the_gateway_since_is_sent_again() {
        let there = object(&json!({"model": "google/b"}));
        let known = Rewritten::all(&object(&json!({"model": "Google/a"})), &there);
        let moved = object(&json!({"model": "google/c"}));
        assert_eq!(
            without(object(&json!({"model": "Google/a"})), &moved, &known),
            object(&json!({"model": "Google/a"}))
        );
    }

    #[test]
    fn another_value_that_is_asked_for_is_sent() {
        let there = object(&json!({"model": "google/b"}));
        let known = Rewritten::all(&object(&json!({"model": "Google/a"})), &there);
        let other = object(&json!({"model": "Google/z"}));
        assert_eq!(without(other.clone(), &there, &known), other);
    }

    #[test]
    fn of_a_long_value_and_of_one_that_hides_text_the_hash_is_kept() {
        let long = "p".repeat(5000);
        let known = Rewritten::all(&object(&json!({"heartbeat": {"prompt": long}})), &Map::new());
        assert_eq!(known[0].field, "heartbeat.prompt");
        assert!(known[0].sent.starts_with("sha256:") && known[0].sent.len() == 71, "{}", known[0].sent);
        assert_eq!(known[0].stored, "null");
        let hidden = Rewritten::all(&object(&json!({"name": "a\u{202e}b"})), &Map::new());
        assert!(hidden[0].sent.starts_with("sha256:"), "{}", hidden[0].sent);
    }
}
