//! The client of one OpenClaw gateway.
//!
//! This folder knows the gateway's WebSocket RPC, and neither Kubernetes nor the Agent resource. A [`GatewayClient`] is a
//! handle to three tasks: `connection` owns the socket, `inventory` keeps the roster and the config current, `config_writer` is
//! the only writer of the gateway's config. `docs/gateway-facts.md` has the facts about gateways, with versions and dates.
//!
//! - [`model`]: the state and the answers of a gateway as values. Pure: `core` decides by these types.
//! - `client`, `rpc`: the handle and its typed requests. `link`: the connection that the handles share.
//! - `roster_queue`: the writes to a gateway's config and roster, one after the other. `roster_writes`: creations and deletions.
//! - `channel`: the messages between the tasks. `settings`: the input of a connection. `limits`: the bounds of everything that
//!   a gateway sends. `bucket`: a rate. `kept_memory`: the memory of the roster, the entries and the runs of all gateways.
//! - `text_mask`: the removal of secrets from texts of any kind.

mod bucket;
mod channel;
mod client;
mod config_writer;
mod connection;
mod inventory;
mod kept_memory;
mod limits;
mod link;
pub mod model;
mod roster_queue;
mod roster_writes;
mod rpc;
mod settings;
pub(crate) mod text_mask;

pub use channel::{Change, Meter};
pub use client::GatewayClient;
pub use config_writer::batch_window::ExpectedEntry;
pub use connection::device_key::DeviceKey;
pub use connection::session::{Output, Session};
pub(crate) use connection::tls::client_config;
pub use connection::tls::{Fingerprint, Trust};
pub use connection::transport::{ByteStream, Dial, DialError, DialRules, DialedStream, Network};
pub use roster_queue::{RosterQueue, WeakRosterQueue};
pub use settings::{Auth, ConnectionSettings};
