//! The operator as a process: on a cluster with the `ServiceAccount` of `deploy/`, or without a cluster.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::Failure;
use super::control_plane::ControlPlane;
use super::kube_command::KubeCommand;
use super::process::{Process, read};

/// Time that Kubernetes gives a pod to end.
const TERMINATION_GRACE: Duration = Duration::from_secs(30);
/// Limit for the operator's start.
const READY_TIMEOUT: Duration = Duration::from_mins(1);

/// Limit for the answer to a request.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// A running operator.
#[derive(Debug)]
pub struct Operator {
    process: Process,
    addresses: ListenAddresses,
    start_config: StartConfig,
}

/// The addresses that the operator listens on.
#[derive(Clone, Copy, Debug)]
pub struct ListenAddresses {
    /// The HTTP API and the page.
    pub api: SocketAddr,
    /// The probes.
    pub probes: SocketAddr,
    /// The metrics.
    pub metrics: SocketAddr,
}

impl ListenAddresses {
    /// The status and the body of the answer of the HTTP API to a GET of a person with this token.
    ///
    /// # Errors
    /// The operator did not answer.
    pub async fn get(&self, path: &str, token: &str) -> Result<(u16, String), Failure> {
        get(self.api, path, Some(token)).await
    }

    /// The text of `/metrics`.
    ///
    /// # Errors
    /// The metrics could not be read.
    pub async fn metrics(&self) -> Result<String, Failure> {
        Ok(get(self.metrics, "/metrics", None).await?.1)
    }
}

/// The binary, the credentials and the directory with which the operator is started.
#[derive(Debug)]
struct StartConfig {
    binary: PathBuf,
    kubernetes: Kubernetes,
    environment: Vec<(&'static str, OsString)>,
    dir: TempDir,
}

/// Where the operator keeps its objects.
#[derive(Debug)]
enum Kubernetes {
    /// On a cluster, with a token of the operator's account in the kubeconfig.
    Cluster { kubeconfig: PathBuf, token: String },
    /// In a directory of its own: `muster run --embedded`.
    Embedded { directory: PathBuf },
}

impl Operator {
    /// Starts `binary` with the token of the account `muster-system/muster`, so that only the shipped RBAC rules apply.
    ///
    /// # Errors
    /// The operator did not become ready. The error has the end of its log.
    pub async fn start(binary: &Path, cluster: &ControlPlane) -> Result<Self, Failure> {
        Self::start_on(binary, cluster, Vec::new()).await
    }

    /// Starts `binary` with additional environment variables.
    ///
    /// # Errors
    /// The operator did not become ready. The error has the end of its log.
    pub async fn start_with(
        binary: &Path,
        cluster: &ControlPlane,
        environment: &[(&'static str, &OsStr)],
    ) -> Result<Self, Failure> {
        let environment = environment.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Self::start_on(binary, cluster, environment).await
    }

    async fn start_on(
        binary: &Path,
        cluster: &ControlPlane,
        environment: Vec<(&'static str, OsString)>,
    ) -> Result<Self, Failure> {
        let kubernetes = account(cluster).await?;
        Self::start_anywhere(StartConfig { binary: binary.to_owned(), kubernetes, environment, dir: directory()? })
            .await
    }

    /// Starts `binary` without a cluster, in a new directory.
    ///
    /// # Errors
    /// The operator did not become ready. The error has the end of its log.
    pub async fn start_embedded(binary: &Path) -> Result<Self, Failure> {
        let dir = directory()?;
        // The operator makes this directory.
        let kubernetes = Kubernetes::Embedded { directory: dir.path().join("muster") };
        Self::start_anywhere(StartConfig { binary: binary.to_owned(), kubernetes, environment: Vec::new(), dir }).await
    }

    async fn start_anywhere(start_config: StartConfig) -> Result<Self, Failure> {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (process, addresses) = start_config.run(ListenAddresses { api: any, probes: any, metrics: any }).await?;
        Ok(Self { process, addresses, start_config })
    }

    /// Kills the operator with SIGKILL if it still runs, and starts it on the same addresses.
    ///
    /// # Errors
    /// The operator did not become ready. The error has the end of its log.
    pub async fn restart(&mut self) -> Result<(), Failure> {
        self.process.kill();
        (self.process, self.addresses) = self.start_config.run(self.addresses).await?;
        Ok(())
    }

    /// The same with a new token: the account was installed again.
    ///
    /// # Errors
    /// The account has no token, or the operator did not become ready.
    pub async fn restart_reinstalled(&mut self, cluster: &ControlPlane) -> Result<(), Failure> {
        self.start_config.kubernetes = account(cluster).await?;
        self.restart().await
    }

    /// Starts the operator on the same addresses after [`terminate`](Self::terminate). Does not wait until the operator is ready.
    ///
    /// # Errors
    /// The process did not start.
    pub fn start_again(&mut self) -> Result<(), Failure> {
        self.process = self.start_config.spawn(self.addresses)?;
        Ok(())
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Whether `/readyz` answers that the operator is ready.
    pub async fn is_ready(&self) -> bool {
        matches!(get(self.addresses.probes, "/readyz", None).await, Ok((200, _)))
    }

    /// The base URL of the operator's HTTP API.
    #[must_use]
    pub fn api_url(&self) -> String {
        format!("http://{}", self.addresses.api)
    }

    /// The operator's own Kubernetes token. Empty without a cluster: the operator then needs no token.
    #[must_use]
    pub fn token(&self) -> &str {
        match &self.start_config.kubernetes {
            Kubernetes::Cluster { token, .. } => token,
            Kubernetes::Embedded { .. } => "",
        }
    }

    /// The commands of `muster`, with the operator's kubeconfig: without a cluster, the one of the administrator.
    #[must_use]
    pub fn muster(&self) -> KubeCommand {
        KubeCommand::new(self.start_config.binary.clone(), self.start_config.kubernetes.kubeconfig())
    }

    /// The addresses that the operator listens on.
    #[must_use]
    pub fn addresses(&self) -> ListenAddresses {
        self.addresses
    }

    /// The value of a metric, summed over the series that have all of `labels`, each written `name="value"`.
    ///
    /// # Errors
    /// The metrics could not be read.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> Result<f64, Failure> {
        let text = self.addresses.metrics().await?;
        let of = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            let wanted = series.split('{').next() == Some(name) && labels.iter().all(|label| series.contains(label));
            wanted.then(|| value.parse::<f64>().ok())?
        };
        Ok(text.lines().filter_map(of).sum())
    }

    /// The operator's whole log.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Stops the process with SIGSTOP: it does nothing, and knows nothing of the time that passes.
    pub fn freeze(&self) {
        self.process.signal(Signal::SIGSTOP);
    }

    /// Continues a frozen process, and waits until it has ended by itself. Returns whether it ended with success.
    ///
    /// # Errors
    /// The operator did not end within the grace period.
    pub async fn thaw_and_end(&mut self) -> Result<bool, Failure> {
        self.process.signal(Signal::SIGCONT);
        let status = tokio::time::timeout(TERMINATION_GRACE, self.process.exit()).await??;
        Ok(status.success())
    }

    /// Sends SIGTERM, as Kubernetes does, and waits until the operator has ended.
    ///
    /// # Errors
    /// The operator did not end within the grace period, or its exit status is not 0.
    pub async fn terminate(&mut self) -> Result<(), Failure> {
        self.process.signal(Signal::SIGTERM);
        let status = tokio::time::timeout(TERMINATION_GRACE, self.process.exit()).await??;
        if status.success() { Ok(()) } else { Err(format!("the operator ended with {status}").into()) }
    }
}

/// A new token of the account `muster-system/muster`, and a kubeconfig with it.
async fn account(cluster: &ControlPlane) -> Result<Kubernetes, Failure> {
    let create = ["create", "token", "muster", "--namespace=muster-system", "--duration=24h"];
    let token = cluster.kubectl.run(&create).await?.trim().to_owned();
    Ok(Kubernetes::Cluster { kubeconfig: cluster.kubeconfig("operator", &token)?, token })
}

fn directory() -> std::io::Result<TempDir> {
    tempfile::Builder::new().prefix("muster-operator-").tempdir()
}

impl Kubernetes {
    fn kubeconfig(&self) -> PathBuf {
        match self {
            Self::Cluster { kubeconfig, .. } => kubeconfig.clone(),
            Self::Embedded { directory } => directory.join("kubeconfig"),
        }
    }

    fn add_arguments(&self, command: &mut Command) {
        match self {
            Self::Cluster { kubeconfig, .. } => command.arg("--kubeconfig").arg(kubeconfig),
            Self::Embedded { directory } => {
                command.arg("--embedded").arg(directory).args(["--embedded-addr", "127.0.0.1:0"])
            }
        };
    }
}

impl StartConfig {
    fn spawn(&self, at: ListenAddresses) -> Result<Process, Failure> {
        let mut command = Command::new(&self.binary);
        command.arg("run");
        self.kubernetes.add_arguments(&mut command);
        for (flag, address) in [("--api-addr", at.api), ("--probe-addr", at.probes), ("--metrics-addr", at.metrics)] {
            command.args([flag, &address.to_string()]);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        Process::start("muster", command, self.dir.path())
    }

    async fn run(&self, at: ListenAddresses) -> Result<(Process, ListenAddresses), Failure> {
        let mut process = self.spawn(at)?;
        let log = process.log_path().to_owned();
        let addresses = process
            .ready("the operator to be ready", READY_TIMEOUT, async || {
                let addresses = logged_addresses(&read(&log)).ok_or("the log has no addresses yet")?;
                match get(addresses.probes, "/readyz", None).await {
                    Ok((200, _)) => Ok(addresses),
                    Ok((_, body)) => Err(body),
                    Err(error) => Err(error.to_string()),
                }
            })
            .await?;
        Ok((process, addresses))
    }
}

/// The addresses of the last line in which the operator logs where it listens.
fn logged_addresses(log: &str) -> Option<ListenAddresses> {
    let (_, fields) = log.lines().rev().find_map(|line| line.split_once(" muster runs "))?;
    let address = |key: &str| fields.split(' ').find_map(|field| field.strip_prefix(key)?.parse().ok());
    Some(ListenAddresses { api: address("api=")?, probes: address("probes=")?, metrics: address("metrics=")? })
}

/// Sends one HTTP GET; returns the status and the body.
async fn get(address: SocketAddr, path: &str, token: Option<&str>) -> Result<(u16, String), Failure> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n{token}\r\n").as_bytes()).await?;
    let mut text = String::new();
    tokio::time::timeout(ANSWER_TIMEOUT, stream.read_to_string(&mut text)).await??;
    let (head, body) = text.split_once("\r\n\r\n").ok_or("the reply is not HTTP")?;
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or("the reply has no status")?;
    Ok((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_come_from_the_last_log_line() {
        let line = |port| {
            format!(
                "Z  INFO muster::app: muster runs api=127.0.0.1:{port} probes=127.0.0.1:7 metrics=127.0.0.1:8 kubernetes=\"v1\"\n"
            )
        };
        let addresses = logged_addresses(&(line(5) + &line(6) + "Z  INFO other\n")).unwrap();
        let ports = [addresses.api, addresses.probes, addresses.metrics].map(|address| address.port());
        assert_eq!(ports, [6, 7, 8]);
    }

    #[test]
    fn a_log_without_addresses_gives_none() {
        assert!(logged_addresses("Z  INFO muster::app: starting\n").is_none());
    }
}
