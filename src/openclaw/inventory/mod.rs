//! The informer of a gateway: it keeps the [`Inventory`](super::model::Inventory) and the activity current, by events and by
//! reads.

mod changes;
pub(crate) mod event;
pub(crate) mod informer;
mod informer_state;
mod job_reader;
