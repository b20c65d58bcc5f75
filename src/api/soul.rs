//! Souls for roles from a soul directory on the web.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::Interval;

/// A soul directory: a web site with a soul, a Markdown text, for each of many roles.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SoulDirectory {
    /// The URL of the directory, such as `https://souls.directory`. Muster reads the list of souls from `/sitemap.xml` below it.
    #[schemars(length(min = 8, max = 512))]
    #[x_kube(validation = Rule::new("isURL(self) && url(self).getScheme() in ['http', 'https'] && url(self).getHostname() != ''").message("url must be http://host[:port] or https://host[:port]"))]
    #[x_kube(validation = Rule::new("!self.contains('@') && !self.contains('?') && !self.contains('#')").message("url must not carry credentials, a query or a fragment"))]
    pub url: String,
    /// Whether Muster uses the directory. Muster writes texts from the directory into the files of agents: enable only a
    /// directory that you trust. Default: false.
    #[serde(default)]
    pub enabled: bool,
    /// Whether the directory, or a redirect from it, may have a loopback or private address. Default: false.
    #[serde(default)]
    pub allow_private_addresses: bool,
    /// How often Muster reads the directory again, 5m to 168h. Default: 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('5m') && duration(self) <= duration('168h')").message("refreshInterval must be between 5m and 168h"))]
    pub refresh_interval: Option<Interval>,
}

impl SoulDirectory {
    /// How often Muster reads the directory again.
    #[must_use]
    pub fn refresh_interval(&self) -> Duration {
        self.refresh_interval.map_or(Duration::from_hours(1), Interval::get).max(Duration::from_mins(5))
    }
}

/// The observed state of a soul directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SoulDirectoryStatus {
    /// The URL of the directory that this status describes.
    #[serde(default)]
    pub url: String,
    /// The number of souls in the directory's list.
    pub souls: i32,
    /// SHA-256 of the directory's list, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list_sha256: Option<String>,
    /// When Muster first fetched this list. A fetch of the same list does not change the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetched_at: Option<Time>,
    /// The error of the last fetch of the list or of a soul. Until a fetch succeeds, Muster uses the last fetched texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The directory's soul for an agent's role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SoulStatus {
    /// The role for which Muster searched the directory.
    pub role: String,
    /// The state of the soul. `Used`: the templates use it. `NoMatch`: the directory has no soul for the role. `TooLarge`:
    /// Muster left the soul out, because a file with it would be longer than the gateway passes to an agent. `Unavailable`:
    /// Muster has not fetched the soul yet; the status of the AgentGateway shows the cause.
    pub state: SoulState,
    /// The URL of the soul's page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_url: Option<String>,
    /// SHA-256 of the soul's text, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// The state of the soul for a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = super::schema::words)]
pub enum SoulState {
    /// The templates use the soul.
    Used,
    /// The directory has no soul for the role.
    NoMatch,
    /// Muster left the soul out, because a file with it would be longer than the gateway passes to an agent.
    TooLarge,
    /// Muster has not fetched the soul yet. The status of the AgentGateway shows the cause.
    Unavailable,
}
