//! The reconcile of an AgentGateway: its credentials, its connection, its status, its end.

pub mod credentials;
pub mod named_secrets;
pub mod orphaned_secrets;
mod reconcile;

pub use reconcile::reconcile;
pub(crate) use reconcile::{close, connect_early};
