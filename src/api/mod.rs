//! The resources of `muster.dev/v1alpha1`: data only.
//!
//! This layer uses Kubernetes types and no other layer of the crate. Its only behaviour is to resolve defaults of fields
//! that are left out.
#![allow(clippy::duplicated_attributes, reason = "a resource has several columns of one type")]
#![expect(unreachable_pub, reason = "the derive of a schema makes private copies of public types")]

pub mod agent;
pub mod agent_activity;
pub mod agent_status;
pub mod allowed_namespaces;
pub mod board;
pub mod condition;
pub mod conditions;
pub mod config_policy;
pub mod crds;
pub mod deletion_policy;
pub mod gateway;
pub mod gateway_status;
pub mod keys;
mod lenient;
pub mod management_policy;
pub mod names;
pub mod object_key;
pub mod profile;
pub mod reason;
pub mod requests;
mod schema;
pub mod sha256_hex;
pub mod shared;
pub mod shared_text;
pub mod soul;
pub mod text;
pub mod watched_namespaces;
mod words;

pub use agent::{Agent, AgentSpec, AgentStatus};
pub use board::{Board, BoardSpec, BoardStatus};
pub use conditions::ConditionType;
pub use gateway::{AgentGateway, AgentGatewaySpec, AgentGatewayStatus};
pub use reason::Reason;
