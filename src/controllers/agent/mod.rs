//! The reconcile of an Agent: dereference, build, observe, plan, apply, update status.

pub(crate) mod adoption;
pub(crate) mod apply;
pub(crate) mod cleanup;
pub(crate) mod dereference;
mod gateway_access;
pub mod heartbeat_writer;
mod lost_gateway;
pub(crate) mod observe;
mod observer;
mod reconcile;
mod removal;
mod revocation;
pub(crate) mod take_up;
pub(crate) mod templates;
mod token_secret;
mod wake;
mod work;

pub use reconcile::reconcile;
