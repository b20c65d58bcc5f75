//! One AgentGateway: its status and its conditions.

pub mod cleanup;
pub mod conditions;
pub mod shared_heartbeats;
pub mod status;
