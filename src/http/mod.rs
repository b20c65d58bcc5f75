//! The HTTP servers. One server has the APIs for agents and for people and the fleet page. A second server, on its own port,
//! has the probes and the metrics.
//!
//! This folder uses the state and the core, and no controller. A handler writes changes to Kubernetes, or to the heartbeats
//! of the state.

pub mod agent_auth;
pub mod agents;
pub mod api;
pub mod change_feed;
pub mod confidential;
pub mod dto;
pub mod error;
pub mod forward;
pub mod made_certificate;
mod openapi;
pub mod origin;
pub mod people;
pub mod places;
pub mod probes;
pub mod pulse;
pub mod rate_limit;
pub mod router;
pub mod server;
pub mod tls;
pub mod ui;
