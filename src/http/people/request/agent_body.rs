//! The bodies of requests that create or change an agent.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use super::profile::ProfileFields;
use crate::api::agent::FileSpec;
use crate::api::shared::{Interval, MAX_TEMPLATE_CHARS, TemplateSource};
use crate::http::error::ApiError;

/// The maximum length of a name, in characters.
const MAX_NAME_CHARS: usize = 128;
/// The shortest heartbeat interval, in seconds.
const MIN_HEARTBEAT_SECONDS: u64 = 60;
/// The longest heartbeat interval, in seconds.
const MAX_HEARTBEAT_SECONDS: u64 = 86_400;
/// A name of a namespace or of an object.
const LABEL_PATTERN: &str = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$";
/// The maximum length of a label, in characters.
const MAX_LABEL_CHARS: usize = 63;

/// A field of a body that null removes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Given<T> {
    /// The field is left out.
    #[default]
    LeftOut,
    /// The field is null.
    Null,
    /// The field has a value.
    Value(T),
}

impl<T> Given<T> {
    /// The value.
    pub(crate) fn value(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            Self::LeftOut | Self::Null => None,
        }
    }

    /// Adds the field to a merge patch.
    fn add_to(&self, patch: &mut Map<String, Value>, name: &str, write: impl FnOnce(&T) -> Value) {
        match self {
            Self::LeftOut => {}
            Self::Null => drop(patch.insert(name.to_owned(), Value::Null)),
            Self::Value(value) => drop(patch.insert(name.to_owned(), write(value))),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Given<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Null, Self::Value))
    }
}

impl<T: JsonSchema> JsonSchema for Given<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        Option::<T>::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Option::<T>::json_schema(generator)
    }
}

/// The changes of an agent. A field that is left out stays, and null removes a field. Role, gateway and namespace cannot be changed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(example = json!({ "name": "Senior DevOps Engineer" }))]
pub(crate) struct AgentUpdate {
    /// The agent's display name, without control characters.
    #[schemars(with = "String", length(min = 1, max = MAX_NAME_CHARS), regex(pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]+$"))]
    pub(crate) name: Option<String>,
    /// The board of a worker or lead: its uid, `namespace/name`, or its name if no other board has the name.
    pub(crate) board_id: Given<String>,
    /// Whether the agent is the lead of its board.
    pub(crate) is_board_lead: Option<bool>,
    /// The AgentGateway of a main agent: its uid, `namespace/name`, or its name.
    pub(crate) gateway_id: Option<String>,
    /// The identity of the agent.
    identity_profile: Given<ProfileFields>,
    /// The heartbeat that the gateway runs for the agent.
    heartbeat_config: Given<HeartbeatFields>,
    /// The template of IDENTITY.md.
    #[schemars(length(max = MAX_TEMPLATE_CHARS))]
    identity_template: Given<String>,
    /// The template of SOUL.md.
    #[schemars(length(max = MAX_TEMPLATE_CHARS))]
    soul_template: Given<String>,
    /// The namespace of a main agent. Default: the namespace of its gateway.
    #[schemars(length(max = MAX_LABEL_CHARS), regex(pattern = LABEL_PATTERN))]
    pub(crate) namespace: Option<String>,
    /// Name of the Agent. Default: the name in lower case with dashes.
    #[schemars(length(max = MAX_LABEL_CHARS), regex(pattern = LABEL_PATTERN))]
    pub(crate) resource_name: Option<String>,
}

/// A new agent. A worker or lead has a `board_id`, a main agent a `gateway_id`.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct AgentCreate(pub(crate) AgentUpdate);

impl JsonSchema for AgentCreate {
    fn schema_name() -> Cow<'static, str> {
        "AgentCreate".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = AgentUpdate::json_schema(generator);
        let description = "A new agent. A worker or lead has a `board_id`, a main agent a `gateway_id`.";
        schema.insert("description".into(), description.into());
        schema.insert("required".into(), json!(["name"]));
        let example = json!({
            "name": "DevOps Engineer", "board_id": "ops", "is_board_lead": false,
            "identity_profile": { "role": "DevOps Engineer", "expertise": ["Kubernetes", "CI/CD"] },
            "heartbeat_config": { "enabled": true, "intervalSeconds": 300 },
        });
        schema.insert("examples".into(), json!([example]));
        schema
    }
}

/// The heartbeat of an agent.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "HeartbeatConfig")]
struct HeartbeatFields {
    /// Whether the gateway runs heartbeats for the agent.
    enabled: Given<bool>,
    /// The time between two heartbeats, in seconds.
    #[serde(rename = "intervalSeconds")]
    #[schemars(range(min = MIN_HEARTBEAT_SECONDS, max = MAX_HEARTBEAT_SECONDS))]
    interval_seconds: Given<u64>,
}

impl AgentUpdate {
    /// The fields as a merge patch of the spec, without references and files.
    ///
    /// # Errors
    /// 400 when a field has a value that its type does not exclude.
    pub(crate) fn spec(&self) -> Result<Map<String, Value>, ApiError> {
        let mut spec = Map::new();
        if let Some(name) = &self.name {
            if name.is_empty() || name.chars().count() > MAX_NAME_CHARS || name.chars().any(char::is_control) {
                return Err(ApiError::bad_request(format!(
                    "name: 1 to {MAX_NAME_CHARS} characters, and no control characters"
                )));
            }
            spec.insert("displayName".into(), json!(name));
        }
        // The namespace becomes part of a URL.
        if self.namespace.as_ref().is_some_and(|namespace| !is_label(namespace)) {
            return Err(ApiError::bad_request("namespace: the value is not a valid name of a namespace"));
        }
        if let Some(profile) = self.identity_profile.value() {
            profile.require_valid_keys()?;
        }
        self.identity_profile.add_to(&mut spec, "identityProfile", ProfileFields::spec);
        self.heartbeat_config.add_to(&mut spec, "heartbeat", HeartbeatFields::spec);
        Ok(spec)
    }

    /// `files` of a spec with the given templates, which a merge patch replaces as a whole. `None` when the body has no template.
    pub(crate) fn files(&self, before: &[FileSpec]) -> Option<Vec<FileSpec>> {
        let templates = [("IDENTITY.md", &self.identity_template), ("SOUL.md", &self.soul_template)];
        if templates.iter().all(|(_, given)| **given == Given::LeftOut) {
            return None;
        }
        let mut files = before.to_vec();
        for (name, given) in templates.into_iter().filter(|(_, given)| **given != Given::LeftOut) {
            let template =
                given.value().map(|text| TemplateSource { inline: Some(text.clone()), ..Default::default() });
            match files.iter_mut().find(|file| file.name == name) {
                Some(file) => file.template = template,
                None => files.push(FileSpec { name: name.to_owned(), template, ..FileSpec::default() }),
            }
            // An item without any setting says nothing.
            files.retain(|file| *file != FileSpec { name: name.to_owned(), ..FileSpec::default() });
        }
        Some(files)
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

impl HeartbeatFields {
    /// The heartbeat as a merge patch of `heartbeat`.
    fn spec(&self) -> Value {
        let mut spec = Map::new();
        self.enabled.add_to(&mut spec, "enabled", |enabled| json!(enabled));
        self.interval_seconds.add_to(&mut spec, "interval", |seconds| json!(Interval::from_secs(*seconds)));
        Value::Object(spec)
    }
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
    slug.truncate(MAX_LABEL_CHARS);
    slug.trim_end_matches('-').to_owned()
}

/// Whether `name` is a DNS-1123 label, such as the name of a namespace.
fn is_label(name: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= MAX_LABEL_CHARS
        && name.starts_with(word)
        && name.ends_with(word)
        && name.chars().all(|c| word(c) || c == '-')
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
    use axum::http::StatusCode;

    use super::super::json_body;
    use super::*;
    use crate::api::agent::FilePolicy;

    fn read(body: &Value) -> Result<AgentUpdate, ApiError> {
        let update: AgentUpdate = json_body::read(body.to_string().as_bytes())?;
        update.spec().map(|_| update)
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
        assert_eq!(
            (fields.object_name().unwrap().as_str(), &fields.board_id),
            ("devops-engineer", &Given::Value("b".to_owned()))
        );
        let spec: crate::api::agent::AgentSpec =
            serde_json::from_value(without_nulls(Value::Object(fields.spec().unwrap()))).unwrap();
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
            assert!(error.status() == StatusCode::BAD_REQUEST && error.message.contains(word), "{}", error.message);
        }
    }

    #[test]
    fn an_object_name_is_a_label() {
        for (name, expected) in
            [("  Dév Ops! ", "d-v-ops"), ("日本", ""), ("A--B", "a-b"), (&"x".repeat(80), &"x".repeat(63))]
        {
            assert_eq!(slug(name), expected);
        }
        let given =
            |name: &str| AgentUpdate { resource_name: Some(name.into()), ..AgentUpdate::default() }.object_name();
        assert!(given("ops-1").is_ok() && given("Ops").is_err() && given("").is_err() && given("-a").is_err());
    }
}
