//! One AgentGateway: its status and its conditions.

pub mod census;
pub mod cleanup;
pub mod conditions;
pub mod config_synced;
pub mod credential;
pub mod events;
pub mod shared_heartbeats;
pub mod status;
pub mod transport;
pub mod url;
