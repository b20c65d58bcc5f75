//! The HTTP API for people over the embedded API and simulated gateways, under a paused clock.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "helpers outside of test functions fail a test by a panic too, and take JSON literals by value"
)]

#[path = "../controllers/answers.rs"]
mod answers;
#[path = "../controllers/cluster.rs"]
#[allow(dead_code, reason = "this API needs a part of it")]
mod cluster;
mod contract;
mod described;
mod list;
mod rbac;
mod reference;
mod rig;
mod stream;
mod transport;
mod watched;
mod write;
