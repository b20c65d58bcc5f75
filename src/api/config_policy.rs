//! How Muster treats config entries of a gateway that Muster did not create, and its record of the changes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How Muster treats config entries of a gateway that Muster did not create.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigPolicy {
    /// Whether agents that Muster did not create keep their heartbeats. As soon as one agent has a `heartbeat` block, OpenClaw
    /// runs heartbeats only for agents with a block, and each of Muster's agents has a block. `Keep`: Muster adds an empty
    /// block, which inherits the defaults, to each other agent with heartbeats. Muster removes the empty blocks with its last
    /// agent. `Leave`: the other agents lose their heartbeats, and the condition HeartbeatsShared names them. If several
    /// AgentGateways have the same URL, one `Keep` is enough. Default: Keep.
    #[serde(default)]
    pub shared_heartbeats: SharedHeartbeats,
}

/// Whether agents that Muster did not create keep their heartbeats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = super::schema::words)]
pub enum SharedHeartbeats {
    /// The agents keep their heartbeats.
    #[default]
    Keep,
    /// The agents lose their heartbeats.
    Leave,
}

/// The `heartbeat` blocks that Muster added for agents that it did not create.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SharedHeartbeatsStatus {
    /// Ids of agents to which Muster added an empty `heartbeat` block, or is about to add one. Muster records an id before it
    /// writes the block. Muster removes the id when it removes the block, or when somebody else changed the block.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2000), inner(length(max = 64)), extend("x-kubernetes-list-type" = "atomic"))]
    pub kept: Vec<String>,
}
