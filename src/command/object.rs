//! Fields that all objects have. Pure.

use serde_json::Value;

use crate::api::keys;

fn metadata<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// The name of an object.
pub(super) fn name(object: &Value) -> &str {
    metadata(object, "name")
}

/// The namespace of an object; empty for an object without one.
pub(super) fn namespace(object: &Value) -> &str {
    metadata(object, "namespace")
}

/// The uid of an object.
pub(super) fn uid(object: &Value) -> &str {
    metadata(object, "uid")
}

/// The version of an object, which each change changes.
pub(super) fn version(object: &Value) -> &str {
    metadata(object, "resourceVersion")
}

/// The manifest of the last apply. `None` without one, or if it is no object.
pub(super) fn last_applied(object: &Value) -> Option<Value> {
    let text = object["metadata"]["annotations"][keys::LAST_APPLIED].as_str()?;
    serde_json::from_str(text).ok().filter(Value::is_object)
}
