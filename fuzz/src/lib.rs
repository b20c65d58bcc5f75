//! The targets of `tests/fuzz`, for libFuzzer.

#![allow(dead_code, unused_imports, reason = "the targets need a part of the rig")]

#[path = "../../tests/controllers/answers.rs"]
mod answers;
#[path = "../../tests/controllers/cluster.rs"]
mod cluster;
#[path = "../../tests/http/described.rs"]
mod described;
#[path = "../../tests/http/rbac.rs"]
mod rbac;
#[path = "../../tests/http/rig.rs"]
mod rig;
#[path = "../../tests/fuzz/targets.rs"]
pub mod targets;
#[path = "../../tests/http/watched.rs"]
mod watched;
