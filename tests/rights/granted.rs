//! The rights that `deploy/base/rbac.yaml` grants to the operator's account.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

/// Each granted right as `verb resource.group`.
pub(crate) fn granted() -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/base/rbac.yaml");
    let text = fs::read_to_string(path).unwrap();
    let documents = text.split("\n---\n").map(|document| serde_saphyr::from_str::<Value>(document).unwrap());
    let is_operators = |role: &Value| role["kind"] == "ClusterRole" && role["metadata"]["name"] == "muster";
    let operators: Vec<_> = documents.filter(is_operators).collect();
    let rules = operators.iter().flat_map(|role| role["rules"].as_array().unwrap());
    rules.flat_map(rights).collect()
}

fn rights(rule: &Value) -> BTreeSet<String> {
    let words = |field: &str| -> Vec<String> {
        rule[field].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let mut rights = BTreeSet::new();
    for group in words("apiGroups") {
        for resource in words("resources") {
            rights.extend(words("verbs").iter().map(|verb| right(verb, &resource, &group)));
        }
    }
    rights
}

/// A right as text.
pub(crate) fn right(verb: &str, resource: &str, group: &str) -> String {
    if group.is_empty() { format!("{verb} {resource}") } else { format!("{verb} {resource}.{group}") }
}
