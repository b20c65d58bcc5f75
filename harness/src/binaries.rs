//! Paths of the binaries that the tests and the demo run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::Failure;

/// The binaries of the control plane.
#[derive(Clone, Debug)]
pub struct Binaries {
    controlplane: PathBuf,
}

/// A path that `scripts/parts` printed, found once in a process.
type Found = OnceLock<Result<PathBuf, String>>;

static CONTROLPLANE: Found = OnceLock::new();
static OPENCLAW: Found = OnceLock::new();
static HELM: Found = OnceLock::new();

/// Runs `scripts/parts` for one part, once in a process. `scripts/demo` has run it already, and sets its lines in the environment.
fn find_once(found: &Found, part: &str, key: &str) -> Result<PathBuf, Failure> {
    let run = || match std::env::var_os(key) {
        Some(path) => Ok(PathBuf::from(path)),
        None => script(&[part]).and_then(|text| path(&text, key)).map_err(|e| e.to_string()),
    };
    found.get_or_init(run).clone().map_err(Failure::from)
}

impl Binaries {
    /// Runs `scripts/parts`, which builds and verifies the control plane, once in a process.
    ///
    /// # Errors
    /// The script's error.
    pub fn control_plane() -> Result<Self, Failure> {
        Ok(Self { controlplane: find_once(&CONTROLPLANE, "controlplane", "MUSTER_CONTROLPLANE")? })
    }

    /// Runs `scripts/parts`, which installs and verifies the newest `OpenClaw` and its Node, once in a process. Returns their directory.
    ///
    /// # Errors
    /// The script's error.
    pub fn openclaw() -> Result<PathBuf, Failure> {
        find_once(&OPENCLAW, "gateway", "MUSTER_OPENCLAW")
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

    /// Runs `scripts/parts`, which builds Helm, and returns the path of the program. Only the long tests need Helm.
    ///
    /// # Errors
    /// The script's error.
    pub fn helm() -> Result<PathBuf, Failure> {
        Ok(find_once(&HELM, "helm", "MUSTER_HELM")?.join("helm"))
    }

    /// Runs `scripts/parts`, which finds or installs Prometheus, and returns the folder of `prometheus` and `promtool`.
    ///
    /// # Errors
    /// The script's error.
    pub fn prometheus() -> Result<PathBuf, Failure> {
        path(&script(&["prometheus"])?, "MUSTER_PROMETHEUS")
    }

    /// The path of a control plane command: from `KUBEBUILDER_ASSETS` if the file exists there, else from our own
    /// build.
    #[must_use]
    pub fn kubernetes(&self, name: &str) -> PathBuf {
        let given = std::env::var_os("KUBEBUILDER_ASSETS").map(|dir| PathBuf::from(dir).join(name));
        given.filter(|path| path.is_file()).unwrap_or_else(|| self.controlplane.join(name))
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
