//! Rendered objects.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::NAMESPACE;

/// The labels that every object has.
pub(crate) const RECOMMENDED: [&str; 6] = [
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/version",
    "app.kubernetes.io/component",
    "app.kubernetes.io/part-of",
    "app.kubernetes.io/managed-by",
];

/// The objects of a rendered text.
pub(crate) fn parse(text: &str) -> Vec<Value> {
    let documents = text.split("---\n").map(|document| serde_saphyr::from_str::<Value>(document).unwrap());
    documents.filter(|object| !object.is_null()).collect()
}

/// The kind, the namespace and the name of an object.
pub(crate) fn name(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    format!("{} {}/{}", text("/kind"), text("/metadata/namespace"), text("/metadata/name"))
}

/// The objects by name, without what may differ between Helm and kustomize: the labels that name the tool, and the order of environment
/// variables.
pub(crate) fn normalized(text: &str) -> BTreeMap<String, Value> {
    let mut objects = parse(text);
    for object in &mut objects {
        for labels in ["/metadata/labels", "/spec/template/metadata/labels"] {
            if let Some(labels) = object.pointer_mut(labels).and_then(Value::as_object_mut) {
                labels.remove("helm.sh/chart");
                labels.remove("app.kubernetes.io/managed-by");
            }
        }
        let env = object.pointer_mut("/spec/template/spec/containers/0/env").and_then(Value::as_array_mut);
        if let Some(env) = env {
            env.sort_by_key(|variable| variable["name"].as_str().map(str::to_owned));
        }
    }
    let count = objects.len();
    let by_name: BTreeMap<_, _> = objects.into_iter().map(|object| (name(&object), object)).collect();
    assert_eq!(by_name.len(), count, "an object is there twice");
    by_name
}

/// The first object of a kind in a rendered text.
pub(crate) fn first(text: &str, kind: &str) -> Value {
    parse(text).into_iter().find(|object| object["kind"] == kind).unwrap()
}

/// The value of an environment variable of the operator in a rendered text.
pub(crate) fn variable(text: &str, name: &str) -> Option<String> {
    let deployment = first(text, "Deployment");
    let env = deployment.pointer("/spec/template/spec/containers/0/env")?.as_array()?.clone();
    env.iter().find(|variable| variable["name"] == name)?["value"].as_str().map(str::to_owned)
}

/// A Pod as the rendered Deployment makes it.
pub(crate) fn pod(text: &str) -> Value {
    let template = &first(text, "Deployment")["spec"]["template"];
    let metadata = json!({ "name": "muster", "namespace": NAMESPACE, "labels": template["metadata"]["labels"] });
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"] })
}

/// The places at which two values differ.
pub(crate) fn differences(path: &str, left: &Value, right: &Value) -> Vec<String> {
    match (left, right) {
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<_> = a.keys().chain(b.keys()).collect();
            keys.sort();
            keys.dedup();
            let null = Value::Null;
            let value = |map: &'_ serde_json::Map<String, Value>, key: &String| map.get(key).unwrap_or(&null).clone();
            keys.into_iter()
                .flat_map(|key| differences(&format!("{path}/{key}"), &value(a, key), &value(b, key)))
                .collect()
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let pairs = a.iter().zip(b).enumerate();
            pairs.flat_map(|(index, (a, b))| differences(&format!("{path}/{index}"), a, b)).collect()
        }
        // kustomize writes a whole number without its point.
        (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64() => Vec::new(),
        _ if left == right => Vec::new(),
        _ => vec![format!("{path}: {left} and {right}")],
    }
}
