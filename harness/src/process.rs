//! A child process and its process group.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::Failure;
use super::wait::{POLL_INTERVAL, until};

/// Time between SIGTERM and SIGKILL.
const TERMINATION_GRACE: Duration = Duration::from_secs(5);

/// A process in a process group of its own. The group ends when this value is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts a process and appends its output to `<name>.log` in `dir`.
    pub(crate) fn start(name: &str, mut command: Command, dir: &Path) -> Result<Self, Failure> {
        let log = dir.join(format!("{name}.log"));
        let out = File::options().create(true).append(true).open(&log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).process_group(0);
        let child = command.spawn().map_err(|e| format!("{name} did not start: {e}"))?;
        Ok(Self { child, name: name.to_owned(), log })
    }

    /// Waits until `condition` returns a value.
    ///
    /// # Errors
    /// The process ended first, or the limit is over. The error has the end of the log.
    pub(crate) async fn ready<T>(
        &mut self,
        what: &str,
        limit: Duration,
        condition: impl AsyncFnMut() -> Result<T, String>,
    ) -> Result<T, Failure> {
        let answer = tokio::select! {
            biased;
            failure = self.ended() => return Err(failure),
            answer = until(what, limit, condition) => answer,
        };
        answer.map_err(|error| format!("{error}; {}", self.log_excerpt()).into())
    }

    /// Waits until the process has ended; returns the exit status and the end of the log as an error.
    pub(crate) async fn ended(&mut self) -> Failure {
        match self.exit().await {
            Ok(status) => format!("{} ended ({status}); {}", self.name, self.log_excerpt()).into(),
            Err(error) => error.into(),
        }
    }

    /// Waits until the process has ended; returns the exit status.
    pub(crate) async fn exit(&mut self) -> std::io::Result<ExitStatus> {
        loop {
            match self.child.try_wait()? {
                None => tokio::time::sleep(POLL_INTERVAL).await,
                Some(status) => return Ok(status),
            }
        }
    }

    fn log_excerpt(&self) -> String {
        format!("the end of its log:\n{}", self.tail(25))
    }

    /// Whether the process has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The path of the log.
    pub(crate) fn log_path(&self) -> &Path {
        &self.log
    }

    /// The whole log.
    pub(crate) fn log(&self) -> String {
        read(&self.log)
    }

    /// The last lines of the log.
    pub(crate) fn tail(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<_> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Sends a signal to the process group.
    pub(crate) fn signal(&self, signal: Signal) {
        // A group that has already ended needs no signal.
        let _ = killpg(self.group(), signal);
    }

    fn group(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX))
    }

    /// Ends the group: SIGTERM first, SIGKILL after the grace period.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        let end = Instant::now() + TERMINATION_GRACE;
        while Instant::now() < end {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(20)),
                Ok(Some(_)) | Err(_) => break,
            }
        }
        self.kill();
    }

    /// Ends the group with SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        // The process has ended, whatever `wait` returns.
        let _ = self.child.wait();
    }
}

/// The text of a log file.
pub(crate) fn read(log: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned()
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, dir: &Path) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::start("shell", command, dir).unwrap()
    }

    #[tokio::test]
    async fn a_process_group_ends_when_its_test_panics() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        let panics = async move {
            let mut process = shell("sleep 600 & echo $!; wait", &path);
            let log = process.log_path().to_owned();
            let started = async || read(&log).trim().parse::<i32>().map_err(|e| e.to_string());
            let child = process.ready("the pid", TERMINATION_GRACE, started).await.unwrap();
            std::panic::panic_any(child);
        };
        let local = tokio::task::LocalSet::new();
        let panicked = local.run_until(async { tokio::task::spawn_local(panics).await }).await;
        let child = *panicked.unwrap_err().into_panic().downcast::<i32>().unwrap();
        let gone = async || match nix::sys::signal::kill(Pid::from_raw(child), None) {
            Err(nix::errno::Errno::ESRCH) => Ok(()),
            other => Err(format!("{other:?}")),
        };
        until("its child to be gone", TERMINATION_GRACE, gone).await.unwrap();
    }

    #[tokio::test]
    async fn a_process_that_ends_early_fails_the_wait() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = shell("echo no such flag; exit 3", dir.path());
        let failure = process.ready("it to answer", TERMINATION_GRACE, async || Err::<(), _>(String::new())).await;
        let failure = failure.unwrap_err().to_string();
        assert!(failure.contains("exit status: 3") && failure.contains("no such flag"), "{failure}");
    }
}
