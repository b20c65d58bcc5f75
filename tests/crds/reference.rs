//! The reference of all fields, `docs/reference.md`, which `MUSTER_WRITE_CRDS=1 cargo test --test crds` writes.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::schemas;

#[test]
fn the_reference_matches_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference.md");
    let text = reference();
    if std::env::var_os("MUSTER_WRITE_CRDS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == text, "docs/reference.md does not match the types: run `make crds`");
}

#[test]
fn every_field_of_the_schemas_is_in_the_reference() {
    let text = reference();
    for field in ["`spec.files[].template.configMapKeyRef.key`", "`spec.suspend`", "`status.conditions[].reason`"] {
        assert!(text.contains(field), "{field}");
    }
}

fn reference() -> String {
    let mut text = String::from(
        "# Reference of the fields\n\nGenerated from the types by `make crds`; `kubectl explain agents.muster.dev.spec` shows the same texts. \
         [resources.md](resources.md) explains how\nthe fields work together.\n",
    );
    for (kind, schema) in schemas() {
        let intro = schema["description"].as_str().unwrap_or_default();
        let _ = write!(text, "\n## {kind}\n\n{intro}\n");
        for part in ["spec", "status"] {
            let _ = write!(text, "\n### {kind} {part}\n\n| Field | Type | Meaning |\n|---|---|---|\n");
            rows(&schema["properties"][part], part, &mut text);
        }
    }
    text
}

/// Writes a row for each field below a schema.
fn rows(schema: &Value, path: &str, text: &mut String) {
    let required = |name: &str| schema["required"].as_array().is_some_and(|names| names.iter().any(|n| n == name));
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let must = if required(name) && field["default"].is_null() { ", required" } else { "" };
        let meaning = one_line(field["description"].as_str().unwrap_or_default());
        let _ = writeln!(text, "| `{path}` | {}{must} | {meaning} |", kind_of(field));
        rows(field, &path, text);
        rows(&field["items"], &format!("{path}[]"), text);
    }
}

/// A text as a cell of a table.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// The type of a field with its limits.
fn kind_of(field: &Value) -> String {
    let most =
        |key: &str, unit: &str| field[key].as_u64().map(|most| format!(", at most {most}{unit}")).unwrap_or_default();
    match field["type"].as_str().unwrap_or("any") {
        "string" if field["format"] == "date-time" => "time".into(),
        "string" => match field["enum"].as_array() {
            Some(words) => {
                words.iter().filter_map(Value::as_str).map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
            }
            None => format!("string{}", most("maxLength", " characters")),
        },
        "array" => format!("list of {}{}", kind_of(&field["items"]), most("maxItems", " items")),
        "object" if field["additionalProperties"].is_object() => format!("map{}", most("maxProperties", " entries")),
        "integer" | "number" => match (field["minimum"].as_f64(), field["maximum"].as_f64()) {
            (Some(least), Some(most)) => format!("number, {least} to {most}"),
            _ => "number".into(),
        },
        other => other.to_owned(),
    }
}
