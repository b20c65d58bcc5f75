//! The only command of an agent's files, and values that try to become another command.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use secrecy::SecretString;

use super::file_name::FileName;
use super::test_support::{HOSTILE, ROLES, TOKEN, file, files, folded, variables};
use crate::api::agent::Role;

/// The contents of the code blocks of a text.
fn code_blocks(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for line in text.lines() {
        match (line.trim_start().starts_with("```"), open.take()) {
            (true, None) => open = Some(String::new()),
            (true, Some(block)) => blocks.push(block),
            (false, Some(block)) => open = Some(block + line + "\n"),
            (false, None) => {}
        }
    }
    assert!(open.is_none(), "a code block is left open");
    blocks
}

/// A `curl` that writes its arguments and its standard input to files in its working directory, each argument on one line.
const FAKE_CURL: &str = "#!/bin/sh\nprintf '%s\\n' \"$@\" >arguments\ncat >input\n";

/// What `curl` gets from the heartbeat command.
#[derive(Debug, PartialEq)]
struct CurlCall {
    arguments: Vec<String>,
    input: String,
}

/// The only heartbeat command in the files.
fn heartbeat_command(files: &[(FileName, String)]) -> Option<String> {
    let mut blocks: Vec<String> = files.iter().flat_map(|(_, text)| code_blocks(text)).collect();
    assert!(blocks.len() <= 1, "{blocks:?}");
    blocks.pop()
}

/// Runs the heartbeat command of the files in a workspace with these files, as OpenClaw does: `sh -c`.
fn run(files: &[(FileName, String)], environment: &[(&str, &str)]) -> CurlCall {
    let (workspace, bin) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (name, text) in files {
        std::fs::write(workspace.path().join(name.as_str()), text).unwrap();
    }
    let curl = bin.path().join("curl");
    std::fs::write(&curl, FAKE_CURL).unwrap();
    std::fs::set_permissions(&curl, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.path().display(), std::env::var("PATH").unwrap());
    let command = heartbeat_command(files).unwrap();
    assert!(!command.contains(TOKEN), "the token is an argument of the shell: {command}");
    let mut shell = Command::new("sh");
    shell.args(["-c", &command]).current_dir(workspace.path()).env("PATH", path).envs(environment.iter().copied());
    let output = shell.output().unwrap();
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{command}\n{output:?}");
    let read = |name: &str| std::fs::read_to_string(workspace.path().join(name)).unwrap();
    CurlCall { arguments: read("arguments").lines().map(str::to_owned).collect(), input: read("input") }
}

/// The arguments of `curl` before the URL.
const ARGUMENTS: [&str; 12] = [
    "--fail-with-body",
    "--silent",
    "--show-error",
    "--max-time",
    "20",
    "--request",
    "POST",
    "--header",
    "@-",
    "--header",
    "Content-Type: application/json",
    "--data",
];

#[test]
fn the_command_passes_the_token_to_curl_on_standard_input_only() {
    let url = "http://muster.muster-system:8080/api/v1/agents/mc-c91361ef-6d85-439c-82e1-8f388a302e6a/heartbeat";
    let arguments: Vec<String> =
        ARGUMENTS.into_iter().chain([r#"{"status": "active"}"#, url]).map(str::to_owned).collect();
    let expected = CurlCall { arguments, input: format!("X-Agent-Token: {TOKEN}\n") };
    for role in ROLES {
        for text in [None].into_iter().chain(HOSTILE.map(Some)) {
            let variables = variables(role, text);
            for files in [files(role, &variables), folded(role, &variables)] {
                assert_eq!(run(&files, &[]), expected);
            }
        }
    }
}

#[test]
fn a_hostile_url_id_or_token_is_one_word_of_the_command() {
    for hostile in HOSTILE {
        let mut variables = variables(Role::Worker, None);
        for name in ["base_url", "agent_id", "auth_token"] {
            variables.set(name, &format!("x{hostile}"));
        }
        let call = run(&files(Role::Worker, &variables), &[]);
        assert_eq!(call.arguments.len(), ARGUMENTS.len() + 2, "{call:?}");
        assert!(call.arguments.last().is_some_and(|url| url.starts_with('x') && url.ends_with("/heartbeat")));
        assert!(call.input.starts_with("X-Agent-Token: x") && call.input.lines().count() == 1, "{call:?}");
    }
}

#[test]
fn only_the_tools_file_has_the_token() {
    for role in ROLES {
        for (name, text) in files(role, &variables(role, None)) {
            assert_eq!(text.matches(TOKEN).count(), usize::from(name == FileName::TOOLS), "{name}");
        }
    }
}

#[test]
fn without_a_token_the_command_reads_the_mounted_file_or_the_environment() {
    let mut variables = variables(Role::Worker, None).with_token(&SecretString::from(""));
    let mounted = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(mounted.path(), "mounted").unwrap();
    for (file, expected) in
        [("/nonexistent/token", "of-the-environment"), (mounted.path().to_str().unwrap(), "mounted")]
    {
        variables.set("auth_token_file", file);
        let call = run(&files(Role::Worker, &variables), &[("AGENT_TOKEN", "of-the-environment")]);
        assert_eq!(call.input, format!("X-Agent-Token: {expected}"));
        assert!(call.arguments.iter().all(|argument| !argument.contains(expected)), "{call:?}");
    }
}

#[test]
fn without_a_base_url_the_tools_file_says_that_the_agent_cannot_check_in() {
    for role in ROLES {
        let mut variables = variables(role, None);
        variables.set("base_url", "");
        let files = files(role, &variables);
        assert_eq!(heartbeat_command(&files), None);
        assert!(files.iter().all(|(_, text)| !text.contains(TOKEN)));
        assert!(file(role, &variables, &FileName::TOOLS).contains("cannot check in"));
    }
}

#[test]
fn a_value_cannot_create_a_heading_or_a_marker() {
    for role in ROLES {
        let headings = |files: &[(FileName, String)]| -> Vec<String> {
            let lines = files.iter().flat_map(|(_, text)| text.lines());
            lines.filter(|line| line.starts_with('#') || line.contains("muster:")).map(str::to_owned).collect()
        };
        let ordinary = headings(&folded(role, &variables(role, None)));
        for hostile in &HOSTILE[..5] {
            let hostile = variables(role, Some(hostile));
            let own: Vec<String> =
                headings(&folded(role, &hostile)).into_iter().filter(|line| !line.starts_with("- ")).collect();
            let forged: Vec<_> = own.iter().filter(|line| line.starts_with('#') && !ordinary.contains(line)).collect();
            assert!(forged.is_empty(), "{forged:?}");
            let markers = own.iter().filter(|line| line.starts_with("<!-- muster:")).count();
            assert_eq!(markers, ordinary.iter().filter(|line| line.starts_with("<!-- muster:")).count());
        }
    }
}
