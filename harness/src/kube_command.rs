//! Runs a command that reaches an API server by a kubeconfig: kubectl, or `muster` itself.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::Failure;

/// kubectl or `muster`, with one kubeconfig.
#[derive(Clone, Debug)]
pub struct KubeCommand {
    binary: PathBuf,
    kubeconfig: PathBuf,
}

/// The output of a command.
#[derive(Clone, Debug)]
pub struct Output {
    /// Whether the exit status is 0.
    pub ok: bool,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl KubeCommand {
    pub(crate) fn new(binary: PathBuf, kubeconfig: PathBuf) -> Self {
        Self { binary, kubeconfig }
    }

    /// The kubeconfig's path.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Runs the command in the root of the checkout, with `stdin` as its input, and returns its output whatever the exit
    /// status.
    ///
    /// # Errors
    /// The command could not be started.
    pub async fn try_run(&self, args: &[&str], stdin: &str) -> Result<Output, Failure> {
        let mut child = Command::new(&self.binary)
            .args(args)
            .env("KUBECONFIG", &self.kubeconfig)
            .current_dir(super::binaries::checkout())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut pipe) = child.stdin.take() {
            pipe.write_all(stdin.as_bytes()).await?;
        }
        let output = child.wait_with_output().await?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Output { ok: output.status.success(), stdout: text(output.stdout), stderr: text(output.stderr) })
    }

    /// Runs the command and returns its standard output.
    ///
    /// # Errors
    /// The exit status is not 0. The error has the command's output.
    pub async fn run(&self, args: &[&str]) -> Result<String, Failure> {
        self.run_with(args, "").await
    }

    /// Applies manifests.
    ///
    /// # Errors
    /// The exit status is not 0. The error has the command's output.
    pub async fn apply(&self, manifests: &str) -> Result<String, Failure> {
        self.run_with(&["apply", "-f", "-"], manifests).await
    }

    async fn run_with(&self, args: &[&str], stdin: &str) -> Result<String, Failure> {
        let output = self.try_run(args, stdin).await?;
        if output.ok {
            return Ok(output.stdout);
        }
        let name = self.binary.file_name().unwrap_or_default().display();
        Err(format!("{name} {}: {}{}", args.join(" "), output.stdout, output.stderr).into())
    }
}
