//! One Board: its status and its conditions.

pub mod conditions;
pub mod events;
pub mod status;
