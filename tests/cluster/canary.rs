//! The canary of the cluster tests: no secret may leave its Secret, in no output of any test.

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher;
use kube::runtime::watcher::Event;
use kube::{Client, Config};
use muster::api::keys;
use muster_harness::{Canary, ControlPlane, Failure, KubeCommand, ListenAddresses, Operator, until};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::stack::{CONDITION_TIMEOUT, Stack, unwoken};

/// Time between two looks at the arguments of all processes.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// The kinds whose every version the canary sees: group, version, kind.
const KINDS: [(&str, &str, &str); 5] = [
    ("muster.dev", "v1alpha1", "AgentGateway"),
    ("muster.dev", "v1alpha1", "Board"),
    ("muster.dev", "v1alpha1", "Agent"),
    ("events.k8s.io", "v1", "Event"),
    ("", "v1", "ConfigMap"),
];

/// The keys of Secrets whose values are no secrets.
const PUBLIC_KEYS: [&str; 8] = [
    keys::AGENT_ID_KEY,
    keys::API_URL_KEY,
    keys::DEVICE_ID_KEY,
    keys::DEVICE_TOKEN_URL_KEY,
    keys::LAST_GOOD_CA_KEY,
    keys::LAST_GOOD_URL_KEY,
    keys::LAST_GOOD_KIND_KEY,
    "ca.crt",
];

/// The canary of a stack. It sees every version of every object from the stack's start on, the arguments of processes and the stream of the
/// HTTP API for people; [`Look::take`] adds the outputs that have to be asked for.
pub(crate) struct Watched {
    pub(crate) look: Look,
    /// How much of the operator's log the canary has seen.
    log_seen: usize,
    _tasks: JoinSet<()>,
}

/// Sees what the operator answers.
#[derive(Clone)]
pub(crate) struct Look {
    pub(crate) canary: Arc<Canary>,
    operator: ListenAddresses,
    admin_token: &'static str,
}

impl Look {
    /// Sees the answers of the HTTP API, the page and the metrics, as they are now.
    pub(crate) async fn take(&self) {
        let paths = ["/", "/openapi.json", "/api/v1/agents", "/api/v1/boards", "/api/v1/gateways"];
        let mut paths = paths.map(str::to_owned).to_vec();
        // A test may leave the operator stopped or about to start.
        if let Ok((_, agents)) = self.operator.get("/api/v1/agents", self.admin_token).await {
            let agents: Value = serde_json::from_str(&agents).unwrap_or_default();
            let ids = agents["items"].as_array().into_iter().flatten().filter_map(|agent| agent["id"].as_str());
            paths.extend(ids.flat_map(|id| [format!("/api/v1/agents/{id}"), format!("/api/v1/agents/{id}/events")]));
        }
        for path in paths {
            if let Ok((_, answer)) = self.operator.get(&path, self.admin_token).await {
                self.canary.see(&format!("the answer of {path}"), &answer);
            }
        }
        self.canary.see("the metrics", &self.operator.metrics().await.unwrap_or_default());
    }
}

impl Watched {
    pub(crate) async fn start(cluster: &ControlPlane, operator: &Operator) -> Result<Self, Failure> {
        let log_seen = operator.log().len();
        let canary = Arc::new(Canary::default());
        canary.learn("the operator's Kubernetes token", operator.token());
        let kubeconfig = Kubeconfig::read_from(cluster.kubectl.kubeconfig())?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let client = Client::try_from(config)?;
        let mut tasks = JoinSet::new();
        let secrets = watcher(Api::<Secret>::all(client.clone()), watcher::Config::default());
        tasks.spawn(each(secrets, Arc::clone(&canary), learn_secret));
        for (group, version, kind) in KINDS {
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
            let objects = watcher(Api::all_with(client.clone(), &resource), watcher::Config::default());
            tasks.spawn(each(objects, Arc::clone(&canary), move |canary, object| see_object(canary, kind, object)));
        }
        tasks.spawn(look_at_arguments(Arc::clone(&canary)));
        let look = Look { canary, operator: operator.addresses(), admin_token: cluster.admin_token() };
        tasks.spawn(follow_stream(look.clone()));
        Ok(Self { look, log_seen, _tasks: tasks })
    }

    /// Fails with the names of all secrets in the outputs since the last check, and where they are.
    pub(crate) async fn check(&mut self, operator: &Operator) -> Result<(), Failure> {
        self.look.take().await;
        let log = operator.log();
        self.look.canary.see("the operator's log", log.get(self.log_seen..).unwrap_or(&log));
        self.log_seen = log.len();
        let findings = self.look.canary.findings();
        if findings.is_empty() { Ok(()) } else { Err(format!("a secret got out: {}", findings.join("; ")).into()) }
    }
}

/// Gives each version of each object to `take`.
async fn each<K>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send,
    canary: Arc<Canary>,
    take: impl Fn(&Canary, &K) + Send,
) {
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        // The watcher watches again after an error.
        if let Ok(Event::Apply(object) | Event::InitApply(object) | Event::Delete(object)) = event {
            take(&canary, &object);
        }
    }
}

fn learn_secret(canary: &Canary, secret: &Secret) {
    let (namespace, name) = (secret.metadata.namespace.as_deref(), secret.metadata.name.as_deref());
    for (key, value) in secret.data.iter().flatten().filter(|(key, _)| !PUBLIC_KEYS.contains(&key.as_str())) {
        let name = format!("{key} of Secret {}/{}", namespace.unwrap_or_default(), name.unwrap_or_default());
        canary.learn(&name, &String::from_utf8_lossy(&value.0));
    }
}

fn see_object(canary: &Canary, kind: &str, object: &DynamicObject) {
    let (namespace, name) = (object.metadata.namespace.as_deref(), object.metadata.name.as_deref());
    let place = format!("{kind} {}/{}", namespace.unwrap_or_default(), name.unwrap_or_default());
    canary.see(&place, &serde_json::to_string(object).unwrap_or_default());
}

async fn look_at_arguments(canary: Arc<Canary>) {
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    loop {
        looks.tick().await;
        canary.see_arguments();
    }
}

/// Reads the stream of the HTTP API for people, and again after each end.
async fn follow_stream(look: Look) {
    let mut attempts = tokio::time::interval(LOOK_INTERVAL);
    loop {
        attempts.tick().await;
        let Ok(mut stream) = TcpStream::connect(look.operator.api).await else { continue };
        let request = format!(
            "GET /api/v1/agents/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
            look.admin_token
        );
        if stream.write_all(request.as_bytes()).await.is_err() {
            continue;
        }
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            look.canary.see("the stream of the HTTP API", &line);
        }
    }
}

/// Creates a token of an account. The canary knows the token.
pub(crate) async fn account_token(
    canary: &Canary,
    kubectl: &KubeCommand,
    namespace: &str,
    account: &str,
) -> Result<String, Failure> {
    let token = kubectl.run(&["-n", namespace, "create", "token", account]).await?.trim().to_owned();
    canary.learn(&format!("the Kubernetes token of {namespace}/{account}"), &token);
    Ok(token)
}

/// Waits until the canary has found the secret in all places.
async fn until_found(stack: &Stack, secret: &str, places: &[&str]) -> Result<(), Failure> {
    let mut findings = Vec::new();
    until(&format!("{secret} to be found in {places:?}"), CONDITION_TIMEOUT, async || {
        stack.watched.look.take().await;
        findings.extend(stack.watched.look.canary.findings());
        let found = |place: &&str| findings.iter().any(|f: &String| f.contains(secret) && f.contains(*place));
        if places.iter().all(found) { Ok(()) } else { Err(findings.join("; ")) }
    })
    .await
}

pub(crate) async fn planted_secrets_are_found(stack: &mut Stack) -> Result<(), Failure> {
    let fleet = stack.fleet("planted").await?;
    fleet.apply(&[unwoken("one")]).await?;
    fleet.all_ready().await?;
    stack.check_secrets().await?;
    let token = fleet.run(&["get", "secret", "one-token", "-o", "go-template={{.data.token | base64decode}}"]).await?;

    let mut agent = unwoken("one");
    agent["spec"]["displayName"] = json!(token);
    fleet.apply(&[agent]).await?;
    let mut process =
        Command::new("sh").args(["-c", "read -r end", &token]).stdin(std::process::Stdio::piped()).spawn()?;
    let places = [
        "Agent planted/one",
        "the answer of /api/v1/agents",
        "the stream of the HTTP API",
        "the arguments of a process",
    ];
    until_found(stack, "token of Secret planted/one-token", &places).await?;
    process.kill().await?;

    stack.watched.look.canary.learn("a line of the log", "muster::app: muster runs");
    stack.watched.log_seen = 0;
    let error = stack.check_secrets().await.err().ok_or("the log is not searched")?.to_string();
    assert!(error.contains("a line of the log is in the operator's log") && !error.contains(&token), "{error}");
    // The next tests start without the planted secrets.
    fleet.delete().await?;
    stack.renew_canary().await
}
