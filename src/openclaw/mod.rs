//! The client of one OpenClaw gateway.
//!
//! This folder knows the gateway's WebSocket RPC and nothing else: not Kubernetes, not the Agent resource. A [`GatewayClient`]
//! is a handle to three tasks: `connection` owns the socket, `inventory` keeps what the gateway has, `config_writer` is the one
//! writer of the gateway's config. Facts about gateways are measured; `docs/gateway-facts.md` has them by version and date.
//!
//! - [`model`]: what a gateway has and answers, as values. Pure: `core` decides by these types.
//! - `client`, `rpc`: the handle and its typed requests. `channel`: what the tasks send to one another. `settings`: what a
//!   connection needs. `limits`: the bounds of everything that a gateway sends.

mod backoff;
mod channel;
mod client;
mod config_writer;
mod connection;
mod inventory;
mod limits;
pub mod model;
mod rpc;
mod settings;

pub use channel::{Change, Meter};
pub use client::GatewayClient;
pub use config_writer::batch_window::ExpectedEntry;
pub use connection::device_key::DeviceKey;
pub use connection::session::{Output, Session};
pub use connection::tls::{Fingerprint, Trust};
pub use connection::transport::{ByteStream, Dial, Network};
pub use settings::{Auth, ConnectionSettings};
