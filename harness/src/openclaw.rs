//! A real `OpenClaw` gateway on loopback, with a home directory of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::binaries::Parts;
use super::process::Process;
use super::{Failure, free_port, on_free_ports};

/// How long a gateway may take to its first HTTP answer; measured 4 to 20 s, and more than two minutes on a machine with much
/// other work.
pub(crate) const READY: Duration = Duration::from_mins(5);

/// A gateway.
#[derive(Debug)]
pub struct OpenClaw {
    process: Option<Process>,
    /// Where `OpenClaw` and its Node are installed.
    folder: PathBuf,
    port: u16,
    asks: Asks,
    secret: String,
    home: TempDir,
}

/// What a gateway asks of who connects.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asks {
    Token,
    Password,
}

impl Asks {
    /// The gateway's own word for it.
    fn word(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Password => "password",
        }
    }
}

/// The token of a gateway, where a test does not care.
pub(crate) const TOKEN: &str = "the-gateways-token";

impl OpenClaw {
    /// Starts a gateway whose agents ask the model server at `model` (`http://127.0.0.1:PORT/v1`).
    ///
    /// # Errors
    /// It did not start; with the end of its log.
    pub async fn start(model: &str) -> Result<Self, Failure> {
        Self::start_with(model, TOKEN).await
    }

    /// The same with a given token.
    ///
    /// # Errors
    /// It did not start; with the end of its log.
    pub async fn start_with(model: &str, token: &str) -> Result<Self, Failure> {
        let folder = Parts::prepare()?.openclaw().to_owned();
        Self::start_in(folder, model, Asks::Token, token).await
    }

    /// Starts a gateway of a version: of an earlier era, or of one that is not pinned.
    ///
    /// # Errors
    /// It did not start, with the end of its log; or there is no such version.
    pub async fn start_era(version: &str, model: &str) -> Result<Self, Failure> {
        Self::start_in(Parts::version(version)?, model, Asks::Token, TOKEN).await
    }

    /// The same, and it asks for a password.
    ///
    /// # Errors
    /// As of [`Self::start_era`].
    pub async fn start_by_password(version: &str, model: &str, password: &str) -> Result<Self, Failure> {
        Self::start_in(Parts::version(version)?, model, Asks::Password, password).await
    }

    async fn start_in(folder: PathBuf, model: &str, asks: Asks, secret: &str) -> Result<Self, Failure> {
        on_free_ports(async || Self::try_start(folder.clone(), model, asks, secret).await).await
    }

    async fn try_start(folder: PathBuf, model: &str, asks: Asks, secret: &str) -> Result<Self, Failure> {
        let home = tempfile::Builder::new().prefix("muster-gateway-").tempdir()?;
        let state = home.path().join(".openclaw");
        std::fs::create_dir(&state)?;
        std::fs::write(state.join("openclaw.json"), config(model).to_string())?;
        let mut gateway = Self { process: None, folder, port: free_port()?, asks, secret: secret.to_owned(), home };
        gateway.boot().await?;
        Ok(gateway)
    }

    /// Starts it again after [`Self::kill`].
    ///
    /// # Errors
    /// It did not start; with the end of its log.
    pub async fn boot(&mut self) -> Result<(), Failure> {
        let mut command = Command::new(self.folder.join("node"));
        let launch = Launch {
            folder: &self.folder,
            home: self.home.path(),
            port: self.port,
            asks: self.asks,
            secret: &self.secret,
            bind: "loopback",
        };
        launch.complete(&mut command);
        let mut process = Process::start("openclaw", command, self.home.path())?;
        let port = self.port;
        process
            .ready("the gateway to answer", READY, async || {
                let stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(|e| e.to_string())?;
                answers(stream).await.map_err(|e| e.to_string())
            })
            .await?;
        self.process = Some(process);
        Ok(())
    }

    /// Ends it in good order and starts the pinned newest version with the same config and workspaces. What else the old one
    /// kept goes: 2026.9.6 brings it into its own form with a native module, which is not installed.
    ///
    /// # Errors
    /// It did not start; with the end of its log.
    pub async fn upgrade(&mut self) -> Result<(), Failure> {
        if let Some(mut process) = self.process.take() {
            process.stop();
        }
        let state = std::fs::read_dir(self.home.path().join(".openclaw"))?;
        let of_workspaces = std::fs::read_dir(self.home.path().join("workspaces"))?;
        let folders = state.map(|entry| entry.map(|entry| entry.path()));
        let folders = folders.chain(of_workspaces.map(|entry| entry.map(|entry| entry.path().join(".openclaw"))));
        for path in folders.collect::<Result<Vec<_>, _>>()?.into_iter().filter(|path| path.is_dir()) {
            std::fs::remove_dir_all(path)?;
        }
        Parts::prepare()?.openclaw().clone_into(&mut self.folder);
        self.boot().await
    }

    /// Ends it as a power cut does.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Stops the process without ending it: connections stand and nobody answers.
    pub fn freeze(&self) {
        self.process.iter().for_each(|p| p.signal(Signal::SIGSTOP));
    }

    /// Lets a frozen process go on.
    pub fn thaw(&self) {
        self.process.iter().for_each(|p| p.signal(Signal::SIGCONT));
    }

    /// Its WebSocket address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    /// Its token, or its password.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.secret
    }

    /// Its home directory.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Its config as it stands on the disk.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn config(&self) -> Result<Value, Failure> {
        let path: PathBuf = self.home.path().join(".openclaw/openclaw.json");
        Ok(serde_json::from_slice(&std::fs::read(path)?)?)
    }

    /// Ids of the agents in its config, `main` aside.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn agents(&self) -> Result<Vec<String>, Failure> {
        let config = self.config()?;
        let agents = &config["agents"];
        let entries = agents["entries"].as_object().into_iter().flatten().map(|(id, _)| id.clone());
        let listed =
            agents["list"].as_array().into_iter().flatten().filter_map(|a| a["id"].as_str().map(str::to_owned));
        Ok(entries.chain(listed).filter(|id| id != "main").collect())
    }

    /// The last lines of its log.
    #[must_use]
    pub fn tail(&self) -> String {
        self.process.as_ref().map(|p| p.tail(40)).unwrap_or_default()
    }
}

/// How a gateway is started.
pub(crate) struct Launch<'a> {
    /// Where `OpenClaw` and its Node are installed.
    pub(crate) folder: &'a Path,
    pub(crate) home: &'a Path,
    pub(crate) port: u16,
    pub(crate) asks: Asks,
    pub(crate) secret: &'a str,
    /// Where it listens, in its own word.
    pub(crate) bind: &'a str,
}

impl Launch<'_> {
    /// Adds to a command that runs Node what makes it run the gateway.
    pub(crate) fn complete(&self, command: &mut Command) {
        command.arg(self.folder.join("node_modules/openclaw/openclaw.mjs"));
        let asks = self.asks.word();
        command.args(["gateway", "run", "--auth", asks, "--bind", self.bind]);
        command.args(["--port", &self.port.to_string(), &format!("--{asks}"), self.secret]);
        self.environment(command);
    }

    /// Sets the environment of the gateway and of its commands.
    pub(crate) fn environment(&self, command: &mut Command) {
        let path = std::env::var("PATH").unwrap_or_default();
        let bin = self.folder.join("node_modules/.bin");
        command
            .env("HOME", self.home)
            .env("PATH", format!("{}:{}:{path}", bin.display(), self.folder.display()))
            .env("TMPDIR", self.home)
            .env(format!("OPENCLAW_GATEWAY_{}", self.asks.word().to_uppercase()), self.secret)
            .env("OPENCLAW_NO_RESPAWN", "1")
            .current_dir(self.home);
    }
}

impl Drop for OpenClaw {
    fn drop(&mut self) {
        // With work under way it drains for more than a minute (measured), and its home goes with it anyway.
        self.kill();
    }
}

/// A gateway's first config.
pub(crate) fn config(model: &str) -> Value {
    json!({
        "gateway": {"mode": "local"},
        "agents": {"defaults": {"heartbeat": {"every": "0m"}, "model": {"primary": "scripted/m1"}}},
        "models": {"mode": "merge", "providers": {"scripted": {
            "baseUrl": model, "apiKey": "unused", "api": "openai-completions",
            "models": [{"id": "m1", "name": "M1", "reasoning": false, "input": ["text"],
                "cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0}, "contextWindow": 120_000, "maxTokens": 8192}],
        }}},
    })
}

/// Whether it answers HTTP. While it starts it refuses, or answers 503.
pub(crate) async fn answers(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<(), Failure> {
    stream.write_all(b"GET / HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").await?;
    let mut head = [0_u8; 12];
    tokio::time::timeout(Duration::from_secs(5), stream.read_exact(&mut head)).await??;
    let head = String::from_utf8_lossy(&head).into_owned();
    if head.ends_with("503") { Err(head.into()) } else { Ok(()) }
}
