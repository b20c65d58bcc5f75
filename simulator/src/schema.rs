//! Closed parameter schemas: a property that is not named is refused, in the gateway's own words.

use serde_json::{Map, Value};

use crate::error::RpcError;

/// The type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    NonEmpty,
    Flag,
    Integer,
    TextOrNull,
    Any,
}

/// One parameter of a method.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Param {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) required: bool,
}

pub(crate) const fn required(name: &'static str, kind: Kind) -> Param {
    Param { name, kind, required: true }
}

pub(crate) const fn optional(name: &'static str, kind: Kind) -> Param {
    Param { name, kind, required: false }
}

/// Checks `params` against `schema` and names the violations in the order in which real gateways
/// name them; of the missing properties all, or only the first.
pub(crate) fn check(method: &str, schema: &[Param], params: &Value, all: bool) -> Result<(), RpcError> {
    let Some(object) = params.as_object() else {
        return Err(RpcError::invalid(format!("invalid {method} params: must be object")));
    };
    let faults = violations(schema, object, all);
    if faults.is_empty() {
        Ok(())
    } else {
        Err(RpcError::invalid(format!("invalid {method} params: {}", faults.join("; "))))
    }
}

fn violations(schema: &[Param], object: &Map<String, Value>, all: bool) -> Vec<String> {
    let missing = schema
        .iter()
        .filter(|param| param.required && !object.contains_key(param.name))
        .take(if all { schema.len() } else { 1 })
        .map(|param| format!("must have required property '{}'", param.name));
    let unknown = object
        .keys()
        .filter(|key| schema.iter().all(|param| param.name != key.as_str()))
        .map(|key| format!("at root: unexpected property '{key}'"));
    let wrong = schema.iter().filter_map(|param| {
        let value = object.get(param.name)?;
        mistyped(param.kind, value).map(|fault| format!("at /{}: {fault}", param.name))
    });
    missing.chain(unknown).chain(wrong).collect()
}

fn mistyped(kind: Kind, value: &Value) -> Option<&'static str> {
    match kind {
        Kind::Text if !value.is_string() => Some("must be string"),
        Kind::TextOrNull if !value.is_string() && !value.is_null() => Some("must be string"),
        Kind::NonEmpty => match value.as_str() {
            None => Some("must be string"),
            Some("") => Some("must NOT have fewer than 1 characters"),
            Some(_) => None,
        },
        Kind::Flag if !value.is_boolean() => Some("must be boolean"),
        Kind::Integer if !value.is_u64() => Some("must be integer"),
        Kind::Text | Kind::TextOrNull | Kind::Flag | Kind::Integer | Kind::Any => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SCHEMA: &[Param] = &[required("sessionKey", Kind::NonEmpty), optional("deliver", Kind::Flag)];

    fn message(params: &Value) -> String {
        check("chat.send", SCHEMA, params, true).unwrap_err().message
    }

    #[test]
    fn an_unknown_property_is_named() {
        assert_eq!(
            message(&json!({"sessionKey": "k", "nope": 1})),
            "invalid chat.send params: at root: unexpected property 'nope'"
        );
    }

    #[test]
    fn every_violation_is_named() {
        assert_eq!(
            message(&json!({"key": "k"})),
            "invalid chat.send params: must have required property 'sessionKey'; at root: unexpected property 'key'"
        );
    }

    #[test]
    fn a_wrong_type_is_named_with_its_path() {
        assert_eq!(
            message(&json!({"sessionKey": "k", "deliver": "yes"})),
            "invalid chat.send params: at /deliver: must be boolean"
        );
    }
}
