//! Muster: a Kubernetes operator for agents that run on OpenClaw gateways.
//!
//! Dependencies point one way: `{api, templates, openclaw::model} <- core <- state <- {controllers, http} <- app`. The rest of
//! `openclaw` stands alone and is met in `controllers`; `souls` is met there too. `docs/design.md` describes each folder, and
//! `tests/layers.rs` fails on an import that points the other way.

pub mod address;
pub mod api;
pub mod app;
pub mod backoff;
pub mod cli;
pub mod command;
pub mod controllers;
pub mod core;
pub mod export;
pub mod gateway_connection;
pub mod hash;
pub mod http;
pub mod import;
pub mod kubeconfig;
pub mod leadership;
pub mod metrics;
pub mod openclaw;
pub mod options;
pub mod preview;
pub mod souls;
pub mod standalone;
pub mod state;
pub mod templates;
