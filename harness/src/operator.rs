//! The operator as a process, with the ServiceAccount that it ships.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::control_plane::ControlPlane;
use super::process::Process;
use super::{Failure, free_port, until};

/// How long it may take to be ready.
const READY: Duration = Duration::from_secs(60);

/// The operator.
#[derive(Debug)]
pub struct Operator {
    process: Process,
    api_port: u16,
    probe_port: u16,
    _dir: TempDir,
}

impl Operator {
    /// Starts `binary` with the token of the ServiceAccount `muster-system/muster`, so that it may do what the shipped RBAC
    /// lets it do and nothing else.
    ///
    /// # Errors
    /// It did not become ready; with the end of its log.
    pub async fn start(binary: &Path, cluster: &ControlPlane) -> Result<Self, Failure> {
        let create = ["create", "token", "muster", "--namespace=muster-system", "--duration=24h"];
        let token = cluster.kubectl.run(&create).await?;
        let kubeconfig: PathBuf = cluster.kubeconfig("operator", token.trim())?;
        let dir = tempfile::Builder::new().prefix("muster-operator-").tempdir()?;
        let (api_port, probe_port) = (free_port()?, free_port()?);
        let mut command = Command::new(binary);
        command.arg("run").arg("--kubeconfig").arg(kubeconfig);
        command.args(["--api-addr", &format!("127.0.0.1:{api_port}"), "--probe-addr", &format!("127.0.0.1:{probe_port}")]);
        let mut process = Process::start("muster", command, dir.path())?;
        until("the operator to be ready", READY, async || {
            process.alive().map_err(|e| e.to_string())?;
            let (status, body) = get(probe_port, "/readyz").await.map_err(|e| e.to_string())?;
            if status == 200 { Ok(()) } else { Err(format!("{body}{}", process.tail(10))) }
        })
        .await?;
        Ok(Self { process, api_port, probe_port, _dir: dir })
    }

    /// The base URL of its HTTP API.
    #[must_use]
    pub fn api_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.api_port)
    }

    /// The value of a metric, summed over its labels.
    ///
    /// # Errors
    /// The metrics could not be read.
    pub async fn metric(&self, name: &str) -> Result<f64, Failure> {
        let (_, text) = get(self.probe_port, "/metrics").await?;
        let of = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            (series.split('{').next() == Some(name)).then(|| value.parse::<f64>().ok())?
        };
        Ok(text.lines().filter_map(of).sum())
    }

    /// Everything that it logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Ends it as a power cut does.
    pub fn kill(mut self) {
        self.process.kill();
    }

    /// Asks it to end, as Kubernetes does.
    pub fn terminate(&self) {
        self.process.signal(Signal::SIGTERM);
    }
}

/// One HTTP GET: status and body.
async fn get(port: u16, path: &str) -> Result<(u16, String), Failure> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or("the answer is no HTTP")?;
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or("the answer has no status")?;
    Ok((status, body.to_owned()))
}
