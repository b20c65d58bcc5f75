//! The operator's process.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use kube::config::{KubeConfigOptions, Kubeconfig};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};

/// An operator without a cluster, with listeners on free ports.
pub(crate) struct Standalone {
    _parent: TempDir,
    dir: PathBuf,
    child: Child,
    log: BufReader<ChildStderr>,
    api: String,
}

fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
    command.args(["run", "--embedded"]).arg(dir).args(arguments);
    for flag in ["--embedded-addr", "--api-addr", "--probe-addr", "--metrics-addr"] {
        command.args([flag, "127.0.0.1:0"]);
    }
    command.env_remove("RUST_LOG").stderr(Stdio::piped()).kill_on_drop(true);
    command
}

impl Standalone {
    /// Starts an operator with a new directory.
    pub(crate) async fn start() -> Self {
        let parent = tempfile::tempdir().unwrap();
        // The operator makes the directory.
        let dir = parent.path().join("muster");
        let (child, log, api) = spawn(&dir, &[]).await;
        Self { _parent: parent, dir, child, log, api }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Ends the process as a lost machine does.
    pub(crate) fn kill(&mut self) {
        self.child.start_kill().unwrap();
    }

    pub(crate) async fn start_again(&mut self) {
        self.start_with(&[]).await;
    }

    pub(crate) async fn start_with(&mut self, arguments: &[&str]) {
        self.child.wait().await.unwrap();
        (self.child, self.log, self.api) = spawn(&self.dir, arguments).await;
    }

    /// A client by the kubeconfig of the directory.
    pub(crate) async fn client(&self) -> kube::Client {
        let kubeconfig = Kubeconfig::read_from(self.dir().join("kubeconfig")).unwrap();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        kube::Client::try_from(config).unwrap()
    }

    /// What an operator says that cannot start on the same directory.
    pub(crate) async fn run_second(&self) -> String {
        self.run_to_its_end(&[]).await
    }

    pub(crate) async fn run_to_its_end(&self, arguments: &[&str]) -> String {
        let output = command(self.dir(), arguments).output().await.unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    }

    /// The status of the list of agents for people.
    pub(crate) async fn people_status(&self, token: &str) -> u16 {
        self.status(&format!(
            "GET /api/v1/agents HTTP/1.1\r\nhost: muster\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
        ))
        .await
    }

    /// The status of the heartbeat of an agent with this token.
    pub(crate) async fn check_in(&self, token: &str, body: &str) -> u16 {
        self.status(&format!(
            "POST /api/v1/agent/heartbeat HTTP/1.1\r\nhost: muster\r\nx-agent-token: {token}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        ))
        .await
    }

    /// The URL of the HTTP API and of the fleet page.
    pub(crate) fn api_url(&self) -> String {
        format!("http://{}", self.api)
    }

    async fn status(&self, request: &str) -> u16 {
        let mut stream = tokio::net::TcpStream::connect(&self.api).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }
}

/// Starts the process and waits until it works. Returns where its HTTP API listens.
async fn spawn(dir: &Path, arguments: &[&str]) -> (Child, BufReader<ChildStderr>, String) {
    let mut child = command(dir, arguments).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let (mut api, mut text) = (String::new(), String::new());
    while !text.contains("the watches are in sync") {
        let mut line = String::new();
        assert!(log.read_line(&mut line).await.unwrap() > 0, "the operator ended: {text}");
        if let Some((_, rest)) = line.split_once("muster runs api=") {
            rest.split(' ').next().unwrap().clone_into(&mut api);
        }
        text += &line;
    }
    (child, log, api)
}
