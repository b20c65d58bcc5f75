//! Closed parameter schemas: unknown properties are refused, with the gateway's messages.

use serde_json::{Map, Value};

use crate::error::RpcError;

/// The type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParamType {
    Text,
    NonEmpty,
    Flag,
    Integer,
    Positive,
    TextOrNull,
    Any,
}

/// One parameter of a method.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Param {
    pub(crate) name: &'static str,
    pub(crate) value_type: ParamType,
    pub(crate) required: bool,
}

pub(crate) const fn required(name: &'static str, value_type: ParamType) -> Param {
    Param { name, value_type, required: true }
}

pub(crate) const fn optional(name: &'static str, value_type: ParamType) -> Param {
    Param { name, value_type, required: false }
}

/// Checks `params` against `schema`. The error names the violations in the order of real gateways; of the missing
/// properties all, or only the first.
pub(crate) fn check(method: &str, schema: &[Param], params: &Value, all: bool) -> Result<(), RpcError> {
    let Some(object) = params.as_object() else {
        return Err(RpcError::invalid(format!("invalid {method} params: must be object")));
    };
    let violations = violations(schema, object, all);
    if violations.is_empty() {
        Ok(())
    } else {
        Err(RpcError::invalid(format!("invalid {method} params: {}", violations.join("; "))))
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
        mistyped(param.value_type, value).map(|violation| format!("at /{}: {violation}", param.name))
    });
    missing.chain(unknown).chain(wrong).collect()
}

fn mistyped(value_type: ParamType, value: &Value) -> Option<&'static str> {
    match value_type {
        ParamType::Text if !value.is_string() => Some("must be string"),
        ParamType::TextOrNull if !value.is_string() && !value.is_null() => Some("must be string"),
        ParamType::NonEmpty => match value.as_str() {
            None => Some("must be string"),
            Some("") => Some("must NOT have fewer than 1 characters"),
            Some(_) => None,
        },
        ParamType::Flag if !value.is_boolean() => Some("must be boolean"),
        ParamType::Integer | ParamType::Positive if !value.is_u64() => Some("must be integer"),
        ParamType::Positive if value.as_u64() == Some(0) => Some("must be >= 1"),
        ParamType::Text
        | ParamType::TextOrNull
        | ParamType::Flag
        | ParamType::Integer
        | ParamType::Positive
        | ParamType::Any => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SCHEMA: &[Param] = &[required("sessionKey", ParamType::NonEmpty), optional("deliver", ParamType::Flag)];

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
