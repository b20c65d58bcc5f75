//! A control plane: etcd, kube-apiserver and the part of kube-controller-manager that deletes namespaces and garbage.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::binaries::Binaries;
use super::kube_command::KubeCommand;
use super::process::Process;
use super::{Failure, free_port, on_free_ports};

/// Limit for the start of a process; the start takes 5 s on a quiet machine.
const READY_TIMEOUT: Duration = Duration::from_secs(90);
/// The administrator's token. The token is valid as long as this control plane runs.
const ADMIN_TOKEN: &str = "admin";
/// The operator's account in `deploy/`, of which the API server records each request in [`AUDIT_LOG`].
const OPERATOR: &str = "system:serviceaccount:muster-system:muster";
const AUDIT_LOG: &str = "audit.log";

/// A control plane on loopback.
#[derive(Debug)]
pub struct ControlPlane {
    // Fields drop in this order: a process ends before the process that it depends on.
    _controller_manager: Process,
    _api_server: Process,
    _etcd: Process,
    binaries: Binaries,
    port: u16,
    dir: TempDir,
    /// kubectl with the administrator's token.
    pub kubectl: KubeCommand,
}

impl ControlPlane {
    /// Starts a control plane.
    ///
    /// # Errors
    /// A process did not start. The error has the end of its log.
    pub async fn start() -> Result<Self, Failure> {
        on_free_ports(Self::try_start).await
    }

    async fn try_start() -> Result<Self, Failure> {
        let binaries = Binaries::control_plane()?;
        let dir = tempfile::Builder::new().prefix("muster-controlplane-").tempdir()?;
        std::fs::write(dir.path().join("tokens.csv"), format!("{ADMIN_TOKEN},admin,admin,\"system:masters\"\n"))?;
        let (etcd_port, port) = (free_port()?, free_port()?);
        let mut etcd = etcd(&binaries, dir.path(), etcd_port)?;
        let mut api_server = api_server(&binaries, dir.path(), etcd_port, port)?;
        let kubeconfig = write_kubeconfig(dir.path(), "admin", port, ADMIN_TOKEN)?;
        let kubectl = KubeCommand::new(binaries.kubernetes("kubectl"), kubeconfig.clone());
        let ready = api_server.ready("the API server to be ready", READY_TIMEOUT, async || {
            kubectl.run(&["get", "--raw", "/readyz"]).await.map_err(|e| e.to_string())
        });
        tokio::select! {
            biased;
            failure = etcd.ended() => return Err(failure),
            ready = ready => ready?,
        };
        let mut command = Command::new(binaries.kubernetes("kube-controller-manager"));
        command.arg(format!("--kubeconfig={}", kubeconfig.display())).args([
            "--controllers=namespace-controller,garbage-collector-controller",
            "--leader-elect=false",
            "--secure-port=0",
        ]);
        let controller_manager = Process::start("kube-controller-manager", command, dir.path())?;
        Ok(Self {
            _controller_manager: controller_manager,
            _api_server: api_server,
            _etcd: etcd,
            binaries,
            port,
            dir,
            kubectl,
        })
    }

    /// Installs the definitions from `crds/`, and the operator's resources from a kustomization, `deploy` or one of its examples.
    ///
    /// # Errors
    /// kubectl's error.
    pub async fn install(&self, kustomization: &str) -> Result<String, Failure> {
        let applied = self.install_definitions().await?;
        Ok(applied + &self.kubectl.run(&["apply", "-k", kustomization]).await?)
    }

    /// Installs the definitions from `crds/`, and waits until the API server serves the kinds.
    ///
    /// # Errors
    /// kubectl's error.
    pub async fn install_definitions(&self) -> Result<String, Failure> {
        let applied = self.kubectl.run(&["apply", "-k", "crds"]).await?;
        let crds = ["agentgateways", "boards", "agents"].map(|kind| format!("crd/{kind}.muster.dev"));
        let [gateways, boards, agents] = &crds;
        self.kubectl.run(&["wait", "--for=condition=Established", gateways, boards, agents, "--timeout=60s"]).await?;
        Ok(applied)
    }

    /// The requests of the operator's account until now, as audit events without bodies.
    ///
    /// # Errors
    /// The audit log could not be read.
    pub fn operator_requests(&self) -> Result<Vec<Value>, Failure> {
        let log = std::fs::read_to_string(self.dir.path().join(AUDIT_LOG))?;
        // The last line may be incomplete.
        let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
        Ok(whole.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
    }

    /// Writes a kubeconfig with this bearer token.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn kubeconfig(&self, name: &str, token: &str) -> Result<PathBuf, Failure> {
        write_kubeconfig(self.dir.path(), name, self.port, token)
    }

    /// The administrator's token.
    #[must_use]
    pub fn admin_token(&self) -> &'static str {
        ADMIN_TOKEN
    }

    /// Helm with the administrator's token.
    ///
    /// # Errors
    /// Helm could not be built.
    pub fn helm(&self) -> Result<KubeCommand, Failure> {
        Ok(KubeCommand::new(Binaries::helm()?, self.kubectl.kubeconfig().to_owned()))
    }

    /// kubectl with this kubeconfig.
    #[must_use]
    pub fn kubectl_as(&self, kubeconfig: PathBuf) -> KubeCommand {
        KubeCommand::new(self.binaries.kubernetes("kubectl"), kubeconfig)
    }
}

fn etcd(binaries: &Binaries, dir: &Path, port: u16) -> Result<Process, Failure> {
    let mut command = Command::new(binaries.kubernetes("etcd"));
    let url = format!("http://127.0.0.1:{port}");
    command.arg("--unsafe-no-fsync").arg(format!("--data-dir={}", dir.join("etcd").display()));
    command.args([format!("--listen-client-urls={url}"), format!("--advertise-client-urls={url}")]);
    // This etcd has no peers.
    command.arg("--listen-peer-urls=http://127.0.0.1:0");
    Process::start("etcd", command, dir)
}

fn api_server(binaries: &Binaries, dir: &Path, etcd_port: u16, port: u16) -> Result<Process, Failure> {
    let mut command = Command::new(binaries.kubernetes("kube-apiserver"));
    let file = |name: &str| dir.join(name).display().to_string();
    std::fs::write(dir.join("audit-policy.json"), audit_policy().to_string())?;
    command.args([
        format!("--etcd-servers=http://127.0.0.1:{etcd_port}"),
        format!("--cert-dir={}", file("certs")),
        format!("--secure-port={port}"),
        // The API server creates the key pair of its certificate before it reads these flags; one key pair is enough.
        format!("--service-account-key-file={}", file("certs/apiserver.key")),
        format!("--service-account-signing-key-file={}", file("certs/apiserver.key")),
        format!("--token-auth-file={}", file("tokens.csv")),
        format!("--audit-policy-file={}", file("audit-policy.json")),
        format!("--audit-log-path={}", file(AUDIT_LOG)),
    ]);
    command.args([
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--disable-admission-plugins=ServiceAccount",
        // Some clusters have this plugin; the operator's account has the rights for it.
        "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
        "--allow-privileged=true",
    ]);
    Process::start("kube-apiserver", command, dir)
}

/// Records the requests of the operator's account without bodies.
fn audit_policy() -> Value {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{ "level": "Metadata", "users": [OPERATOR] }, { "level": "None" }],
    })
}

/// Writes a kubeconfig that trusts the certificate which the API server signs itself at its start.
fn write_kubeconfig(dir: &Path, name: &str, port: u16, token: &str) -> Result<PathBuf, Failure> {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "muster", "cluster": {
            "server": format!("https://127.0.0.1:{port}"),
            "certificate-authority": dir.join("certs/apiserver.crt"),
        }}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": "muster", "context": {"cluster": "muster", "user": name}}],
        "current-context": "muster",
    });
    let path = dir.join(format!("{name}.kubeconfig"));
    std::fs::write(&path, config.to_string())?;
    Ok(path)
}
