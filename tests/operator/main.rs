//! The reconcilers over an in-memory API and simulated gateways, under a paused clock.

#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "helpers outside of test functions fail a test by a panic too, and take JSON literals by value"
)]

mod adoption;
mod auth;
mod bad_input;
mod budget;
mod clashes;
mod crashes;
mod credentials;
mod deletion;
mod directory;
mod disk;
mod drift;
mod entries;
mod faults;
mod files;
mod files_in_trouble;
mod finalizers;
mod inventory;
mod labels;
mod leftovers;
mod life;
mod lifecycle;
mod memory;
mod outages;
mod phases;
mod requests;
mod rig;
mod rotation;
mod shared_heartbeats;
mod souls;
mod templates;
mod versions;
mod wakes;
