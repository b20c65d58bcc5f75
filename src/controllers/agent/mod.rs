//! The reconcile of an Agent: dereference, build, observe, plan, apply, update status.

pub mod adoption;
pub mod apply;
pub mod cleanup;
pub mod dereference;
mod gateway_view;
pub mod heartbeat_writer;
pub mod observe;
mod reconcile;
mod step_context;
pub mod templates;
pub mod token_secret;
mod wake;

pub use reconcile::reconcile;
