//! A real `OpenClaw` gateway on loopback, with a home directory of its own.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::binaries::Binaries;
use super::process::Process;
use super::start_place::StartPlace;
use super::{Failure, free_port, on_free_ports};

/// Limit for a gateway's first HTTP reply; measured 4 to 20 s, and more than 2 min on a loaded machine.
pub(crate) const READY_TIMEOUT: Duration = Duration::from_mins(5);

/// A gateway process with its home directory.
#[derive(Debug)]
pub struct OpenClaw {
    process: Option<Process>,
    /// The directory in which `OpenClaw` and its Node are installed.
    install_dir: PathBuf,
    port: u16,
    auth_mode: AuthMode,
    secret: String,
    home: TempDir,
}

/// The credential that a gateway requires.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AuthMode {
    Token,
    Password,
}

impl AuthMode {
    /// The value of the gateway's flag `--auth`.
    fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Password => "password",
        }
    }
}

/// The token of a gateway whose test sets none, different for each gateway.
pub(crate) fn random_token() -> Result<String, Failure> {
    let mut bytes = [0_u8; 18];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("gateway-{}", URL_SAFE_NO_PAD.encode(bytes)))
}

impl OpenClaw {
    /// Starts the pinned newest gateway, with the model server at `model` (`http://127.0.0.1:PORT/v1`).
    ///
    /// # Errors
    /// The gateway did not start. The error has the end of its log.
    pub async fn start(model: &str) -> Result<Self, Failure> {
        Self::start_with(model, &random_token()?).await
    }

    /// Starts the pinned newest gateway with this token.
    ///
    /// # Errors
    /// The gateway did not start. The error has the end of its log.
    pub async fn start_with(model: &str, token: &str) -> Result<Self, Failure> {
        let install_dir = Binaries::openclaw()?;
        Self::start_from(install_dir, model, AuthMode::Token, token).await
    }

    /// Starts a gateway of this version, pinned or not.
    ///
    /// # Errors
    /// The gateway did not start, with the end of its log; or the version does not exist.
    pub async fn start_version(version: &str, model: &str) -> Result<Self, Failure> {
        Self::start_from(Binaries::version(version)?, model, AuthMode::Token, &random_token()?).await
    }

    /// Starts a gateway of this version with this text in its openclaw.json.
    ///
    /// # Errors
    /// As of [`Self::start_version`].
    pub async fn start_configured(version: &str, config: &str) -> Result<Self, Failure> {
        let (install_dir, token) = (Binaries::version(version)?, random_token()?);
        on_free_ports(async || Self::try_start(install_dir.clone(), config, AuthMode::Token, &token).await).await
    }

    /// Starts a gateway of this version that requires a password.
    ///
    /// # Errors
    /// As of [`Self::start_version`].
    pub async fn start_version_with_password(version: &str, model: &str, password: &str) -> Result<Self, Failure> {
        Self::start_from(Binaries::version(version)?, model, AuthMode::Password, password).await
    }

    async fn start_from(install_dir: PathBuf, model: &str, auth_mode: AuthMode, secret: &str) -> Result<Self, Failure> {
        let config = initial_config(model).to_string();
        on_free_ports(async || Self::try_start(install_dir.clone(), &config, auth_mode, secret).await).await
    }

    async fn try_start(install_dir: PathBuf, config: &str, auth_mode: AuthMode, secret: &str) -> Result<Self, Failure> {
        let home = tempfile::Builder::new().prefix("muster-gateway-").tempdir()?;
        let state = home.path().join(".openclaw");
        std::fs::create_dir(&state)?;
        std::fs::write(state.join("openclaw.json"), config)?;
        let mut gateway =
            Self { process: None, install_dir, port: free_port()?, auth_mode, secret: secret.to_owned(), home };
        gateway.boot().await?;
        Ok(gateway)
    }

    /// Starts the gateway again after [`Self::kill`].
    ///
    /// # Errors
    /// The gateway did not start. The error has the end of its log.
    pub async fn boot(&mut self) -> Result<(), Failure> {
        let _place = StartPlace::take().await?;
        let mut command = Command::new(self.install_dir.join("node"));
        let launch = LaunchOptions {
            install_dir: &self.install_dir,
            home: self.home.path(),
            port: self.port,
            auth_mode: self.auth_mode,
            secret: &self.secret,
            bind: "loopback",
        };
        launch.add_arguments(&mut command);
        let mut process = Process::start("openclaw", command, self.home.path())?;
        let port = self.port;
        process
            .ready("the gateway to answer", READY_TIMEOUT, async || {
                let stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(|e| e.to_string())?;
                check_http(stream).await.map_err(|e| e.to_string())
            })
            .await?;
        self.process = Some(process);
        Ok(())
    }

    /// Stops the gateway and starts the pinned newest version with the same config and workspaces.
    ///
    /// The other state of the old version is removed: 2026.9.6 migrates that state with a native module, which is not
    /// installed.
    ///
    /// # Errors
    /// The gateway did not start. The error has the end of its log.
    pub async fn upgrade(&mut self) -> Result<(), Failure> {
        self.stop();
        let state = std::fs::read_dir(self.home.path().join(".openclaw"))?;
        let of_workspaces = std::fs::read_dir(self.home.path().join("workspaces"))?;
        let folders = state.map(|entry| entry.map(|entry| entry.path()));
        let folders = folders.chain(of_workspaces.map(|entry| entry.map(|entry| entry.path().join(".openclaw"))));
        for path in folders.collect::<Result<Vec<_>, _>>()?.into_iter().filter(|path| path.is_dir()) {
            std::fs::remove_dir_all(path)?;
        }
        self.install_dir = Binaries::openclaw()?;
        self.boot().await
    }

    /// Stops the gateway and starts this version with all state of the old one. See [`Self::upgrade`] for the newest version.
    ///
    /// # Errors
    /// The gateway did not start. The error has the end of its log.
    pub async fn upgrade_to(&mut self, version: &str) -> Result<(), Failure> {
        self.stop();
        self.install_dir = Binaries::version(version)?;
        self.boot().await
    }

    fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.stop();
        }
    }

    /// Kills the gateway with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Starts a gateway again that has ended by itself, as a service manager does.
    ///
    /// # Errors
    /// The gateway did not start. The error has the end of its log.
    pub async fn revive(&mut self) -> Result<(), Failure> {
        let has_ended = self.process.as_mut().is_some_and(Process::has_ended);
        if has_ended { self.boot().await } else { Ok(()) }
    }

    /// Stops the process with SIGSTOP: connections stay open, and the gateway answers nothing.
    pub fn freeze(&self) {
        self.process.iter().for_each(|p| p.signal(Signal::SIGSTOP));
    }

    /// Continues a frozen process.
    pub fn thaw(&self) {
        self.process.iter().for_each(|p| p.signal(Signal::SIGCONT));
    }

    /// The gateway's WebSocket URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    /// The gateway's token or password.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.secret
    }

    /// The gateway's home directory.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The gateway's config on disk.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn config(&self) -> Result<Value, Failure> {
        let path: PathBuf = self.home.path().join(".openclaw/openclaw.json");
        Ok(serde_json::from_slice(&std::fs::read(path)?)?)
    }

    /// The bytes of the gateway's config file.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn config_bytes(&self) -> Result<Vec<u8>, Failure> {
        Ok(std::fs::read(self.home.path().join(".openclaw/openclaw.json"))?)
    }

    /// Ids of the agents in the config, without `main`.
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

    /// The last lines of the gateway's log.
    #[must_use]
    pub fn tail(&self) -> String {
        self.process.as_ref().map(|p| p.tail(40)).unwrap_or_default()
    }
}

/// Options of a gateway process.
pub(crate) struct LaunchOptions<'a> {
    /// The directory in which `OpenClaw` and its Node are installed.
    pub(crate) install_dir: &'a Path,
    pub(crate) home: &'a Path,
    pub(crate) port: u16,
    pub(crate) auth_mode: AuthMode,
    pub(crate) secret: &'a str,
    /// The value of the gateway's flag `--bind`.
    pub(crate) bind: &'a str,
}

impl LaunchOptions<'_> {
    /// Adds the arguments with which Node runs the gateway.
    pub(crate) fn add_arguments(&self, command: &mut Command) {
        command.arg(self.install_dir.join("node_modules/openclaw/openclaw.mjs"));
        // The gateway takes its credential from the environment: every user of the machine can read arguments.
        command.args(["gateway", "run", "--auth", self.auth_mode.as_str(), "--bind", self.bind]);
        command.args(["--port", &self.port.to_string()]);
        self.set_environment(command);
    }

    /// Sets the environment of the gateway and of its commands.
    pub(crate) fn set_environment(&self, command: &mut Command) {
        let path = std::env::var("PATH").unwrap_or_default();
        let bin = self.install_dir.join("node_modules/.bin");
        command
            .env("HOME", self.home)
            .env("PATH", format!("{}:{}:{path}", bin.display(), self.install_dir.display()))
            .env("TMPDIR", self.home)
            .env(format!("OPENCLAW_GATEWAY_{}", self.auth_mode.as_str().to_uppercase()), self.secret)
            .env("OPENCLAW_NO_RESPAWN", "1")
            .env("NODE_COMPILE_CACHE", compile_cache(self.install_dir))
            // The launcher would start a second process, which uses a folder below this one.
            .env("OPENCLAW_PACKAGED_COMPILE_CACHE_RESPAWNED", "1")
            .current_dir(self.home);
    }
}

/// The folder in which Node keeps the compiled code of a version. Without the folder each start compiles the same code for 2 to 3 s of processor
/// time (2026.9.6).
fn compile_cache(install_dir: &Path) -> PathBuf {
    let name = install_dir.file_name().unwrap_or_default();
    install_dir.ancestors().nth(2).unwrap_or(install_dir).join("node-compile-cache").join(name)
}

impl Drop for OpenClaw {
    fn drop(&mut self) {
        let is_filled = compile_cache(&self.install_dir).join("filled");
        if self.process.is_some() && !is_filled.exists() {
            // Node writes the compiled code at its end.
            self.stop();
            // Without the file, the next gateway stops in the same way.
            let _ = std::fs::write(is_filled, "");
        }
        // A gateway with work in progress drains for more than 1 min before it ends (measured). A
        // kill is enough here: the home directory is removed too.
        self.kill();
    }
}

/// The initial config of a gateway.
pub(crate) fn initial_config(model: &str) -> Value {
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

/// Checks that the gateway answers HTTP. A gateway that starts refuses connections or answers 503.
pub(crate) async fn check_http(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<(), Failure> {
    stream.write_all(b"GET / HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").await?;
    let mut head = [0_u8; 12];
    tokio::time::timeout(Duration::from_secs(5), stream.read_exact(&mut head)).await??;
    let head = String::from_utf8_lossy(&head).into_owned();
    if head.ends_with("503") { Err(head.into()) } else { Ok(()) }
}
