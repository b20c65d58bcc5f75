//! The HTTP servers: the API that agents and people call and the page for people, and probes and metrics on a port of
//! their own.

pub mod agents;
pub mod api;
pub mod caller;
pub mod error;
pub mod feed;
pub mod fleet;
pub mod limits;
pub mod listen;
pub mod people;
pub mod probes;
pub mod tls;
pub mod tokens;
pub mod view;
