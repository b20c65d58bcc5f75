//! Label and field selectors.

use serde_json::Value;

use crate::refusal::Refusal;
use crate::resource::{Form, Resource};
use crate::typed::Typed;

/// The objects that a request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<(String, String, bool)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Missing(String),
}

impl Selector {
    /// Reads the selectors of a request.
    ///
    /// # Errors
    /// A selector that cannot be read, or a field that objects of this kind are not selected by.
    pub(crate) fn parse(resource: &Resource, labels: &str, fields: &str) -> Result<Self, Refusal> {
        let labels = split(labels).into_iter().map(|text| requirement(&text)).collect::<Result<_, _>>()?;
        let mut parsed = Vec::new();
        for text in fields.split(',').filter(|text| !text.is_empty()) {
            let (field, value, equal) = field_requirement(text)?;
            if !is_selectable(resource, &field) {
                return Err(unsupported(resource, &field));
            }
            parsed.push((field, value, equal));
        }
        Ok(Self { labels, fields: parsed })
    }

    /// Whether an object is asked for.
    pub(crate) fn matches(&self, object: &Value) -> bool {
        let label =
            |key: &str| object["metadata"].get("labels").and_then(|labels| labels.get(key)).and_then(Value::as_str);
        let is_labelled = self.labels.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => label(key).is_some_and(|value| values.iter().any(|v| v == value)),
            Requirement::NotIn(key, values) => label(key).is_none_or(|value| values.iter().all(|v| v != value)),
            Requirement::Exists(key) => label(key).is_some(),
            Requirement::Missing(key) => label(key).is_none(),
        });
        is_labelled && self.fields.iter().all(|(path, value, equal)| (field(object, path) == value) == *equal)
    }
}

fn field<'a>(object: &'a Value, path: &str) -> &'a str {
    path.split('.').try_fold(object, |value, name| value.get(name)).and_then(Value::as_str).unwrap_or_default()
}

fn is_selectable(resource: &Resource, field: &str) -> bool {
    let of_all = field == "metadata.name" || (field == "metadata.namespace" && resource.namespaced);
    of_all || resource.selectable.iter().any(|selectable| selectable == field)
}

fn unsupported(resource: &Resource, field: &str) -> Refusal {
    if matches!(resource.form, Form::Typed(Typed::ConfigMap | Typed::Lease)) {
        let known = "only \"metadata.name\", \"metadata.namespace\"";
        return Refusal::bad_request(format!("{field:?} is not a known field selector: {known}"));
    }
    Refusal::bad_request(format!("field label not supported: {field}"))
}

fn field_requirement(text: &str) -> Result<(String, String, bool), Refusal> {
    for (operator, equal) in [("!=", false), ("==", true), ("=", true)] {
        if let Some((field, value)) = text.split_once(operator) {
            return Ok((field.trim().to_owned(), value.trim().to_owned(), equal));
        }
    }
    Err(Refusal::bad_request(format!("invalid selector: '{text}'; can't understand '{text}'")))
}

/// The requirements of a label selector. Commas inside of parentheses separate values.
fn split(text: &str) -> Vec<String> {
    let (mut parts, mut depth) = (vec![String::new()], 0);
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if c == ',' && depth == 0 {
            parts.push(String::new());
        } else if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    parts.into_iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

fn requirement(text: &str) -> Result<Requirement, Refusal> {
    let values = |list: &str| {
        list.trim().trim_start_matches('(').trim_end_matches(')').split(',').map(|v| v.trim().to_owned()).collect()
    };
    let key = |key: &str| {
        let key = key.trim();
        let is_valid =
            !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/'));
        is_valid.then(|| key.to_owned()).ok_or_else(|| {
            Refusal::bad_request(format!("unable to parse requirement: invalid label key {}", Value::from(key)))
        })
    };
    if let Some((name, list)) = text.split_once(" notin ") {
        return Ok(Requirement::NotIn(key(name)?, values(list)));
    }
    if let Some((name, list)) = text.split_once(" in ") {
        return Ok(Requirement::In(key(name)?, values(list)));
    }
    for (operator, equal) in [("!=", false), ("==", true), ("=", true)] {
        if let Some((name, value)) = text.split_once(operator) {
            let (name, values) = (key(name)?, vec![value.trim().to_owned()]);
            return Ok(if equal { Requirement::In(name, values) } else { Requirement::NotIn(name, values) });
        }
    }
    match text.strip_prefix('!') {
        Some(name) => Ok(Requirement::Missing(key(name)?)),
        None => Ok(Requirement::Exists(key(text)?)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resource::{NAMESPACES, Resources};

    fn selects(labels: &str, object: &Value) -> bool {
        let resources = Resources::new(&[]).unwrap();
        Selector::parse(resources.get(NAMESPACES), labels, "").unwrap().matches(object)
    }

    #[test]
    fn labels_select_by_each_operator() {
        let object = json!({ "metadata": { "labels": { "app": "muster", "x/y": "" } } });
        for selector in
            ["app=muster", "app==muster", "app in (other, muster)", "app,x/y", "!z", "z!=1", "z notin (1,2),app"]
        {
            assert!(selects(selector, &object), "{selector}");
        }
        for selector in ["app=other", "app in (other)", "!app", "z", "app!=muster", "app notin (muster)", "app,z"] {
            assert!(!selects(selector, &object), "{selector}");
        }
    }

    #[test]
    fn an_unknown_field_is_refused() {
        let resources = Resources::new(&[]).unwrap();
        let parse = |fields| Selector::parse(resources.get(NAMESPACES), "", fields);
        assert!(parse("metadata.name=a").unwrap().matches(&json!({ "metadata": { "name": "a" } })));
        assert!(!parse("metadata.name!=a").unwrap().matches(&json!({ "metadata": { "name": "a" } })));
        assert_eq!(parse("spec.x=1").unwrap_err().code, 400);
    }
}
