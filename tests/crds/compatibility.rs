//! A manifest that the last release accepts is still accepted, and means the same.
//!
//! `tests/crds/released/` has the schemas of the last release; `scripts/crds release` writes them.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::schemas;

#[test]
fn every_manifest_of_the_last_release_is_still_accepted() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crds/released");
    for (kind, schema) in schemas() {
        let path = folder.join(format!("{}.json", kind.to_lowercase()));
        if std::env::var_os("MUSTER_RELEASE_CRDS").is_some() {
            fs::write(&path, format!("{:#}\n", schema["properties"]["spec"])).unwrap();
        }
        let released = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let released: Value = serde_json::from_str(&released).unwrap();
        let mut breaks = Vec::new();
        compare(&released, &schema["properties"]["spec"], &format!("{kind}.spec"), &mut breaks);
        assert!(breaks.is_empty(), "these changes break manifests of the last release:\n{}", breaks.join("\n"));
    }
}

/// Collects the changes from `old` to `new` that refuse a manifest, lose a part of it, or change what it means.
fn compare(old: &Value, new: &Value, path: &str, breaks: &mut Vec<String>) {
    let mut note = |what: String| breaks.push(format!("{path}: {what}"));
    for key in ["type", "default", "format", "pattern", "x-kubernetes-list-type", "x-kubernetes-list-map-keys"] {
        // A pattern that is gone refuses nothing, and a default that has further fields means the same for the others.
        let is_looser = key == "pattern" && new[key].is_null() || key == "default" && has_all(&new[key], &old[key]);
        if old[key] != new[key] && !is_looser {
            note(format!("{key} was {}, and is {}", old[key], new[key]));
        }
    }
    for (key, is_most) in [
        ("maxLength", true),
        ("maxItems", true),
        ("maxProperties", true),
        ("maximum", true),
        ("minLength", false),
        ("minItems", false),
        ("minProperties", false),
        ("minimum", false),
    ] {
        let unbound = if is_most { f64::INFINITY } else { f64::NEG_INFINITY };
        let (before, now) = (old[key].as_f64().unwrap_or(unbound), new[key].as_f64().unwrap_or(unbound));
        if if is_most { now < before } else { now > before } {
            note(format!("{key} was {before}, and is {now}"));
        }
    }
    let list = |schema: &Value, key: &str| schema[key].as_array().cloned().unwrap_or_default();
    for word in list(old, "enum").iter().filter(|word| !list(new, "enum").contains(word) && new["enum"].is_array()) {
        note(format!("the value {word} is gone"));
    }
    for field in list(new, "required").iter().filter(|field| !list(old, "required").contains(field)) {
        note(format!("{field} is required"));
    }
    let rules = |schema: &Value| {
        list(schema, "x-kubernetes-validations").iter().map(|rule| rule["rule"].clone()).collect::<Vec<_>>()
    };
    for rule in rules(new).iter().filter(|rule| !rules(old).contains(rule)) {
        note(format!("the rule {rule} is new"));
    }
    for (name, field) in old["properties"].as_object().into_iter().flatten() {
        match &new["properties"][name] {
            Value::Null => breaks.push(format!("{path}.{name}: the field is gone")),
            now => compare(field, now, &format!("{path}.{name}"), breaks),
        }
    }
    for (key, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if old[key].is_object() {
            compare(&old[key], &new[key], &format!("{path}{mark}"), breaks);
        }
    }
}

/// Whether an object has all fields of another one.
fn has_all(object: &Value, fields: &Value) -> bool {
    let (Some(object), Some(fields)) = (object.as_object(), fields.as_object()) else { return false };
    fields.iter().all(|(name, value)| object.get(name) == Some(value))
}

#[test]
fn a_change_that_breaks_manifests_is_found_with_its_field() {
    let field = |schema: Value| json!({ "type": "object", "properties": { "a": schema } });
    let text = json!({ "type": "string", "maxLength": 8, "enum": ["x", "y"] });
    let cases = [
        (text.clone(), json!({ "type": "integer" }), vec!["type", "maxLength"]),
        (text.clone(), json!({ "type": "string", "maxLength": 4 }), vec!["maxLength was 8, and is 4"]),
        (text.clone(), json!({ "type": "string", "maxLength": 9, "enum": ["x"] }), vec!["\"y\" is gone"]),
        (json!({ "type": "string" }), json!({ "type": "string", "minLength": 1 }), vec!["minLength"]),
        (json!({ "type": "string" }), json!({ "type": "string", "pattern": "^a$" }), vec!["pattern"]),
        (json!({ "type": "string" }), json!({ "type": "string", "default": "b" }), vec!["default"]),
        (json!({ "type": "object" }), json!({ "type": "object", "required": ["b"] }), vec!["\"b\" is required"]),
        (
            json!({ "type": "string" }),
            json!({ "type": "string", "x-kubernetes-validations": [{ "rule": "self != ''" }] }),
            vec!["the rule \"self != ''\" is new"],
        ),
        (
            json!({ "type": "array", "items": { "type": "string" } }),
            json!({ "type": "array", "items": { "type": "string", "maxLength": 3 } }),
            vec!["spec.a[]: maxLength"],
        ),
        (text.clone(), Value::Null, vec!["spec.a: the field is gone"]),
    ];
    for (old, new, words) in cases {
        let mut breaks = Vec::new();
        compare(&field(old.clone()), &field(new.clone()), "spec", &mut breaks);
        let text = breaks.join("\n");
        assert!(text.starts_with("spec.a") && words.iter().any(|word| text.contains(word)), "{old} -> {new}: {text:?}");
    }
}

#[test]
fn a_change_that_breaks_nothing_is_accepted() {
    let old = json!({ "type": "object", "required": ["a"], "properties": {
        "a": { "type": "string", "maxLength": 8, "pattern": "^a$", "enum": ["x"], "description": "old" },
        "c": { "type": "object", "default": { "d": 1 } },
    } });
    let new = json!({ "type": "object", "properties": {
        "a": { "type": "string", "maxLength": 9, "enum": ["x", "y"], "description": "new" },
        "b": { "type": "integer" },
        "c": { "type": "object", "default": { "d": 1, "e": 2 } },
    } });
    let mut breaks = Vec::new();
    compare(&old, &new, "spec", &mut breaks);
    assert_eq!(breaks, [""; 0]);
}
