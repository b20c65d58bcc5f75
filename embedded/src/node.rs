//! A node of a schema: the fields it knows, and the checks of a value.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use serde_json::Value;

use crate::field_error::{FieldError, Problem};
use crate::path::Path;

/// How the items of a list are told apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum ListKind {
    #[default]
    Atomic,
    Set,
    Map(Vec<String>),
}

/// A node of a schema.
#[derive(Clone, Debug, Default)]
pub(crate) struct Node {
    kind: Option<String>,
    nullable: bool,
    properties: BTreeMap<String, Node>,
    additional: Option<Box<Node>>,
    preserves_unknown: bool,
    items: Option<Box<Node>>,
    list: ListKind,
    required: Vec<String>,
    choices: Option<Vec<Value>>,
    pattern: Option<Regex>,
    format: Option<String>,
    limits: Limits,
}

/// The numbers of a node.
#[derive(Clone, Debug, Default)]
struct Limits {
    minimum: Option<f64>,
    maximum: Option<f64>,
    min_length: Option<usize>,
    max_length: Option<usize>,
    min_items: Option<usize>,
    max_items: Option<usize>,
    max_properties: Option<usize>,
}

fn strings(value: Option<&Value>) -> Vec<String> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(ToOwned::to_owned).collect()
}

impl Node {
    /// Reads a node.
    ///
    /// # Errors
    /// A word of the schema that is not checked here, or a pattern that cannot be read.
    pub(crate) fn parse(schema: &Value) -> Result<Self, String> {
        const UNCHECKED: [&str; 9] = [
            "allOf",
            "anyOf",
            "oneOf",
            "not",
            "multipleOf",
            "uniqueItems",
            "exclusiveMinimum",
            "exclusiveMaximum",
            "minProperties",
        ];
        if let Some(word) = UNCHECKED.iter().find(|word| schema.get(**word).is_some()) {
            return Err(format!("its schema uses {word}"));
        }
        let text = |key: &str| schema.get(key).and_then(Value::as_str).map(ToOwned::to_owned);
        let flag = |key: &str| schema.get(key).and_then(Value::as_bool).unwrap_or_default();
        let child = |key: &str| schema.get(key).filter(|v| v.is_object()).map(Self::parse).transpose();
        let mut properties = BTreeMap::new();
        for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            properties.insert(name.clone(), Self::parse(property)?);
        }
        let list = match text("x-kubernetes-list-type").as_deref() {
            Some("map") => ListKind::Map(strings(schema.get("x-kubernetes-list-map-keys"))),
            Some("set") => ListKind::Set,
            _ => ListKind::Atomic,
        };
        let pattern = text("pattern").map(|pattern| Regex::new(&pattern).map_err(|e| e.to_string())).transpose()?;
        Ok(Self {
            kind: text("type"),
            nullable: flag("nullable"),
            properties,
            additional: child("additionalProperties")?.map(Box::new),
            preserves_unknown: flag("x-kubernetes-preserve-unknown-fields"),
            items: child("items")?.map(Box::new),
            list,
            required: strings(schema.get("required")),
            choices: schema.get("enum").and_then(Value::as_array).cloned(),
            pattern,
            format: text("format"),
            limits: Limits::parse(schema),
        })
    }

    /// Removes the fields that the schema does not name, and nulls, which stand for no value. `unknown` gets the removed fields.
    pub(crate) fn prune(&self, path: &Path, value: &mut Value, unknown: &mut Vec<Path>) {
        match value {
            Value::Object(fields) => {
                fields.retain(|name, value| {
                    let Some(node) = self.child(name) else {
                        if !self.preserves_unknown {
                            unknown.push(path.field(name));
                        }
                        return self.preserves_unknown;
                    };
                    node.prune(&path.field(name), value, unknown);
                    !value.is_null() || node.nullable
                });
            }
            Value::Array(items) => {
                if let Some(node) = &self.items {
                    for (index, item) in items.iter_mut().enumerate() {
                        node.prune(&path.item(index), item, unknown);
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn child(&self, name: &str) -> Option<&Self> {
        self.properties.get(name).or(self.additional.as_deref())
    }

    /// Adds what is wrong with a value. A value that is as it was before is not looked at.
    pub(crate) fn check(&self, path: &Path, value: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
        if old == Some(value) || (value.is_null() && self.nullable) {
            return;
        }
        if let Some(error) = self.type_error(path, value) {
            errors.push(error);
            if let (Some("integer"), Some(format), Value::Number(_)) = (self.kind.as_deref(), &self.format, value) {
                let why = format!("Checked value must be of type integer with format {format} in {}", path.in_body());
                errors.push(FieldError::invalid("<nil>", "", why));
            }
            return;
        }
        if let Some(choices) = &self.choices
            && !choices.contains(value)
        {
            let supported =
                choices.iter().map(|choice| choice.as_str().map_or_else(|| choice.to_string(), ToOwned::to_owned));
            let problem = Problem::Unsupported { value: value.clone(), supported: supported.collect() };
            errors.push(FieldError::new(path.to_string(), problem));
        }
        match value {
            Value::String(text) => self.check_text(path, text, errors),
            Value::Number(number) => self.limits.check_number(path, number.as_f64().unwrap_or_default(), value, errors),
            Value::Array(items) => self.check_items(path, items, old, errors),
            Value::Object(fields) => {
                if let Some(limit) = self.limits.max_properties
                    && fields.len() > limit
                {
                    let problem = Problem::TooMany { count: fields.len(), limit: limit as u64 };
                    errors.push(FieldError::new(path.to_string(), problem));
                }
                for name in self.required.iter().filter(|name| !fields.contains_key(*name)) {
                    errors.push(FieldError::new(path.field(name).to_string(), Problem::Required(String::new())));
                }
                for (name, value) in fields {
                    if let Some(node) = self.child(name) {
                        node.check(&path.field(name), value, old.and_then(|old| old.get(name)), errors);
                    }
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    /// Adds what is wrong with a field of this node.
    pub(crate) fn check_field(
        &self,
        path: &Path,
        name: &str,
        value: &Value,
        old: Option<&Value>,
        errors: &mut Vec<FieldError>,
    ) {
        if let Some(node) = self.child(name) {
            node.check(path, value, old, errors);
        }
    }

    fn type_error(&self, path: &Path, value: &Value) -> Option<FieldError> {
        let kind = self.kind.as_deref()?;
        // A number with a fraction in the place of a whole one is named by its type in Go.
        let (kind, found) = match (kind, value) {
            ("integer", Value::Number(number)) if number.is_f64() => {
                (self.format.as_deref().unwrap_or(kind), "float64")
            }
            _ => (kind, type_name(value)),
        };
        if found == kind || (kind == "number" && found == "integer") {
            return None;
        }
        let why = format!("{} in body must be of type {kind}: {}", path.in_body(), Value::from(found));
        Some(FieldError::new(path.to_string(), Problem::Type { value: Value::from(found), why }))
    }

    /// Adds the first thing that is wrong with a text.
    fn check_text(&self, path: &Path, text: &str, errors: &mut Vec<FieldError>) {
        let length = text.chars().count();
        let at = path.in_body();
        let invalid = |why: String| Problem::Invalid { value: text.into(), why };
        let problem = match (self.limits.max_length, self.limits.min_length, &self.pattern) {
            (Some(limit), _, _) if length > limit => Problem::TooLong { limit: limit as u64 },
            (_, Some(limit), _) if length < limit => {
                invalid(format!("{at} in body should be at least {limit} chars long"))
            }
            (_, _, Some(pattern)) if !pattern.is_match(text) => {
                invalid(format!("{at} in body should match '{pattern}'"))
            }
            _ if self.format.as_deref() == Some("date-time") && text.parse::<jiff::Timestamp>().is_err() => {
                let why = format!("{at} in body must be of type date-time: {}", Value::from(text));
                Problem::Type { value: text.into(), why }
            }
            _ => return,
        };
        errors.push(FieldError::new(path.to_string(), problem));
    }

    fn check_items(&self, path: &Path, items: &[Value], old: Option<&Value>, errors: &mut Vec<FieldError>) {
        self.limits.check_count(path, items.len(), errors);
        let mut seen = BTreeSet::new();
        for (index, item) in items.iter().enumerate() {
            let at = path.item(index);
            if matches!(self.list, ListKind::Map(_)) && !item.is_object() {
                let why = "must be an object for an array of list-type map";
                errors.push(FieldError::invalid(at.to_string(), item.clone(), why));
            } else if let Some(key) = self.key(item)
                && !seen.insert(key.to_string())
            {
                errors.push(FieldError::new(at.to_string(), Problem::Duplicate(key)));
            }
            if let Some(node) = &self.items {
                node.check(&at, item, self.former_item(item, old), errors);
            }
        }
    }

    /// What tells an item of this list from the others.
    fn key(&self, item: &Value) -> Option<Value> {
        match &self.list {
            ListKind::Atomic => None,
            ListKind::Set => Some(item.clone()),
            ListKind::Map(keys) => {
                let named = keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
                Some(Value::Object(named.collect()))
            }
        }
    }

    /// The same item before the change.
    fn former_item<'a>(&self, item: &Value, old: Option<&'a Value>) -> Option<&'a Value> {
        let key = self.key(item)?;
        old?.as_array()?.iter().find(|former| self.key(former).as_ref() == Some(&key))
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_i64() || number.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

impl Limits {
    fn parse(schema: &Value) -> Self {
        let number = |key: &str| schema.get(key).and_then(Value::as_f64);
        let count = |key: &str| schema.get(key).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        Self {
            minimum: number("minimum"),
            maximum: number("maximum"),
            min_length: count("minLength"),
            max_length: count("maxLength"),
            min_items: count("minItems"),
            max_items: count("maxItems"),
            max_properties: count("maxProperties"),
        }
    }

    fn check_number(&self, path: &Path, number: f64, value: &Value, errors: &mut Vec<FieldError>) {
        let mut invalid = |why: String| errors.push(FieldError::invalid(path.to_string(), value.clone(), why));
        if let Some(limit) = self.minimum
            && number < limit
        {
            invalid(format!("{} in body should be greater than or equal to {limit}", path.in_body()));
        }
        if let Some(limit) = self.maximum
            && number > limit
        {
            invalid(format!("{} in body should be less than or equal to {limit}", path.in_body()));
        }
    }

    fn check_count(&self, path: &Path, count: usize, errors: &mut Vec<FieldError>) {
        if let Some(limit) = self.max_items
            && count > limit
        {
            errors.push(FieldError::new(path.to_string(), Problem::TooMany { count, limit: limit as u64 }));
        }
        if let Some(limit) = self.min_items
            && count < limit
        {
            let why = format!("{} in body should have at least {limit} items", path.in_body());
            errors.push(FieldError::invalid(path.to_string(), count, why));
        }
    }
}
