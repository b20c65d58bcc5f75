//! Where the real parts are.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::Failure;

/// Where the real parts are.
#[derive(Clone, Debug)]
pub struct Binaries {
    controlplane: PathBuf,
    openclaw: PathBuf,
}

static PARTS: OnceLock<Result<Binaries, String>> = OnceLock::new();

impl Binaries {
    /// Has `scripts/parts` prepare and verify them, once in a process.
    ///
    /// # Errors
    /// What the script said.
    pub fn prepare() -> Result<Self, Failure> {
        PARTS.get_or_init(|| Self::run().map_err(|e| e.to_string())).clone().map_err(Failure::from)
    }

    fn run() -> Result<Self, Failure> {
        let text = script(&["controlplane", "gateway"])?;
        Ok(Self { controlplane: path(&text, "MUSTER_CONTROLPLANE")?, openclaw: path(&text, "MUSTER_OPENCLAW")? })
    }

    /// Has `scripts/parts` prepare the gateway of this version, pinned or not; where it is.
    ///
    /// # Errors
    /// What the script said, or there is no such version.
    pub(crate) fn version(version: &str) -> Result<PathBuf, Failure> {
        path(&script(&[&format!("openclaw@{version}")])?, &format!("MUSTER_OPENCLAW_{version}"))
    }

    /// Has `scripts/parts` find the browser, or install it. Only tests of the page need it.
    ///
    /// # Errors
    /// What the script said.
    pub(crate) fn browser() -> Result<PathBuf, Failure> {
        path(&script(&["browser"])?, "MUSTER_BROWSER")
    }

    /// A command of the control plane: from `KUBEBUILDER_ASSETS` when it is there, else our own build.
    #[must_use]
    pub fn kubernetes(&self, name: &str) -> PathBuf {
        let given = std::env::var_os("KUBEBUILDER_ASSETS").map(|dir| PathBuf::from(dir).join(name));
        given.filter(|path| path.is_file()).unwrap_or_else(|| self.controlplane.join(name))
    }

    /// The folder in which `OpenClaw` and its Node are installed.
    #[must_use]
    pub fn openclaw(&self) -> &Path {
        &self.openclaw
    }
}

/// Runs `scripts/parts` and gives what it printed.
fn script(parts: &[&str]) -> Result<String, Failure> {
    let script = checkout().join("scripts/parts");
    let mut command = Command::new(&script);
    let output = command.args(parts).stderr(Stdio::inherit()).output().map_err(|e| format!("scripts/parts: {e}"))?;
    if !output.status.success() {
        return Err("scripts/parts failed; see above".into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The path that stands after a key.
fn path(text: &str, key: &str) -> Result<PathBuf, Failure> {
    let found = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    Ok(found.map(PathBuf::from).ok_or_else(|| format!("scripts/parts did not print {key}"))?)
}

/// The root of the checkout.
#[must_use]
pub(crate) fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned()
}
