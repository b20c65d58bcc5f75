//! The decision core: what an agent is to be, what was seen, and what follows.
//!
//! Everything here takes values and returns values. There is no I/O, no async, no clock and no
//! randomness; the time is an argument. This layer knows the resources and nothing of clients.

pub mod agent;
pub mod backoff;
pub mod binding;
pub mod blockers;
pub mod desired;
pub mod files;
pub mod label;
pub mod observed;
pub mod removal;
pub mod report;
pub mod requests;
pub mod role;
pub mod session;
pub mod signs;
#[cfg(test)]
mod situation;
pub mod status;
pub mod token;
pub mod trouble;
mod verdicts;
pub mod wake;

pub use agent::{Plan, Step, plan};
pub use binding::{Binding, Identity};
pub use blockers::Wait;
pub use desired::{Content, Delivery, Desired, DesiredFile, Entry, EntryHeartbeat, Origin, Rotation, Wake};
pub use observed::{Activity, Doubt, Observed, ObservedFile, ObservedRun, ObservedSession, Registration};
pub use requests::{Asked, Requests};
pub use signs::Signs;
pub use token::{Held, TokenChange, TokenState};
pub use trouble::Trouble;
