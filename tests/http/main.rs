//! The HTTP API for people over an in-memory API and simulated gateways, under a paused clock.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "helpers outside of test functions fail a test by a panic too, and take JSON literals by value"
)]

mod contract;
mod list;
#[path = "../controllers/memory.rs"]
#[allow(dead_code, reason = "it is shared with the tests of the reconcilers, which need more of it")]
mod memory;
mod memory_rbac;
mod rig;
mod stream;
mod write;
