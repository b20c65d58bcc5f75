//! The HTTP API for agents: what a caller is told, and what slow or strange clients can do.

#![allow(clippy::unwrap_used, reason = "helpers outside of test functions fail a test by a panic too")]

mod connections;
mod heartbeat_writer;
#[allow(dead_code, reason = "this API needs less of the Kubernetes side than the operator does")]
#[path = "../controllers/memory.rs"]
mod memory;
mod refusals;
mod rig;
mod rotation;
mod tls;
