//! The rights that `deploy` grants to the operator's account.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

/// A role of the operator: a file below `deploy`, a kind and a name.
pub(crate) type Role = (&'static str, &'static str, &'static str);

/// For an operator that works in all namespaces.
pub(crate) const EVERYWHERE: Role = ("base/rbac.yaml", "ClusterRole", "muster");
/// For the election among several replicas, in the operator's own namespace.
pub(crate) const FOR_ELECTION: Role = ("base/rbac.yaml", "Role", "muster-leader-election");
/// For an operator that works in some namespaces: in each of them.
pub(crate) const IN_A_NAMESPACE: Role = ("components/namespaced/role/role.yaml", "Role", "muster");
/// For the API for people of such an operator.
pub(crate) const FOR_PEOPLE: Role = ("components/people/rbac.yaml", "ClusterRole", "muster-reviews");

/// Each right of a role as `verb resource.group`.
pub(crate) fn granted((file, kind, name): Role) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file);
    let text = fs::read_to_string(path).unwrap();
    let documents = text.split("\n---\n").map(|document| serde_saphyr::from_str::<Value>(document).unwrap());
    let is_role = |role: &Value| role["kind"] == kind && role["metadata"]["name"] == name;
    let found: Vec<_> = documents.filter(is_role).collect();
    let rules = found.iter().flat_map(|role| role["rules"].as_array().unwrap());
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
