//! The real components, and a namespace with a gateway.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use muster::openclaw::model::ConnectionState;
use muster::openclaw::{Auth, ConnectionSettings, DeviceKey, GatewayClient, Network, Trust};
use muster_harness::{ControlPlane, Failure, KubeCommand, OpenClaw, Operator, Output, ScriptedModel, until};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::authority::CertificateAuthority;
use crate::canary::{Look, Watched, account_token};

/// How long a condition may take to hold: usually a second or two, and on a busy machine the minutes of a gateway that restarts itself.
pub(crate) const CONDITION_TIMEOUT: Duration = Duration::from_mins(6);

/// The running components, which stop in this order.
pub(crate) struct Stack {
    /// Searches all outputs for secrets, from the start on.
    pub(crate) watched: Watched,
    pub(crate) operator: Operator,
    pub(crate) cluster: ControlPlane,
    pub(crate) openclaw: OpenClaw,
    pub(crate) model: ScriptedModel,
    /// An authority that the operator's system trusts.
    pub(crate) authority: CertificateAuthority,
    _authorities: NamedTempFile,
}

impl Stack {
    pub(crate) async fn start() -> Result<Self, Failure> {
        let model = ScriptedModel::start().await?;
        let (cluster, openclaw) = futures::try_join!(ControlPlane::start(), OpenClaw::start(model.url()))?;
        cluster.install("deploy").await?;
        let authority = CertificateAuthority::new()?;
        let authorities = NamedTempFile::with_prefix("muster-authorities-")?;
        std::fs::write(authorities.path(), &authority.pem)?;
        let binary = Path::new(env!("CARGO_BIN_EXE_muster"));
        // The canary searches the log at all levels.
        let environment = [("SSL_CERT_FILE", authorities.path().as_os_str()), ("RUST_LOG", OsStr::new("trace"))];
        let operator = Operator::start_with(binary, &cluster, &environment).await?;
        let watched = Watched::start(&cluster, &operator).await?;
        Ok(Self { watched, operator, cluster, openclaw, model, authority, _authorities: authorities })
    }

    /// Fails if any output since the last check contains a secret.
    pub(crate) async fn check_secrets(&mut self) -> Result<(), Failure> {
        self.watched.check(&self.operator).await
    }

    /// Starts the canary again, without the outputs that it has seen.
    pub(crate) async fn renew_canary(&mut self) -> Result<(), Failure> {
        self.watched = Watched::start(&self.cluster, &self.operator).await?;
        Ok(())
    }

    pub(crate) fn tail(&self) -> String {
        let log = self.operator.log();
        let shown = |line: &&str| !line.contains(" TRACE ") && !line.contains(" DEBUG ");
        let lines: Vec<_> = log.lines().filter(shown).collect();
        let end = lines[lines.len().saturating_sub(30)..].join("\n");
        format!("the end of the operator's log:\n{end}\nthe end of the gateway's log:\n{}", self.openclaw.tail())
    }

    /// A new namespace.
    pub(crate) async fn namespace(&self, name: &str) -> Result<Fleet, Failure> {
        self.namespace_of(&self.cluster, name).await
    }

    /// A new namespace of another cluster.
    pub(crate) async fn namespace_of(&self, cluster: &ControlPlane, name: &str) -> Result<Fleet, Failure> {
        cluster.kubectl.run(&["create", "namespace", name]).await?;
        let look = self.watched.look.clone();
        Ok(Fleet { namespace: name.to_owned(), kubectl: cluster.kubectl.clone(), look })
    }

    /// A new namespace with the gateway `gw` and the board `ops` in it.
    pub(crate) async fn fleet(&self, name: &str) -> Result<Fleet, Failure> {
        self.fleet_on(name, &self.openclaw).await
    }

    /// The same with another gateway than the shared one as `gw`.
    pub(crate) async fn fleet_on(&self, name: &str, openclaw: &OpenClaw) -> Result<Fleet, Failure> {
        let fleet = self.namespace(name).await?;
        fleet.secret("gw", openclaw.token()).await?;
        let mut gateway = self.gateway();
        gateway["spec"]["url"] = json!(openclaw.url());
        fleet.apply(&[gateway, board("ops")]).await?;
        Ok(fleet)
    }

    /// The manifest of the gateway `gw`.
    pub(crate) fn gateway(&self) -> Value {
        let spec = json!({
            "url": self.openclaw.url(),
            "auth": { "tokenSecretRef": { "name": "gw", "key": "token" } },
            "workspaceRoot": "~/workspaces",
            "apiUrl": self.operator.api_url(),
            "resyncInterval": "10s",
            // 2026.9.6 removes an agent in up to eight seconds beside other work.
            "cleanupTimeout": "20s",
        });
        manifest("AgentGateway", "gw", spec)
    }

    /// Ids of the agents on the gateway.
    pub(crate) fn agents(&self) -> Result<Vec<String>, Failure> {
        self.openclaw.agents()
    }

    /// The workspace of an agent on the gateway's disk.
    pub(crate) async fn workspace(&self, fleet: &Fleet, agent: &str) -> Result<PathBuf, Failure> {
        let path = fleet.field(&format!("agent/{agent}"), ".status.workspacePath").await?;
        Ok(PathBuf::from(path.replacen('~', &self.openclaw.home().display().to_string(), 1)))
    }

    /// A file of an agent on the gateway's disk.
    pub(crate) async fn file(&self, fleet: &Fleet, agent: &str, name: &str) -> Result<String, Failure> {
        let path = self.workspace(fleet, agent).await?.join(name);
        Ok(std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?)
    }
}

pub(crate) fn manifest(kind: &str, name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "muster.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec })
}

pub(crate) fn board(name: &str) -> Value {
    manifest("Board", name, json!({ "gatewayRef": { "name": "gw" } }))
}

/// A worker of the board `ops`.
pub(crate) fn worker(name: &str) -> Value {
    manifest("Agent", name, json!({ "boardRef": { "name": "ops" } }))
}

/// A worker without wakes.
pub(crate) fn unwoken(name: &str) -> Value {
    manifest("Agent", name, json!({ "boardRef": { "name": "ops" }, "wake": { "enabled": false } }))
}

/// A namespace.
pub(crate) struct Fleet {
    pub(crate) namespace: String,
    kubectl: KubeCommand,
    look: Look,
}

impl Fleet {
    /// Runs kubectl in the namespace.
    pub(crate) async fn run(&self, args: &[&str]) -> Result<String, Failure> {
        self.kubectl.run(&[&["-n", &self.namespace], args].concat()).await
    }

    /// Runs kubectl in the namespace, whatever the exit status.
    pub(crate) async fn try_run(&self, args: &[&str], stdin: &str) -> Result<Output, Failure> {
        self.kubectl.try_run(&[&["-n", &self.namespace], args].concat(), stdin).await
    }

    pub(crate) async fn apply(&self, manifests: &[Value]) -> Result<(), Failure> {
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": manifests });
        self.apply_text(&list.to_string()).await
    }

    /// Applies manifests as text.
    pub(crate) async fn apply_text(&self, manifests: &str) -> Result<(), Failure> {
        let output = self.kubectl.try_run(&["-n", &self.namespace, "apply", "-f", "-"], manifests).await?;
        if output.ok { Ok(()) } else { Err(output.stderr.into()) }
    }

    /// The API server's refusal of a manifest.
    pub(crate) async fn refusal(&self, manifest: &Value) -> Result<String, Failure> {
        let args = ["-n", &self.namespace, "apply", "-f", "-"];
        let output = self.kubectl.try_run(&args, &manifest.to_string()).await?;
        if output.ok { Err(format!("the manifest was accepted: {manifest}").into()) } else { Ok(output.stderr) }
    }

    pub(crate) async fn secret(&self, name: &str, token: &str) -> Result<(), Failure> {
        let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": { "token": token } });
        self.apply(&[secret]).await
    }

    /// A new token of a `ServiceAccount`.
    pub(crate) async fn account_token(&self, account: &str) -> Result<String, Failure> {
        account_token(&self.look.canary, &self.kubectl, &self.namespace, account).await
    }

    pub(crate) async fn config_map(&self, name: &str, data: Value) -> Result<(), Failure> {
        self.apply(&[json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": data })])
            .await
    }

    /// Waits with `kubectl wait`.
    pub(crate) async fn wait(&self, condition: &str, what: &[&str]) -> Result<(), Failure> {
        let (condition, timeout) =
            (format!("--for={condition}"), format!("--timeout={}s", CONDITION_TIMEOUT.as_secs()));
        match self.run(&[&["wait", &condition, &timeout], what].concat()).await {
            Ok(_) => Ok(()),
            Err(error) => {
                let path = "jsonpath={range .items[*]}{.kind} {.metadata.name}: {range .status.conditions[*]}{.type}={.status} {.reason} {.message}; {end}{\"\\n\"}{end}";
                let seen = self.run(&["get", "agentgateways,boards,agents", "-o", path]).await?;
                let seen = seen.lines().filter(|l| !l.contains("Ready=True")).collect::<Vec<_>>().join("\n");
                Err(format!("{error}\n{seen}").into())
            }
        }
    }

    pub(crate) async fn all_ready(&self) -> Result<(), Failure> {
        for kind in ["agentgateways", "boards", "agents"] {
            self.wait("condition=Ready", &[kind, "--all"]).await?;
        }
        // Sessions get their labels once all agents are Ready.
        let none = self.run(&["get", "agents", "--no-headers"]).await?.is_empty();
        if none { Ok(()) } else { self.wait("condition=SessionReady", &["agents", "--all"]).await }
    }

    /// A field by its `JSONPath`.
    pub(crate) async fn field(&self, object: &str, path: &str) -> Result<String, Failure> {
        self.run(&["get", object, "-o", &format!("jsonpath={{{path}}}")]).await
    }

    /// Reason and message of a condition.
    pub(crate) async fn condition(&self, object: &str, kind: &str) -> Result<(String, String), Failure> {
        let path = |field: &str| format!(".status.conditions[?(@.type==\"{kind}\")].{field}");
        Ok((self.field(object, &path("reason")).await?, self.field(object, &path("message")).await?))
    }

    /// Waits until a condition has this reason and returns its message.
    pub(crate) async fn until_reason(&self, object: &str, kind: &str, reason: &str) -> Result<String, Failure> {
        until(&format!("{object}: {kind} to be {reason}"), CONDITION_TIMEOUT, async || {
            let (seen, message) = self.condition(object, kind).await.map_err(|e| e.to_string())?;
            if seen == reason { Ok(message) } else { Err(format!("{seen}: {message}")) }
        })
        .await
    }

    /// Deletes the namespace and does not wait.
    pub(crate) async fn delete_later(self) -> Result<(), Failure> {
        self.look.take().await;
        self.kubectl.run(&["delete", "namespace", &self.namespace, "--wait=false"]).await?;
        Ok(())
    }

    /// Deletes the namespace and waits until it is gone.
    pub(crate) async fn delete(self) -> Result<(), Failure> {
        // The canary sees the answers about the objects while they exist.
        self.look.take().await;
        // The gateway removes agents one by one, each in up to six seconds (2026.9.6, docs/gateway-facts.md).
        self.kubectl.run(&["delete", "namespace", &self.namespace, "--timeout=5m"]).await?;
        Ok(())
    }
}

/// Waits until a gateway has applied its own last config. A gateway that is killed earlier accepts no changes for five minutes
/// (2026.9.6, docs/gateway-facts.md).
pub(crate) async fn until_settled(openclaw: &OpenClaw) -> Result<(), Failure> {
    let client = other_client(openclaw).await?;
    until("the gateway to be settled", CONDITION_TIMEOUT, async || {
        client.resync().await;
        let settled = client.inventory().borrow().as_ref().is_some_and(|inventory| inventory.settled);
        if settled { Ok(()) } else { Err("it has not applied its last config".to_owned()) }
    })
    .await
}

/// A second client of the gateway.
pub(crate) async fn other_client(openclaw: &OpenClaw) -> Result<GatewayClient, Failure> {
    let settings = ConnectionSettings {
        url: openclaw.url().parse()?,
        auth: Auth::Token(openclaw.token().into()),
        device_key: Arc::new(DeviceKey::generate()?),
        device_token: None,
        previous: None,
        trust: Trust::Platform,
        max_in_flight: 4,
        resync: Duration::from_mins(10),
    };
    let gateway = GatewayClient::open(settings, Arc::new(Network::default()), Arc::new(()));
    let mut link = gateway.connection();
    tokio::time::timeout(CONDITION_TIMEOUT, link.wait_for(|link| matches!(link, ConnectionState::Up(_)))).await??;
    Ok(gateway)
}
