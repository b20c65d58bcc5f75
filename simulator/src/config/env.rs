//! Environment variables in the configuration: `${NAME}` becomes the variable, `$${NAME}` the text `${NAME}`.

use std::borrow::Cow;

use serde_json::Value;

use crate::profile::Profile;

/// The value of a variable in the gateway's environment.
fn variable(name: &str, profile: &Profile) -> Option<String> {
    match name {
        "OPENCLAW_GATEWAY_TOKEN" => Some(profile.token.clone()),
        "HOME" => Some(profile.home.clone()),
        _ => None,
    }
}

/// The value with its variables expanded. A value without variables is not copied.
pub(crate) fn expanded<'a>(value: &'a Value, profile: &Profile) -> Cow<'a, Value> {
    if !has_variables(value) {
        return Cow::Borrowed(value);
    }
    let mut value = value.clone();
    expand(&mut value, profile);
    Cow::Owned(value)
}

fn has_variables(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains("${"),
        Value::Array(items) => items.iter().any(has_variables),
        Value::Object(fields) => fields.values().any(has_variables),
        _ => false,
    }
}

/// Expands every string of a value.
fn expand(value: &mut Value, profile: &Profile) {
    match value {
        Value::String(text) if text.contains("${") => *text = text_of(text, profile),
        Value::Array(items) => items.iter_mut().for_each(|item| expand(item, profile)),
        Value::Object(fields) => fields.values_mut().for_each(|field| expand(field, profile)),
        _ => {}
    }
}

fn text_of(stored: &str, profile: &Profile) -> String {
    let characters: Vec<char> = stored.chars().collect();
    let mut text = String::new();
    let mut at = 0;
    while at < characters.len() {
        let rest = &characters[at..];
        if let (['$', '$', '{', ..], Some(name)) = (rest, name_after(rest, 3)) {
            text.extend(["${", &name, "}"]);
            at += name.len() + 4;
        } else if let (['$', '{', ..], Some(name)) = (rest, name_after(rest, 2)) {
            text.push_str(&variable(&name, profile).unwrap_or_else(|| format!("${{{name}}}")));
            at += name.len() + 3;
        } else {
            text.push(characters[at]);
            at += 1;
        }
    }
    text
}

/// The variable name from `start` to the next `}`.
fn name_after(text: &[char], start: usize) -> Option<String> {
    let length = text.get(start..)?.iter().position(|c| *c == '}')?;
    let name: String = text[start..start + length].iter().collect();
    let begins = name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_');
    (begins && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_replaced_and_an_escaped_one_becomes_its_text() {
        let profile = Profile::v2026_9_6().with_token("t");
        for (stored, text) in [
            ("x ${OPENCLAW_GATEWAY_TOKEN} y", "x t y"),
            ("x $${OPENCLAW_GATEWAY_TOKEN} y", "x ${OPENCLAW_GATEWAY_TOKEN} y"),
            ("$$${HOME}", "$${HOME}"),
            ("${NOT_SET} ${lower} ${HOME", "${NOT_SET} ${lower} ${HOME"),
        ] {
            assert_eq!(text_of(stored, &profile), text);
        }
    }
}
