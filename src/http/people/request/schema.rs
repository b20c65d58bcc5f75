//! What a schema says about a value.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

/// The schema of a type, without references.
pub(super) fn inline<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    T::json_schema(&mut settings.into_generator()).to_value()
}

/// Whether a schema takes values of a type.
pub(super) fn takes(schema: &Value, kind: &str) -> bool {
    let kinds = &schema["type"];
    kinds == kind || kinds.as_array().is_some_and(|kinds| kinds.iter().any(|k| k == kind))
}

/// The smallest and the greatest number that a schema takes.
pub(super) fn range(schema: &Value) -> (u64, u64) {
    (schema["minimum"].as_u64().unwrap_or(0), schema["maximum"].as_u64().unwrap_or(u64::MAX))
}
