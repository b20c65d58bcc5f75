//! The kinds of Kubernetes that Muster uses: their fields, defaults and rules.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use k8s_openapi::api::events::v1::Event;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::field_error::{FieldError, Problem};

/// The most bytes in the values of a Secret or a ConfigMap.
const MAX_DATA: usize = 1024 * 1024;

/// A kind of Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Typed {
    Namespace,
    Secret,
    ConfigMap,
    Event,
    Lease,
}

fn through<T: DeserializeOwned + Serialize>(value: Value) -> Result<Value, String> {
    let typed: T = serde_json::from_value(value).map_err(|e| e.to_string())?;
    serde_json::to_value(typed).map_err(|e| e.to_string())
}

impl Typed {
    /// Reads an object: unknown fields are dropped, and a value of another type is an error.
    pub(crate) fn decode(self, value: Value) -> Result<Value, String> {
        match self {
            Self::Namespace => through::<Namespace>(value),
            Self::Secret => through::<Secret>(value),
            Self::ConfigMap => through::<ConfigMap>(value),
            Self::Event => through::<Event>(value),
            Self::Lease => through::<Lease>(value),
        }
    }

    /// Sets what the API server sets.
    pub(crate) fn default(self, object: &mut Value) {
        match self {
            Self::Namespace => {
                let name = object["metadata"]["name"].clone();
                object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
                if object.get("spec").is_none_or(Value::is_null) {
                    object["spec"] = json!({ "finalizers": ["kubernetes"] });
                }
                if object.get("status").is_none_or(Value::is_null) {
                    object["status"] = json!({ "phase": "Active" });
                }
            }
            Self::Secret => {
                let plain = object.as_object_mut().and_then(|fields| fields.remove("stringData"));
                if let Some(Value::Object(plain)) = plain {
                    for (key, value) in plain {
                        let text = value.as_str().unwrap_or_default().as_bytes();
                        object["data"][key] = json!(k8s_openapi::ByteString(text.to_vec()));
                    }
                }
                if object.get("type").is_none_or(|kind| kind == "") {
                    object["type"] = json!("Opaque");
                }
            }
            Self::Event => {
                if object.get("deprecatedSource").is_none() {
                    object["deprecatedSource"] = json!({});
                }
            }
            Self::ConfigMap | Self::Lease => {}
        }
        // Go writes no empty map.
        if let Some(fields) = object.as_object_mut() {
            fields.retain(|name, value| !["data", "binaryData"].contains(&name.as_str()) || *value != json!({}));
        }
    }

    /// Whether a replacement needs no resource version.
    pub(crate) fn allows_unconditional_update(self) -> bool {
        match self {
            Self::Namespace | Self::Secret | Self::ConfigMap | Self::Event => true,
            Self::Lease => false,
        }
    }

    /// What is wrong with an object, beside its metadata.
    pub(crate) fn check(self, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
        match self {
            Self::Secret => secret(object, old),
            Self::ConfigMap => config_map(object, old),
            Self::Namespace | Self::Event | Self::Lease => Vec::new(),
        }
    }

    /// The fields that a field selector may name, beside those of all kinds.
    pub(crate) fn selectable(self) -> &'static [&'static str] {
        match self {
            Self::Namespace => &["status.phase"],
            Self::Secret => &["type"],
            Self::Event => {
                &["reason", "type", "regarding.kind", "regarding.name", "regarding.namespace", "regarding.uid"]
            }
            Self::ConfigMap | Self::Lease => &[],
        }
    }

    /// Whether a name is one label.
    pub(crate) fn is_label(self) -> bool {
        match self {
            Self::Namespace => true,
            Self::Secret | Self::ConfigMap | Self::Event | Self::Lease => false,
        }
    }
}

fn entries<'a>(object: &'a Value, field: &str) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
    object.get(field).and_then(Value::as_object).into_iter().flat_map(Map::iter)
}

/// The number of bytes that base64 text stands for.
fn decoded_length(value: &Value) -> usize {
    let text = value.as_str().unwrap_or_default();
    text.len() / 4 * 3 - text.bytes().rev().take_while(|byte| *byte == b'=').count().min(2)
}

fn key_errors(object: &Value, field: &str) -> Vec<FieldError> {
    const WHY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or \
         'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
    let is_valid = |key: &str| {
        !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    let wrong = entries(object, field).filter(|(key, _)| !is_valid(key));
    wrong.map(|(key, _)| FieldError::invalid(format!("{field}[{key}]"), key.as_str(), WHY)).collect()
}

fn secret(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = key_errors(object, "data");
    let total: usize = entries(object, "data").map(|(_, value)| decoded_length(value)).sum();
    if total > MAX_DATA {
        errors.push(FieldError::new("data", Problem::TooLong { limit: MAX_DATA as u64 }));
    }
    if let Some(old) = old {
        errors.extend(immutable(object, old, &["data"]));
        if old.get("type") != object.get("type") {
            let value = object.get("type").cloned().unwrap_or_default();
            errors.push(FieldError::invalid("type", value, "field is immutable"));
        }
    }
    errors
}

fn config_map(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = key_errors(object, "data");
    errors.extend(key_errors(object, "binaryData"));
    let text: usize = entries(object, "data").map(|(_, value)| value.as_str().map_or(0, str::len)).sum();
    let binary: usize = entries(object, "binaryData").map(|(_, value)| decoded_length(value)).sum();
    if text + binary > MAX_DATA {
        errors.push(FieldError::new("[]", Problem::TooLong { limit: MAX_DATA as u64 }));
    }
    if let Some(old) = old {
        errors.extend(immutable(object, old, &["data", "binaryData"]));
    }
    errors
}

/// An object that was made immutable stays as it is.
fn immutable(object: &Value, old: &Value, fields: &[&str]) -> Vec<FieldError> {
    if old.get("immutable") != Some(&Value::Bool(true)) {
        return Vec::new();
    }
    let why = "field is immutable when `immutable` is set";
    let mut errors = Vec::new();
    if object.get("immutable") != Some(&Value::Bool(true)) {
        errors.push(FieldError::new("immutable", Problem::Forbidden(why.into())));
    }
    let changed = fields.iter().filter(|field| object.get(**field) != old.get(**field));
    errors.extend(changed.map(|field| FieldError::new(*field, Problem::Forbidden(why.into()))));
    errors
}
