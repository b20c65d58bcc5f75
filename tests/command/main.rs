//! The commands for people, from their command line to their output, against the embedded API in memory, under a paused clock.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "helpers outside of test functions fail a test by a panic too, and take JSON literals by value"
)]

mod annotate;
mod apply;
mod delete;
mod describe;
mod doctor;
mod doctor_gateway;
mod gateway_rig;
mod get;
mod hosts;
mod import_diff;
mod overlay;
mod plan;
mod render;
mod requests;
mod rig;
mod support_bundle;
mod tree;
mod wait;
mod watch;
