//! The fields that reading an object dropped.

use serde_json::Value;

use crate::path::Path;

/// The fields that are in what was given, and not in what was read of it.
pub(crate) fn unknown_fields(path: &Path, given: &Value, read: &Value) -> Vec<Path> {
    fn walk(path: &Path, given: &Value, read: &Value, found: &mut Vec<Path>) {
        match (given, read) {
            (Value::Object(given), Value::Object(read)) => {
                for (name, value) in given.iter().filter(|(_, value)| !value.is_null()) {
                    match read.get(name) {
                        Some(read) => walk(&path.field(name), value, read, found),
                        None if is_empty(value) => {}
                        None => found.push(path.field(name)),
                    }
                }
            }
            (Value::Array(given), Value::Array(read)) => {
                for (index, (given, read)) in given.iter().zip(read).enumerate() {
                    walk(&path.item(index), given, read, found);
                }
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(path, given, read, &mut found);
    found
}

/// Whether a value may be left out when an object is written.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
