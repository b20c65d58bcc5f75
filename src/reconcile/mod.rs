//! The reconcilers: read references, say what is desired, observe, plan, act, record.
//!
//! This layer is generic over [`ports::Store`], the Kubernetes side, and meets the gateway client in
//! [`link`] and [`gateways`] only. It decides nothing that `plan` can decide.

pub mod access;
pub mod act;
pub mod adoption;
pub mod agent;
pub mod board;
pub mod changes;
pub mod credentials;
pub mod desired;
pub mod entry;
pub mod farewell;
pub mod gateway;
pub mod gateway_status;
mod gateway_verdicts;
pub mod gateways;
pub mod heartbeats;
mod leftovers;
pub mod link;
mod names;
mod news;
pub mod observe;
mod ownership;
pub mod pass_on;
pub mod ports;
pub mod progress;
pub mod references;
pub mod release;
pub mod role_soul;
pub mod shared_heartbeats;
mod shelf;
pub mod souls;
mod status_writer;
mod step_context;
pub mod templates;
pub mod token;
pub mod unmanaged;
pub mod variables;
mod view;
mod wake;
mod workspace_cache;

use std::time::Duration;

pub use gateways::Gateways;
pub use heartbeats::Heartbeats;
pub use ports::{Key, Store, StoreError};
pub use souls::Souls;

/// The handles that a reconcile works with.
#[derive(Debug)]
pub struct World<S> {
    /// The Kubernetes side.
    pub store: S,
    /// The connections to gateways.
    pub gateways: Gateways,
    /// What agents reported lately.
    pub heartbeats: Heartbeats,
    /// The directories of souls.
    pub souls: Souls,
}

/// When to look again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Next {
    /// After this time at the latest; when `None`, never without a change, unless something failed.
    pub after: Option<Duration>,
    /// Whether that is because something failed, so that the wait is to grow.
    pub failed: bool,
}

impl Next {
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
