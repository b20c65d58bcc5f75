//! The connection to a gateway, from the bytes below the WebSocket to the pending requests.
//!
//! - `transport`, `tls`, `socket`, `metered`: the byte stream and the bounds of its messages.
//! - `frame`, `session`, `handshake`: the protocol, without I/O.
//! - `device_key`, `credential_fallback`: the credentials of the client.
//! - `task`: the only owner of the socket.

pub(crate) mod credential_fallback;
pub(crate) mod device_key;
pub(crate) mod frame;
pub(crate) mod handshake;
pub(crate) mod metered;
pub(crate) mod payload;
pub(crate) mod session;
pub(crate) mod socket;
pub(crate) mod task;
pub(crate) mod tls;
pub(crate) mod transport;
