//! Objects without the texts that may hold secrets or concern a person. Pure.
//!
//! The free texts of the specs are listed here. Values of the free parts, `spec.config` and `spec.identityProfile.extra`, stay only if they
//! are no texts or plain words. Below a name such as `password`, no value stays. All other texts go through the [`TextMask`].

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::api::keys;
use crate::command::print::without_managers;
use crate::core::gateway::credential;
use crate::openclaw::text_mask::{REMOVED, TextMask, is_random, is_secret_name};

/// The fields whose texts are removed: texts of people for agents, and about people. `[]` stands for the items of a list.
pub(super) const TEXTS: [&str; 28] = [
    "spec.user.context",
    "spec.user.name",
    "spec.user.notes",
    "spec.user.preferredName",
    "spec.user.pronouns",
    "spec.heartbeat.prompt",
    "spec.files[].template.inline",
    "spec.description",
    "spec.objective",
    "spec.successMetrics",
    "spec.identityProfile.autonomyLevel",
    "spec.identityProfile.communicationStyle",
    "spec.identityProfile.constraints[]",
    "spec.identityProfile.customInstructions",
    "spec.identityProfile.expertise[]",
    "spec.identityProfile.outputFormat",
    "spec.identityProfile.personality",
    "spec.identityProfile.purpose",
    "spec.identityProfile.tone",
    "spec.identityProfile.updateCadence",
    "spec.identityProfile.verbosity",
    "spec.identityProfile.workingHours",
    // Values of the gateway's config, in which the gateway replaces names of its environment by their values.
    "status.rewritten[].sent",
    "status.rewritten[].stored",
    // A token that a person wrote can be guessed from its hash.
    "status.token.sha256",
    "status.token.previous.sha256",
    // A picture can be a URL with a key, or the picture itself.
    "spec.avatar",
    // The agent's own word.
    "status.heartbeat.currentTask",
];
/// The fields of Muster whose names look like names of secrets: the name of a Secret, and maps about the token of an agent.
const OPEN_FIELDS: [&str; 3] = ["status.deviceSecret", "spec.token", "status.token"];
/// The maps with keys and values of people's own.
pub(super) const FREE: [&str; 2] = ["spec.config", "spec.identityProfile.extra"];
/// The annotations whose values Muster reads.
const ANNOTATIONS: [&str; 9] = [
    keys::RECONCILE_REQUESTED_AT,
    keys::SYNC_REQUESTED_AT,
    keys::OVERWRITE_REQUESTED_AT,
    keys::ROTATE_REQUESTED_AT,
    keys::BOOTSTRAP_REQUESTED_AT,
    keys::RESET_SESSION_REQUESTED_AT,
    keys::WAKE_REQUESTED_AT,
    keys::PROTECTED,
    keys::AGENT_ID,
];
/// A text from this length on leaves its length behind: the limits of gateways are about it.
const LONG_CHARS: usize = 200;
/// The longest plain word of a free map.
const WORD_CHARS: usize = 32;
/// The shortest value of a free place that is removed from all texts of the bundle. A shorter value occurs by itself.
const SHORTEST_VALUE: usize = 6;
/// Keys of Secrets whose values are no secrets: addresses, ids and certificates.
const OPEN_KEYS: [&str; 7] = [
    keys::AGENT_ID_KEY,
    keys::API_URL_KEY,
    keys::DEVICE_ID_KEY,
    keys::DEVICE_TOKEN_URL_KEY,
    keys::LAST_GOOD_CA_KEY,
    keys::LAST_GOOD_URL_KEY,
    keys::LAST_GOOD_KIND_KEY,
];
/// The shortest value of a Secret under a key that Muster does not know. A user's name, for example, is shorter.
const SHORTEST_UNKNOWN: usize = 12;

/// The object without what must not leave the cluster.
pub(super) fn scrubbed(object: &Value, mask: &TextMask) -> Value {
    let mut object = without_managers(object.clone());
    if let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(keys::LAST_APPLIED);
        for (_, value) in annotations.iter_mut().filter(|(key, _)| !ANNOTATIONS.contains(&key.as_str())) {
            *value = json!(REMOVED);
        }
    }
    visit(&mut object, &ValuePlace::default(), &mut |place, part| match part {
        ObjectPart::Key(key, is_below_secret) => {
            if is_free(&place.path) {
                let is_removed = is_below_secret && !is_word(key) && !is_secret_name(key);
                *key = if is_removed { REMOVED.to_owned() } else { mask.text(key) };
            }
        }
        ObjectPart::Scalar(Value::String(text)) => {
            let path = place.path.as_str();
            let is_removed = TEXTS.contains(&path) || place.is_secret || is_free(path) && !is_word(text);
            *text = if is_removed { removed(text) } else { mask.text(text) };
        }
        ObjectPart::Scalar(other) => {
            if place.is_secret {
                *other = json!(REMOVED);
            }
        }
    });
    object
}

/// A value whose texts are without secrets.
pub(super) fn masked(value: &Value, mask: &TextMask) -> Value {
    let mut value = value.clone();
    visit_texts(&mut value, &mut |_, text| *text = mask.text(text));
    value
}

/// The values of an object that are removed from all texts: a condition may repeat them.
pub(super) fn known_values(object: &Value) -> Vec<SecretString> {
    let mut object = object.clone();
    let mut found = Vec::new();
    visit(&mut object, &ValuePlace::default(), &mut |place, part| {
        let (path, key) = (place.path.as_str(), place.key.as_str());
        let is_of_others =
            path.starts_with("metadata.annotations.") && !ANNOTATIONS.contains(&key) && key != keys::LAST_APPLIED;
        let is_removed = |text: &str| (is_free(path) || is_of_others) && is_telling(text);
        match part {
            ObjectPart::Key(key, _) if is_free(path) && is_telling(key) => found.push(key.as_str().into()),
            ObjectPart::Scalar(Value::String(text)) if place.is_secret || is_removed(text) => {
                found.push(text.as_str().into());
            }
            ObjectPart::Scalar(Value::Number(number)) if place.is_secret => found.push(number.to_string().into()),
            ObjectPart::Key(..) | ObjectPart::Scalar(_) => {}
        }
    });
    found.retain(|value: &SecretString| value.expose_secret().len() >= SHORTEST_VALUE);
    found
}

/// The secret values of a Secret, in the forms in which a text may have them. `named` are the keys that an object names.
pub(super) fn values_of_secret(secret: &Value, named: &[&str]) -> Vec<SecretString> {
    let mut found = Vec::new();
    let is_certificate = |text: &str| text.contains("-----BEGIN CERTIFICATE-----");
    for (key, value) in secret["data"].as_object().into_iter().flatten() {
        let Some(encoded) = value.as_str() else { continue };
        let Ok(bytes) = STANDARD.decode(encoded) else { continue };
        let text = String::from_utf8(bytes.clone()).ok();
        let is_open = OPEN_KEYS.contains(&key.as_str()) || text.as_deref().is_some_and(is_certificate);
        let is_known = named.contains(&key.as_str()) || is_secret_name(key) || key == keys::DEVICE_SEED_KEY;
        if is_open || !is_known && bytes.len() < SHORTEST_UNKNOWN {
            continue;
        }
        found.extend(text.map(|text| credential::of_file(&text).into()));
        if bytes.len() >= SHORTEST_VALUE {
            found.push(encoded.trim_end_matches('=').into());
            found.push(URL_SAFE_NO_PAD.encode(&bytes).into());
        }
    }
    found
}

/// A place in an object.
#[derive(Clone, Debug, Default)]
struct ValuePlace {
    path: String,
    /// The last name on the path.
    key: String,
    /// Whether a name on the path says that what is below is secret.
    is_secret: bool,
}

impl ValuePlace {
    /// The place of a field. `named` is the name in a pair of a name and a value, as lists of variables and headers have them.
    fn field(&self, key: &str, named: Option<&str>) -> Self {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        let name = named.filter(|_| key == "value").unwrap_or(key);
        let is_secret = self.is_secret || is_secret_field(&path, name);
        Self { path, key: key.to_owned(), is_secret }
    }

    /// The place of an item of a list. The item after an option with a secret name is secret.
    fn item(&self, follows_option: bool) -> Self {
        Self { path: format!("{}[]", self.path), key: self.key.clone(), is_secret: self.is_secret || follows_option }
    }
}

/// A part of an object.
enum ObjectPart<'a> {
    /// The key of a field, and whether the map is below a secret name.
    Key(&'a mut String, bool),
    /// A text, a number or a truth value.
    Scalar(&'a mut Value),
}

/// Calls `see` for each key and each scalar with its place.
fn visit(value: &mut Value, place: &ValuePlace, see: &mut impl FnMut(&ValuePlace, ObjectPart<'_>)) {
    match value {
        Value::Object(fields) => {
            let named = ["name", "key"].iter().find_map(|field| fields.get(*field)?.as_str().map(str::to_owned));
            for (mut key, mut value) in std::mem::take(fields) {
                let at = place.field(&key, named.as_deref());
                see(&at, ObjectPart::Key(&mut key, place.is_secret));
                visit(&mut value, &at, see);
                while fields.contains_key(&key) {
                    key.push('*');
                }
                fields.insert(key, value);
            }
        }
        Value::Array(items) => {
            let mut follows_option = false;
            for item in items {
                let is_option = item.as_str().is_some_and(is_secret_option);
                visit(item, &place.item(follows_option), see);
                follows_option = is_option;
            }
        }
        Value::String(_) | Value::Number(_) | Value::Bool(_) => see(place, ObjectPart::Scalar(value)),
        Value::Null => {}
    }
}

/// Calls `see` for each text.
fn visit_texts(value: &mut Value, see: &mut impl FnMut(&ValuePlace, &mut String)) {
    visit(value, &ValuePlace::default(), &mut |place, part| {
        if let ObjectPart::Scalar(Value::String(text)) = part {
            see(place, text);
        }
    });
}

/// Whether the name of a field says that its value is secret.
fn is_secret_field(path: &str, key: &str) -> bool {
    is_secret_name(key) && !OPEN_FIELDS.contains(&path)
}

/// Whether a text is an option whose value is secret and is the next argument.
fn is_secret_option(text: &str) -> bool {
    text.starts_with('-') && !text.contains(['=', ' ']) && is_secret_name(text)
}

/// Whether a path is in a map of people's own keys and values.
fn is_free(path: &str) -> bool {
    FREE.iter().any(|free| path.strip_prefix(free).is_some_and(|rest| rest.starts_with(['.', '['])))
}

/// Whether a text is a plain word, such as `minimal` or `group:fs`.
fn is_word(text: &str) -> bool {
    text.len() <= WORD_CHARS && text.chars().all(|c| c.is_ascii_lowercase() || "-_*:".contains(c))
}

/// Whether a text is one that no other text has by itself.
fn is_telling(text: &str) -> bool {
    let is_mixed = text.contains(|c: char| c.is_ascii_digit()) && text.contains(|c: char| c.is_ascii_alphabetic());
    is_random(text) || is_mixed && text.len() >= SHORTEST_UNKNOWN && !text.contains(['/', ' '])
}

fn removed(text: &str) -> String {
    match text.chars().count() {
        LONG_CHARS.. => format!("[removed: {} characters]", text.chars().count()),
        _ => REMOVED.to_owned(),
    }
}

#[cfg(test)]
#[path = "scrub_tests.rs"]
mod tests;
