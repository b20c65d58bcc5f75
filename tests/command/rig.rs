//! An API in memory with the namespace `fleet`, and the commands on it.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use futures::FutureExt;
use jiff::Timestamp;
use kube::Client;
use muster::api::crds;
use muster::command::{self, Cluster, ClusterCommand, CommandError, Streams};
use muster_embedded::{EmbeddedApi, Resources};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;
use tower::Service;

use crate::hosts::GatewayHosts;
use crate::overlay::Overlay;

/// Where the objects of a kind are.
pub(crate) const AGENTS: &str = "/apis/muster.dev/v1alpha1/namespaces/fleet/agents";
pub(crate) const BOARDS: &str = "/apis/muster.dev/v1alpha1/namespaces/fleet/boards";
pub(crate) const GATEWAYS: &str = "/apis/muster.dev/v1alpha1/namespaces/fleet/agentgateways";
pub(crate) const SECRETS: &str = "/api/v1/namespaces/fleet/secrets";

/// How long an expected output may take, on the paused clock.
const OUTPUT_TIMEOUT: Duration = Duration::from_mins(10);

#[derive(Debug, Parser)]
#[command(name = "muster")]
struct Line {
    #[command(subcommand)]
    command: ClusterCommand,
}

/// A text that a command writes, and that others wait for.
#[derive(Clone)]
pub(crate) struct Screen(Arc<watch::Sender<String>>);

impl Screen {
    fn new() -> Self {
        Self(Arc::new(watch::Sender::new(String::new())))
    }

    /// Waits until the text so far is as asked for, and returns it.
    pub(crate) async fn until(&self, text: &str) -> String {
        let mut changes = self.0.subscribe();
        let seen = tokio::time::timeout(OUTPUT_TIMEOUT, changes.wait_for(|shown| shown.contains(text))).await;
        seen.unwrap_or_else(|_| panic!("no {text:?} in {:?}", self.0.borrow())).unwrap().clone()
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.send_modify(|text| text.push_str(&String::from_utf8_lossy(bytes)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What a command did.
#[derive(Debug, PartialEq)]
pub(crate) struct Ran {
    pub(crate) out: String,
    /// Standard error, with the error of the command at its end.
    pub(crate) err: String,
    /// The exit status.
    pub(crate) status: u8,
}

/// An API, and files for the commands.
pub(crate) struct Rig {
    pub(crate) api: EmbeddedApi,
    /// Answers of the API server that the embedded API does not give.
    pub(crate) overlay: Overlay,
    pub(crate) gateways: GatewayHosts,
    client: Client,
    files: TempDir,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        let resources = Resources::new(&crds::all().map(|(_, definition)| definition)).unwrap();
        let api = EmbeddedApi::in_memory(resources, Arc::new(|| "2026-03-01T09:00:00Z".parse().unwrap())).unwrap();
        let overlay = Overlay::new(api.clone());
        let client = Client::new(overlay.clone(), "default");
        let (files, gateways) = (tempfile::tempdir().unwrap(), GatewayHosts::default());
        let rig = Self { api, overlay, gateways, client, files };
        rig.send("POST", "/api/v1/namespaces", json!({ "metadata": { "name": "fleet" } })).await;
        rig
    }

    /// The path of a file.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// Writes a file. `DIR` in a command line is its folder.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.files.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Runs a command.
    pub(crate) async fn run(&self, line: &str) -> Ran {
        self.run_with(line, "").await
    }

    /// Runs a command that has to succeed, and returns its output.
    pub(crate) async fn ok(&self, line: &str) -> String {
        let ran = self.run(line).await;
        assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{line}: {ran:?}");
        ran.out
    }

    /// Runs a command with a text at its standard input.
    pub(crate) async fn run_with(&self, line: &str, input: &str) -> Ran {
        let (out, err) = (Screen::new(), Screen::new());
        let outcome = self.start(line, input, &out, &err, false).await;
        let (mut shown, out) = (err.0.borrow().clone(), out.0.borrow().clone());
        let status = match outcome {
            Ok(()) => 0,
            Err(error) => {
                shown = format!("{shown}muster: {error}\n");
                if matches!(error, CommandError::Usage(_)) { 2 } else { 1 }
            }
        };
        let files = self.files.path().display().to_string();
        Ran { out: out.replace(&files, "DIR"), err: shown.replace(&files, "DIR"), status }
    }

    async fn start(
        &self,
        line: &str,
        input: &str,
        out: &Screen,
        err: &Screen,
        is_terminal: bool,
    ) -> Result<(), CommandError> {
        let words = line.split_whitespace().map(|word| word.replace("DIR", &self.files.path().display().to_string()));
        let words = ["muster".to_owned()].into_iter().chain(words);
        let line = Line::try_parse_from(words).map_err(|error| CommandError::Usage(error.to_string()))?;
        let now = || -> Timestamp { "2026-03-01T10:00:00Z".parse().unwrap() };
        let dial = Arc::new(self.gateways.clone());
        let cluster = Cluster { client: self.client.clone(), namespace: "fleet".into(), now, dial };
        let (mut out, mut err) = (out.clone(), err.clone());
        let mut streams = Streams { out: &mut out, err: &mut err, input: &mut input.as_bytes(), is_terminal };
        command::run(&line.command, &cluster, &mut streams).await
    }

    /// Runs a command while something else happens. Returns the command's outcome if it ends, and else nothing.
    pub(crate) async fn alongside(
        &self,
        line: &str,
        is_terminal: bool,
        script: impl AsyncFnOnce(Screen, Screen),
    ) -> Option<Result<(), String>> {
        let (out, err) = (Screen::new(), Screen::new());
        let command = self.start(line, "", &out, &err, is_terminal);
        let mut command = std::pin::pin!(command);
        let mut script = std::pin::pin!(script(out.clone(), err.clone()));
        tokio::select! {
            biased;
            outcome = &mut command => {
                script.await;
                Some(outcome.map_err(|error| error.to_string()))
            }
            () = &mut script => {
                // A command that has what it waits for ends at once.
                let rest = tokio::time::timeout(Duration::from_millis(1), command).await;
                rest.ok().map(|outcome| outcome.map_err(|error| error.to_string()))
            }
        }
    }

    /// Sends a request that has to succeed.
    pub(crate) async fn send(&self, method: &str, path: &str, body: Value) -> Value {
        let answer = self.try_send(method, path, body).await;
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    pub(crate) async fn try_send(&self, method: &str, path: &str, body: Value) -> Result<Value, kube::Error> {
        let content_type = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let body = if method == "GET" { Vec::new() } else { body.to_string().into_bytes() };
        let request = http::Request::builder().method(method).uri(path).header("content-type", content_type);
        self.client.request(request.body(body).unwrap()).await
    }

    /// Sends a request that has to succeed, before anything else happens.
    pub(crate) fn send_at_once(&self, method: &str, path: &str, body: Value) {
        let content_type = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let request = http::Request::builder().method(method).uri(path).header("content-type", content_type);
        let request = request.body(kube::client::Body::from(body.to_string().into_bytes())).unwrap();
        let answer = self.api.clone().call(request).now_or_never().unwrap().unwrap();
        assert!(answer.status().is_success(), "{method} {path}: {}", answer.status());
    }

    /// An object.
    pub(crate) async fn get(&self, path: &str) -> Value {
        self.send("GET", path, Value::Null).await
    }

    /// Makes the agents of these names.
    pub(crate) async fn agents(&self, names: &[&str]) {
        for name in names {
            self.send("POST", AGENTS, agent(name)).await;
        }
    }

    /// Sets the condition Ready of an agent, for a generation.
    pub(crate) async fn set_ready(&self, name: &str, status: &str, reason: &str, generation: i64) {
        let ready = json!({ "type": "Ready", "status": status, "reason": reason, "message": format!("It is {status}."),
            "lastTransitionTime": "2026-03-01T09:30:00Z", "observedGeneration": generation });
        let status = json!({ "status": { "observedGeneration": generation, "conditions": [ready] } });
        self.send("PATCH", &format!("{AGENTS}/{name}/status"), status).await;
    }

    /// Sets the finalizers of an agent.
    pub(crate) async fn set_finalizers(&self, name: &str, finalizers: Value) {
        let patch = json!({ "metadata": { "finalizers": finalizers } });
        self.send("PATCH", &format!("{AGENTS}/{name}"), patch).await;
    }
}

/// A manifest of an agent.
pub(crate) fn agent(name: &str) -> Value {
    json!({ "apiVersion": "muster.dev/v1alpha1", "kind": "Agent", "metadata": { "name": name },
        "spec": { "boardRef": { "name": "ops" } } })
}

/// A manifest of a board.
pub(crate) fn board(name: &str) -> Value {
    json!({ "apiVersion": "muster.dev/v1alpha1", "kind": "Board", "metadata": { "name": name },
        "spec": { "gatewayRef": { "name": "gw" } } })
}

/// A manifest of a gateway.
pub(crate) fn gateway(name: &str) -> Value {
    json!({ "apiVersion": "muster.dev/v1alpha1", "kind": "AgentGateway", "metadata": { "name": name },
        "spec": { "url": "ws://gateway:18789", "auth": { "tokenSecretRef": { "name": "gateway", "key": "token" } },
            "workspaceRoot": "~/agents", "apiUrl": "http://muster:8080" } })
}
