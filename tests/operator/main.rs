//! The reconcilers over an in-memory API and simulated gateways, under a paused clock.

mod bad_input;
mod crashes;
mod deletion;
mod files;
mod lifecycle;
mod memory;
mod rig;
