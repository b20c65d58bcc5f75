//! A real gateway in a network namespace of its own, so that the gateway sees its clients as remote.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::UnixStream;

use super::Failure;
use super::binaries::Binaries;
use super::openclaw::{AuthMode, LaunchOptions, READY_TIMEOUT, check_http, initial_config, random_token};
use super::process::Process;
use super::start_place::StartPlace;

/// The gateway's default port. The port is always free in a new namespace.
const GATEWAY_PORT: u16 = 18789;
const RELAY_SCRIPT: &str = include_str!("remote_openclaw.py");
/// Limit for one command.
const COMMAND_TIMEOUT: Duration = Duration::from_mins(1);

/// A gateway that clients reach from an address other than its loopback address.
#[derive(Debug)]
pub struct RemoteOpenClaw {
    process: Process,
    install_dir: PathBuf,
    home: TempDir,
    token: String,
}

impl RemoteOpenClaw {
    /// Starts the pinned newest gateway.
    ///
    /// # Errors
    /// The gateway did not start, with the end of its log; or the system allows no network namespace.
    pub async fn start() -> Result<Self, Failure> {
        let install_dir = Binaries::openclaw()?;
        let home = tempfile::Builder::new().prefix("muster-remote-").tempdir()?;
        let state = home.path().join(".openclaw");
        std::fs::create_dir(&state)?;
        std::fs::write(state.join("openclaw.json"), initial_config("http://127.0.0.1:9/v1").to_string())?;
        let script = home.path().join("remote_openclaw.py");
        std::fs::write(&script, RELAY_SCRIPT)?;
        let mut command = Command::new("unshare");
        command.args(privileges(&["--user", "--map-root-user"])?).args(["--net", "python3"]);
        command.arg(&script).arg(home.path().join("relay.sock")).arg(install_dir.join("node"));
        let token = random_token()?;
        launch(&install_dir, home.path(), &token).add_arguments(&mut command);
        let _place = StartPlace::take().await?;
        let process = Process::start("openclaw", command, home.path())?;
        let mut gateway = Self { process, install_dir, home, token };
        let socket = gateway.socket();
        let answered = async || {
            let stream = UnixStream::connect(&socket).await.map_err(|e| e.to_string())?;
            check_http(stream).await.map_err(|e| e.to_string())
        };
        gateway.process.ready("the gateway to answer", READY_TIMEOUT, answered).await?;
        Ok(gateway)
    }

    /// The Unix socket that the relay connects to the gateway.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.home.path().join("relay.sock")
    }

    /// The gateway's token.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Runs a command line in the gateway's namespace; returns its output.
    ///
    /// # Errors
    /// The command failed, or took longer than the limit.
    pub async fn run(&self, line: &str) -> Result<String, Failure> {
        let mut command = Command::new("nsenter");
        let pid = self.process.id();
        command.args(privileges(&[&format!("--user=/proc/{pid}/ns/user"), "--preserve-credentials"])?);
        command.arg(format!("--net=/proc/{pid}/ns/net")).args(["sh", "-c", line]);
        launch(&self.install_dir, self.home.path(), &self.token).set_environment(&mut command);
        let run = tokio::process::Command::from(command).kill_on_drop(true).output();
        let output =
            tokio::time::timeout(COMMAND_TIMEOUT, run).await.map_err(|_| format!("{line}: it took too long"))??;
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.success() { Ok(said) } else { Err(format!("{line}: {said}").into()) }
    }

    /// The last lines of the gateway's log.
    #[must_use]
    pub fn tail(&self) -> String {
        self.process.tail(40)
    }
}

fn launch<'a>(install_dir: &'a Path, home: &'a Path, secret: &'a str) -> LaunchOptions<'a> {
    LaunchOptions { install_dir, home, port: GATEWAY_PORT, auth_mode: AuthMode::Token, secret, bind: "lan" }
}

/// The arguments that only a user other than root needs.
fn privileges(more: &[&str]) -> std::io::Result<Vec<String>> {
    let root = std::fs::metadata("/proc/self")?.uid() == 0;
    Ok(if root { Vec::new() } else { more.iter().map(|&word| word.to_owned()).collect() })
}

impl Drop for RemoteOpenClaw {
    fn drop(&mut self) {
        self.process.kill();
    }
}
