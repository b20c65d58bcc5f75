//! References to the gateway's environment in its config.
//!
//! When OpenClaw reads its config, it replaces `${NAME}` in every string by the variable `NAME` of its own environment, and
//! `$${NAME}` by the text `${NAME}`. `NAME` matches `[A-Z_][A-Z0-9_]*`. `parsed` of `config.get` shows a string as in the file,
//! later writes of the gateway keep the escape, and `agents.create` adds no escape (2026.3.2 to 2026.9.6,
//! `docs/gateway-facts.md#config-values`).

use std::collections::BTreeSet;

use serde_json::Value;

/// The string that the config needs so that the gateway reads `text`.
pub(crate) fn escaped(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, reference) = rest.split_at(at);
        written.push_str(before);
        let length = reference_length(reference);
        if length.is_some() {
            written.push('$');
        }
        // A `$` outside a reference needs no escape.
        let taken = length.unwrap_or(1);
        written.push_str(&reference[..taken]);
        rest = &reference[taken..];
    }
    written + rest
}

/// A value whose texts the gateway reads as they are written here.
pub(crate) fn escaped_value(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(escaped(text)),
        Value::Array(items) => items.iter().map(escaped_value).collect(),
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), escaped_value(value))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// Adds the paths of the texts in which an escape keeps the gateway from reading a variable.
pub(crate) fn escaped_paths(written: &Value, path: &str, found: &mut BTreeSet<String>) {
    match written {
        Value::String(text) if literal(text).is_some_and(|read| read != *text) => {
            found.insert(path.to_owned());
        }
        Value::Array(items) => items.iter().for_each(|item| escaped_paths(item, path, found)),
        Value::Object(fields) => {
            for (key, value) in fields {
                let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                escaped_paths(value, &below, found);
            }
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The text that the gateway reads from a string of its config; `None` when the text depends on the gateway's environment.
#[must_use]
pub fn literal(stored: &str) -> Option<String> {
    let mut text = String::with_capacity(stored.len());
    let mut rest = stored;
    while let Some(at) = rest.find("${") {
        let (before, reference) = rest.split_at(at);
        let Some(length) = reference_length(reference) else {
            text.push_str(before);
            text.push('$');
            rest = &reference[1..];
            continue;
        };
        text.push_str(before.strip_suffix('$')?);
        text.push_str(&reference[..length]);
        rest = &reference[length..];
    }
    Some(text + rest)
}

/// The length in bytes of the reference `${NAME}` at the start of a text that begins with `${`; `None` without a valid name.
fn reference_length(text: &str) -> Option<usize> {
    let name = &text[2..text.find('}')?];
    let is_name = name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    is_name.then(|| name.len() + 3)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn references_are_escaped_and_everything_else_stays() {
        for (text, stored) in [
            ("x ${OPENCLAW_GATEWAY_TOKEN} y", "x $${OPENCLAW_GATEWAY_TOKEN} y"),
            ("$${A}", "$$${A}"),
            ("${A}${B}", "$${A}$${B}"),
            ("${a ${A}}", "${a $${A}}"),
            ("${lower} ${A-B} ${} ${A $ {A} 5$", "${lower} ${A-B} ${} ${A $ {A} 5$"),
        ] {
            assert_eq!(escaped(text), stored);
            assert_eq!(literal(stored).as_deref(), Some(text));
        }
    }

    #[test]
    fn texts_with_an_escape_are_named_by_their_paths() {
        let written = serde_json::json!({
            "name": "x $${A} y", "workspace": "${STATE}/w", "tools": { "deny": ["plain", "$${B}"] }, "emoji": "$5 ${a}", "n": 1,
        });
        let mut found = BTreeSet::new();
        escaped_paths(&written, "", &mut found);
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["name", "tools.deny"]);
    }

    #[test]
    fn a_string_with_an_unescaped_reference_has_no_literal_text() {
        assert_eq!(literal("x ${HOME} y"), None);
        assert_eq!(literal("$${A} ${B}"), None);
    }

    proptest! {
        #[test]
        fn an_escaped_text_is_read_unchanged(text in "([$]|[$][{]|[}]|[A-Z_]|[a-z0-9]| |\u{e9}){0,24}") {
            prop_assert_eq!(literal(&escaped(&text)), Some(text));
        }
    }
}
