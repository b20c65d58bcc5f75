//! Starts the real parts: a control plane, a gateway with a scripted model, the operator, a browser.
//!
//! Everything listens on loopback, on ports that the system chose, keeps its files in a temporary directory, and ends,
//! with its whole process group, when its value is dropped.

mod binaries;
mod browser;
mod control_plane;
mod kubectl;
mod model;
mod openclaw;
mod operator;
mod process;
mod remote_openclaw;
mod wait;

pub use binaries::Binaries;
pub use browser::Browser;
pub use control_plane::ControlPlane;
pub use kubectl::{Kubectl, Output};
pub use model::{ModelRequest, ScriptedModel};
pub use openclaw::OpenClaw;
pub use operator::Operator;
pub use remote_openclaw::RemoteOpenClaw;
pub use wait::until;

/// Why a part did not start. The message says what to look at.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Starts something on free ports, and once more where another process took one of them in the meantime.
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
/// The system has none.
pub fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
