//! Which of several replicas works: the holder of a Lease.
//!
//! All replicas watch all objects and serve the HTTP API. The holder alone reconciles, and is the only one to connect to gateways and to
//! take the agents' calls. It stops before another replica can take the Lease (`docs/high-availability.md`).

mod candidate;
mod election;
mod standing;

pub use candidate::{Candidacy, Candidate, Ended};
pub use standing::{Leader, Peer, Standing};
