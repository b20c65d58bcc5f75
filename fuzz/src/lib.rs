//! The targets of `tests/fuzz`, for libFuzzer.

#![allow(dead_code, reason = "the targets need a part of the rig")]

#[path = "../../tests/controllers/memory.rs"]
mod memory;
#[path = "../../tests/http/memory_rbac.rs"]
mod memory_rbac;
#[path = "../../tests/http/rig.rs"]
mod rig;
#[path = "../../tests/fuzz/targets.rs"]
pub mod targets;
