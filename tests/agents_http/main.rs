//! The HTTP API for agents: what a caller is told, and what slow or strange clients can do.

#![allow(clippy::unwrap_used, reason = "helpers outside of test functions fail a test by a panic too")]

mod connections;
#[allow(dead_code, reason = "this API needs less of the Kubernetes side than the operator does")]
#[path = "../operator/memory.rs"]
mod memory;
mod passing_on;
mod refusals;
mod rig;
mod rotation;
mod tls;
