//! The gateway's merge of a patch: RFC 7386, except that arrays of objects with ids merge by id.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// Keys that are special in JavaScript. A merge ignores these keys without an error.
const BLOCKED_KEYS: [&str; 3] = ["__proto__", "constructor", "prototype"];

/// Merges `patch` into `target`. The cost depends on the patch and not on the rest of the target.
pub(crate) fn merge(target: &mut Value, patch: Value) {
    match patch {
        Value::Object(changes) => merge_object(target, changes),
        Value::Array(changes) => match target.as_array_mut().filter(|old| have_ids(old)) {
            Some(old) if have_ids(&changes) => merge_by_id(old, changes),
            _ => *target = Value::Array(changes),
        },
        _ => *target = patch,
    }
}

fn merge_object(target: &mut Value, changes: Map<String, Value>) {
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(result) = target.as_object_mut() else { return };
    for (key, change) in changes.into_iter().filter(|(key, _)| !BLOCKED_KEYS.contains(&key.as_str())) {
        if change.is_null() {
            result.remove(&key);
        } else if let Some(old) = result.get_mut(&key) {
            merge(old, change);
        } else {
            result.insert(key, merged(Value::Null, change));
        }
    }
}

/// `target` with `patch` merged into it.
pub(crate) fn merged(mut target: Value, patch: Value) -> Value {
    merge(&mut target, patch);
    target
}

pub(crate) fn have_ids(items: &[Value]) -> bool {
    items.iter().all(|item| id_of(item).is_some())
}

pub(crate) fn id_of(item: &Value) -> Option<&str> {
    item.get("id")?.as_str()
}

/// Of several items with one id, the first is changed.
fn merge_by_id(target: &mut Vec<Value>, changes: Vec<Value>) {
    let mut positions: BTreeMap<String, usize> = BTreeMap::new();
    for (position, item) in target.iter().enumerate() {
        positions.entry(id_of(item).unwrap_or_default().to_owned()).or_insert(position);
    }
    for change in changes {
        let next = target.len();
        let position = *positions.entry(id_of(&change).unwrap_or_default().to_owned()).or_insert(next);
        match target.get_mut(position) {
            Some(item) => merge(item, change),
            None => target.push(merged(Value::Null, change)),
        }
    }
}

/// The paths at which `new` differs from `old`, each as short as possible.
pub(crate) fn changed_paths(old: &Value, new: &Value) -> Vec<String> {
    let mut paths = Vec::new();
    differences(old, new, "", false, &mut paths);
    paths
}

/// The paths of the values at which `new` differs from `old`.
pub(crate) fn changed_leaves(old: &Value, new: &Value) -> Vec<String> {
    let mut paths = Vec::new();
    differences(old, new, "", true, &mut paths);
    paths
}

fn differences(old: &Value, new: &Value, path: &str, leaves: bool, paths: &mut Vec<String>) {
    if old == new {
        return;
    }
    let empty = Map::new();
    let (old_map, new_map) = match (old.as_object(), new.as_object()) {
        (Some(old), Some(new)) => (old, new),
        (None, Some(new)) if leaves && !new.is_empty() => (&empty, new),
        (Some(old), None) if leaves && !old.is_empty() => (old, &empty),
        _ => return paths.push(path.to_owned()),
    };
    let keys: BTreeSet<&String> = old_map.keys().chain(new_map.keys()).collect();
    for key in keys {
        let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let (old, new) = (old_map.get(key), new_map.get(key));
        differences(old.unwrap_or(&Value::Null), new.unwrap_or(&Value::Null), &below, leaves, paths);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_null_removes_a_key() {
        assert_eq!(merged(json!({"a": 1, "b": 2}), json!({"a": null})), json!({"b": 2}));
    }

    #[test]
    fn objects_with_ids_merge_by_id_and_the_rest_stays() {
        let old = json!([{"id": "a", "x": 1}, {"id": "b"}]);
        let patch = json!([{"id": "a", "y": 2}, {"id": "c"}]);
        assert_eq!(merged(old, patch), json!([{"id": "a", "x": 1, "y": 2}, {"id": "b"}, {"id": "c"}]));
    }

    #[test]
    fn other_arrays_are_replaced() {
        assert_eq!(merged(json!([1, 2]), json!([3])), json!([3]));
    }

    #[test]
    fn a_new_object_is_one_changed_path_and_many_leaves() {
        let (old, new) = (json!({"a": {}}), json!({"a": {"b": {"c": 1, "d": 2}}}));
        assert_eq!(changed_paths(&old, &new), ["a.b"]);
        assert_eq!(changed_leaves(&old, &new), ["a.b.c", "a.b.d"]);
    }
}
