//! `make demo`: the main job on real parts, from nothing to an agent that checks in.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use muster_harness::{ControlPlane, Failure, OpenClaw, Operator, Parts, ScriptedModel, until};
use tokio::signal::unix::{SignalKind, signal};

/// The namespace of `deploy/examples`.
const FLEET: &str = "fleet";
/// How long the examples may take; about 20 s on 2 cores.
const PATIENCE: Duration = Duration::from_secs(120);
/// What `deploy/examples/gateway.yaml` says, where the demo has ports of its own.
const EXAMPLE_GATEWAY: &str = "ws://127.0.0.1:18789";
const EXAMPLE_API: &str = "http://127.0.0.1:8080";
const EXAMPLE_TOKEN: &str = "change-me";

#[tokio::main]
async fn main() -> ExitCode {
    let keep = std::env::var("KEEP").is_ok_and(|v| !v.is_empty() && v != "0");
    let stopped = async {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        Ok::<_, Failure>(())
    };
    let result = tokio::select! {
        biased;
        stopped = stopped => stopped.map(|()| println!("\nStopped; everything is being ended.")),
        result = demo(keep) => result,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe demo failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn say(started: Instant, what: &str) {
    println!("{:>4}s  {what}", started.elapsed().as_secs());
}

async fn demo(keep: bool) -> Result<(), Failure> {
    let started = Instant::now();
    let binary = std::env::args().nth(1).ok_or("usage: muster-demo PATH-OF-THE-MUSTER-BINARY")?;
    tokio::task::spawn_blocking(Parts::prepare).await??;
    say(started, "starting the control plane and the gateway side by side");
    let model = ScriptedModel::start().await?;
    let gateway = async {
        let gateway = OpenClaw::start_with(model.url(), EXAMPLE_TOKEN).await;
        say(started, "the gateway answers");
        gateway
    };
    let cluster = async {
        let cluster = ControlPlane::start().await;
        say(started, "the API server is ready");
        cluster
    };
    let (cluster, gateway) = futures::try_join!(cluster, gateway)?;
    let kubectl = &cluster.kubectl;
    println!("\n$ kubectl apply -k deploy");
    print!("{}", cluster.install().await?);
    println!("(There are no nodes here: the operator runs as a process, with the token of this ServiceAccount.)\n");
    let operator = Operator::start(Path::new(&binary), &cluster).await?;
    say(started, "the operator is ready");
    println!("\n$ kubectl apply -k deploy/examples");
    let examples = kubectl.run(&["kustomize", "deploy/examples"]).await?;
    let examples = examples.replace(EXAMPLE_GATEWAY, &gateway.url()).replace(EXAMPLE_API, &operator.api_url());
    print!("{}", kubectl.apply(&examples).await?);
    println!();
    for kind in ["agentgateways", "boards", "agents"] {
        let seconds = format!("--timeout={}s", PATIENCE.as_secs());
        let wait = ["wait", "--for=condition=Ready", kind, "--all", "-n", FLEET, &seconds];
        kubectl.run(&wait).await.map_err(|e| format!("{e}\nthe end of the operator's log:\n{}", end(&operator.log())))?;
        say(started, &format!("all {kind} are Ready"));
    }
    let agent = checked_in(&cluster).await.map_err(|e| format!("{e}\nwhat the model was asked: {:#?}", asked(&model)))?;
    say(started, &format!("agent {agent} was woken, read its files and checked in by itself"));
    show(&cluster, &gateway, &agent).await?;
    let kubeconfig = kubectl.kubeconfig().display().to_string();
    println!("To look further, while this runs:\n  export KUBECONFIG={kubeconfig}");
    println!("  kubectl describe agent {agent} -n {FLEET}\n  kubectl explain agent.spec\n  kubectl get events -n {FLEET}");
    println!("  ls {}/workspaces\n", gateway.home().display());
    if keep || std::io::stdout().is_terminal() {
        println!("Everything is up. Ctrl-C ends it.");
        std::future::pending::<()>().await;
    }
    say(started, "done; everything is being ended");
    Ok(())
}

/// The first agent that really checked in.
async fn checked_in(cluster: &ControlPlane) -> Result<String, Failure> {
    let path = "jsonpath={range .items[*]}{.metadata.name} {.status.conditions[?(@.type==\"CheckedIn\")].status}{\"\\n\"}{end}";
    until("an agent to check in", PATIENCE, async || {
        let agents = cluster.kubectl.run(&["get", "agents", "-n", FLEET, "-o", path]).await.map_err(|e| e.to_string())?;
        let found = agents.lines().find_map(|line| line.strip_suffix(" True").map(str::to_owned));
        found.ok_or(agents)
    })
    .await
}

/// What the model was asked last, without the system prompt, which carries a token.
fn asked(model: &ScriptedModel) -> Vec<(String, Option<String>)> {
    model.runs().into_iter().rev().take(5).map(|run| (run.message, run.tool_output)).collect()
}

/// The tables, and one file as the agent finds it.
async fn show(cluster: &ControlPlane, gateway: &OpenClaw, agent: &str) -> Result<(), Failure> {
    println!("\n$ kubectl get agentgateways,boards,agents -n {FLEET}");
    println!("{}", cluster.kubectl.run(&["get", "agentgateways,boards,agents", "-n", FLEET]).await?);
    let path = ["get", "agent", agent, "-n", FLEET, "-o", "jsonpath={.status.workspacePath}"];
    let workspace = cluster.kubectl.run(&path).await?.replacen('~', &gateway.home().display().to_string(), 1);
    let file = Path::new(&workspace).join("AGENTS.md");
    let text = std::fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    println!("AGENTS.md of {agent}, as the gateway has it (its token is hidden here):\n");
    for line in text.lines() {
        println!("  | {}", masked(line));
    }
    println!();
    Ok(())
}

/// The line without a token.
fn masked(line: &str) -> String {
    match line.split_once("X-Agent-Token: ") {
        Some((before, after)) => {
            let rest = after.find(['\'', '"']).map_or("", |at| &after[at..]);
            format!("{before}X-Agent-Token: ********{rest}")
        }
        None => line.to_owned(),
    }
}

fn end(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
