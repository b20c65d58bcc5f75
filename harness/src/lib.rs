//! Starts real processes for tests: a control plane, a gateway with a scripted model, the operator, a browser.
//!
//! Every process listens on loopback, on a port that the system chose, and keeps its files in a temporary directory. A
//! process ends, with its whole process group, when its value is dropped.

mod binaries;
mod browser;
mod canary;
mod control_plane;
mod kube_command;
mod model;
mod openclaw;
mod operator;
mod process;
mod remote_openclaw;
mod start_place;
mod test_report;
mod wait;

pub use binaries::Binaries;
pub use browser::Browser;
pub use canary::Canary;
pub use control_plane::ControlPlane;
pub use kube_command::{KubeCommand, Output};
pub use model::{ModelRequest, ScriptedModel};
pub use openclaw::OpenClaw;
pub use operator::{ListenAddresses, Operator};
pub use remote_openclaw::RemoteOpenClaw;
pub use test_report::{TestReport, panic_message};
pub use wait::until;

/// The error of a process that did not start. The message names the log or the command to look at.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs `start`, and once more if another process took one of its free ports in the meantime.
pub(crate) async fn on_free_ports<T>(mut start: impl AsyncFnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    match start().await {
        Err(failure) if port_was_taken(&failure.to_string()) => start().await,
        result => result,
    }
}

fn port_was_taken(log: &str) -> bool {
    ["address already in use", "EADDRINUSE", "is already in use"].iter().any(|words| log.contains(words))
}

/// A port of the loopback interface that is free now.
///
/// # Errors
/// The system has no free port.
pub fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
