//! The operator without a cluster: its own Kubernetes API, in one directory.
//!
//! `directory` opens it, `files` writes its files, `snapshot` keeps a copy of all objects, `credentials` has the token, the certificate and the kubeconfig, and `server` the way in for the commands. This
//! folder starts nothing of the operator.

mod credentials;
mod directory;
mod files;
mod server;
mod snapshot;

pub use directory::Directory;
pub use files::StandaloneError;
pub use server::{AccessPoint, Connections};
