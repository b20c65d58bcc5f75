//! Souls for roles, from a directory on the web.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::Interval;

/// A directory on the web that has a soul, a piece of Markdown, for many roles.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SoulDirectory {
    /// Where the directory is, such as `https://souls.directory`: it has its list at `/sitemap.xml` below.
    #[schemars(length(min = 8, max = 512))]
    #[x_kube(validation = Rule::new("isURL(self) && url(self).getScheme() in ['http', 'https'] && url(self).getHostname() != ''").message("url must be http://host[:port] or https://host[:port]"))]
    #[x_kube(validation = Rule::new("!self.contains('@') && !self.contains('?') && !self.contains('#')").message("url must not carry credentials, a query or a fragment"))]
    pub url: String,
    /// Whether the directory is used. What it says is put into the files of agents: choose one that you trust.
    #[serde(default)]
    pub enabled: bool,
    /// Whether the directory may be at a loopback or private address, or lead to one.
    #[serde(default)]
    pub allow_private_addresses: bool,
    /// How often the directory is asked again, 5m to 168h. Default: 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('5m') && duration(self) <= duration('168h')").message("refreshInterval must be between 5m and 168h"))]
    pub refresh_interval: Option<Interval>,
}

impl SoulDirectory {
    /// How often the directory is asked again.
    #[must_use]
    pub fn refresh_interval(&self) -> Duration {
        self.refresh_interval.map_or(Duration::from_hours(1), Interval::get).max(Duration::from_mins(5))
    }
}

/// What was seen of a directory of souls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SoulDirectoryStatus {
    /// The directory that the rest is about.
    #[serde(default)]
    pub url: String,
    /// How many souls it lists.
    pub souls: i32,
    /// SHA-256 of its list, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list_sha256: Option<String>,
    /// When this list was first fetched; the same list again does not move it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetched_at: Option<Time>,
    /// Why it was not fetched the last time, or a soul of it was not. The last good ones are used meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The soul that the directory has for an agent's role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SoulStatus {
    /// The role that it was looked for by.
    pub role: String,
    /// What became of it.
    pub state: SoulState,
    /// Its page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_url: Option<String>,
    /// SHA-256 of its text, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// What became of the soul for a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SoulState {
    /// The templates have it.
    Used,
    /// The directory has none for the role.
    NoMatch,
    /// With it a file would be longer than the gateway passes on to an agent; it was left out.
    TooLarge,
    /// It was not fetched yet; the status of the AgentGateway says why.
    Unavailable,
}
