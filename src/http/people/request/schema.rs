//! What a schema says about a value.

use std::any::TypeId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

/// The schemas that requests needed so far: one for each type of a request.
static SCHEMAS: Mutex<Option<HashMap<TypeId, Arc<Value>>>> = Mutex::new(None);

/// The schema of a type, without references.
pub(super) fn inline<T: JsonSchema + 'static>() -> Arc<Value> {
    let mut schemas = SCHEMAS.lock().unwrap_or_else(PoisonError::into_inner);
    let made = || {
        let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
        Arc::new(T::json_schema(&mut settings.into_generator()).to_value())
    };
    Arc::clone(schemas.get_or_insert_default().entry(TypeId::of::<T>()).or_insert_with(made))
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
