//! The controllers: one reconcile per resource, and the runner.
//!
//! Only this folder uses gateway connections. A reconcile does I/O in the order dereference, build, observe, plan, apply, update status.
//! All decisions are in `core`.

pub mod agent;
pub mod board;
mod fair_lanes;
pub mod gateway;
pub mod gateway_handle;
pub mod gateway_pool;
mod late_steps;
mod permits;
pub(crate) mod run_changes;
pub mod runner;
mod status_writer;
mod work_queue;
mod workspace_cache;

use std::sync::Arc;

use gateway_pool::GatewayPool;

use crate::api::agent::Agent;
use crate::api::object_key::ObjectKey;
use crate::core::agent::binding::Binding;
use crate::core::gateway::transport::ServedApi;
use crate::souls::directories::SoulDirectories;
use crate::state::State;

/// The handles of a reconcile.
#[derive(Debug)]
pub struct Context {
    /// The state that is shared with the HTTP API: objects, heartbeats, inventories.
    pub state: Arc<State>,
    /// The connections to gateways.
    pub gateways: GatewayPool,
    /// The directories of souls.
    pub souls: SoulDirectories,
    /// The HTTP API for agents, as the operator serves it.
    pub served_api: ServedApi,
}

impl Context {
    /// Removes an Agent that no longer exists from memory. The cache keeps the agent of an observer: another Agent may manage the agent.
    pub fn forget_agent(&self, agent: &Agent) {
        if let Some(uid) = &agent.metadata.uid {
            self.state.heartbeats.forget(uid);
        }
        self.souls.forget(&ObjectKey::of(&agent.metadata));
        if agent.is_observer() && Binding::of(agent).is_none() {
            return;
        }
        let status = agent.status.as_ref();
        let names = status.and_then(|status| status.gateway.as_ref().zip(status.agent_id.as_deref()));
        if let Some((handle, id)) = names.and_then(|(gateway, id)| Some((self.gateways.handle(gateway)?, id))) {
            handle.cache.forget_agent(id);
        }
    }
}
