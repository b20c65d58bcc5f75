//! The informer of a gateway: it keeps the [`Inventory`](super::model::Inventory) and the runs current, from events and by reading.

pub(crate) mod event;
pub(crate) mod informer;
