//! What Muster does to what others have in a gateway's config, and what it records of that.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What Muster does to what others have in a gateway's config.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigPolicy {
    /// OpenClaw runs heartbeats only of agents with a `heartbeat` block as soon as one agent has a block, and each of
    /// Muster's agents has one. `Keep`: agents that Muster did not make and that would beat by the gateway's own rule
    /// get an empty block, which inherits the defaults; Muster takes it away with its last agent. `Leave`: they lose
    /// their heartbeats, and the condition HeartbeatsShared names them. Of several AgentGateways with one URL, one with `Keep` decides.
    #[serde(default)]
    pub shared_heartbeats: SharedHeartbeats,
}

/// What becomes of the heartbeats of agents that Muster did not make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SharedHeartbeats {
    /// They keep them.
    #[default]
    Keep,
    /// They lose them.
    Leave,
}

/// What Muster made in a gateway's config for the heartbeats of agents that it did not make.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SharedHeartbeatsStatus {
    /// Ids of agents that Muster did not make and whose `heartbeat` block it made, or is about to make. They are recorded
    /// before the block is written, and go from here when the block is taken away or somebody else has put something in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2000), inner(length(max = 64)))]
    pub kept: Vec<String>,
}
