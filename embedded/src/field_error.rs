//! What is wrong with a field, in the words of kube-apiserver.

use serde_json::{Value, json};

use crate::text::quoted;

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Problem {
    /// The field is missing.
    Required(String),
    /// The value breaks a rule.
    Invalid { value: Value, why: String },
    /// The value breaks a rule in CEL.
    Rule { value: Value, why: String },
    /// The value has another type.
    Type { value: Value, why: String },
    /// The value is none of these.
    Unsupported { value: Value, supported: Vec<String> },
    /// The same value, or key, is there before.
    Duplicate(Value),
    /// The field must not be set so.
    Forbidden(String),
    /// More bytes than the limit.
    TooLong { limit: u64 },
    /// More items than the limit.
    TooMany { count: usize, limit: u64 },
}

/// A field and its problem.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FieldError {
    pub(crate) field: String,
    pub(crate) problem: Problem,
}

impl FieldError {
    pub(crate) fn new(field: impl Into<String>, problem: Problem) -> Self {
        Self { field: field.into(), problem }
    }

    pub(crate) fn invalid(field: impl Into<String>, value: impl Into<Value>, why: impl Into<String>) -> Self {
        Self::new(field, Problem::Invalid { value: value.into(), why: why.into() })
    }

    /// Whether rules that look at the whole object cannot be checked any more.
    pub(crate) fn is_blocking(&self) -> bool {
        match self.problem {
            Problem::Required(_)
            | Problem::Type { .. }
            | Problem::Unsupported { .. }
            | Problem::TooLong { .. }
            | Problem::TooMany { .. } => true,
            Problem::Invalid { .. } | Problem::Rule { .. } | Problem::Duplicate(_) | Problem::Forbidden(_) => false,
        }
    }

    fn text(&self) -> String {
        match &self.problem {
            Problem::Required(why) if why.is_empty() => "Required value".into(),
            Problem::Required(why) => format!("Required value: {why}"),
            // The value of a rule about an object or a list is left out.
            Problem::Rule { value: Value::Object(_) | Value::Array(_), why } => format!("Invalid value: {why}"),
            Problem::Invalid { value, why } | Problem::Type { value, why } | Problem::Rule { value, why } => {
                format!("Invalid value: {value}: {why}")
            }
            Problem::Unsupported { value, supported } => {
                let supported: Vec<_> = supported.iter().map(|word| quoted(word)).collect();
                format!("Unsupported value: {value}: supported values: {}", supported.join(", "))
            }
            Problem::Duplicate(value) => format!("Duplicate value: {value}"),
            Problem::Forbidden(why) => format!("Forbidden: {why}"),
            Problem::TooLong { limit } => format!("Too long: may not be more than {limit} bytes"),
            Problem::TooMany { count, limit } => format!("Too many: {count}: must have at most {limit} items"),
        }
    }

    fn reason(&self) -> &'static str {
        match self.problem {
            Problem::Required(_) => "FieldValueRequired",
            Problem::Invalid { .. } | Problem::Rule { .. } => "FieldValueInvalid",
            Problem::Type { .. } => "FieldValueTypeInvalid",
            Problem::Unsupported { .. } => "FieldValueNotSupported",
            Problem::Duplicate(_) => "FieldValueDuplicate",
            Problem::Forbidden(_) => "FieldValueForbidden",
            Problem::TooLong { .. } => "FieldValueTooLong",
            Problem::TooMany { .. } => "FieldValueTooMany",
        }
    }

    /// The cause in the details of an answer.
    pub(crate) fn cause(&self) -> Value {
        json!({ "reason": self.reason(), "message": self.text(), "field": self.field })
    }
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.text())
    }
}
