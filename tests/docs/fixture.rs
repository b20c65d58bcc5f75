//! An operator without a cluster and a simulated gateway, for the commands of one page.

use std::io;
use std::path::Path;
use std::process::Stdio;

use muster_simulator::{ListenGuard, Profile, Simulator};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

use crate::marks::is_unmarked;
use crate::page::{Block, Page};
use crate::shell::{Before, Shell};

/// The address of the gateway in the documents, the fixtures and the examples.
const GATEWAY: &str = "127.0.0.1:18789";
/// Its token.
const TOKEN: &str = "change-me";
/// How the operator is started for a page that does not start it.
const RUN: &str = "muster run --embedded ~/.local/share/muster";

/// The context of the kubeconfig has the namespace `fleet`, as in the documents.
const CONNECT: &str = "sed -i 's/namespace: default/namespace: fleet/' ~/.local/share/muster/kubeconfig
export KUBECONFIG=~/.local/share/muster/kubeconfig
muster apply -f $FIXTURES/namespace.yaml";

/// `check-in NAMESPACE AGENT` does what an agent does at its heartbeat.
const CHECK_IN: &str = r#"#!/bin/bash
set -euo pipefail
token=$(muster get secret "$2-token" -n "$1" -o yaml --show-secrets | sed -n 's/^  token: //p' | base64 -d)
printf 'X-Agent-Token: %s\n' "$token" | curl -fsS -H @- -d '{"status":"active"}' "http://$API/api/v1/agent/heartbeat" >/dev/null
"#;

pub(crate) const BEFORE: &[Before] = &[
    Before { page: "docs/command.md", command: "muster apply -f fleet/", lines: "cp -r $FIXTURES/fleet fleet" },
    Before { page: "docs/command.md", command: "muster get agents", lines: "check-in fleet devops-engineer" },
    Before { page: "docs/command.md", command: "source <(muster completion bash)", lines: "fpath=(none ~/.zsh)" },
    Before { page: "docs/command.md", command: "muster tree", lines: "muster apply -f fleet/ -f $FIXTURES/tree.yaml" },
    Before {
        page: "docs/command.md",
        command: "muster doctor agent devops-engineer",
        lines: "muster delete -f fleet/ --ignore-not-found && sed 's/change-me/wrong/' fleet/gateway.yaml | muster apply -f - -f fleet/agents.yaml",
    },
    Before {
        page: "docs/command.md",
        command: "muster render broken",
        lines: "cp $FIXTURES/broken.yaml fleet/agents.yaml",
    },
    Before {
        page: "docs/without-a-cluster.md",
        command: "muster apply -f fleet.yaml",
        lines: "cp $FIXTURES/one.yaml fleet.yaml",
    },
    Before {
        page: "docs/backup.md",
        command: "muster export -A",
        lines: "muster apply -f $FIXTURES/examples && muster wait agents --all --for=condition=Ready",
    },
    Before {
        page: "docs/start-without-a-cluster.md",
        command: "muster wait agent/devops-engineer --for=condition=CheckedIn",
        lines: "check-in fleet devops-engineer",
    },
];

pub(crate) struct Fixture {
    shell: Shell,
    /// The address of the simulated gateway.
    gateway: String,
    _listener: ListenGuard,
    operator: Option<Child>,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let gateway = Simulator::new(Profile::v2026_9_6().with_token(TOKEN));
        let listener = gateway.listen(([127, 0, 0, 1], 0).into()).await.unwrap();
        let shell = Shell::new(&[("muster", Path::new(env!("CARGO_BIN_EXE_muster")))]);
        let check_in = shell.home().join(".local/bin/check-in");
        std::fs::write(&check_in, CHECK_IN).unwrap();
        std::fs::set_permissions(&check_in, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let fixture = Self { shell, gateway: listener.addr().to_string(), _listener: listener, operator: None };
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        fixture.copy(&root.join("tests/docs/fixtures"), &fixture.shell.home().join(".fixtures")).unwrap();
        let examples = fixture.shell.home().join(".fixtures/examples");
        std::fs::create_dir(&examples).unwrap();
        for name in ["gateway.yaml", "boards.yaml", "agents.yaml"] {
            fixture.copy(&root.join("deploy/examples").join(name), &examples.join(name)).unwrap();
        }
        fixture
    }

    /// Copies a file or a folder, with the address of the simulated gateway.
    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        if !from.is_dir() {
            return std::fs::write(to, self.adapt(&std::fs::read_to_string(from)?));
        }
        std::fs::create_dir(to)?;
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            self.copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        Ok(())
    }

    fn adapt(&self, text: &str) -> String {
        text.replace(GATEWAY, &self.gateway)
    }

    /// Runs the unmarked blocks of a page in their order, with the files that the page shows.
    pub(crate) async fn run(&mut self, page: &Page) -> Result<(), String> {
        let blocks = page.blocks();
        let starts = |block: &Block| is_unmarked(block) && block.text.contains("muster run ");
        if !blocks.iter().any(starts) {
            self.connect().await?;
        }
        for block in &blocks {
            self.shell.write_part(block, |text| self.adapt(text));
            if is_unmarked(block) {
                self.run_block(page, block).await.map_err(|error| format!("line {}: {error}", block.line))?;
            }
        }
        Ok(())
    }

    /// Starts an operator, and makes the namespace `fleet` the one of the commands.
    pub(crate) async fn connect(&mut self) -> Result<(), String> {
        self.start(RUN).await?;
        self.shell.prepare(CONNECT).await
    }

    /// Applies a manifest.
    pub(crate) async fn apply(&self, manifest: &str, flag: &str) -> Result<(), String> {
        let file = self.shell.home().join("manifest.yaml");
        std::fs::write(file, manifest).map_err(|error| error.to_string())?;
        self.shell.prepare(&format!("muster apply {flag} -f manifest.yaml")).await
    }

    async fn run_block(&mut self, page: &Page, block: &Block) -> Result<(), String> {
        for command in block.commands() {
            for before in BEFORE.iter().filter(|before| before.is_before(page, &command)) {
                self.shell.prepare(before.lines).await?;
            }
            if command.line.starts_with("muster run ") {
                self.start(&command.line).await?;
            } else {
                self.shell.check(&command).await?;
            }
        }
        Ok(())
    }

    /// Starts an operator, with listeners on free ports, and waits until it works.
    async fn start(&mut self, line: &str) -> Result<(), String> {
        // The process of the shell becomes the operator.
        self.shell.set_command(&format!("exec {line}"));
        let mut process = self.shell.process();
        for name in ["MUSTER_EMBEDDED_ADDR", "MUSTER_API_ADDR", "MUSTER_PROBE_ADDR", "MUSTER_METRICS_ADDR"] {
            process.env(name, "127.0.0.1:0");
        }
        let mut child = process.stderr(Stdio::null()).spawn().map_err(|error| error.to_string())?;
        let mut log = BufReader::new(child.stdout.take().unwrap());
        self.operator = Some(child);
        let (mut api, mut text) = (String::new(), String::new());
        while !text.contains("the watches are in sync") {
            let mut line = String::new();
            if log.read_line(&mut line).await.map_err(|error| error.to_string())? == 0 {
                return Err(format!("{line}: the operator ended: {text}"));
            }
            if let Some((_, rest)) = line.split_once("muster runs api=") {
                rest.split(' ').next().unwrap().clone_into(&mut api);
            }
            text += &line;
        }
        // The operator must not wait for a reader of its log.
        tokio::spawn(async move { tokio::io::copy(&mut log, &mut tokio::io::sink()).await });
        self.shell.prepare(&format!("API={api} FIXTURES=~/.fixtures")).await
    }
}
