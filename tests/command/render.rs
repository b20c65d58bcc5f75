//! `muster render`.

use std::path::{Path, PathBuf};

use clap::Parser;
use muster::command::{self, CommandError, RenderOptions, Streams};
use tempfile::TempDir;

#[derive(Debug, Parser)]
#[command(name = "render")]
struct RenderLine {
    #[command(flatten)]
    options: RenderOptions,
}

const GATEWAY: &str = "\
apiVersion: muster.dev/v1alpha1
kind: AgentGateway
metadata: { name: gw, namespace: fleet }
spec:
  url: ws://gateway:18789
  auth: { tokenSecretRef: { name: gateway, key: token } }
  workspaceRoot: ~/agents
  apiUrl: http://muster:8080
---
apiVersion: muster.dev/v1alpha1
kind: Board
metadata: { name: ops, namespace: fleet }
spec:
  gatewayRef: { name: gw }
  templates: { configMapRef: { name: texts } }
";
const TEXTS: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: { name: texts, namespace: fleet }
data:
  SOUL.md: |
    The soul of {{ agent_name }}.
";

fn agent(name: &str, board: &str) -> String {
    format!(
        "apiVersion: muster.dev/v1alpha1\nkind: Agent\nmetadata: {{ name: {name}, namespace: fleet }}\nspec: {{ boardRef: {{ name: {board} }} }}\n"
    )
}

/// A folder with manifests, and what the command prints.
struct Folder(TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Standard output, standard error, and the error of the command.
    async fn render(&self, line: &str) -> (String, String, Option<String>) {
        let folder = self.0.path().display().to_string();
        let words = line.split_whitespace().map(|word| word.replace("DIR", &folder));
        let line = RenderLine::parse_from(["render".to_owned()].into_iter().chain(words));
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut streams = Streams { out: &mut out, err: &mut err, input: &mut std::io::empty(), is_terminal: false };
        let outcome: Result<(), CommandError> = command::render(&line.options, &mut streams).await;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(&folder, "DIR");
        (text(out), text(err), outcome.err().map(|error| error.to_string()))
    }
}

#[tokio::test]
async fn the_files_of_an_agent_are_printed_with_a_placeholder_for_the_token() {
    let folder = Folder::new(&[
        ("a.yaml", GATEWAY),
        ("b.yaml", TEXTS),
        ("c.yaml", &agent("one", "ops")),
        ("d.yaml", &agent("two", "ops")),
    ]);
    let (out, err, error) = folder.render("one -f DIR").await;
    assert_eq!((err.as_str(), error), ("", None));
    assert!(out.contains("==> fleet/one/SOUL.md <==\nThe soul of one.\n"), "{out}");
    assert!(out.contains("==> fleet/one/AGENTS.md <==\n") && !out.contains("fleet/two"), "{out}");
    assert!(out.contains("TOKEN-OF-THE-AGENT") && out.contains("http://muster:8080"), "{out}");
    assert_eq!(folder.render("one -f DIR").await.0, out, "nothing of it is random");
    assert!(folder.render("-f DIR").await.0.contains("==> fleet/two/SOUL.md <==\nThe soul of two.\n"));
}

#[tokio::test]
async fn the_files_are_written_below_a_directory() {
    let folder = Folder::new(&[("all.yaml", &format!("{GATEWAY}---\n{TEXTS}---\n{}", agent("one", "ops")))]);
    let (out, err, error) = folder.render("-f DIR/all.yaml -o DIR/rendered").await;
    assert_eq!((err.as_str(), error), ("", None));
    assert!(out.contains("DIR/rendered/fleet/one/SOUL.md\n"), "{out}");
    let soul = std::fs::read_to_string(folder.path("rendered/fleet/one/SOUL.md")).unwrap();
    assert_eq!(soul.trim_end(), "The soul of one.");
}

#[tokio::test]
async fn each_error_has_its_place_and_leaves_the_other_agents() {
    let broken = TEXTS.replace("agent_name", "agent_nam");
    let inline = "boardRef: { name: ops }, files: [{ name: SOUL.md, template: { inline: ok } }]";
    let own = agent("own", "ops").replace("boardRef: { name: ops }", inline);
    let folder = Folder::new(&[
        ("a.yaml", GATEWAY),
        ("b.yaml", &broken),
        ("c.yaml", &format!("{}---\n{}", agent("one", "ops"), agent("lost", "nowhere"))),
        ("d.yaml", &agent("typo", "ops").replace("boardRef", "boardref")),
        ("e.yaml", &own),
    ]);
    let (out, err, error) = folder.render("-f DIR").await;
    assert!(out.contains("==> fleet/own/SOUL.md <==\nok\n") && !out.contains("fleet/one"), "{out}");
    for expected in [
        "DIR/c.yaml, document 1: agent.muster.dev/one: SOUL.md was not rendered: ",
        "(ConfigMap fleet/texts is in DIR/b.yaml, document 1)",
        "DIR/c.yaml, document 2: agent.muster.dev/lost: Board fleet/nowhere, which spec.boardRef names, is in none of the files",
        "DIR/d.yaml, document 1: agent.muster.dev/typo: ",
        "boardref",
    ] {
        assert!(err.contains(expected), "{expected}\n{err}");
    }
    assert_eq!(error.as_deref(), Some("3 documents failed"));
    let (_, err, error) = folder.render("nobody -f DIR/a.yaml").await;
    assert_eq!((err.as_str(), error.is_some()), ("there is no Agent nobody in the files\n", true));
}

#[tokio::test]
async fn the_examples_render() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/examples");
    let paths = ["gateway.yaml", "boards.yaml", "agents.yaml"].map(|name| examples.join(name).display().to_string());
    let (out, err, error) = Folder::new(&[]).render(&format!("-f {}", paths.join(" "))).await;
    assert_eq!((err.as_str(), error), ("", None));
    assert!(out.contains("==> fleet/infra-lead/AGENTS.md <==\n"), "{out}");
}
