//! The HTTP servers: the API that agents and people call and the page for people, and probes and metrics on a port of
//! their own.
//!
//! This folder names the state and the core, and never a controller: what a handler changes is written to Kubernetes, or into the
//! heartbeats of the state.

pub mod agent_auth;
pub mod agents;
pub mod api;
pub mod change_feed;
pub mod dto;
pub mod error;
pub mod people;
pub mod probes;
pub mod rate_limit;
pub mod server;
pub mod tls;
pub mod ui;
