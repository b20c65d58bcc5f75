//! The namespaces that an AgentGateway admits, and what their Agents may do.

#![expect(clippy::struct_excessive_bools, reason = "each permission is a field of its own in a manifest")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::agent::Role;
use super::shared::Interval;

/// The namespaces that may refer to a gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.from == 'Selector') == has(self.selector)").message("selector goes with from: Selector, and only with it"))]
pub struct AllowedNamespaces {
    /// The namespaces that may refer to the gateway. `Same`: this namespace only. `All`: every namespace. `Selector`:
    /// namespaces with labels that match `selector`. Default: Same.
    #[serde(default)]
    pub from: NamespacesFrom,
    /// The labels of admitted namespaces. Needed with `from: Selector`, and not allowed without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "label_selector")]
    pub selector: Option<LabelSelector>,
    /// What the Agents of admitted namespaces may do. The Agents of this namespace are not restricted. An Agent that does
    /// more is not Ready, with the reason `NotPermitted`. Muster leaves an agent that was registered before as it is.
    #[serde(default)]
    pub permissions: Permissions,
}

/// What the Agents of other namespaces may do on a gateway. Defaults: the roles Worker and Lead, at most 100 agents for each
/// namespace, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!self.adoption || self.chosenIds").message("adoption goes with chosenIds: true, because an Agent names the agent that it adopts in agentId"))]
#[expect(clippy::struct_excessive_bools, reason = "each is a permission by itself")]
pub struct Permissions {
    /// The permitted values of `role`. Default: Worker and Lead.
    #[serde(default = "worker_and_lead")]
    #[schemars(length(max = 3), extend("x-kubernetes-list-type" = "set"))]
    pub roles: Vec<Role>,
    /// Whether an Agent may choose the id of its agent in `agentId`. A chosen id can be one that others want or had before.
    /// Default: false.
    #[serde(default)]
    pub chosen_ids: bool,
    /// Whether an Agent may adopt an agent that the gateway already has, by `adoptionPolicy: IfExists`. Needs `chosenIds`.
    /// Default: false.
    #[serde(default)]
    pub adoption: bool,
    /// Whether an Agent may set further keys of its agent's config entry in `config`. They can give the agent tools and access
    /// on the gateway's host. Default: false.
    #[serde(default)]
    pub config: bool,
    /// Whether an Agent may take up again, without a proof, the agent that its annotation `muster.dev/agent-id` names and that
    /// no Agent stands for. An Agent whose Secret holds the token in that agent's workspace needs no permission. Default: false.
    #[serde(default)]
    pub taking_up: bool,
    /// The permitted values of `model`, `modelFallbacks` and `heartbeat.model`, at most 64. A `*` at the end stands for any text:
    /// `provider/*`, or `*` for every model. An Agent that leaves the field out gets the default of the gateway, which is
    /// always permitted. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256), regex(pattern = "^[^*]*[*]?$")), extend("x-kubernetes-list-type" = "set"))]
    pub models: Vec<String>,
    /// The permitted values of `heartbeat.target` besides `none`, at most 64. A `*` at the end stands for any text. An Agent
    /// that leaves the field out gets the target in `heartbeat` of this AgentGateway, which is always permitted. Default:
    /// none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 128), regex(pattern = "^[^*]*[*]?$")), extend("x-kubernetes-list-type" = "set"))]
    pub heartbeat_targets: Vec<String>,
    /// The shortest permitted `heartbeat.interval`, 1m to 24h. An interval that comes from `heartbeat` of this AgentGateway
    /// is always permitted. Default: `heartbeat.interval` of this AgentGateway, or 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('24h')").message("shortestInterval must be between 1m and 24h"))]
    pub shortest_interval: Option<Interval>,
    /// The maximum number of Agents of each namespace on the gateway, 0 to 10000. The agents on the gateway keep their
    /// places; the other Agents follow in the order of their creation. Default: 100.
    #[serde(default = "hundred")]
    #[schemars(range(min = 0, max = 10000))]
    pub max_agents_per_namespace: i32,
}

impl Default for Permissions {
    fn default() -> Self {
        Self {
            roles: worker_and_lead(),
            chosen_ids: false,
            adoption: false,
            config: false,
            taking_up: false,
            models: Vec::new(),
            heartbeat_targets: Vec::new(),
            shortest_interval: None,
            max_agents_per_namespace: hundred(),
        }
    }
}

fn worker_and_lead() -> Vec<Role> {
    vec![Role::Worker, Role::Lead]
}

fn hundred() -> i32 {
    100
}

/// The schema of a `metav1.LabelSelector`, with the bounds of Kubernetes labels.
fn label_selector(_: &mut SchemaGenerator) -> Schema {
    let value = || json_schema!({ "type": "string", "maxLength": 63 });
    json_schema!({
        "type": "object",
        "x-kubernetes-map-type": "atomic",
        "properties": {
            "matchLabels": {
                "type": "object",
                "description": "Labels and their required values.",
                "maxProperties": 32,
                "additionalProperties": value()
            },
            "matchExpressions": {
                "type": "array",
                "description": "Requirements. A namespace must meet all of them.",
                "maxItems": 32,
                "x-kubernetes-list-type": "atomic",
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": { "type": "string", "description": "The key of the label.", "maxLength": 317 },
                        "operator": {
                            "type": "string",
                            "description": "The comparison of the label with the values. `In`: the value is in the list. `NotIn`: it is not in the list. `Exists`: the label is there. `DoesNotExist`: the label is not there.",
                            "enum": ["In", "NotIn", "Exists", "DoesNotExist"]
                        },
                        "values": {
                            "type": "array",
                            "description": "The values for In and NotIn.",
                            "maxItems": 64,
                            "x-kubernetes-list-type": "atomic",
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
#[schemars(transform = super::schema::words)]
pub enum NamespacesFrom {
    /// The AgentGateway's own namespace.
    #[default]
    Same,
    /// Every namespace.
    All,
    /// Namespaces with labels that match the selector.
    Selector,
}
