//! The decisions: the desired state, the observed state and the difference between both. Each resource has its folder.
//!
//! The code is pure: each function takes values and returns values. The code has no I/O, no async, no clock, no randomness and no
//! client; the time is an argument. This folder knows the resources, the templates and the values that a gateway answers with.

pub mod agent;
pub mod board;
pub mod error;
pub mod event;
pub mod gateway;
pub mod gateway_ref;
pub mod index;
pub mod kstatus;
pub mod names;
pub mod objects;
pub mod ownership;
pub mod request_progress;
pub mod requests;
pub mod requeue;
