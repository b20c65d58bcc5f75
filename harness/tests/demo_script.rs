//! `scripts/demo`, with programs that stand in for cargo and npm.

#![allow(clippy::unwrap_used, reason = "helpers outside of test functions fail a test by a panic too")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use muster_harness::until;
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use tempfile::TempDir;

/// Writes its process id, and goes on until it is ended.
const GOES_ON: &str = "echo $$ >\"$STARTED\"; exec sleep 600";
/// Waits until the other program runs, and fails.
const FAILS: &str = "while [ ! -s \"$STARTED\" ]; do sleep 0.1; done; echo progress >&2; echo no such luck >&2; exit 7";

/// Runs `scripts/demo` without any parts. Returns its output, and the directory of the programs.
fn run(cargo: &str, npm: &str) -> (Output, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    for (name, script) in [("cargo", cargo), ("npm", npm)] {
        let path = dir.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    }
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/demo");
    let mut command = std::process::Command::new(script);
    command
        .env("PATH", path)
        .env("XDG_CACHE_HOME", dir.path().join("cache"))
        .env("STARTED", dir.path().join("started"));
    (command.output().unwrap(), dir)
}

/// Checks that the script failed with these words, and that it ended the program that went on.
async fn check((output, dir): (Output, TempDir), words: &str) {
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.contains(words) && text.contains("no such luck"), "{text}");
    let id = std::fs::read_to_string(dir.path().join("started")).unwrap();
    let id = Pid::from_raw(id.trim().parse().unwrap());
    let ended = async || if kill(id, None) == Err(Errno::ESRCH) { Ok(()) } else { Err(format!("{id} runs")) };
    until("the other program to end", Duration::from_secs(30), ended).await.unwrap();
}

#[tokio::test]
async fn a_failed_build_ends_the_installation_and_shows_the_end_of_its_log() {
    check(run(FAILS, GOES_ON), "the build of the operator failed; the end of its log:").await;
}

#[tokio::test]
async fn a_failed_installation_ends_the_build_and_shows_the_end_of_its_log() {
    check(run(GOES_ON, FAILS), "scripts/parts gateway failed; the end of its log:").await;
}
