//! The reference of the HTTP API, `docs/http-api.md`, which `MUSTER_WRITE_HTTP_API=1 cargo test --test http` writes.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::described::{document, resolve};

#[test]
fn the_reference_of_the_http_api_matches_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/http-api.md");
    let text = reference(document());
    if std::env::var_os("MUSTER_WRITE_HTTP_API").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == text, "docs/http-api.md does not match the types: run `make http-api`");
}

#[test]
fn every_route_every_schema_and_every_error_is_in_the_reference() {
    let document = document();
    let text = reference(document);
    for (path, route) in document["paths"].as_object().unwrap() {
        for method in route.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            assert!(text.contains(&format!("`{} {path}`", method.to_uppercase())), "{method} {path}");
        }
    }
    for name in document["components"]["schemas"].as_object().unwrap().keys().filter(|name| *name != "ErrorCode") {
        assert!(text.contains(&format!("\n### {name}\n")), "{name}");
    }
    for code in document["components"]["schemas"]["ErrorCode"]["enum"].as_array().unwrap() {
        assert!(text.contains(&format!(" | `{}` | ", code.as_str().unwrap())), "{code}");
    }
}

fn reference(document: &Value) -> String {
    let mut text = String::from(
        "# Reference of the HTTP API\n\nGenerated from the types by `make http-api`; `GET /openapi.json` says the same to programs. \
         [people-api.md](people-api.md) and\n[agents-api.md](agents-api.md) explain how to use the API.\n",
    );
    for (tag, title) in [("people", "Routes of people"), ("agents", "Routes of agents")] {
        let _ = writeln!(text, "\n## {title}");
        for (path, route) in document["paths"].as_object().into_iter().flatten() {
            for method in ["get", "post", "patch", "delete"] {
                let operation = &route[method];
                if operation["tags"][0] == tag {
                    write_route(document, (method, path), (route, operation), &mut text);
                }
            }
        }
    }
    text.push_str("\n## Errors\n\n| Status | Code | When |\n|---|---|---|\n");
    write_errors(document, &mut text);
    text.push_str("\n## Objects\n");
    for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
        if name != "ErrorCode" {
            write_schema(name, schema, &mut text);
        }
    }
    text
}

/// Writes the table of a route.
fn write_route(
    document: &Value,
    (method, path): (&str, &str),
    (route, operation): (&Value, &Value),
    text: &mut String,
) {
    let (summary, description) = (cell(&operation["summary"]), cell(&operation["description"]));
    let (description, rights) = description.split_once("Required rights: ").unwrap_or((&description, ""));
    let sentences = format!("{summary} {description}");
    let (method, sentences) = (method.to_uppercase(), sentences.trim_end());
    let _ = writeln!(text, "\n### `{method} {path}`\n\n{sentences}\n\n| Part | Meaning |\n|---|---|");
    let caller = match operation["security"].as_array().map(Vec::len) {
        None => "A person or a program, with a Kubernetes token.",
        Some(0) => "Everybody.",
        Some(_) => "An agent, with its own token.",
    };
    let _ = writeln!(text, "| Caller | {caller} |");
    if !rights.is_empty() {
        let _ = writeln!(text, "| Rights | {rights} |");
    }
    let parameters = [&route["parameters"], &operation["parameters"]].into_iter().filter_map(Value::as_array).flatten();
    for parameter in parameters.map(|parameter| resolve(document, parameter)) {
        let (name, place) = (parameter["name"].as_str().unwrap(), parameter["in"].as_str().unwrap());
        let place = place[..1].to_uppercase() + &place[1..];
        let (kind, meaning) = (kind_of(&parameter["schema"]), cell(&parameter["description"]));
        let _ = writeln!(text, "| {place} `{name}` | {kind}. {meaning} |");
    }
    let body = &operation["requestBody"];
    if body.is_object() {
        let optional = if body["required"] == true { "" } else { ", or no body" };
        let _ = writeln!(text, "| Body | {}{optional} |", kind_of(&body["content"]["application/json"]["schema"]));
    }
    let mut errors = Vec::new();
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        let response = resolve(document, response);
        let schema = &response["content"]["application/json"]["schema"];
        let codes = schema["allOf"][1]["properties"]["code"]["enum"].as_array();
        match codes {
            Some(codes) => {
                errors.extend(codes.iter().filter_map(Value::as_str).map(|code| format!("{status} `{code}`")));
            }
            None => write_answer(status, response, text),
        }
    }
    if !errors.is_empty() {
        let _ = writeln!(text, "| [Errors](#errors) | {} |", errors.join(", "));
    }
}

/// Writes the row of an answer that is no error.
fn write_answer(status: &str, response: &Value, text: &mut String) {
    let meaning = cell(&response["description"]);
    for (media, content) in response["content"].as_object().into_iter().flatten() {
        let schema = &content["schema"];
        let kind = match &schema["x-event-data"] {
            Value::Null => kind_of(schema),
            data => format!("`{media}` with {}", kind_of(data)),
        };
        let _ = writeln!(text, "| {status} | {kind}. {meaning} |");
    }
}

/// Writes the rows of all errors.
fn write_errors(document: &Value, text: &mut String) {
    let codes = &document["components"]["schemas"]["ErrorCode"];
    let statuses = statuses(document);
    let codes = codes["enum"].as_array().into_iter().flatten().zip(codes["x-enum-descriptions"].as_array().unwrap());
    for (code, meaning) in codes {
        let code = code.as_str().unwrap();
        // Routes that are not in the document have this error.
        let status = statuses.iter().find(|(known, _)| known == code).map_or("405", |(_, status)| status);
        let _ = writeln!(text, "| {status} | `{code}` | {} |", cell(meaning));
    }
}

/// The status of each error code that an operation has.
fn statuses(document: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let routes = document["paths"].as_object().into_iter().flat_map(|paths| paths.values());
    for operation in routes.flat_map(|route| route.as_object().into_iter().flat_map(|route| route.values())) {
        for (status, response) in operation["responses"].as_object().into_iter().flatten() {
            let schema = &resolve(document, response)["content"]["application/json"]["schema"];
            let codes = schema["allOf"][1]["properties"]["code"]["enum"].as_array().into_iter().flatten();
            found.extend(codes.filter_map(Value::as_str).map(|code| (code.to_owned(), status.clone())));
        }
    }
    found
}

/// Writes the table of a schema.
fn write_schema(name: &str, schema: &Value, text: &mut String) {
    let _ = writeln!(text, "\n### {name}\n");
    if schema["description"].is_string() {
        let _ = writeln!(text, "{}\n", cell(&schema["description"]));
    }
    if let Some(words) = schema["enum"].as_array() {
        text.push_str("| Value | Meaning |\n|---|---|\n");
        for (word, meaning) in words.iter().zip(schema["x-enum-descriptions"].as_array().into_iter().flatten()) {
            let _ = writeln!(text, "| `{}` | {} |", word.as_str().unwrap(), cell(meaning));
        }
        return;
    }
    text.push_str("| Field | Type | Meaning |\n|---|---|---|\n");
    let required = |name: &str| schema["required"].as_array().is_some_and(|names| names.iter().any(|n| n == name));
    for (field, below) in schema["properties"].as_object().into_iter().flatten() {
        let optional = if required(field) { "" } else { ", optional" };
        let _ = writeln!(text, "| `{field}` | {}{optional} | {} |", kind_of(below), cell(&below["description"]));
    }
    if schema["additionalProperties"].is_object() {
        let kind = kind_of(&schema["additionalProperties"]);
        let _ = writeln!(text, "| other fields | {kind} | A value of your own. |");
    }
}

/// A text as a cell of a table.
fn cell(text: &Value) -> String {
    text.as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// The type of a value with its limits.
fn kind_of(schema: &Value) -> String {
    if let Some(path) = schema["$ref"].as_str() {
        let name = path.rsplit('/').next().unwrap();
        let anchor = if name == "ErrorCode" { "errors".to_owned() } else { name.to_lowercase() };
        return format!("[{name}](#{anchor})");
    }
    if let Some(parts) = schema["anyOf"].as_array() {
        return parts.iter().map(kind_of).collect::<Vec<_>>().join(" or ");
    }
    let kinds = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        kind => vec![kind.as_str().unwrap_or("any")],
    };
    let words = schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let words: Vec<_> = words.map(|word| format!("`{word}`")).collect();
    if kinds == ["null"] {
        return "null".into();
    }
    let kind = match kinds[0] {
        "string" if !words.is_empty() => words.join(", "),
        "string" if schema["format"] == "date-time" => "time".into(),
        "integer" => "number".into(),
        "array" => match limits(&schema["items"]).as_slice() {
            [] => format!("list of {}", kind_of(&schema["items"])),
            limits => format!("list of {} ({})", schema["items"]["type"].as_str().unwrap_or("any"), limits.join(", ")),
        },
        other => other.to_owned(),
    };
    let limits = limits(schema);
    let kind = std::iter::once(kind).chain(limits.iter().cloned()).collect::<Vec<_>>().join(", ");
    match (kinds.contains(&"null"), limits.is_empty()) {
        (true, true) => format!("{kind} or null"),
        (true, false) => format!("{kind}, or null"),
        (false, _) => kind,
    }
}

fn limits(schema: &Value) -> Vec<String> {
    let most = |key: &str, unit: &str| schema[key].as_u64().map(|most| format!("at most {most} {unit}"));
    let least = schema["minLength"].as_u64().filter(|least| *least > 0).map(|least| format!("at least {least}"));
    let pattern = schema["pattern"].as_str().map(|pattern| format!("`{}`", pattern.replace('|', "\\|")));
    let range = schema["minimum"].as_u64().zip(schema["maximum"].as_u64());
    let range = range.map(|(least, most)| format!("{least} to {most}"));
    let default = (!schema["default"].is_null()).then(|| format!("default {}", schema["default"]));
    let all = [least, most("maxLength", "characters"), pattern, most("maxItems", "items"), range, default];
    all.into_iter().flatten().collect()
}
