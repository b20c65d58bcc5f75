//! A shell in which the commands of a page run, one after the other.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::Command as Process;

use crate::page::{Block, Command, Page};

/// How long a command may take.
const LIMIT: Duration = Duration::from_mins(6);
/// How long the shown state may need to come.
const STATE_LIMIT: Duration = Duration::from_mins(1);
/// The time between two looks. Each is a process of its own.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Runs a command with the variables, and in the folder, that the former command left. `set -a` keeps the variables that a command sets.
const WRAPPER: &str = r#"set -a -o pipefail
. "$MUSTER_DOCS/variables"; cd "$(cat "$MUSTER_DOCS/folder")"
. "$MUSTER_DOCS/command"
status=$?
export -p > "$MUSTER_DOCS/variables"; pwd > "$MUSTER_DOCS/folder"; exit $status"#;

/// A shell with a home of its own. Nothing of the person who runs the tests reaches it.
pub(crate) struct Shell {
    folder: TempDir,
}

impl Shell {
    /// A shell with these commands before those of the system.
    pub(crate) fn new(commands: &[(&str, &Path)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let shell = Self { folder };
        for place in ["home/.local/bin", "home/.config/fish/completions", "home/.zsh", "state"] {
            std::fs::create_dir_all(shell.folder.path().join(place)).unwrap();
        }
        for (name, program) in commands {
            std::os::unix::fs::symlink(program, shell.home().join(".local/bin").join(name)).unwrap();
        }
        shell.set_state("variables", "");
        shell.set_state("folder", &shell.home().display().to_string());
        shell
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    fn set_state(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join("state").join(name), text).unwrap();
    }

    /// A process with the environment of the shell.
    pub(crate) fn process(&self) -> Process {
        let home = self.home();
        let mut process = Process::new("bash");
        process.args(["--norc", "-c", WRAPPER]).env_clear();
        process.env("HOME", &home).env("LANG", "C.UTF-8").env("MUSTER_DOCS", self.folder.path().join("state"));
        process.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", home.join(".local/bin").display()));
        process.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        process
    }

    pub(crate) fn set_command(&self, line: &str) {
        // Braces: both outputs of all parts of the command, in their order.
        self.set_state("command", &format!("{{ {line}\n}} 2>&1\n"));
    }

    /// Whether the command succeeded, and what it printed.
    pub(crate) async fn run(&self, line: &str) -> Result<(bool, String), String> {
        self.set_command(line);
        let output = tokio::time::timeout(LIMIT, self.process().output()).await;
        let output = output.map_err(|_| format!("{line}: it did not end within {} s", LIMIT.as_secs()))?;
        let output = output.map_err(|error| format!("bash: {error}"))?;
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Ok((output.status.success(), text(&output.stdout) + &text(&output.stderr)))
    }

    /// Runs a command that has to succeed.
    pub(crate) async fn prepare(&self, line: &str) -> Result<(), String> {
        match self.run(line).await? {
            (true, _) => Ok(()),
            (false, printed) => Err(format!("preparation {line}: {printed}")),
        }
    }

    /// Runs a command of a document, and compares its outcome with the shown one.
    pub(crate) async fn check(&self, command: &Command) -> Result<(), String> {
        let started = tokio::time::Instant::now();
        loop {
            let (succeeded, printed) = self.run(&command.line).await?;
            let difference = match command.missing_line(&printed) {
                _ if succeeded == command.fails() => {
                    format!("the exit status is {}", if succeeded { "0" } else { "not 0" })
                }
                Some(line) => format!("the document shows a line that is not printed: {line}"),
                None => return Ok(()),
            };
            if !command.only_reads() || started.elapsed() > STATE_LIMIT {
                return Err(format!("{}\n{difference}\nprinted:\n{printed}", command.line));
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Writes the file that a block is a part of.
    pub(crate) fn write_part(&self, block: &Block, adapt: impl Fn(&str) -> String) {
        use std::io::Write as _;
        let Some(name) = block.file() else { return };
        let file = self.home().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(file).unwrap();
        // Each part is a YAML document of its own.
        write!(file, "---\n{}", adapt(&block.text)).unwrap();
    }
}

/// What has to be done before a command of a page: in the real world, time passes or somebody does it.
pub(crate) struct Before {
    pub(crate) page: &'static str,
    /// How the command begins.
    pub(crate) command: &'static str,
    /// The commands of the shell.
    pub(crate) lines: &'static str,
}

impl Before {
    pub(crate) fn is_before(&self, page: &Page, command: &Command) -> bool {
        self.page == page.path && command.line.starts_with(self.command)
    }
}
