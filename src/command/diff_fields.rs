//! The fields of an Agent's spec in which a manifest and a gateway differ. Pure.

use serde_json::{Map, Value};

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

/// A line for each field in which the manifest and the gateway differ. `on_gateway` is the spec that import writes, `entry` the config entry
/// of the agent, for the keys of `spec.config`. Values of these keys may be secrets, and are not shown.
pub(super) fn differences(in_manifest: &Value, on_gateway: &Value, entry: Option<&Map<String, Value>>) -> Vec<String> {
    let mut lines = Vec::new();
    for field in FIELDS {
        let (mine, theirs) = (value(in_manifest, field), value(on_gateway, field));
        if !is_equal(field, mine, theirs) {
            lines.push(format!("{field}: the manifest has {}, the gateway has {}", shown(mine), shown(theirs)));
        }
    }
    let config = in_manifest["config"].as_object().into_iter().flatten();
    for (key, wanted) in config {
        let actual = entry.and_then(|entry| entry.get(key));
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
            lines.map(|(inner, _)| line(&format!("identity.{inner}"), actual.and_then(|a| a.get(inner)))).collect()
        }
        wanted if actual != Some(wanted) => vec![line(key, actual)],
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

    #[test]
    fn each_field_that_differs_has_a_line_with_both_values() {
        let manifest = json!({ "model": "acme/large", "heartbeat": { "interval": "1h", "target": "last" },
            "config": { "tools": { "key": "hush" }, "sandbox": 1, "identity": { "theme": "dark", "mood": "calm" } } });
        let gateway =
            json!({ "model": "acme/small", "emoji": "🚀", "heartbeat": { "interval": "60m", "enabled": false } });
        let entry = json!({ "tools": { "key": "other" }, "identity": { "mood": "calm" } });
        assert_eq!(
            differences(&manifest, &gateway, entry.as_object()),
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
        assert_eq!(differences(&gateway, &gateway, None), Vec::<String>::new());
    }

    #[test]
    fn a_long_value_is_cut() {
        let manifest = json!({ "heartbeat": { "prompt": "p".repeat(200) } });
        let lines = differences(&manifest, &json!({}), None);
        assert!(lines[0].contains("... (202 characters), the gateway has none"), "{lines:?}");
    }
}
