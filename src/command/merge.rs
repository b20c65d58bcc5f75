//! The JSON merge patch that brings an object to its manifest, and keeps what others wrote. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::object::last_applied;
use crate::api::keys;

/// A manifest with itself in the annotation, as `kubectl apply` writes it.
///
/// The annotation of a Secret has the keys of the Secret without their values. The keys suffice to remove what is no longer in a manifest.
pub(super) fn annotated(manifest: &Value, is_secret: bool) -> Value {
    let mut manifest = manifest.clone();
    let mut annotations = manifest["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
    annotations.remove(keys::LAST_APPLIED);
    manifest["metadata"]["annotations"] = json!(annotations);
    let mut kept = manifest.clone();
    if is_secret {
        let data = kept.get_mut("data").and_then(Value::as_object_mut);
        data.into_iter().flatten().for_each(|(_, value)| *value = json!(""));
    }
    manifest["metadata"]["annotations"][keys::LAST_APPLIED] = json!(format!("{}\n", escaped(&kept)));
    manifest
}

/// JSON as kubectl writes it, so that the two see no difference between their annotations.
fn escaped(value: &Value) -> String {
    let escaped = |c: char| match c {
        '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => format!("\\u{:04x}", u32::from(c)),
        _ => c.to_string(),
    };
    value.to_string().chars().map(escaped).collect()
}

/// A manifest of a Secret with all values in `data`, as the API server keeps them.
pub(super) fn with_data(mut secret: Value) -> Value {
    let Some(fields) = secret.as_object_mut() else { return secret };
    let Some(Value::Object(texts)) = fields.remove("stringData") else { return secret };
    let data = fields.entry("data").or_insert(json!({}));
    if let Some(data) = data.as_object_mut() {
        data.extend(texts.into_iter().map(|(key, text)| match text {
            Value::String(text) => (key, json!(STANDARD.encode(text))),
            other => (key, other),
        }));
    }
    secret
}

/// The patch from the current object to a manifest. Fields that the last manifest had, and this one does not have, are removed. Other
/// fields of the object stay.
pub(super) fn three_way(annotated: &Value, current: &Value) -> Value {
    let last = last_applied(current).map(|last| if current["kind"] == "Secret" { with_data(last) } else { last });
    let fields = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let last = last.map(|last| fields(&last)).unwrap_or_default();
    Value::Object(merged(&last, &fields(annotated), &fields(current)))
}

fn merged(last: &Map<String, Value>, new: &Map<String, Value>, current: &Map<String, Value>) -> Map<String, Value> {
    let mut patch = Map::new();
    let none = Map::new();
    for (field, wanted) in new {
        match (wanted, current.get(field)) {
            (Value::Object(wanted), Some(Value::Object(current))) => {
                let last = last.get(field).and_then(Value::as_object).unwrap_or(&none);
                let below = merged(last, wanted, current);
                if !below.is_empty() {
                    patch.insert(field.clone(), Value::Object(below));
                }
            }
            (Value::Null, None) => {}
            (wanted, Some(current)) if wanted == current => {}
            (wanted, _) => {
                patch.insert(field.clone(), wanted.clone());
            }
        }
    }
    let removed = last.keys().filter(|field| !new.contains_key(*field) && current.contains_key(*field));
    patch.extend(removed.map(|field| (field.clone(), Value::Null)));
    patch
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
