//! A process of ours and everything that it starts.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::Failure;
use super::wait::{POLL_INTERVAL, until};

/// How long a process may take to end by itself.
const TERMINATION_GRACE: Duration = Duration::from_secs(5);

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

    /// Waits until the process does what is asked for.
    ///
    /// # Errors
    /// It ended before, or did not do so in time; with the end of its log.
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

    /// Waits until the process has ended, and says how.
    pub(crate) async fn ended(&mut self) -> Failure {
        match self.exit().await {
            Ok(status) => format!("{} ended ({status}); {}", self.name, self.log_excerpt()).into(),
            Err(error) => error.into(),
        }
    }

    /// Waits until the process has ended.
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

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where its log is.
    pub(crate) fn log_path(&self) -> &Path {
        &self.log
    }

    /// Everything that it wrote.
    pub(crate) fn log(&self) -> String {
        read(&self.log)
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
        let end = Instant::now() + TERMINATION_GRACE;
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

/// The text of a log.
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
    async fn a_process_takes_what_it_started_with_it_also_when_a_test_panics() {
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
    async fn a_process_that_ends_early_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = shell("echo no such flag; exit 3", dir.path());
        let failure = process.ready("it to answer", TERMINATION_GRACE, async || Err::<(), _>(String::new())).await;
        let failure = failure.unwrap_err().to_string();
        assert!(failure.contains("exit status: 3") && failure.contains("no such flag"), "{failure}");
    }
}
