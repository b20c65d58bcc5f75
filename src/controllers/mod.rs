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
use std::time::Duration;

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

/// When to look again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requeue {
    /// After this time at the latest; when `None`, never without a change, unless something failed.
    pub after: Option<Duration>,
    /// Whether that is because something failed, so that the wait is to grow.
    pub failed: bool,
}

impl Requeue {
    /// Look again when something changes.
    #[must_use]
    pub fn on_change() -> Self {
        Self::default()
    }

    /// Look again after this time at the latest.
    #[must_use]
    pub fn after(time: Duration) -> Self {
        Self { after: Some(time), failed: false }
    }

    /// Something failed that may pass: look again, later each time.
    #[must_use]
    pub fn retry() -> Self {
        Self { after: None, failed: true }
    }

    /// The same, and after this time at the latest.
    #[must_use]
    pub fn within(self, most: Option<Duration>) -> Self {
        Self { after: most.or(self.after), ..self }
    }
}
