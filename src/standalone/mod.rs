//! The operator without a cluster: its own Kubernetes API, in one directory.
//!
//! `directory` has the files, `credentials` the token, the certificate and the kubeconfig, and `server` the way in for the commands. This
//! folder starts nothing of the operator.

mod credentials;
pub mod directory;
mod server;
mod snapshot;

pub use directory::{Directory, StandaloneError};
pub use server::{AccessPoint, Connections};
