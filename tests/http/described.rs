//! Answers and the `OpenAPI` document.

use std::sync::LazyLock;

use axum::http::StatusCode;
use muster::http::people;
use serde_json::{Value, json};

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(&people::OPENAPI).unwrap());

/// The `OpenAPI` document.
pub(crate) fn document() -> &'static Value {
    &DOCUMENT
}

/// The object of the document to which a schema or a response refers.
pub(crate) fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    value["$ref"].as_str().map_or(value, |path| document.pointer(path.trim_start_matches('#')).unwrap())
}

/// Checks that the document has an answer of a route: its status, and its JSON. Routes and methods that are not in the document have
/// the errors 404 and 405.
pub(crate) fn check(method: &str, path: &str, status: StatusCode, json: &Value) {
    let document = document();
    let path = path.split('?').next().unwrap_or_default();
    let fits = |template: &str| {
        let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
        template.len() == path.len() && template.iter().zip(&path).all(|(word, given)| word == given || *word == "{id}")
    };
    let mut routes: Vec<_> = document["paths"].as_object().unwrap().iter().filter(|(path, _)| fits(path)).collect();
    // A path without an id comes before one with an id.
    routes.sort_by_key(|(path, _)| path.contains("{id}"));
    let Some(operation) = routes.first().and_then(|(_, route)| route.get(method.to_lowercase())) else {
        assert!([StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED].contains(&status), "{method} {path}: {status}");
        return;
    };
    let response = resolve(document, &operation["responses"][status.as_str()]);
    let schema = &response["content"]["application/json"]["schema"];
    assert!(schema.is_object(), "the document has no answer {status} of {method} {path}: {json}");
    let mut faults = Vec::new();
    compare(document, schema, json, "", &mut faults);
    assert!(faults.is_empty(), "{method} {path}, {status}: {}", faults.join("; "));
}

/// Collects the places of a value that do not fit a schema.
fn compare(document: &Value, schema: &Value, value: &Value, place: &str, faults: &mut Vec<String>) {
    let schema = resolve(document, schema);
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let kinds = &schema["type"];
    if !kinds.is_null() && kinds != kind && !kinds.as_array().is_some_and(|kinds| kinds.iter().any(|k| k == kind)) {
        faults.push(format!("{place} is {value} instead of {kinds}"));
    }
    if schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
        faults.push(format!("{place} is {value} instead of {}", schema["enum"]));
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        compare(document, part, value, place, faults);
    }
    if let Some(parts) = schema["anyOf"].as_array() {
        let fits = |part: &&Value| {
            let mut faults = Vec::new();
            compare(document, part, value, place, &mut faults);
            faults.is_empty()
        };
        if !parts.iter().any(|part| fits(&part)) {
            faults.push(format!("{place} is {value} and fits none of {parts:?}"));
        }
    }
    for item in value.as_array().into_iter().flatten() {
        compare(document, &schema["items"], item, &format!("{place}[]"), faults);
    }
    let Some(fields) = value.as_object() else { return };
    for (name, field) in fields {
        let known = &schema["properties"][name];
        let other = &schema["additionalProperties"];
        match (known.is_null(), other) {
            (false, _) => compare(document, known, field, &format!("{place}.{name}"), faults),
            // A later version may add fields. This version has no other fields than it describes.
            (true, Value::Null) if schema["type"] == "object" => {
                faults.push(format!("{place}.{name} is not in the schema"));
            }
            (true, _) => {}
        }
    }
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    faults.extend(required.filter(|name| !fields.contains_key(*name)).map(|name| format!("{place}.{name} is missing")));
}

#[test]
fn a_difference_from_the_document_is_found() {
    let document = document();
    let fits = |schema: &str, value: &Value| {
        let schema = json!({ "$ref": format!("#/components/schemas/{schema}") });
        let mut faults = Vec::new();
        compare(document, &schema, value, "", &mut faults);
        faults.is_empty()
    };
    assert!(fits("AgentRemoval", &json!({ "ok": true })));
    for value in [json!({}), json!({ "ok": "yes" }), json!({ "ok": true, "more": 1 }), json!([])] {
        assert!(!fits("AgentRemoval", &value), "{value}");
    }
    assert!(fits("Error", &json!({ "code": "timeout", "message": "m" })));
    assert!(!fits("Error", &json!({ "code": "unheard_of", "message": "m" })));
}
