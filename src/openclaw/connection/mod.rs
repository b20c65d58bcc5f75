//! The connection to a gateway: from the bytes below the WebSocket to the requests that wait for an answer.
//!
//! `transport`, `tls`, `socket`, `metered`: the bytes, and the bounds of what is read. `frame`, `session`, `handshake`: the
//! conversation, without I/O. `device_key`, `credential_fallback`: what the client presents. `task`: the one owner of the socket.

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
