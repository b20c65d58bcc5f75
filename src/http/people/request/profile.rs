//! The identity profile in the bodies of requests.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::api::profile::IdentityProfile;
use crate::http::error::ApiError;

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

/// The fields of an identity profile.
#[derive(Debug, Deserialize)]
pub(super) struct ProfileFields(Map<String, Value>);

impl JsonSchema for ProfileFields {
    fn schema_name() -> Cow<'static, str> {
        "IdentityProfile".into()
    }

    /// The fields of the spec under their names in the API. The keys of `extra` are further fields.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let spec = IdentityProfile::json_schema(generator);
        let field = |name: &str| {
            let mut field = spec.as_value()["properties"][name].clone();
            or_null(&mut field);
            field
        };
        let known: Map<_, _> =
            PROFILE_FIELDS.iter().map(|(name, of_spec)| ((*name).to_owned(), field(of_spec))).collect();
        let mut extra = spec.as_value()["properties"]["extra"]["additionalProperties"].clone();
        or_null(&mut extra);
        json_schema!({
            "description": "The identity of an agent. Further keys in lower case, such as `team_name`, are values for templates.",
            "type": "object",
            "properties": known,
            "propertyNames": { "pattern": "^[a-z][a-z0-9_]{0,62}$" },
            "additionalProperties": extra,
        })
    }
}

/// Makes the schema of a field of the spec one that also takes null, which removes the field.
fn or_null(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    schema.remove("default");
    if let Some(kind) = schema.get("type").filter(|kind| kind.is_string()).cloned() {
        schema.insert("type".into(), json!([kind, "null"]));
    }
}

impl ProfileFields {
    /// Checks the keys of `extra`.
    ///
    /// # Errors
    /// 400 when a key is not in lower case.
    pub(super) fn require_valid_keys(&self) -> Result<(), ApiError> {
        let is_known = |key: &str| PROFILE_FIELDS.iter().any(|(name, _)| *name == key);
        match self.0.keys().find(|key| !is_known(key) && !is_extra_key(key)) {
            Some(key) => Err(ApiError::bad_request(format!(
                "identity_profile.{key:?}: further facts have lower-case names such as team_name"
            ))),
            None => Ok(()),
        }
    }

    /// The profile as a merge patch of `identityProfile`.
    pub(super) fn spec(&self) -> Value {
        let (mut spec, mut extra) = (Map::new(), Map::new());
        for (key, value) in &self.0 {
            match PROFILE_FIELDS.iter().find(|(name, _)| name == key) {
                Some((_, of_spec)) => spec.insert((*of_spec).to_owned(), value.clone()),
                None => extra.insert(key.clone(), value.clone()),
            };
        }
        if !extra.is_empty() {
            spec.insert("extra".into(), Value::Object(extra));
        }
        Value::Object(spec)
    }
}

/// Whether `identityProfile.extra` accepts a key.
fn is_extra_key(key: &str) -> bool {
    key.len() <= 63
        && key.starts_with(|c: char| c.is_ascii_lowercase())
        && key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::schema::inline;
    use super::*;

    #[test]
    fn every_field_of_a_profile_has_a_name_in_the_api() {
        let spec = inline::<IdentityProfile>();
        let fields: BTreeSet<_> = spec["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        let named: BTreeSet<_> = PROFILE_FIELDS.iter().map(|(_, of_spec)| *of_spec).chain(["extra"]).collect();
        assert_eq!(fields, named);
    }
}
