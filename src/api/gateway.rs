//! `AgentGateway`: an OpenClaw gateway, its connection settings, and the settings that its agents share.

use std::collections::BTreeSet;
use std::time::Duration;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::allowed_namespaces::AllowedNamespaces;
use super::config_policy::ConfigPolicy;
use super::deletion_policy::DeletionPolicy;

pub use super::gateway_status::{AgentCounts, AgentGatewayStatus, GatewayCapabilities, Pairing, UnmanagedAgent};
use super::names::OBJECT_PATTERN;
use super::shared::{Heartbeat, Interval, SecretKeyRef, TemplatesRef, UserProfile};
use super::soul::SoulDirectory;
use super::text::{NOT_ONE_LINE, ONE_LINE};

/// The connection settings of an OpenClaw gateway, and the settings that its agents share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "muster.dev",
    version = "v1alpha1",
    kind = "AgentGateway",
    namespaced,
    status = "AgentGatewayStatus",
    derive = "PartialEq",
    shortname = "agw",
    category = "muster",
    doc = "An OpenClaw gateway: a server that hosts agents. Boards and main agents refer to it.",
    validation = Rule::new("oldSelf.hasValue() || self.metadata.name.size() <= 236").message("the name may have at most 236 characters, so that those of its Secret and of its events fit").optional_old_self(true),
    selectable = ".spec.url",
    printcolumn(name = "URL", type_ = "string", json_path = ".spec.url", description = "The gateway's WebSocket address"),
    printcolumn(
        name = "Version",
        type_ = "string",
        json_path = ".status.serverVersion",
        description = "The gateway's version"
    ),
    printcolumn(
        name = "Agents",
        type_ = "integer",
        json_path = ".status.agents.managed",
        description = "Agents of this cluster on the gateway"
    ),
    printcolumn(
        name = "Device",
        type_ = "string",
        json_path = ".status.deviceId",
        description = "Muster's device id at the gateway",
        priority = 1
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether Muster can reconcile agents on the gateway"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "The reason of the Ready condition"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since the AgentGateway was created"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct AgentGatewaySpec {
    /// WebSocket address of the gateway, `ws://host:18789` or `wss://host`.
    #[schemars(length(min = 6, max = 512))]
    #[x_kube(validation = Rule::new("isURL(self) && url(self).getScheme() in ['ws', 'wss'] && url(self).getHostname() != ''").message("url must be ws://host[:port] or wss://host[:port]"))]
    #[x_kube(validation = Rule::new("!self.contains('@') && !self.contains('?') && !self.contains('#')").message("url must not carry credentials, a query or a fragment; put the credential into a Secret and name it in auth"))]
    pub url: String,
    /// The gateway's shared credential: a token or a password.
    pub auth: GatewayAuth,
    /// Settings for the check of a `wss` gateway's certificate. Default: the operator's system roots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<GatewayTls>,
    /// Muster's device identity at the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceSpec>,
    /// The directory on the gateway's host that contains the agents' workspaces: an absolute path, or a path that begins with
    /// `~`. The path must not contain `..` or `${`; the gateway would replace `${NAME}` by a variable of its environment. After
    /// a change, new agents get workspaces in the new directory, and the existing agents keep theirs.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.startsWith('/') || self == '~' || self.startsWith('~/')").message("workspaceRoot must be an absolute path or begin with ~/"))]
    #[x_kube(validation = Rule::new("!self.split('/').exists(p, p == '..')").message("workspaceRoot must not contain .."))]
    #[x_kube(validation = Rule::new("!self.contains('${')").message("workspaceRoot must not contain ${: the gateway would replace ${NAME} by a variable of its environment"))]
    pub workspace_root: String,
    /// The base URL of Muster's HTTP API for agents on the gateway, such as `http://muster.muster-system.svc:8080`. Default: the
    /// operator's flag `--api-url`. Without both, no agent is set up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 512))]
    #[x_kube(validation = Rule::new("isURL(self) && url(self).getScheme() in ['http', 'https'] && url(self).getHostname() != ''").message("apiUrl must be http://host[:port] or https://host[:port]"))]
    pub api_url: Option<String>,
    /// The person for whom the agents work. `user` of a Board replaces it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserProfile>,
    /// Templates for all agents of this gateway. They replace the built-in templates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub templates: Option<TemplatesRef>,
    /// Heartbeat settings for the agents of this gateway. A field of an Agent's `heartbeat` replaces the same field here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<Heartbeat>,
    /// Defaults for the Agents of this gateway. A field of an Agent's own spec replaces the same field here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_defaults: Option<AgentDefaults>,
    /// The namespaces whose Boards and main agents may refer to this gateway, and what their Agents may do. Default: this
    /// namespace only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_namespaces: Option<AllowedNamespaces>,
    /// How long the agents of a namespace stay on the gateway after this AgentGateway stops admitting the namespace, 0s to
    /// 168h. Muster's HTTP API refuses their tokens at once. After that time, Muster removes them from the gateway by the
    /// deletion policy of each Agent. If the namespace is admitted again before, they stay as they are. Default: 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) <= duration('168h')").message("revocationGracePeriod must be at most 168h"))]
    pub revocation_grace_period: Option<Interval>,
    /// A soul directory. The templates get the soul for an agent's role from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soul_directory: Option<SoulDirectory>,
    /// How often Muster compares everything on the gateway with the specs although no change was reported, 10s to 24h.
    /// Default: 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('10s') && duration(self) <= duration('24h')").message("resyncInterval must be between 10s and 24h"))]
    pub resync_interval: Option<Interval>,
    /// How often Muster reads and compares the contents of all files, 10m to 168h. At each resync in between, Muster compares
    /// only the size and the modification time of a file. Default: 6h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('10m') && duration(self) <= duration('168h')").message("contentCheckInterval must be between 10m and 168h"))]
    pub content_check_interval: Option<Interval>,
    /// The maximum number of open requests at the gateway, 1 to 64. Default: 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub max_in_flight: Option<i32>,
    /// The maximum number of Agents of this gateway that Muster reconciles at one time, 1 to 64. Further Agents wait in the
    /// order of their arrival. Default: 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub max_concurrent_reconciles: Option<i32>,
    /// How long the deletion of an agent waits for an unreachable gateway while this AgentGateway is being deleted, 0s to 1h.
    /// After that time, an event reports what stays on the gateway. Default: 2m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) <= duration('1h')").message("cleanupTimeout must be at most 1h"))]
    pub cleanup_timeout: Option<Interval>,
    /// How Muster treats config entries of the gateway that Muster did not create.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_policy: Option<ConfigPolicy>,
    /// Closes the connection. Muster does not change the gateway until this is false again. This AgentGateway, its Boards and
    /// its Agents keep their condition Ready as last observed. Default: false.
    #[serde(default)]
    pub suspend: bool,
    /// Why it is suspended, for the people who read the conditions, at most 256 characters on one line. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new(ONE_LINE).message(NOT_ONE_LINE))]
    pub suspend_reason: Option<String>,
}

impl AgentGatewaySpec {
    /// How often Muster compares everything on the gateway with the specs.
    #[must_use]
    pub fn resync_interval(&self) -> Duration {
        self.resync_interval.map_or(Duration::from_mins(10), Interval::get)
    }

    /// How often Muster reads and compares the contents of all files.
    #[must_use]
    pub fn content_check_interval(&self) -> Duration {
        self.content_check_interval.map_or(Duration::from_hours(6), Interval::get)
    }

    /// How long cleanup waits for an unreachable gateway while its AgentGateway is being deleted.
    #[must_use]
    pub fn cleanup_timeout(&self) -> Duration {
        self.cleanup_timeout.map_or(Duration::from_mins(2), Interval::get)
    }

    /// How long the agents of a namespace that is no longer admitted stay on the gateway.
    #[must_use]
    pub fn revocation_grace_period(&self) -> Duration {
        self.revocation_grace_period.map_or(Duration::from_hours(1), Interval::get)
    }

    /// What Muster removes when an Agent without a deletion policy of its own is deleted.
    #[must_use]
    pub fn deletion_policy(&self) -> DeletionPolicy {
        self.agent_defaults.and_then(|defaults| defaults.deletion_policy).unwrap_or_default()
    }

    /// The maximum number of open requests at the gateway.
    #[must_use]
    pub fn max_in_flight(&self) -> usize {
        places(self.max_in_flight)
    }

    /// The maximum number of Agents of this gateway that are reconciled at one time.
    #[must_use]
    pub fn max_concurrent_reconciles(&self) -> usize {
        places(self.max_concurrent_reconciles)
    }
}

/// A number of places, with its default and within its range.
fn places(given: Option<i32>) -> usize {
    given.and_then(|n| usize::try_from(n).ok()).unwrap_or(16).clamp(1, 64)
}

/// Defaults for the Agents of a gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentDefaults {
    /// What Muster removes from the gateway when an Agent without a `deletionPolicy` of its own is deleted. `Delete`: the agent,
    /// its session and its workspace; the gateway moves the workspace to its trash. `RetainFiles`: the agent and its session; the
    /// workspace stays. `Orphan`: nothing; Muster sends no request to the gateway. Default: Delete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
}

/// The shared credential of a gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.tokenSecretRef) != has(self.passwordSecretRef)").message("give either tokenSecretRef or passwordSecretRef"))]
pub struct GatewayAuth {
    /// The Secret key with the gateway's token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<SecretKeyRef>,
    /// The Secret key with the gateway's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret_ref: Option<SecretKeyRef>,
}

/// Settings for the check of a gateway's certificate. Without settings, the operator's system roots apply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!self.insecureSkipVerify || (!has(self.caSecretRef) && !has(self.fingerprint))").message("insecureSkipVerify goes with neither caSecretRef nor fingerprint"))]
pub struct GatewayTls {
    /// The Secret key with the PEM certificates of the authority that signed the gateway's certificate. They replace the
    /// operator's system roots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
    /// The SHA-256 fingerprint of the gateway's own certificate, in hexadecimal, with or without colons. Muster accepts only
    /// this certificate. Without `caSecretRef`, Muster checks neither the signature nor the host name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 95), regex(pattern = "^([0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}$"))]
    pub fingerprint: Option<String>,
    /// Accepts any certificate. An attacker between Muster and the gateway can then read and change all data: use it for tests
    /// only. Default: false.
    #[serde(default)]
    pub insecure_skip_verify: bool,
}

/// Muster's device identity at a gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeviceSpec {
    /// Name of the Secret that keeps the Ed25519 key of the device and the device token from the gateway. Muster creates a
    /// missing Secret. Default: the name of the AgentGateway followed by `-device`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_PATTERN))]
    pub secret_name: Option<String>,
}

impl AgentGateway {
    /// The name of the Secret that keeps the device identity.
    #[must_use]
    pub fn device_secret_name(&self) -> String {
        let given = self.spec.device.as_ref().and_then(|d| d.secret_name.clone());
        given.unwrap_or_else(|| Self::default_device_secret(self.metadata.name.as_deref().unwrap_or_default()))
    }

    /// The default name of the Secret that keeps the device identity of the AgentGateway `name`.
    #[must_use]
    pub fn default_device_secret(name: &str) -> String {
        format!("{name}-device")
    }

    /// The names of the Secrets that keep the device identity: the current name, and the name in the status from before a
    /// change of the spec.
    #[must_use]
    pub fn device_secrets(&self) -> BTreeSet<String> {
        let before = self.status.as_ref().and_then(|status| status.device_secret.clone());
        before.into_iter().chain([self.device_secret_name()]).collect()
    }
}
