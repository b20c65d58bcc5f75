//! What Muster removes from a gateway when an Agent is deleted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What Muster removes from the gateway when an Agent is deleted. A later value keeps more than an earlier one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = super::schema::words)]
pub enum DeletionPolicy {
    /// The agent, its session and its workspace. The gateway moves the workspace to its trash.
    #[default]
    Delete,
    /// The agent and its session. The workspace stays.
    RetainFiles,
    /// Nothing. Muster sends no request to the gateway.
    Orphan,
}
