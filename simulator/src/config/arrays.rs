//! The guard of arrays: a patch that takes values out of an array has to name the array.

use std::collections::BTreeSet;

use serde_json::Value;

use super::merge::{have_ids, id_of};

/// The paths of the arrays that lose values by this patch.
pub(crate) fn shortened_arrays(base: &Value, patch: &Value, result: &Value) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    collect(base, patch, result, "", &mut paths);
    paths
}

fn collect(base: &Value, patch: &Value, result: &Value, place: &str, paths: &mut BTreeSet<String>) {
    let (Some(base), Some(patch)) = (base.as_object(), patch.as_object()) else { return };
    for (key, change) in patch {
        let at = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
        let (old, new) = (base.get(key).unwrap_or(&Value::Null), result.get(key).unwrap_or(&Value::Null));
        match (old, change, new) {
            (Value::Array(old), Value::Array(changes), Value::Array(new)) if have_ids(old) => {
                let is_kept = |item: &&Value| new.iter().any(|new| id_of(new) == id_of(item));
                if !old.iter().all(|item| is_kept(&item)) {
                    paths.insert(at);
                    continue;
                }
                let of =
                    |list: &'_ [Value], id| list.iter().find(|item| id_of(item) == id).cloned().unwrap_or_default();
                for change in changes.iter().filter(|change| id_of(change).is_some()) {
                    let id = id_of(change);
                    collect(&of(old, id), change, &of(new, id), &format!("{at}[]"), paths);
                }
            }
            (Value::Array(old), Value::Array(_), Value::Array(new)) => {
                let mut left: Vec<_> = new.iter().collect();
                let keeps = |item: &Value| left.iter().position(|new| *new == item).map(|at| left.swap_remove(at));
                if !old.iter().map(keeps).all(|kept| kept.is_some()) {
                    paths.insert(at);
                }
            }
            (Value::Array(_), _, _) => drop(paths.insert(at)),
            (Value::Object(_), Value::Object(_), _) => collect(old, change, new, &at, paths),
            (Value::Object(_), _, _) => arrays_within(old, &at, paths),
            _ => {}
        }
    }
}

fn arrays_within(value: &Value, path: &str, paths: &mut BTreeSet<String>) {
    match value {
        Value::Array(_) => drop(paths.insert(path.to_owned())),
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| arrays_within(value, &format!("{path}.{key}"), paths));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::merge::merged;
    use super::*;

    #[test]
    fn arrays_that_lose_values_are_named_and_arrays_that_gain_values_are_not() {
        let base = json!({ "list": [{ "id": "a", "deny": ["x", "y"], "tools": { "deep": [1] } }], "plain": [1, 2], "more": [1] });
        let named = |patch: &Value| {
            let all = shortened_arrays(&base, patch, &merged(base.clone(), patch.clone()));
            all.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(
            named(&json!({ "more": [1, 2], "plain": [2, 1, 3], "list": [{ "id": "b" }] })),
            Vec::<String>::new()
        );
        assert_eq!(named(&json!({ "plain": [2], "more": null })), ["more", "plain"]);
        let entry = json!({ "list": [{ "id": "a", "deny": ["x"], "tools": null }] });
        assert_eq!(named(&entry), ["list[].deny", "list[].tools.deep"]);
    }
}
