//! A WebSocket gateway that behaves as real `OpenClaw` gateways were measured to, with faults.
//!
//! It runs in the process that tests against it, on an in-memory byte stream and under a paused
//! clock, or on a port. It knows nothing of the client that it is tested with: it speaks JSON, and
//! holds its own copy of every message.
//!
//! - [`Profile`]: what one version does differently from another, as data.
//! - [`Simulator`]: the handle: connect, inspect, interfere, inject faults.
//! - [`Fault`]: what goes wrong with one call.
//!
//! Inside, from the wire inwards: `connection` (frames), `handshake` and `signature` (who is it),
//! `dispatch` (how a call goes through: queue, locks, latency, faults), `gateway` (the process and its
//! end), `methods` (what each call does), `world` and `config` (the values that it changes).

mod assertions;
mod clock;
mod config;
mod connection;
mod dispatch;
mod error;
mod external_actions;
mod faults;
mod gateway;
mod handshake;
mod methods;
mod profile;
mod schema;
mod signature;
mod simulator;
mod world;

pub use assertions::{Orphans, Session};
pub use faults::Fault;
pub use profile::{AuthMode, Latency, Profile, RosterShape, Visibility};
pub use simulator::{ListenGuard, Simulator};
pub use world::origin::Origin;
pub use world::records::{Call, Chat, Outcome};
pub use world::workspaces::FileLink;
