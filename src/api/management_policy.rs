//! What Muster may do with an agent that somebody else keeps, or made.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether Muster manages the agent of an Agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = super::schema::words)]
pub enum ManagementPolicy {
    /// Muster sets up the agent, maintains it and removes it.
    #[default]
    Manage,
    /// Muster shows the agent and writes nothing to the gateway.
    Observe,
}

/// Whether Muster adopts an agent with the id of `spec.agentId` that the gateway already has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = super::schema::words)]
pub enum AdoptionPolicy {
    /// Muster does not change that agent, and the id counts as taken.
    #[default]
    Never,
    /// Muster adopts that agent.
    IfExists,
}
