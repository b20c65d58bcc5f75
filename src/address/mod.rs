//! The addresses that Muster connects to: the resolution of a name, and the check of each address before the connection.
//!
//! `souls` and `openclaw` connect only to addresses that were checked here. A name is resolved once, so that no second answer
//! of a name server replaces a checked address.

pub mod networks;
pub mod proxy;
mod race;
pub mod reach;
pub mod resolve;
