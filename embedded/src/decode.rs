//! The body of a write, read as an object of its kind.

use serde_json::Value;

use crate::dropped::unknown_fields;
use crate::meta;
use crate::path::Path;
use crate::refusal::Refusal;
use crate::request::FieldValidation;
use crate::resource::{Form, Resource};
use crate::text::quoted;

/// Reads an object: its type, its metadata and its fields. `warnings` gets the sentences of the `Warning` headers.
///
/// # Errors
/// It is an object of another kind, a field has another type, or, in a strict request, a field is unknown.
pub(crate) fn read(
    resource: &Resource,
    mut object: Value,
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Value, Refusal> {
    check_type(resource, &object)?;
    object["apiVersion"] = Value::from(resource.api_version());
    object["kind"] = Value::from(resource.kind.as_str());
    let unknown_metadata = meta::decode(&mut object).map_err(|error| cannot_be_handled(resource, &error))?;
    let mut unknown = match &resource.form {
        Form::Custom(schema) => schema.prune_and_default(&mut object),
        Form::Typed(typed) => {
            let read = typed.decode(object.clone()).map_err(|error| cannot_be_handled(resource, &error))?;
            let unknown = unknown_fields(&Path::root(), &object, &read);
            object = read;
            unknown
        }
    };
    unknown.extend(unknown_metadata);
    let mut sentences: Vec<_> =
        unknown.iter().map(|path| format!("unknown field {}", quoted(&path.to_string()))).collect();
    sentences.sort();
    match validation {
        FieldValidation::Strict if !sentences.is_empty() => {
            let error = format!("strict decoding error: {}", sentences.join(", "));
            Err(cannot_be_handled(resource, &error))
        }
        FieldValidation::Ignore => Ok(object),
        FieldValidation::Strict | FieldValidation::Warn => {
            warnings.extend(sentences);
            Ok(object)
        }
    }
}

fn cannot_be_handled(resource: &Resource, error: &str) -> Refusal {
    Refusal::bad_request(format!(
        "{} in version {} cannot be handled as a {}: {error}",
        resource.kind,
        quoted(&resource.version),
        resource.kind
    ))
}

fn check_type(resource: &Resource, object: &Value) -> Result<(), Refusal> {
    if !object.is_object() {
        return Err(Refusal::bad_request("the body is not an object"));
    }
    let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
    let (kind, version) = (text("kind"), text("apiVersion"));
    let is_custom = resource.custom().is_some();
    if is_custom && kind.is_empty() {
        return Err(unrecognized(resource, "Kind", object));
    }
    if is_custom && version.is_empty() {
        return Err(unrecognized(resource, "apiVersion", object));
    }
    if !version.is_empty() && version != resource.api_version() {
        return Err(Refusal::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version ({})",
            resource.api_version()
        )));
    }
    if kind.is_empty() || kind == resource.kind {
        return Ok(());
    }
    if is_custom {
        return Err(Refusal::other_kind(resource, kind, meta::text(object, "name")));
    }
    Err(Refusal::bad_request(format!(
        "{kind} in version {} cannot be handled as a {}: unknown conversion",
        quoted(version.rsplit('/').next().unwrap_or_default()),
        resource.kind
    )))
}

fn unrecognized(resource: &Resource, missing: &str, object: &Value) -> Refusal {
    Refusal::bad_request(format!(
        "the object provided is unrecognized (must be of type {}): Object '{missing}' is missing in '{object}' ({object})",
        resource.kind
    ))
}
