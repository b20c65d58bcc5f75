//! Muster: a Kubernetes operator for agents that run on OpenClaw gateways.

pub mod api;
pub mod cli;
pub mod cluster;
pub mod directory;
pub mod gateway;
pub mod import;
pub mod metrics;
pub mod plan;
pub mod reconcile;
pub mod render;
pub mod run;
pub mod server;
