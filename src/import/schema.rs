//! The API server's validation of a manifest: the schemas of the resources, their bounds and their CEL rules.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::cel::{CompiledSchema, ValidationErrors, Validator, compile_schema};
use serde_json::{Value, json};

use crate::api::crds;

static SCHEMAS: LazyLock<BTreeMap<String, (Value, CompiledSchema)>> = LazyLock::new(|| {
    let schema = |(_, crd): (_, CustomResourceDefinition)| {
        let mut schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap()["openAPIV3Schema"].take();
        add_pattern_rules(&mut schema);
        let compiled = compile_schema(&schema);
        assert!(!compiled.has_errors(), "{:?}", compiled.compilation_errors());
        (crd.spec.names.kind, (schema, compiled))
    };
    crds::all().into_iter().map(schema).collect()
});

/// The validation errors of a manifest.
pub(super) fn validation_errors(manifest: &Value) -> Vec<String> {
    let (schema, compiled) = &SCHEMAS[manifest["kind"].as_str().unwrap()];
    let mut found = Vec::new();
    check_lengths(schema, manifest, "", &mut found);
    let rules = Validator::new().validate_compiled(compiled, manifest, None);
    found.extend(rules.err().into_iter().flat_map(ValidationErrors::into_vec).map(|error| error.to_string()));
    found
}

/// Adds rules for patterns and enums, which the validator does not check.
fn add_pattern_rules(schema: &mut Value) {
    let bound = |key: &str, rule: &str| Some(json!({ "rule": format!("{rule}({})", schema.get(key)?) }));
    let mut rules = schema["x-kubernetes-validations"].as_array().cloned().unwrap_or_default();
    rules.extend([bound("pattern", "self.matches"), bound("enum", "self in ")].into_iter().flatten());
    if !rules.is_empty() {
        schema["x-kubernetes-validations"] = json!(rules);
    }
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    properties.into_iter().flatten().for_each(|(_, below)| add_pattern_rules(below));
    schema.get_mut("items").into_iter().for_each(add_pattern_rules);
}

/// Checks lengths in characters, as the API server does. The validator counts bytes.
fn check_lengths(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    if let Some(text) = value.as_str() {
        let max = schema["maxLength"].as_u64().unwrap_or(u64::MAX);
        if !(schema["minLength"].as_u64().unwrap_or(0)..=max).contains(&(text.chars().count() as u64)) {
            found.push(format!("{path}: length of {text:?}"));
        }
    }
    for (key, below) in value.as_object().into_iter().flatten() {
        check_lengths(&schema["properties"][key], below, &format!("{path}.{key}"), found);
    }
    for below in value.as_array().into_iter().flatten() {
        check_lengths(&schema["items"], below, path, found);
    }
}

#[test]
fn lengths_patterns_and_rules_are_checked() {
    let agent = |spec: Value| json!({ "kind": "Agent", "metadata": { "name": "one" }, "spec": spec });
    let board = json!({ "name": "ops" });
    assert_eq!(validation_errors(&agent(json!({ "boardRef": board, "emoji": "é".repeat(16) }))), Vec::<String>::new());
    for (field, value) in
        [("emoji", json!("e".repeat(17))), ("agentId", json!("Ops")), ("heartbeat", json!({ "interval": "1s" }))]
    {
        let errors = validation_errors(&agent(json!({ "boardRef": board, field: value })));
        assert!(errors.len() == 1 && errors[0].contains(field), "{errors:?}");
    }
}

#[test]
fn one_line_texts_have_no_blanks_at_their_ends_and_no_line_breaks() {
    let agent = |spec: Value| json!({ "kind": "Agent", "metadata": { "name": "one" }, "spec": spec });
    for text in ["a ", " a", "\u{a0}a", "a\u{feff}", "a\u{3000}", "a\n", "a\nb", "a\u{2028}b", "\ta"] {
        for field in ["displayName", "model", "emoji", "avatar"] {
            let errors = validation_errors(&agent(json!({ "boardRef": { "name": "ops" }, field: text })));
            assert!(errors.len() == 1 && errors[0].contains(field), "{field} {text:?}: {errors:?}");
        }
        let inside = json!({ "target": text, "model": text, "prompt": text });
        let spec = json!({ "boardRef": { "name": "ops" }, "heartbeat": inside, "identityProfile": { "emoji": text } });
        assert_eq!(validation_errors(&agent(spec)).len(), 3, "{text:?}: a prompt has several lines");
        let spec = json!({ "gatewayRef": { "name": "gw" }, "displayName": text });
        let board = json!({ "kind": "Board", "metadata": { "name": "ops" }, "spec": spec });
        assert_eq!(validation_errors(&board).len(), 1, "{text:?}");
    }
    let spec = json!({ "boardRef": { "name": "ops" }, "displayName": "Öps \u{a0}👩\u{200d}🚀\u{fe0f}" });
    assert_eq!(validation_errors(&agent(spec)), Vec::<String>::new());
}
