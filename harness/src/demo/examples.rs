//! `deploy/examples`, with the addresses of the demo.

use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_harness::{Failure, ScriptedModel};

/// The namespace of `deploy/examples`.
pub(crate) const NAMESPACE: &str = "fleet";
/// Limit for the examples; they take about 20 s on 2 cores, and minutes on a loaded machine.
pub(crate) const TIMEOUT: Duration = Duration::from_mins(5);
/// The gateway's token in `deploy/examples/gateway.yaml`.
pub(crate) const TOKEN: &str = "change-me";
/// Values of `deploy/examples/gateway.yaml` that the demo replaces with its own.
const GATEWAY: &str = "ws://127.0.0.1:18789";
const API: &str = "http://127.0.0.1:8080";

/// The files that `muster apply` takes. The others have kinds that it does not know: kustomize, accounts and their rights.
const FILES: [&str; 4] = ["namespace.yaml", "gateway.yaml", "boards.yaml", "agents.yaml"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples")
}

/// Manifests of the examples with these addresses of the gateway and of the operator.
///
/// # Errors
/// The manifests do not have the values that the demo replaces.
pub(crate) fn with_addresses(manifests: &str, gateway: &str, api: &str) -> Result<String, Failure> {
    for value in [GATEWAY, API, TOKEN] {
        if !manifests.contains(value) {
            return Err(format!("deploy/examples/gateway.yaml no longer has {value}, which the demo needs").into());
        }
    }
    Ok(manifests.replace(GATEWAY, gateway).replace(API, api))
}

/// Writes the files of the examples that `muster apply` takes to a folder.
pub(crate) fn write(to: &Path, gateway: &str, api: &str) -> Result<(), Failure> {
    for name in FILES {
        let file = folder().join(name);
        let text = std::fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        let text = if name == "gateway.yaml" { with_addresses(&text, gateway, api)? } else { text };
        std::fs::write(to.join(name), text)?;
    }
    Ok(())
}

/// Prints a part of the file AGENTS.md in a workspace of the gateway at `home`.
pub(crate) fn print_agents_file(workspace: &str, home: &Path, part: impl Fn(&str) -> &str) -> Result<(), Failure> {
    let file = Path::new(&workspace.replacen('~', &home.display().to_string(), 1)).join("AGENTS.md");
    let text = std::fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    for line in part(&text).lines() {
        println!("  | {}", masked(line));
    }
    println!();
    Ok(())
}

/// The line with its token masked. The token is in the line that the heartbeat command reads.
fn masked(line: &str) -> String {
    match line.strip_prefix("X-Agent-Token: ") {
        Some(_) => "X-Agent-Token: ********".to_owned(),
        None => line.to_owned(),
    }
}

/// The last requests to the model, without the system prompt, which contains a token.
pub(crate) fn last_model_requests(model: &ScriptedModel) -> Vec<(String, Option<String>)> {
    model.requests().into_iter().rev().take(5).map(|request| (request.message, request.tool_output)).collect()
}

/// The end of a log.
pub(crate) fn log_tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by a panic")]

    use super::*;

    #[test]
    fn the_examples_get_the_addresses_of_the_demo() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "ws://127.0.0.1:1", "http://127.0.0.1:2").unwrap();
        let text = std::fs::read_to_string(dir.path().join("gateway.yaml")).unwrap();
        assert!(text.contains("url: ws://127.0.0.1:1\n") && text.contains("apiUrl: http://127.0.0.1:2\n"), "{text}");
    }

    #[test]
    fn manifests_without_the_replaced_values_are_refused() {
        assert!(with_addresses("url: ws://elsewhere", "ws://a", "http://b").is_err());
    }

    #[test]
    fn a_token_is_masked() {
        assert_eq!(masked("X-Agent-Token: secret"), "X-Agent-Token: ********");
    }
}
