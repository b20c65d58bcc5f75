//! The bodies of requests that create or change an agent.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use crate::api::agent::FileSpec;
use crate::api::shared::{Interval, TemplateSource};
use crate::http::error::ApiError;
use crate::http::people::MAX_BODY_BYTES;

/// Fields of an identity profile: the name in the API and the name in the spec.
pub(crate) const PROFILE_FIELDS: [(&str, &str); 14] = [
    ("role", "role"),
    ("expertise", "expertise"),
    ("tone", "tone"),
    ("communication_style", "communicationStyle"),
    ("constraints", "constraints"),
    ("working_hours", "workingHours"),
    ("emoji", "emoji"),
    ("autonomy_level", "autonomyLevel"),
    ("verbosity", "verbosity"),
    ("output_format", "outputFormat"),
    ("update_cadence", "updateCadence"),
    ("purpose", "purpose"),
    ("personality", "personality"),
    ("custom_instructions", "customInstructions"),
];
/// Fields of an identity profile that are lists.
const LIST_FIELDS: [&str; 2] = ["expertise", "constraints"];
/// The maximum length of a name, in characters.
const MAX_NAME_CHARS: usize = 128;
/// The allowed heartbeat intervals, in seconds.
const HEARTBEAT_SECONDS: std::ops::RangeInclusive<u64> = 60..=86_400;
/// The known fields of a body.
const BODY_FIELDS: [&str; 10] = [
    "name",
    "board_id",
    "is_board_lead",
    "gateway_id",
    "identity_profile",
    "heartbeat_config",
    "identity_template",
    "soul_template",
    "namespace",
    "resource_name",
];

/// The fields of a body.
#[derive(Debug, Default)]
pub(crate) struct BodyFields {
    pub(crate) board: Option<String>,
    pub(crate) gateway: Option<String>,
    pub(crate) lead: Option<bool>,
    pub(crate) name: Option<String>,
    pub(crate) namespace: Option<String>,
    pub(crate) resource_name: Option<String>,
    /// Whether `board_id` is null.
    pub(crate) no_board: bool,
    /// The other fields as a merge patch of the spec.
    pub(crate) spec: Map<String, Value>,
    /// The given templates: the name of the file, and the text, or `None` to remove the file's template.
    templates: Vec<(&'static str, Option<String>)>,
}

impl BodyFields {
    /// Reads a body.
    ///
    /// # Errors
    /// 413 when the body is too long; 400 when the body is no JSON object, or a field is unknown or not valid.
    pub(crate) fn read(body: Result<Bytes, BytesRejection>) -> Result<Self, ApiError> {
        let body = body.map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                let message = format!("the body is longer than {MAX_BODY_BYTES} bytes");
                ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
            }
            _ => ApiError::bad_request("the body ended before it was complete"),
        })?;
        let value: Value = serde_json::from_slice(&body)
            .map_err(|e| ApiError::bad_request(format!("the body is not valid JSON: {e}")))?;
        let Value::Object(body) = value else { return Err(ApiError::bad_request("the body is no JSON object")) };
        let unknown: Vec<_> = body.keys().map(String::as_str).filter(|key| !BODY_FIELDS.contains(key)).collect();
        if !unknown.is_empty() {
            return Err(ApiError::bad_request(format!(
                "unknown fields: {}; the fields are: {}",
                unknown.join(", "),
                BODY_FIELDS.join(", ")
            )));
        }
        let is_null = |field: &str| body.get(field).is_some_and(Value::is_null);
        let mut fields = Self {
            board: text(&body, "board_id")?,
            gateway: text(&body, "gateway_id")?,
            lead: flag(&body, "is_board_lead")?,
            name: text(&body, "name")?,
            namespace: text(&body, "namespace")?,
            resource_name: text(&body, "resource_name")?,
            no_board: is_null("board_id"),
            spec: Map::new(),
            templates: templates(&body)?,
        };
        if is_null("name") {
            return Err(ApiError::bad_request("name: a text"));
        }
        fields.set_display_name()?;
        // The namespace becomes part of a URL.
        if fields.namespace.as_ref().is_some_and(|namespace| !is_label(namespace)) {
            return Err(ApiError::bad_request("namespace: the value is not a valid name of a namespace"));
        }
        for (field, spec_field, parse) in FIELD_MAPPINGS {
            if let Some(value) = body.get(*field) {
                let value = if value.is_null() { Value::Null } else { parse(field, value)? };
                fields.spec.insert((*spec_field).to_owned(), value);
            }
        }
        Ok(fields)
    }

    /// `files` of a spec with the given templates, which a merge patch replaces as a whole. `None` when the body has no template.
    pub(crate) fn files(&self, before: &[FileSpec]) -> Option<Vec<FileSpec>> {
        if self.templates.is_empty() {
            return None;
        }
        let mut files = before.to_vec();
        for (name, text) in &self.templates {
            let template =
                text.as_ref().map(|text| TemplateSource { inline: Some(text.clone()), ..Default::default() });
            match files.iter_mut().find(|file| file.name == *name) {
                Some(file) => file.template = template,
                None => files.push(FileSpec { name: (*name).to_owned(), template, ..FileSpec::default() }),
            }
            // An item without any setting says nothing.
            files.retain(|file| *file != FileSpec { name: (*name).to_owned(), ..FileSpec::default() });
        }
        Some(files)
    }

    /// Adds the name to the spec.
    fn set_display_name(&mut self) -> Result<(), ApiError> {
        let Some(name) = &self.name else { return Ok(()) };
        if name.is_empty() || name.chars().count() > MAX_NAME_CHARS || name.chars().any(char::is_control) {
            return Err(ApiError::bad_request(format!(
                "name: 1 to {MAX_NAME_CHARS} characters, and no control characters"
            )));
        }
        self.spec.insert("displayName".into(), json!(name));
        Ok(())
    }

    /// The name of the object: `resource_name`, or a slug of the agent's name.
    ///
    /// # Errors
    /// 400 when `resource_name` is not valid, or the agent's name has no slug.
    pub(crate) fn object_name(&self) -> Result<String, ApiError> {
        if let Some(given) = &self.resource_name {
            let valid = *given == slug(given);
            return if valid && !given.is_empty() {
                Ok(given.clone())
            } else {
                Err(ApiError::bad_request(
                    "resource_name: at most 63 lower-case letters, digits and single dashes, no dash at either end",
                ))
            };
        }
        let name = self.name.as_deref().ok_or_else(|| ApiError::bad_request("name: the field is missing"))?;
        let slug = slug(name);
        if slug.is_empty() {
            return Err(ApiError::bad_request(
                "name: the name has no letter or digit for a resource's name; give resource_name",
            ));
        }
        Ok(slug)
    }
}

/// A field of a body, its field of the spec, and the function that converts its value.
type FieldMapping = (&'static str, &'static str, fn(&str, &Value) -> Result<Value, ApiError>);

const FIELD_MAPPINGS: &[FieldMapping] =
    &[("identity_profile", "identityProfile", profile), ("heartbeat_config", "heartbeat", heartbeat)];

/// The fields with the template of a file, and the file.
const TEMPLATE_FIELDS: [(&str, &str); 2] = [("identity_template", "IDENTITY.md"), ("soul_template", "SOUL.md")];

fn text(body: &Map<String, Value>, field: &str) -> Result<Option<String>, ApiError> {
    match body.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(ApiError::bad_request(format!("{field}: a text, or null"))),
    }
}

fn flag(body: &Map<String, Value>, field: &str) -> Result<Option<bool>, ApiError> {
    match body.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(_) => Err(ApiError::bad_request(format!("{field}: true or false"))),
    }
}

fn templates(body: &Map<String, Value>) -> Result<Vec<(&'static str, Option<String>)>, ApiError> {
    let given = TEMPLATE_FIELDS.into_iter().filter(|(field, _)| body.contains_key(*field));
    given.map(|(field, file)| Ok((file, text(body, field)?))).collect()
}

fn heartbeat(field: &str, value: &Value) -> Result<Value, ApiError> {
    let known = format!("{field}: an object with enabled and intervalSeconds, or null");
    let object = value.as_object().ok_or_else(|| ApiError::bad_request(known.as_str()))?;
    let mut spec = Map::new();
    for (key, value) in object {
        let (key, value) = match (key.as_str(), value) {
            ("enabled", Value::Null | Value::Bool(_)) => ("enabled", value.clone()),
            ("enabled", _) => return Err(ApiError::bad_request(format!("{field}.enabled: true or false"))),
            ("intervalSeconds", Value::Null) => ("interval", Value::Null),
            ("intervalSeconds", value) => {
                let seconds = value.as_u64().filter(|seconds| HEARTBEAT_SECONDS.contains(seconds));
                let (min, max) = (HEARTBEAT_SECONDS.start(), HEARTBEAT_SECONDS.end());
                let error =
                    || ApiError::bad_request(format!("{field}.intervalSeconds: a whole number from {min} to {max}"));
                ("interval", json!(Interval::from_secs(seconds.ok_or_else(error)?)))
            }
            (other, _) => return Err(ApiError::bad_request(format!("{field}.{other}: the field is unknown; {known}"))),
        };
        spec.insert(key.to_owned(), value);
    }
    Ok(Value::Object(spec))
}

fn profile(field: &str, value: &Value) -> Result<Value, ApiError> {
    let object = value.as_object().ok_or_else(|| ApiError::bad_request(format!("{field}: an object, or null")))?;
    let (mut spec, mut extra) = (Map::new(), Map::new());
    for (key, value) in object {
        let known = PROFILE_FIELDS.iter().find(|(name, _)| name == key);
        let list = LIST_FIELDS.contains(&key.as_str());
        let valid = match value {
            Value::Null => true,
            Value::String(_) => !list,
            Value::Array(items) => list && items.iter().all(Value::is_string),
            Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
        };
        if !valid {
            let expected = if list { "a list of texts" } else { "a text" };
            return Err(ApiError::bad_request(format!("{field}.{key}: {expected}, or null")));
        }
        match known {
            Some((_, spec_field)) => spec.insert((*spec_field).to_owned(), value.clone()),
            None if is_extra_key(key) => extra.insert(key.clone(), value.clone()),
            None => {
                return Err(ApiError::bad_request(format!(
                    "{field}.{key:?}: further facts have lower-case names such as team_name"
                )));
            }
        };
    }
    if !extra.is_empty() {
        spec.insert("extra".into(), Value::Object(extra));
    }
    Ok(Value::Object(spec))
}

/// Whether `identityProfile.extra` accepts a key.
fn is_extra_key(key: &str) -> bool {
    key.len() <= 63
        && key.starts_with(|c: char| c.is_ascii_lowercase())
        && key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// The slug of a name: a DNS-1123 label, or an empty text.
fn slug(name: &str) -> String {
    let mut slug = String::new();
    for c in name.chars().map(|c| c.to_ascii_lowercase()) {
        if c.is_ascii_alphanumeric() {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(63);
    slug.trim_end_matches('-').to_owned()
}

/// Whether `name` is a DNS-1123 label, such as the name of a namespace.
fn is_label(name: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= 63 && name.starts_with(word) && name.ends_with(word) && name.chars().all(|c| word(c) || c == '-')
}

/// Removes null values, which have no meaning in a new object.
pub(crate) fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(key, value)| (key, without_nulls(value))).collect())
        }
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::agent::FilePolicy;

    fn read(body: &Value) -> Result<BodyFields, ApiError> {
        BodyFields::read(Ok(Bytes::from(body.to_string())))
    }

    #[test]
    fn the_body_of_the_documentation_becomes_a_spec() {
        let body = json!({
            "name": "DevOps Engineer", "board_id": "b", "is_board_lead": false,
            "identity_profile": { "role": "DevOps Engineer", "expertise": ["Kubernetes"],
                "communication_style": "Proactive", "team": "infra" },
            "heartbeat_config": { "enabled": true, "intervalSeconds": 300 },
            "soul_template": "Be kind.",
        });
        let fields = read(&body).unwrap();
        assert_eq!((fields.object_name().unwrap().as_str(), fields.board.as_deref()), ("devops-engineer", Some("b")));
        let spec: crate::api::agent::AgentSpec =
            serde_json::from_value(without_nulls(Value::Object(fields.spec.clone()))).unwrap();
        assert_eq!(spec.display_name.as_deref(), Some("DevOps Engineer"));
        assert_eq!(spec.identity_profile.communication_style.as_deref(), Some("Proactive"));
        assert_eq!(spec.identity_profile.extra["team"], "infra");
        assert_eq!(spec.heartbeat.unwrap().interval.unwrap().get().as_secs(), 300);
        assert_eq!(fields.files(&[]), Some(vec![soul(Some("Be kind."))]));
    }

    /// The settings of SOUL.md with an inline template.
    fn soul(text: Option<&str>) -> FileSpec {
        let template = text.map(|text| TemplateSource { inline: Some(text.to_owned()), ..TemplateSource::default() });
        FileSpec { name: "SOUL.md".into(), template, ..FileSpec::default() }
    }

    #[test]
    fn a_template_replaces_that_of_its_file_and_keeps_the_other_settings() {
        let files = |body: &Value, before: &[FileSpec]| read(body).unwrap().files(before);
        let by_key = FileSpec {
            template: Some(serde_json::from_value(json!({ "configMapKeyRef": { "name": "a", "key": "b" } })).unwrap()),
            policy: Some(FilePolicy::Always),
            ..soul(None)
        };
        let other = FileSpec { name: "X.md".into(), policy: Some(FilePolicy::Once), ..FileSpec::default() };
        let given = FileSpec { policy: Some(FilePolicy::Always), ..soul(Some("new")) };
        let body = json!({ "soul_template": "new" });
        assert_eq!(files(&body, &[other.clone(), by_key.clone()]), Some(vec![other.clone(), given]));
        let body = json!({ "soul_template": null });
        let without = FileSpec { template: None, ..by_key.clone() };
        assert_eq!(files(&body, &[by_key]), Some(vec![without]), "the policy stays");
        assert_eq!(files(&body, &[soul(Some("old")), other.clone()]), Some(vec![other]), "an empty item goes");
        assert_eq!(files(&json!({ "name": "x" }), &[soul(None)]), None);
    }

    #[test]
    fn an_error_names_the_field() {
        for (body, word) in [
            (json!({ "nam": "x" }), "nam"),
            (json!({ "name": 3 }), "name"),
            (json!({ "name": "" }), "name"),
            (json!({ "is_board_lead": "yes" }), "is_board_lead"),
            (json!({ "heartbeat_config": { "intervalSeconds": 1 } }), "heartbeat_config.intervalSeconds"),
            (json!({ "heartbeat_config": { "every": 300 } }), "heartbeat_config.every"),
            (json!({ "identity_profile": { "expertise": "x" } }), "identity_profile.expertise"),
            (json!({ "identity_profile": { "Team Name": "x" } }), "Team Name"),
            (json!({ "soul_template": {} }), "soul_template"),
            (json!({ "namespace": "../../x?" }), "namespace"),
        ] {
            let error = read(&body).unwrap_err();
            assert!(error.status == StatusCode::BAD_REQUEST && error.message.contains(word), "{}", error.message);
        }
    }

    #[test]
    fn an_object_name_is_a_label() {
        for (name, expected) in
            [("  Dév Ops! ", "d-v-ops"), ("日本", ""), ("A--B", "a-b"), (&"x".repeat(80), &"x".repeat(63))]
        {
            assert_eq!(slug(name), expected);
        }
        let given = |name: &str| BodyFields { resource_name: Some(name.into()), ..BodyFields::default() }.object_name();
        assert!(given("ops-1").is_ok() && given("Ops").is_err() && given("").is_err() && given("-a").is_err());
    }
}
