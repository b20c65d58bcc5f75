//! The decision core: what an agent is to be, what was seen, and what follows.
//!
//! Everything here takes values and returns values. There is no I/O, no async, no clock and no
//! randomness; the time is an argument. This layer knows the resources and nothing of clients.

pub mod agent;
pub mod backoff;
pub mod binding;
pub mod desired;
pub mod files;
pub mod observed;
pub mod removal;
#[cfg(test)]
mod situation;
pub mod status;
pub mod trouble;
pub mod wake;

pub use agent::{Plan, Step, Wait, plan};
pub use binding::{Binding, Identity};
pub use desired::{Content, Delivery, Desired, DesiredFile, Entry, EntryHeartbeat, Wake};
pub use observed::{Observed, ObservedFile, Registration, TokenState};
pub use trouble::Trouble;
