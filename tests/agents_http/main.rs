//! The HTTP API for agents: responses, limits, slow and hostile clients.

#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "helpers outside of test functions fail a test by a panic too, and take JSON literals by value"
)]

#[path = "../controllers/answers.rs"]
mod answers;
#[allow(dead_code, reason = "this API needs a part of it")]
#[path = "../controllers/cluster.rs"]
mod cluster;
mod connections;
#[allow(dead_code, reason = "this API needs a part of it")]
#[path = "../http/described.rs"]
mod described;
mod flood;
mod heartbeat_writer;
mod refusals;
mod rig;
mod rotation;
mod tls;
#[allow(dead_code, reason = "this API needs a part of it")]
#[path = "../controllers/watch_faults.rs"]
mod watch_faults;
#[allow(dead_code, reason = "this API needs a part of it")]
#[path = "../http/watched.rs"]
mod watched;
#[allow(dead_code, reason = "this API needs a part of it")]
#[path = "../controllers/way.rs"]
mod way;
