//! Who an agent is, in the words of the person who declares it.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::text::{NOT_ONE_LINE, ONE_LINE};

/// Who the agent is. Each field is a template variable `identity_<field>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct IdentityProfile {
    /// What the agent does, such as `DevOps Engineer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub role: Option<String>,
    /// What it knows well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 128)))]
    pub expertise: Vec<String>,
    /// Its tone, such as `professional`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub tone: Option<String>,
    /// How it communicates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub communication_style: Option<String>,
    /// What it must keep to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 512)))]
    pub constraints: Vec<String>,
    /// When it works, such as `9am-5pm UTC`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub working_hours: Option<String>,
    /// An emoji for its texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(validation = Rule::new(ONE_LINE).message(NOT_ONE_LINE))]
    pub emoji: Option<String>,
    /// How much it decides by itself, such as `asks first`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub autonomy_level: Option<String>,
    /// How much it writes, such as `brief`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub verbosity: Option<String>,
    /// The form of its results.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub output_format: Option<String>,
    /// How often it reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub update_cadence: Option<String>,
    /// Why it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub purpose: Option<String>,
    /// Its character.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub personality: Option<String>,
    /// Anything else that it is to keep to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub custom_instructions: Option<String>,
    /// Further facts for templates of your own: key `team` becomes the variable `identity_team`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(
        extend("maxProperties" = 32),
        transform = values_of_at_most_1024_characters
    )]
    #[x_kube(validation = Rule::new("self.all(k, k.matches('^[a-z][a-z0-9_]{0,62}$'))").message("keys of extra must be lower-case words such as team_name"))]
    pub extra: BTreeMap<String, String>,
}

fn values_of_at_most_1024_characters(schema: &mut schemars::Schema) {
    schema.insert("additionalProperties".into(), serde_json::json!({ "type": "string", "maxLength": 1024 }));
}
