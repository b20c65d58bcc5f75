//! The connection to a gateway, from the bytes below the WebSocket to the pending requests.
//!
//! - `transport`, `tls`, `socket`, `metered`, `violation`: the byte stream and the bounds of its messages.
//! - `frame`, `session`, `handshake`, `inflow`: the protocol, without I/O.
//! - `device_key`, `credential_fallback`, `redaction`: the credentials of the client.
//! - `payload`, `answer_reporter`: the answers for their readers. `failure`: the end of a connection.
//! - `task`: the only owner of the socket.

mod active_connection;
pub(crate) mod answer_reporter;
pub(crate) mod credential_fallback;
pub(crate) mod device_key;
pub(crate) mod failure;
pub(crate) mod frame;
pub(crate) mod handshake;
pub(crate) mod inflow;
pub(crate) mod metered;
pub(crate) mod payload;
pub(crate) mod redaction;
pub(crate) mod session;
pub(crate) mod socket;
pub(crate) mod task;
pub(crate) mod tls;
pub(crate) mod transport;
mod tunnel;
pub(crate) mod violation;
