//! Commands name the resources with their group: other projects have `agents` too, and kubectl takes one of them.

use std::fs;
use std::path::{Path, PathBuf};

const RESOURCES: [&str; 6] = ["agent", "agents", "board", "boards", "agentgateway", "agentgateways"];

/// The resources in the kubectl command of a line that are named without the group.
fn ambiguous(line: &str) -> Vec<String> {
    let Some((_, rest)) = line.split_once("kubectl ") else { return Vec::new() };
    let end = ["`", " #", " | ", "</code>"].iter().filter_map(|mark| rest.find(mark)).min().unwrap_or(rest.len());
    let words = rest[..end].split_whitespace().flat_map(|word| word.split(','));
    let named = words.map(|word| word.split('/').next().unwrap_or_default().trim_matches('"'));
    named.filter(|word| RESOURCES.contains(word)).map(str::to_owned).collect()
}

/// The files below a folder.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

#[test]
fn every_command_names_the_resources_with_their_group() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = vec![root.join("README.md"), root.join("CHANGELOG.md")];
    for folder in ["docs", "src", "deploy", "crds", "templates", "scripts", "harness/src"] {
        files(&root.join(folder), &mut all);
    }
    let mut found = Vec::new();
    let mut commands = 0;
    for path in all {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for (number, line) in text.lines().enumerate() {
            commands += usize::from(line.contains("kubectl "));
            let place = || format!("{}:{}", path.strip_prefix(root).unwrap_or(&path).display(), number + 1);
            found.extend(ambiguous(line).into_iter().map(|word| format!("{}: {word}", place())));
        }
    }
    assert!(commands > 30, "{commands} commands");
    assert!(found.is_empty(), "write {{resource}}.muster.dev:\n{}", found.join("\n"));
}

#[test]
fn a_resource_without_its_group_is_found_in_every_form() {
    for (line, words) in [
        ("$ kubectl get agents -A", &["agents"][..]),
        ("run `kubectl describe agent/one` and see the board", &["agent"]),
        ("kubectl get agentgateways,boards.muster.dev", &["agentgateways"]),
        ("kubectl get agents.muster.dev -A | grep agent", &[]),
        ("the agents of a board", &[]),
        ("kubectl apply -f deploy/examples # the agents", &[]),
    ] {
        assert_eq!(ambiguous(line), words, "{line}");
    }
}
