//! The whole operator over the embedded API and simulated gateways, under a paused clock.

#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "helpers outside of test functions fail a test by a panic too, and take JSON literals by value"
)]

mod adoption;
mod alive;
mod answers;
mod auth;
mod backups;
mod bad_input;
mod budget;
mod cluster;
mod crashes;
mod credentials;
mod deletion;
mod disk;
mod drift;
mod entries;
mod faults;
mod files;
mod finalizers;
mod hostile;
mod id_conflicts;
mod imports;
mod inventory;
mod irregular_files;
mod labels;
mod layouts;
mod left_folders;
mod leftovers;
mod lifecycle;
mod lifecycle_matrix;
mod memory_directory;
mod namespaces;
mod observers;
mod outages;
mod passed_config;
mod phases;
mod plans;
mod protection;
mod replicas;
mod requests;
mod rig;
mod rotation;
#[path = "../shapes/mod.rs"]
mod shapes;
mod shared_gateway;
mod shared_heartbeats;
mod soul_directory;
mod suspension;
mod templates;
mod versions;
mod views;
mod wakes;
mod watch_faults;
mod way;
