//! The identity of an agent, as its author describes it.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::LazyLock;

use kube::KubeSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::text::{NOT_ONE_LINE, ONE_LINE};

/// The identity of an agent. Each field is a template variable `identity_<field>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct IdentityProfile {
    /// The agent's job, such as `DevOps Engineer`. A soul directory is searched by this value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub role: Option<String>,
    /// Subjects that the agent knows well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 128)), extend("x-kubernetes-list-type" = "atomic"))]
    pub expertise: Vec<String>,
    /// The agent's tone, such as `professional`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub tone: Option<String>,
    /// The agent's style of communication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub communication_style: Option<String>,
    /// Constraints that the agent must follow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 512)), extend("x-kubernetes-list-type" = "atomic"))]
    pub constraints: Vec<String>,
    /// The agent's working hours, such as `9am-5pm UTC`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub working_hours: Option<String>,
    /// An emoji for the texts in the agent's files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(validation = Rule::new(ONE_LINE).message(NOT_ONE_LINE))]
    pub emoji: Option<String>,
    /// The agent's degree of autonomy, such as `asks first`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub autonomy_level: Option<String>,
    /// The length of the agent's texts, such as `brief`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub verbosity: Option<String>,
    /// The form of the agent's results.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub output_format: Option<String>,
    /// How often the agent reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub update_cadence: Option<String>,
    /// The agent's purpose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub purpose: Option<String>,
    /// The agent's personality.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub personality: Option<String>,
    /// Further instructions for the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub custom_instructions: Option<String>,
    /// Additional values for your own templates. The key `team` becomes the variable `identity_team`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(
        extend("maxProperties" = 32),
        transform = values_of_at_most_1024_characters
    )]
    #[x_kube(validation = Rule::new("self.all(k, k.matches('^[a-z][a-z0-9_]{0,62}$'))").message("keys of extra must be lower-case words such as team_name"))]
    pub extra: BTreeMap<String, String>,
}

/// The identity of an agent, in an Agent. An empty one takes no memory of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OptionalProfile(Option<Box<IdentityProfile>>);

impl From<IdentityProfile> for OptionalProfile {
    fn from(profile: IdentityProfile) -> Self {
        Self((profile != *EMPTY_PROFILE).then(|| Box::new(profile)))
    }
}

static EMPTY_PROFILE: LazyLock<IdentityProfile> = LazyLock::new(IdentityProfile::default);

impl Deref for OptionalProfile {
    type Target = IdentityProfile;

    fn deref(&self) -> &IdentityProfile {
        self.0.as_deref().unwrap_or(&EMPTY_PROFILE)
    }
}

impl Serialize for OptionalProfile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for OptionalProfile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IdentityProfile::deserialize(deserializer).map(Self::from)
    }
}

fn values_of_at_most_1024_characters(schema: &mut schemars::Schema) {
    schema.insert("additionalProperties".into(), serde_json::json!({ "type": "string", "maxLength": 1024 }));
}
