//! `spec.config`: keys of the config entry that Muster does not model, passed through to the gateway.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};

use crate::api::Reason;
use crate::core::error::ReconcileError;

/// The most bytes of `spec.config` as JSON.
const MAX_BYTES: usize = 8 * 1024;
/// The most levels of objects and lists.
const MAX_DEPTH: usize = 16;
/// Keys of the entry that another field of the spec sets.
const OWN_KEYS: [(&str, &str); 5] = [
    ("id", "spec.agentId"),
    ("name", "spec.displayName"),
    ("workspace", "spec.workspaceRoot of the AgentGateway"),
    ("model", "spec.model"),
    ("heartbeat", "spec.heartbeat"),
];
/// Keys of `identity` that another field of the spec sets.
const OWN_IDENTITY_KEYS: [(&str, &str); 3] =
    [("name", "spec.displayName"), ("emoji", "spec.emoji"), ("avatar", "spec.avatar")];
/// Keys that a gateway interprets at any depth, or drops (`docs/gateway-facts.md#config-values`).
const SPECIAL_KEYS: [&str; 4] = ["$include", "__proto__", "constructor", "prototype"];

/// The values by their path in the entry: a key, or `identity.` and a key of the identity, which Muster shares.
///
/// # Errors
/// Names the key that is not allowed, and what to do.
pub(crate) fn by_path(config: &Map<String, Value>) -> Result<BTreeMap<String, Value>, ReconcileError> {
    let bytes = serde_json::to_string(config).map_or(0, |text| text.len());
    if bytes > MAX_BYTES {
        return Err(refused(format!(
            "spec.config has {bytes} bytes of JSON, and at most {MAX_BYTES} are allowed; shorten it"
        )));
    }
    let mut paths = BTreeMap::new();
    for (key, value) in config {
        reserved(key, &OWN_KEYS, "spec.config")?;
        match value {
            Value::Object(identity) if key == "identity" => {
                for (key, value) in identity {
                    reserved(key, &OWN_IDENTITY_KEYS, "spec.config.identity")?;
                    let path = format!("identity.{key}");
                    paths.insert(path.clone(), plain(value, &format!("spec.config.{path}"), MAX_DEPTH)?);
                }
            }
            _ if key == "identity" => return Err(refused("spec.config.identity has to be an object".into())),
            value => {
                paths.insert(key.clone(), plain(value, &format!("spec.config.{key}"), MAX_DEPTH)?);
            }
        }
    }
    // A path with a dot of its own could be read as a key of another object.
    match paths.keys().find(|path| path.strip_prefix("identity.").unwrap_or(path).contains('.')) {
        Some(path) => Err(refused(format!("spec.config.{path}: a key with a dot is not allowed here"))),
        None => Ok(paths),
    }
}

fn reserved(key: &str, own: &[(&str, &str)], path: &str) -> Result<(), ReconcileError> {
    if let Some((_, field)) = own.iter().find(|(own, _)| *own == key) {
        return Err(refused(format!("{path}.{key} is not allowed; use {field}")));
    }
    special(key, path)
}

fn special(key: &str, path: &str) -> Result<(), ReconcileError> {
    if SPECIAL_KEYS.contains(&key) {
        return Err(refused(format!("{path}.{key} is not allowed; remove it")));
    }
    Ok(())
}

/// The value in the form in which a gateway stores it: JavaScript has no `1.0`.
fn plain(value: &Value, path: &str, depth: usize) -> Result<Value, ReconcileError> {
    if depth == 0 {
        return Err(refused(format!("{path} is nested more than {MAX_DEPTH} levels deep")));
    }
    match value {
        Value::Null => Err(refused(format!("{path} is null; leave the key out to use the gateway's default"))),
        Value::Number(number) => Ok(Value::Number(whole(number).unwrap_or_else(|| number.clone()))),
        Value::Array(items) => {
            let item = |(i, item)| plain(item, &format!("{path}[{i}]"), depth - 1);
            items.iter().enumerate().map(item).collect::<Result<_, _>>().map(Value::Array)
        }
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| {
                special(key, path)?;
                Ok((key.clone(), plain(value, &format!("{path}.{key}"), depth - 1)?))
            };
            fields.iter().map(field).collect::<Result<_, _>>().map(Value::Object)
        }
        Value::Bool(_) | Value::String(_) => Ok(value.clone()),
    }
}

/// A number without a fraction as a whole number.
fn whole(number: &Number) -> Option<Number> {
    let float = number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0 && float.abs() < 9.0e15)?;
    #[expect(clippy::cast_possible_truncation, reason = "the number is whole and in the range of i64")]
    Some(Number::from(float as i64))
}

fn refused(message: String) -> ReconcileError {
    ReconcileError::permanent(Reason::InvalidSpec, message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(config: &Value) -> Result<BTreeMap<String, Value>, String> {
        by_path(config.as_object().unwrap()).map_err(|error| error.message)
    }

    #[test]
    fn keys_that_muster_does_not_model_are_passed() {
        let config =
            json!({ "tools": { "allow": ["exec"], "n": 2.0 }, "identity": { "theme": "dark" }, "default": true });
        let paths = read(&config).unwrap();
        assert_eq!(paths.keys().collect::<Vec<_>>(), ["default", "identity.theme", "tools"]);
        assert_eq!(paths["tools"], json!({ "allow": ["exec"], "n": 2 }));
        assert!(read(&json!({})).unwrap().is_empty());
    }

    #[test]
    fn a_key_that_is_not_allowed_is_named_with_what_to_do() {
        let mut deep = json!(1);
        for _ in 0..20 {
            deep = json!({ "a": deep });
        }
        for (config, words) in [
            (json!({ "id": "x" }), "spec.config.id is not allowed; use spec.agentId"),
            (json!({ "name": "x" }), "use spec.displayName"),
            (json!({ "workspace": "/" }), "use spec.workspaceRoot"),
            (json!({ "model": "a/b" }), "use spec.model"),
            (json!({ "heartbeat": {} }), "use spec.heartbeat"),
            (json!({ "identity": { "emoji": "x" } }), "spec.config.identity.emoji is not allowed; use spec.emoji"),
            (json!({ "identity": "x" }), "spec.config.identity has to be an object"),
            (json!({ "$include": "/etc/passwd" }), "spec.config.$include is not allowed"),
            (json!({ "tools": [{ "$include": "x" }] }), "spec.config.tools[0].$include is not allowed"),
            (json!({ "tools": { "__proto__": {} } }), "spec.config.tools.__proto__ is not allowed"),
            (json!({ "tools": { "a": [null] } }), "spec.config.tools.a[0] is null"),
            (json!({ "tools": "x".repeat(9000) }), "at most 8192 are allowed"),
            (json!({ "a.b": 1 }), "a key with a dot"),
            (json!({ "tools": deep }), "more than 16 levels"),
        ] {
            let message = read(&config).unwrap_err();
            assert!(message.contains(words), "{config}: {message}");
        }
    }
}
