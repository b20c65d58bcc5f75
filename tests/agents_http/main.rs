//! The HTTP API for agents: responses, limits, slow and hostile clients.

#![allow(clippy::unwrap_used, reason = "helpers outside of test functions fail a test by a panic too")]

mod connections;
mod flood;
mod heartbeat_writer;
#[allow(dead_code, reason = "this API needs a part of it")]
#[path = "../controllers/memory.rs"]
mod memory;
mod refusals;
mod rig;
mod rotation;
mod tls;
