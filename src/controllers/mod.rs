//! The controllers: one reconcile for each resource, and what runs them.
//!
//! Only here is a gateway met. A reconcile does I/O in the order dereference, build, observe, plan, apply, update status; it decides
//! nothing that `core` can decide.

pub mod agent;
pub mod board;
pub mod gateway;
pub mod gateway_handle;
pub mod gateway_pool;
pub mod runner;
mod status_writer;
mod workspace_cache;

use std::sync::Arc;

use gateway_pool::GatewayPool;

use crate::souls::directories::SoulDirectories;
use crate::state::State;

/// The handles that a reconcile works with.
#[derive(Debug)]
pub struct Context<S> {
    /// What the HTTP API shares: objects, heartbeats, inventories.
    pub state: Arc<State<S>>,
    /// The connections to gateways.
    pub gateways: GatewayPool,
    /// The directories of souls.
    pub souls: SoulDirectories,
}
