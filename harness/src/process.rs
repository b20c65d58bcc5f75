//! A process of ours and everything that it starts.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::Failure;

/// How long a process may take to end by itself.
const GRACE: Duration = Duration::from_secs(5);

/// A process in a group of its own, which ends with this value.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts a process whose output goes to `<name>.log` in `dir`, after what stands there already.
    pub(crate) fn start(name: &str, mut command: Command, dir: &Path) -> Result<Self, Failure> {
        let log = dir.join(format!("{name}.log"));
        let out = File::options().create(true).append(true).open(&log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).process_group(0);
        let child = command.spawn().map_err(|e| format!("{name} did not start: {e}"))?;
        Ok(Self { child, name: name.to_owned(), log })
    }

    /// An error when the process has ended, with the end of its log.
    pub(crate) fn alive(&mut self) -> Result<(), Failure> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(format!("{} ended ({status}); the end of its log:\n{}", self.name, self.tail(25)).into()),
        }
    }

    /// Everything that it wrote.
    pub(crate) fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last lines that it wrote.
    pub(crate) fn tail(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<_> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Sends a signal to the group.
    pub(crate) fn signal(&self, signal: Signal) {
        // A group that has ended needs no signal.
        let _ = killpg(self.group(), signal);
    }

    fn group(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX))
    }

    /// Ends the group: asks first, and insists after a while.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        let end = Instant::now() + GRACE;
        while Instant::now() < end {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(20)),
                Ok(Some(_)) | Err(_) => break,
            }
        }
        self.kill();
    }

    /// Ends the group at once.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        // It is gone either way.
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}
