//! The commands of the documents that need an API server, kubectl and a real gateway, in one namespace `fleet`, page after page.

use std::path::Path;

use muster_harness::{Binaries, Failure};

use crate::page::{Block, Page};
use crate::shell::{Before, Shell};
use crate::stack::Stack;

/// The mark of the blocks that this test runs.
const MARK: &str = "tests/cluster/docs.rs::every_command_with_this_mark_does_what_it_shows";

/// The pages that make the namespace `fleet`. The others use what the last of them leaves.
const FIRST: [&str; 2] = ["README.md", "docs/start-in-a-cluster.md"];

/// Waits until the policy is in force: the API server loads a new policy some seconds after its creation.
const PROTECTED_AGENT: &str = "printf 'apiVersion: muster.dev/v1alpha1\\nkind: Agent\\nmetadata: {name: archivist, namespace: fleet}\\nspec: {boardRef: {name: infrastructure}, deletionPolicy: Orphan}\\n' | kubectl apply -f -
until { kubectl annotate agents.muster.dev archivist -n fleet muster.dev/protected=maybe --dry-run=server 2>&1 || true; } | grep -q muster-protection; do sleep 1; done";

const BEFORE: &[Before] = &[
    Before {
        page: "README.md",
        command: "kubectl create secret generic openclaw",
        lines: "kubectl delete secret openclaw -n fleet && printf change-me > token.txt",
    },
    Before { page: "README.md", command: "kubectl wait -n fleet --for=condition=Ready", lines: READY },
    Before { page: "docs/start-in-a-cluster.md", command: "kubectl wait -n fleet --for=condition=Ready", lines: READY },
    Before {
        page: "docs/start-in-a-cluster.md",
        command: "kubectl create namespace fleet",
        lines: "kubectl delete namespace fleet",
    },
    Before {
        page: "docs/start-in-a-cluster.md",
        command: "kubectl create secret generic openclaw",
        lines: "printf change-me > token.txt",
    },
    Before { page: "docs/gitops.md", command: "kubectl apply --server-side", lines: "kubectl create namespace argocd" },
    Before {
        page: "docs/operations.md",
        command: "kubectl delete agents.muster.dev --all -n team-b",
        lines: "kubectl create namespace team-b",
    },
    Before {
        page: "docs/operations.md",
        command: "kubectl get secrets -n NAMESPACE",
        lines: "kubectl create secret generic left -n fleet",
    },
    Before {
        page: "docs/operations.md",
        command: "kubectl annotate agents.muster.dev archivist",
        lines: PROTECTED_AGENT,
    },
];

/// The agent `one` of the pages that need no certain name.
const ONE: &str = "printf 'apiVersion: muster.dev/v1alpha1\\nkind: Agent\\nmetadata: {name: one, namespace: fleet}\\nspec: {boardRef: {name: infrastructure}}\\n' | kubectl apply -f -
kubectl wait -n fleet --for=condition=Ready agents.muster.dev/one --timeout=5m";

/// Removes the agents while the gateway is connected, and what else the pages made.
const AFTERWARDS: [&str; 4] = [
    "kubectl delete namespace argocd",
    "kubectl annotate agents.muster.dev archivist -n fleet muster.dev/protected-",
    "kubectl wait -n fleet --for=condition=Ready agentgateways.muster.dev/openclaw --timeout=5m",
    "kubectl delete agents.muster.dev --all -n fleet",
];

/// A busy machine needs longer than the document allows.
const READY: &str = "kubectl wait -n fleet --for=condition=Ready agents.muster.dev/devops-engineer --timeout=5m";

/// The values of the words in capitals: the page, how the command begins, and the name.
const NAMES: [(&str, &str, &str); 4] = [
    ("docs/operations.md", "kubectl patch secret", "left"),
    ("docs/operations.md", "kubectl patch agents.muster.dev", "archivist"),
    ("docs/runbook.md", "kubectl describe agentgateways", "openclaw"),
    ("docs/runbook.md", "kubectl get agentgateways", "openclaw"),
];

fn is_ours(block: &Block) -> bool {
    block.is_of_commands() && block.run_by() == Some(MARK)
}

/// A text of a document with the addresses of the stack and the names of the objects.
fn adapt(stack: &Stack, text: &str) -> String {
    let text =
        text.replace("ws://openclaw.example:18789", &stack.openclaw.url()).replace("change-me", stack.openclaw.token());
    text.replace("http://muster.muster-system.svc:8080", &stack.operator.api_url()).replace("NAMESPACE", "fleet")
}

/// The preparations and the names that belong to no command any more.
fn unused(pages: &[Page]) -> Vec<String> {
    let commands = |path: &str| {
        let blocks = pages.iter().filter(|page| page.path == path).flat_map(Page::blocks).filter(is_ours);
        blocks.flat_map(|block| block.commands()).collect::<Vec<_>>()
    };
    let prepared = BEFORE.iter().map(|before| (before.page, before.command));
    let named = NAMES.iter().map(|(page, begins, _)| (*page, *begins));
    let unused =
        prepared.chain(named).filter(|(page, begins)| !commands(page).iter().any(|c| c.line.starts_with(begins)));
    unused.map(|(page, begins)| format!("{page}: no command begins with {begins}")).collect()
}

async fn run_page(stack: &Stack, shell: &Shell, page: &Page) -> Result<(), String> {
    let blocks = page.blocks();
    for block in blocks.iter().filter(|_| blocks.iter().any(is_ours)) {
        shell.write_part(block, |text| adapt(stack, text));
        for mut command in block.commands().into_iter().filter(|_| is_ours(block)) {
            for before in BEFORE.iter().filter(|before| before.is_before(page, &command)) {
                shell.prepare(&adapt(stack, before.lines)).await?;
            }
            let is_named =
                |(path, begins, _): &&(&str, &str, &str)| *path == page.path && command.line.starts_with(begins);
            let name = NAMES.iter().find(is_named).map(|(_, _, name)| *name);
            command.line = adapt(stack, &command.line).replace("NAME ", &format!("{} ", name.unwrap_or("NAME")));
            shell.check(&command).await.map_err(|error| format!("{}:{}: {error}", page.path, block.line))?;
        }
    }
    Ok(())
}

pub(crate) async fn every_command_with_this_mark_does_what_it_shows(stack: &mut Stack) -> Result<(), Failure> {
    let kubectl = Binaries::control_plane()?.kubernetes("kubectl");
    let shell = Shell::new(&[("muster", Path::new(env!("CARGO_BIN_EXE_muster"))), ("kubectl", &kubectl)]);
    let (root, kubeconfig) = (env!("CARGO_MANIFEST_DIR"), stack.cluster.kubectl.kubeconfig().display());
    shell.prepare(&format!("ln -s {root}/deploy {root}/crds . && export KUBECONFIG={kubeconfig}")).await?;
    let pages = Page::all();
    assert_eq!(unused(&pages), [""; 0]);
    let (first, others): (Vec<_>, Vec<_>) = pages.iter().partition(|page| FIRST.contains(&page.path.as_str()));
    for page in first {
        run_page(stack, &shell, page).await?;
    }
    shell.prepare(ONE).await?;
    let mut failures = Vec::new();
    for page in others {
        failures.extend(run_page(stack, &shell, page).await.err());
    }
    if !failures.is_empty() {
        return Err(failures.join("\n\n").into());
    }
    for line in AFTERWARDS {
        shell.prepare(line).await?;
    }
    stack.watched.look.take().await;
    Ok(shell.prepare("kubectl delete namespace fleet --timeout=5m").await?)
}
