//! The HTTP API for people over Kubernetes in memory and simulated gateways, under a paused clock.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "helpers outside of test functions fail a test by a panic too, and take JSON literals by value"
)]

mod contract;
mod list;
#[path = "../controllers/memory.rs"]
#[allow(dead_code, reason = "this API needs a part of it")]
mod memory;
mod memory_rbac;
mod rig;
mod stream;
mod transport;
mod write;
