//! The conditions of an object. Pure.

use serde_json::Value;

/// The condition of a type.
pub(super) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    let mut of_kind = conditions.filter(|one| one["type"].as_str().is_some_and(|t| t.eq_ignore_ascii_case(kind)));
    of_kind.next()
}

/// The generation of the spec.
pub(super) fn generation(object: &Value) -> i64 {
    object["metadata"]["generation"].as_i64().unwrap_or_default()
}

/// Whether a condition is about the spec as it is now.
pub(super) fn is_current(object: &Value, condition: &Value) -> bool {
    let generation = generation(object);
    let observed = condition["observedGeneration"].as_i64().or(object["status"]["observedGeneration"].as_i64());
    observed.is_none_or(|observed| observed >= generation)
}

/// A condition with its reason and its message, for a person.
pub(super) fn condition_text(object: &Value, kind: &str) -> String {
    let Some(found) = condition(object, kind) else { return format!("there is no condition {kind} yet") };
    let word = |field: &str| found[field].as_str().unwrap_or_default();
    let age = if is_current(object, found) { "" } else { ", for an earlier spec" };
    let message = Some(word("message")).filter(|text| !text.is_empty()).map(|text| format!(": {text}"));
    format!("{kind} is {}{age} ({}){}", word("status"), word("reason"), message.unwrap_or_default())
}
