//! The metadata of objects: what the API server sets, keeps and checks.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value, json};

use crate::dropped::unknown_fields;
use crate::field_error::{FieldError, Problem};
use crate::path::Path;
use crate::refusal::Refusal;
use crate::typed::Typed;

/// The most bytes of all annotations.
const MAX_ANNOTATIONS: usize = 256 * 1024;
/// The letters of generated names.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an \
     alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric \
     character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. \
     'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
     alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is \
     '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/// A time as the API server writes it, in whole seconds.
pub(crate) fn time(now: Timestamp) -> Value {
    json!(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// Reads the metadata of a request. Unknown fields are dropped and returned.
///
/// # Errors
/// A field has another type.
pub(crate) fn decode(object: &mut Value) -> Result<Vec<Path>, String> {
    let metadata = object.get("metadata").filter(|metadata| !metadata.is_null()).cloned().unwrap_or_else(|| json!({}));
    let mut typed: ObjectMeta =
        serde_json::from_value(metadata.clone()).map_err(|error| format!("metadata: {error}"))?;
    let read = serde_json::to_value(&typed).map_err(|error| error.to_string())?;
    typed.managed_fields = None;
    typed.self_link = None;
    let mut written = serde_json::to_value(typed).map_err(|error| error.to_string())?;
    // Go writes no empty list, map or text.
    if let Some(fields) = written.as_object_mut() {
        fields.retain(|_, value| !matches!(value, Value::Array(items) if items.is_empty()));
        fields.retain(|_, value| !matches!(value, Value::Object(fields) if fields.is_empty()));
        fields.retain(|_, value| !matches!(value, Value::String(text) if text.is_empty()));
    }
    object["metadata"] = written;
    Ok(unknown_fields(&Path::root().field("metadata"), &metadata, &read))
}

pub(crate) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"].get(field).and_then(Value::as_str).unwrap_or_default()
}

pub(crate) fn is_deleting(object: &Value) -> bool {
    object["metadata"].get("deletionTimestamp").is_some()
}

pub(crate) fn finalizers(object: &Value) -> Vec<&str> {
    let finalizers = object["metadata"].get("finalizers").and_then(Value::as_array);
    finalizers.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Sets the metadata of a new object. A name is made where only its beginning is given.
pub(crate) fn of_new(object: &mut Value, namespace: Option<&str>, now: Timestamp) -> Result<(), Refusal> {
    let fields = fields(object);
    for set_by_server in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        fields.remove(set_by_server);
    }
    if let Some(namespace) = namespace {
        fields.insert("namespace".into(), json!(namespace));
    }
    let beginning = fields.get("generateName").and_then(Value::as_str).unwrap_or_default().to_owned();
    if !beginning.is_empty() && fields.get("name").and_then(Value::as_str).unwrap_or_default().is_empty() {
        fields.insert("name".into(), json!(format!("{beginning}{}", letters(5)?)));
    }
    fields.insert("uid".into(), json!(new_uid()?));
    fields.insert("creationTimestamp".into(), time(now));
    Ok(())
}

fn fields(object: &mut Value) -> &mut Map<String, Value> {
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    object["metadata"].as_object_mut().unwrap_or_else(|| unreachable!("metadata was made an object"))
}

/// Keeps what no request may change, and bumps the generation of a new specification.
pub(crate) fn of_changed(object: &mut Value, old: &Value) {
    let fields = fields(object);
    for kept in
        ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "generateName"]
    {
        match old["metadata"].get(kept) {
            Some(value) => drop(fields.insert(kept.into(), value.clone())),
            None => drop(fields.remove(kept)),
        }
    }
}

/// What is wrong with the metadata of an object.
pub(crate) fn check(object: &Value, typed: Option<Typed>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let name = text(object, "name");
    if name.is_empty() {
        errors.push(FieldError::new("metadata.name", Problem::Required("name or generateName is required".into())));
    } else if typed.is_some_and(Typed::is_label) && name.contains('.') {
        errors.push(FieldError::invalid("metadata.name", name, "must not contain dots"));
    } else if typed.is_some_and(Typed::is_label) {
        errors.extend(name_error(name, is_label(name), 63, LABEL));
    } else {
        errors.extend(name_error(name, name.split('.').all(is_label), 253, SUBDOMAIN));
    }
    let map = |field: &str| object["metadata"].get(field).and_then(Value::as_object);
    for (key, value) in map("labels").into_iter().flatten() {
        errors.extend(qualified_errors("metadata.labels", key));
        let value = value.as_str().unwrap_or_default();
        if value.len() > 63 {
            errors.push(FieldError::invalid("metadata.labels", value, "must be no more than 63 bytes"));
        }
        if !value.is_empty() && !is_name_part(value) {
            errors.push(FieldError::invalid("metadata.labels", value, LABEL_VALUE));
        }
    }
    let mut size = 0;
    for (key, value) in map("annotations").into_iter().flatten() {
        errors.extend(qualified_errors("metadata.annotations", &key.to_lowercase()));
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > MAX_ANNOTATIONS {
        let problem = Problem::TooLong { limit: MAX_ANNOTATIONS as u64 };
        errors.push(FieldError::new("metadata.annotations", problem));
    }
    let owners = object["metadata"].get("ownerReferences").and_then(Value::as_array);
    errors.extend(owners.into_iter().flatten().flat_map(owner_errors));
    for finalizer in finalizers(object) {
        errors.extend(qualified_errors("metadata.finalizers", finalizer));
    }
    errors
}

/// What is wrong with a change of the metadata.
pub(crate) fn check_change(object: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if is_deleting(old) {
        let before = finalizers(old);
        let new: Vec<String> =
            finalizers(object).iter().filter(|f| !before.contains(f)).map(|f| format!("{f:?}")).collect();
        if !new.is_empty() {
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                new.join(", ")
            );
            errors.push(FieldError::new("metadata.finalizers", Problem::Forbidden(why)));
        }
    }
    errors
}

/// What is wrong with a reference to an owner.
fn owner_errors(owner: &Value) -> Vec<FieldError> {
    let fields = [
        ("apiVersion", "version must not be empty"),
        ("kind", "must not be empty"),
        ("name", "must not be empty"),
        ("uid", "must not be empty"),
    ];
    let missing = fields.iter().filter(|(field, _)| owner.get(field).is_none_or(|value| value == ""));
    missing.map(|(field, why)| FieldError::invalid(format!("metadata.ownerReferences.{field}"), "", *why)).collect()
}

fn name_error(name: &str, is_valid: bool, limit: usize, why: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if name.len() > limit {
        errors.push(FieldError::invalid("metadata.name", name, format!("must be no more than {limit} characters")));
    }
    if !is_valid {
        errors.push(FieldError::invalid("metadata.name", name, why));
    }
    errors
}

fn is_label(label: &str) -> bool {
    let is_end = |c: Option<u8>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let bytes = label.as_bytes();
    is_end(bytes.first().copied())
        && is_end(bytes.last().copied())
        && bytes.iter().all(|c| is_end(Some(*c)) || *c == b'-')
}

fn is_name_part(name: &str) -> bool {
    let is_end = |c: Option<u8>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let bytes = name.as_bytes();
    is_end(bytes.first().copied())
        && is_end(bytes.last().copied())
        && bytes.iter().all(|c| is_end(Some(*c)) || matches!(c, b'-' | b'_' | b'.'))
}

fn qualified_errors(field: &str, key: &str) -> Vec<FieldError> {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let mut errors = Vec::new();
    let mut wrong = |why: String| errors.push(FieldError::invalid(field, key, why));
    match prefix {
        Some("") => wrong("prefix part must be non-empty".into()),
        Some(prefix) if !prefix.split('.').all(is_label) => wrong(format!("prefix part {SUBDOMAIN}")),
        Some(_) | None => {}
    }
    if name.is_empty() {
        wrong("name part must be non-empty".into());
    } else if name.len() > 63 {
        wrong("name part must be no more than 63 bytes".into());
    }
    if !is_name_part(name) {
        wrong(QUALIFIED.into());
    }
    errors
}

fn random<const N: usize>() -> Result<[u8; N], Refusal> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| Refusal::internal(format!("no random numbers: {error}")))?;
    Ok(bytes)
}

fn letters(count: usize) -> Result<String, Refusal> {
    let bytes: [u8; 16] = random()?;
    Ok(bytes.iter().take(count).map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect())
}

fn new_uid() -> Result<String, Refusal> {
    let n = u128::from_be_bytes(random()?);
    // Version 4 of RFC 9562.
    let n = (n & !(0xf << 76) & !(0b11 << 62)) | (0x4 << 76) | (0b10 << 62);
    let hex = format!("{n:032x}");
    Ok([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_is_one_of_version_4() {
        let uid = new_uid().unwrap();
        assert_eq!((uid.len(), &uid[14..15]), (36, "4"), "{uid}");
        assert!("89ab".contains(&uid[19..20]), "{uid}");
        assert_ne!(uid, new_uid().unwrap());
    }
}
