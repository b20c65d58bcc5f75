//! The fields of an Agent's spec in which a manifest and a gateway differ. Pure.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::table::key_text;
use crate::api::shared::Interval;

/// The fields that `muster import` reads from the config entry of an agent.
const FIELDS: [&str; 10] = [
    "displayName",
    "model",
    "emoji",
    "avatar",
    "heartbeat.enabled",
    "heartbeat.interval",
    "heartbeat.target",
    "heartbeat.prompt",
    "heartbeat.model",
    "heartbeat.activeHours",
];
/// The longest value in a line, in characters.
const MAX_VALUE_CHARS: usize = 60;

/// An agent of a gateway, as a spec says it.
pub(super) struct GatewaySpec<'a> {
    /// The spec that import writes.
    pub(super) spec: &'a Value,
    /// The config entry, for the keys of `spec.config`.
    pub(super) entry: Option<Map<String, Value>>,
    /// The fields for which the gateway has a value that no spec can express.
    pub(super) left_out: BTreeSet<&'a str>,
}

/// A line for each field in which the manifest and the gateway differ. Values of `spec.config` may be secrets, and are not shown.
pub(super) fn differences(in_manifest: &Value, on_gateway: &GatewaySpec<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    for field in FIELDS {
        let (mine, theirs) = (value(in_manifest, field), value(on_gateway.spec, field));
        if on_gateway.left_out.contains(field) {
            let theirs = "the gateway has a value that no spec can express";
            lines.push(format!("{field}: the manifest has {}, {theirs}", shown(mine)));
        } else if !is_equal(field, mine, theirs) {
            lines.push(format!("{field}: the manifest has {}, the gateway has {}", shown(mine), shown(theirs)));
        }
    }
    let config = in_manifest["config"].as_object().into_iter().flatten();
    for (key, wanted) in config {
        let actual = on_gateway.entry.as_ref().and_then(|entry| entry.get(key));
        lines.extend(config_differences(key, wanted, actual));
    }
    lines
}

fn value<'a>(spec: &'a Value, field: &str) -> Option<&'a Value> {
    let value = match field.split_once('.') {
        Some((outer, inner)) => &spec[outer][inner],
        None => &spec[field],
    };
    // Heartbeats are on unless the spec turns them off.
    let is_default = value.is_null() || field == "heartbeat.enabled" && *value == true;
    (!is_default).then_some(value)
}

fn is_equal(field: &str, one: Option<&Value>, other: Option<&Value>) -> bool {
    let interval = |value: Option<&Value>| {
        let value = value.filter(|_| field == "heartbeat.interval")?;
        serde_json::from_value::<Interval>(value.clone()).ok().map(Interval::get)
    };
    one == other || interval(one).is_some() && interval(one) == interval(other)
}

/// The differences of a key of `spec.config`. Muster shares the keys of `identity` with others.
fn config_differences(key: &str, wanted: &Value, actual: Option<&Value>) -> Vec<String> {
    let line = |path: &str, actual: Option<&Value>| {
        let state = if actual.is_some() { "has another value on the gateway" } else { "is not on the gateway" };
        format!("config.{path}: {state}")
    };
    match wanted {
        Value::Object(identity) if key == "identity" => {
            let differs = |(inner, wanted): &(&String, &Value)| actual.and_then(|a| a.get(*inner)) != Some(wanted);
            let lines = identity.iter().filter(differs);
            lines
                .map(|(inner, _)| line(&format!("identity.{}", key_text(inner)), actual.and_then(|a| a.get(inner))))
                .collect()
        }
        wanted if actual != Some(wanted) => vec![line(&key_text(key), actual)],
        _ => Vec::new(),
    }
}

fn shown(value: Option<&Value>) -> String {
    let Some(value) = value else { return "none".to_owned() };
    let text = value.to_string();
    let begin: String = text.chars().take(MAX_VALUE_CHARS).collect();
    if begin.len() == text.len() { text } else { format!("{begin}... ({} characters)", text.chars().count()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn compared(manifest: &Value, spec: &Value, entry: &Value, left_out: &[&str]) -> Vec<String> {
        let left_out = left_out.iter().copied().collect();
        differences(manifest, &GatewaySpec { spec, entry: entry.as_object().cloned(), left_out })
    }

    #[test]
    fn a_value_that_no_spec_can_express_is_a_difference() {
        let manifest = json!({ "heartbeat": { "interval": "1h" } });
        let lines = compared(&manifest, &json!({}), &Value::Null, &["heartbeat.interval", "avatar"]);
        let theirs = "the gateway has a value that no spec can express";
        let expected = [
            format!("avatar: the manifest has none, {theirs}"),
            format!("heartbeat.interval: the manifest has \"1h\", {theirs}"),
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_key_of_a_config_forges_no_line() {
        let manifest = json!({ "config": { "a\nagent x": 1, "identity": { "b\nc": 2 } } });
        let expected =
            [r#"config."a\nagent x": is not on the gateway"#, r#"config.identity."b\nc": is not on the gateway"#];
        assert_eq!(compared(&manifest, &json!({}), &Value::Null, &[]), expected);
    }

    #[test]
    fn each_field_that_differs_has_a_line_with_both_values() {
        let manifest = json!({ "model": "acme/large", "heartbeat": { "interval": "1h", "target": "last" },
            "config": { "tools": { "key": "hush" }, "sandbox": 1, "identity": { "theme": "dark", "mood": "calm" } } });
        let gateway =
            json!({ "model": "acme/small", "emoji": "🚀", "heartbeat": { "interval": "60m", "enabled": false } });
        let entry = json!({ "tools": { "key": "other" }, "identity": { "mood": "calm" } });
        assert_eq!(
            compared(&manifest, &gateway, &entry, &[]),
            [
                "model: the manifest has \"acme/large\", the gateway has \"acme/small\"",
                "emoji: the manifest has none, the gateway has \"🚀\"",
                "heartbeat.enabled: the manifest has none, the gateway has false",
                "heartbeat.target: the manifest has \"last\", the gateway has none",
                "config.identity.theme: is not on the gateway",
                "config.sandbox: is not on the gateway",
                "config.tools: has another value on the gateway",
            ]
        );
        assert_eq!(compared(&gateway, &gateway, &Value::Null, &[]), Vec::<String>::new());
    }

    #[test]
    fn a_long_value_is_cut() {
        let manifest = json!({ "heartbeat": { "prompt": "p".repeat(200) } });
        let lines = compared(&manifest, &json!({}), &Value::Null, &[]);
        assert!(lines[0].contains("... (202 characters), the gateway has none"), "{lines:?}");
    }
}
