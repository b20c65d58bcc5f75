//! The schemas follow the conventions of the Kubernetes API
//! (<https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md>).

use serde_json::Value;

use crate::schemas;

/// Calls `visit` with each schema below `schema`, its path, and whether it is an item of a list.
fn walk(schema: &Value, path: &str, visit: &mut dyn FnMut(&Value, &str)) {
    visit(schema, path);
    for (field, below) in schema["properties"].as_object().into_iter().flatten() {
        walk(below, &format!("{path}.{field}"), visit);
    }
    for (key, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[key].is_object() {
            walk(&schema[key], &format!("{path}{mark}"), visit);
        }
    }
}

/// The paths of the schemas of all three kinds for which `breaks` holds.
fn paths(breaks: impl Fn(&Value, &str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (kind, schema) in schemas() {
        walk(&schema, &kind, &mut |schema, path| {
            if breaks(schema, path) {
                found.push(path.to_owned());
            }
        });
    }
    found
}

fn last_name(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or_default()
}

#[test]
fn no_field_is_nullable() {
    assert_eq!(paths(|schema, _| schema.get("nullable").is_some()), [""; 0]);
}

#[test]
fn every_list_has_a_list_type() {
    let without = paths(|schema, _| schema["type"] == "array" && schema["x-kubernetes-list-type"].is_null());
    assert_eq!(without, [""; 0]);
}

#[test]
fn the_api_server_records_who_set_a_condition_or_a_file_and_not_each_field_of_it() {
    let is_below_status = |path: &str| path.split('.').nth(1) == Some("status") && path.split('.').count() == 3;
    let objects = paths(|schema, path| is_below_status(path) && schema["type"] == "object");
    let others = paths(|schema, path| {
        is_below_status(path) && schema["type"] == "object" && schema["x-kubernetes-map-type"] != "atomic"
    });
    assert!(objects.iter().any(|path| path.ends_with("Agent.status.conditions[]")), "{objects:?}");
    assert_eq!(others, [""; 0]);
}

#[test]
fn a_condition_has_the_limits_of_kubernetes() {
    for (kind, schema) in schemas() {
        let condition = &schema["properties"]["status"]["properties"]["conditions"]["items"];
        let field = |name: &str| &condition["properties"][name];
        assert_eq!(field("status")["enum"], serde_json::json!(["True", "False", "Unknown"]), "{kind}");
        for (name, length) in [("type", 316), ("reason", 1024), ("message", 32_768)] {
            assert_eq!(field(name)["maxLength"], length, "{kind}: {name}");
        }
        for name in ["type", "reason"] {
            assert!(field(name)["pattern"].is_string(), "{kind}: {name}");
        }
        assert_eq!(field("reason")["minLength"], 1, "{kind}");
        assert_eq!(field("observedGeneration")["minimum"], 0.0, "{kind}");
    }
}

#[test]
fn the_text_of_a_field_says_what_each_of_its_words_means() {
    let silent = paths(|schema, path| {
        let text = schema["description"].as_str().unwrap_or_default();
        let in_conditions = path.contains(".conditions[]");
        let names = |word: &Value| text.contains(&format!("`{}`", word.as_str().unwrap_or_default()));
        // The text of a list is the text of its items.
        !in_conditions
            && !path.ends_with("[]")
            && schema["enum"].as_array().is_some_and(|words| !words.iter().all(names))
    });
    assert_eq!(silent, [""; 0]);
}

#[test]
fn no_field_has_the_text_of_its_type() {
    // A type that several fields use would give them one text, which says nothing about each of them.
    let mut texts = std::collections::BTreeMap::<String, Vec<String>>::new();
    for (kind, schema) in schemas() {
        walk(&schema["properties"]["spec"], &format!("{kind}.spec"), &mut |schema, path| {
            if !path.ends_with("[]") && (schema["enum"].is_array() || schema["type"] == "object") {
                let text = schema["description"].as_str().unwrap_or_default().to_owned();
                texts.entry(text).or_default().push(path.to_owned());
            }
        });
    }
    let shared: Vec<_> = texts.into_iter().filter(|(_, paths)| paths.len() > 1).collect();
    let other: Vec<_> =
        shared.iter().filter(|(_, paths)| paths.iter().any(|path| last_name(path) != last_name(&paths[0]))).collect();
    assert!(other.is_empty(), "{other:#?}");
}

#[test]
fn times_are_date_times_and_no_number_is_a_time() {
    let milliseconds = paths(|_, path| last_name(path).ends_with("Ms"));
    assert_eq!(milliseconds, [""; 0]);
    let texts = paths(|schema, path| {
        let name = last_name(path);
        (name.ends_with("At") || name.ends_with("Until") || name.ends_with("Time") || name == "lastSeen")
            && schema["format"] != "date-time"
            // The name that Flux and its tools read: a copy of an annotation with any text.
            && name != "lastHandledReconcileAt"
    });
    assert_eq!(texts, [""; 0]);
}

#[test]
fn every_duration_takes_what_go_takes() {
    let durations: Vec<_> = paths(|schema, _| {
        let rules = schema["x-kubernetes-validations"].as_array();
        rules.is_some_and(|rules| {
            rules.iter().any(|rule| rule["rule"].as_str().unwrap_or_default().contains("duration(self)"))
        })
    });
    assert!(durations.len() >= 9, "{durations:?}");
    for (kind, schema) in schemas() {
        walk(&schema, &kind, &mut |schema, path| {
            if durations.iter().any(|duration| duration == path) {
                let text = schema["pattern"].as_str().unwrap_or_default();
                assert!(text.contains("(\\.[0-9]{1,7})?"), "{path} has the pattern {text:?}");
            }
        });
    }
}
