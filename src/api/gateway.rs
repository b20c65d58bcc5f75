//! `AgentGateway`: an OpenClaw gateway and how Muster reaches it.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::config_policy::ConfigPolicy;

pub use super::gateway_status::{AgentCounts, AgentGatewayStatus, GatewayCapabilities, Pairing, UnmanagedAgent};
use super::names::OBJECT_PATTERN;
use super::shared::{Heartbeat, Interval, LocalRef, SecretKeyRef, TemplatesRef, UserProfile};
use super::soul::SoulDirectory;

/// How to reach an OpenClaw gateway, and what its agents have in common.
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
    printcolumn(name = "URL", type_ = "string", json_path = ".spec.url", description = "Where the gateway listens"),
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
        description = "Whether agents can be reconciled now"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why it is or is not ready"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since it was created"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct AgentGatewaySpec {
    /// WebSocket address of the gateway, `ws://host:18789` or `wss://host`.
    #[schemars(length(min = 6, max = 512))]
    #[x_kube(validation = Rule::new("isURL(self) && url(self).getScheme() in ['ws', 'wss'] && url(self).getHostname() != ''").message("url must be ws://host[:port] or wss://host[:port]"))]
    #[x_kube(validation = Rule::new("!self.contains('@') && !self.contains('?') && !self.contains('#')").message("url must not carry credentials, a query or a fragment; put the credential into a Secret and name it in auth"))]
    pub url: String,
    /// The shared credential of the gateway.
    pub auth: GatewayAuth,
    /// How a `wss` gateway's certificate is checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<GatewayTls>,
    /// Muster's own device identity at the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceSpec>,
    /// Directory on the gateway's host under which agents get their workspaces: absolute, or below `~`. Without `..` and without
    /// `${`, which the gateway would replace by a variable of its environment. When it changes,
    /// agents get new workspaces there and the old ones stay.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.startsWith('/') || self == '~' || self.startsWith('~/')").message("workspaceRoot must be an absolute path or begin with ~/"))]
    #[x_kube(validation = Rule::new("!self.split('/').exists(p, p == '..')").message("workspaceRoot must not contain .."))]
    #[x_kube(validation = Rule::new("!self.contains('${')").message("workspaceRoot must not contain ${: the gateway would replace ${NAME} by a variable of its environment"))]
    pub workspace_root: String,
    /// Base URL of Muster's HTTP API as agents on the gateway reach it, such as
    /// `http://muster.muster-system.svc:8080`.
    #[schemars(length(min = 8, max = 512))]
    #[x_kube(validation = Rule::new("isURL(self) && url(self).getScheme() in ['http', 'https'] && url(self).getHostname() != ''").message("apiUrl must be http://host[:port] or https://host[:port]"))]
    pub api_url: String,
    /// The person whom the agents work for, unless their Board says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserProfile>,
    /// Templates that replace the built-in ones for all agents of this gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub templates: Option<TemplatesRef>,
    /// Heartbeat settings of agents that do not set their own, field by field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<Heartbeat>,
    /// Namespaces whose Boards and main agents may refer to this gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_namespaces: Option<AllowedNamespaces>,
    /// A directory of souls, from which the templates get the soul for an agent's role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soul_directory: Option<SoulDirectory>,
    /// How often everything on the gateway is compared again although nothing seems to have changed, 10s to 24h. Default: 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('10s') && duration(self) <= duration('24h')").message("resyncInterval must be between 10s and 24h"))]
    pub resync_interval: Option<Interval>,
    /// How often the contents of all files are read and compared, 10m to 168h. Default: 6h. In between, files are compared by
    /// size and time, at each resync.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('10m') && duration(self) <= duration('168h')").message("contentCheckInterval must be between 10m and 168h"))]
    pub content_check_interval: Option<Interval>,
    /// Most requests that may be open at the gateway at one time. Default: 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub max_in_flight: Option<i32>,
    /// How long the deletion of an agent waits for a gateway that is unreachable, once this AgentGateway is itself
    /// being deleted, 0s to 1h. Default: 2m. What is left behind then is told in an event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) <= duration('1h')").message("cleanupTimeout must be at most 1h"))]
    pub cleanup_timeout: Option<Interval>,
    /// What Muster does to what others have in the gateway's config.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_policy: Option<ConfigPolicy>,
    /// Close the connection and leave the gateway as it is until this is false again.
    #[serde(default)]
    pub suspend: bool,
}

impl AgentGatewaySpec {
    /// How often everything is compared again.
    #[must_use]
    pub fn resync_interval(&self) -> Duration {
        self.resync_interval.map_or(Duration::from_mins(10), Interval::get)
    }

    /// How often the contents of all files are compared.
    #[must_use]
    pub fn content_check_interval(&self) -> Duration {
        self.content_check_interval.map_or(Duration::from_hours(6), Interval::get)
    }

    /// How long cleanup waits for a gateway that is going away itself.
    #[must_use]
    pub fn cleanup_timeout(&self) -> Duration {
        self.cleanup_timeout.map_or(Duration::from_mins(2), Interval::get)
    }

    /// Most requests open at one time.
    #[must_use]
    pub fn max_in_flight(&self) -> usize {
        self.max_in_flight.and_then(|n| usize::try_from(n).ok()).unwrap_or(16).clamp(1, 64)
    }
}

/// The shared credential of a gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.tokenSecretRef) != has(self.passwordSecretRef)").message("give either tokenSecretRef or passwordSecretRef"))]
pub struct GatewayAuth {
    /// The Secret key that holds the gateway's token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<SecretKeyRef>,
    /// The Secret key that holds the gateway's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret_ref: Option<SecretKeyRef>,
}

/// How a gateway's certificate is checked. Without any of this the operator's system roots apply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!self.insecureSkipVerify || (!has(self.caSecretRef) && !has(self.fingerprint))").message("insecureSkipVerify goes with neither caSecretRef nor fingerprint"))]
pub struct GatewayTls {
    /// The Secret key that holds the PEM certificates of the authority that signed the gateway's certificate. They replace
    /// the system's roots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
    /// The SHA-256 fingerprint of the gateway's own certificate, in hexadecimal, with or without colons. Only this
    /// certificate is accepted. Without `caSecretRef` it need not be signed by anybody, nor be for this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 95), regex(pattern = "^([0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}$"))]
    pub fingerprint: Option<String>,
    /// Accept any certificate. Whoever stands between Muster and the gateway can then read and change everything: for
    /// tries only.
    #[serde(default)]
    pub insecure_skip_verify: bool,
}

/// Muster's device identity at a gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeviceSpec {
    /// Name of the Secret that keeps the Ed25519 identity and what the gateway issued for it. It is created when
    /// missing. Default: the name of the AgentGateway followed by `-device`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_PATTERN))]
    pub secret_name: Option<String>,
}

/// Which namespaces may refer to a gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.from == 'Selector') == has(self.selector)").message("selector goes with from: Selector, and only with it"))]
pub struct AllowedNamespaces {
    /// `Same`: this namespace only. `All`: every namespace. `Selector`: those whose labels match `selector`.
    #[serde(default)]
    pub from: NamespacesFrom,
    /// Labels of the namespaces that are admitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "label_selector")]
    pub selector: Option<LabelSelector>,
}

/// The schema of a `metav1.LabelSelector`, with the bounds that labels have anyway.
fn label_selector(_: &mut SchemaGenerator) -> Schema {
    let value = || json_schema!({ "type": "string", "maxLength": 63 });
    json_schema!({
        "type": "object",
        "nullable": true,
        "x-kubernetes-map-type": "atomic",
        "properties": {
            "matchLabels": {
                "type": "object",
                "description": "Labels and the values that they must have.",
                "maxProperties": 32,
                "additionalProperties": value()
            },
            "matchExpressions": {
                "type": "array",
                "description": "Requirements of which all must hold.",
                "maxItems": 32,
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": { "type": "string", "description": "The label.", "maxLength": 317 },
                        "operator": {
                            "type": "string",
                            "description": "How the label is compared with the values.",
                            "enum": ["In", "NotIn", "Exists", "DoesNotExist"]
                        },
                        "values": {
                            "type": "array",
                            "description": "For In and NotIn: the values.",
                            "maxItems": 64,
                            "items": value()
                        }
                    }
                }
            }
        }
    })
}

/// A way to choose namespaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NamespacesFrom {
    /// The AgentGateway's own namespace.
    #[default]
    Same,
    /// Every namespace.
    All,
    /// Namespaces with matching labels.
    Selector,
}

impl AgentGateway {
    /// The name of the Secret that keeps the device identity.
    #[must_use]
    pub fn device_secret_name(&self) -> String {
        let given = self.spec.device.as_ref().and_then(|d| d.secret_name.clone());
        given.unwrap_or_else(|| Self::default_device_secret(self.metadata.name.as_deref().unwrap_or_default()))
    }

    /// The name of that Secret for an AgentGateway of this name, when its spec names none.
    #[must_use]
    pub fn default_device_secret(name: &str) -> String {
        format!("{name}-device")
    }

    /// The names of the Secrets that keep its device identity, or did before the spec was changed.
    #[must_use]
    pub fn device_secrets(&self) -> BTreeSet<String> {
        let before = self.status.as_ref().and_then(|status| status.device_secret.clone());
        before.into_iter().chain([self.device_secret_name()]).collect()
    }

    /// The name of the ConfigMap whose templates all agents of this gateway share.
    #[must_use]
    pub fn templates(&self) -> Option<&LocalRef> {
        self.spec.templates.as_ref().map(|t| &t.config_map_ref)
    }
}
