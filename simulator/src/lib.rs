//! A WebSocket gateway that behaves as measured on real `OpenClaw` gateways, with faults.
//!
//! The simulator runs in the process of its test, on an in-memory byte stream and under a paused clock, or on a port.
//! The simulator does not depend on the client under test: it speaks JSON and has its own copy of every message.
//!
//! - [`Profile`]: the differences between versions, as data.
//! - [`Simulator`]: the handle with which tests connect, act, assert and inject faults.
//! - [`Fault`]: a fault of one call.
//!
//! Modules from the wire inwards: `connection` and `frames`, `handshake` and `signature` (authentication), `dispatch` (the
//! path of a call: queue, locks, latency, faults), `gateway` (the process and its end), `methods` (the effect of each
//! call), `world` and `config` (the state). `external_actions` and `assertions` are for tests.

mod assertions;
mod clock;
mod config;
mod connection;
mod dispatch;
mod error;
mod external_actions;
mod faults;
mod frames;
mod gateway;
mod handshake;
mod heartbeat_actions;
mod methods;
mod profile;
mod schema;
mod signature;
mod simulator;
mod world;

pub use assertions::{Orphans, Session};
pub use config::layout::ConfigLayout;
pub use faults::Fault;
pub use profile::{AuthMode, Latency, Profile, RosterShape, Visibility};
pub use simulator::{ListenGuard, Simulator};
pub use world::origin::Origin;
pub use world::records::{Call, Chat, Outcome};
pub use world::workspaces::FileLink;
