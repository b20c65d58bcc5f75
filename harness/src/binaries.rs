//! Paths of the binaries that the tests and the demo run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::Failure;

/// Paths of the control plane and of the pinned gateway.
#[derive(Clone, Debug)]
pub struct Binaries {
    controlplane: PathBuf,
    openclaw: PathBuf,
}

static BINARIES: OnceLock<Result<Binaries, String>> = OnceLock::new();

impl Binaries {
    /// Runs `scripts/parts`, which prepares and verifies the binaries, once in a process.
    ///
    /// # Errors
    /// The script's error.
    pub fn prepare() -> Result<Self, Failure> {
        BINARIES.get_or_init(|| Self::run().map_err(|e| e.to_string())).clone().map_err(Failure::from)
    }

    fn run() -> Result<Self, Failure> {
        let text = script(&["controlplane", "gateway"])?;
        Ok(Self { controlplane: path(&text, "MUSTER_CONTROLPLANE")?, openclaw: path(&text, "MUSTER_OPENCLAW")? })
    }

    /// Runs `scripts/parts` for a gateway version, pinned or not, and returns its directory.
    ///
    /// # Errors
    /// The script's error; or the version does not exist.
    pub(crate) fn version(version: &str) -> Result<PathBuf, Failure> {
        path(&script(&[&format!("openclaw@{version}")])?, &format!("MUSTER_OPENCLAW_{version}"))
    }

    /// Runs `scripts/parts`, which finds or installs the browser. Only tests of the page need the browser.
    ///
    /// # Errors
    /// The script's error.
    pub(crate) fn browser() -> Result<PathBuf, Failure> {
        path(&script(&["browser"])?, "MUSTER_BROWSER")
    }

    /// Runs `scripts/parts`, which builds kstatus, and returns the path of the program.
    ///
    /// # Errors
    /// The script's error.
    pub fn kstatus() -> Result<PathBuf, Failure> {
        Ok(path(&script(&["kstatus"])?, "MUSTER_KSTATUS")?.join("kstatus"))
    }

    /// The path of a control plane command: from `KUBEBUILDER_ASSETS` if the file exists there, else from our own
    /// build.
    #[must_use]
    pub fn kubernetes(&self, name: &str) -> PathBuf {
        let given = std::env::var_os("KUBEBUILDER_ASSETS").map(|dir| PathBuf::from(dir).join(name));
        given.filter(|path| path.is_file()).unwrap_or_else(|| self.controlplane.join(name))
    }

    /// The directory in which `OpenClaw` and its Node are installed.
    #[must_use]
    pub fn openclaw(&self) -> &Path {
        &self.openclaw
    }
}

/// Runs `scripts/parts` and returns its output.
fn script(parts: &[&str]) -> Result<String, Failure> {
    let script = checkout().join("scripts/parts");
    let mut command = Command::new(&script);
    let output = command.args(parts).stderr(Stdio::inherit()).output().map_err(|e| format!("scripts/parts: {e}"))?;
    if !output.status.success() {
        return Err("scripts/parts failed; see above".into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The path after `key=` in the output.
fn path(text: &str, key: &str) -> Result<PathBuf, Failure> {
    let found = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    Ok(found.map(PathBuf::from).ok_or_else(|| format!("scripts/parts did not print {key}"))?)
}

/// The root of the checkout.
#[must_use]
pub(crate) fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned()
}
