//! `make demo`: installs the operator on real binaries and waits until an agent has checked in.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use muster_harness::{Binaries, ControlPlane, Failure, Kubectl, OpenClaw, Operator, ScriptedModel, until};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The namespace of `deploy/examples`.
const NAMESPACE: &str = "fleet";
/// Limit for the examples; they take about 20 s on 2 cores.
const EXAMPLES_TIMEOUT: Duration = Duration::from_mins(2);
/// Values of `deploy/examples/gateway.yaml` that the demo replaces with its own.
const EXAMPLE_GATEWAY: &str = "ws://127.0.0.1:18789";
const EXAMPLE_API: &str = "http://127.0.0.1:8080";
const EXAMPLE_TOKEN: &str = "change-me";

#[tokio::main]
async fn main() -> ExitCode {
    match demo().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe demo failed: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn demo() -> Result<(), Failure> {
    let started = Instant::now();
    let keep = std::env::var("KEEP").is_ok_and(|v| !v.is_empty() && v != "0");
    let binary = std::env::args().nth(1).ok_or("usage: muster-demo PATH-OF-THE-MUSTER-BINARY")?;
    let mut shutdown = ShutdownSignals::new()?;
    let demo = tokio::select! {
        biased;
        () = shutdown.received() => return Err("a signal stopped the demo before its end".into()),
        demo = bring_up(started, Path::new(&binary)) => demo?,
    };
    if keep || std::io::stdout().is_terminal() {
        println!("Everything runs. Ctrl-C stops the demo.");
        shutdown.received().await;
    }
    print_step(started, "done; stopping everything");
    drop(demo);
    Ok(())
}

/// The signals that end the demo. A closed terminal sends one of them.
struct ShutdownSignals([Signal; 3]);

impl ShutdownSignals {
    fn new() -> std::io::Result<Self> {
        Ok(Self([signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?]))
    }

    async fn received(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

fn print_step(started: Instant, what: &str) {
    println!("{:>4}s  {what}", started.elapsed().as_secs());
}

/// Everything that the demo starts. The fields drop in this order.
struct RunningDemo {
    _operator: Operator,
    _cluster: ControlPlane,
    _gateway: OpenClaw,
    _model: ScriptedModel,
}

/// Starts everything, and waits until the examples are Ready and one agent has checked in.
async fn bring_up(started: Instant, binary: &Path) -> Result<RunningDemo, Failure> {
    tokio::task::spawn_blocking(Binaries::prepare).await??;
    print_step(started, "starting the control plane and the gateway side by side");
    let model = ScriptedModel::start().await?;
    let gateway = async {
        let gateway = OpenClaw::start_with(model.url(), EXAMPLE_TOKEN).await?;
        print_step(started, "the gateway answers");
        Ok::<_, Failure>(gateway)
    };
    let cluster = async {
        let cluster = ControlPlane::start().await?;
        print_step(started, "the API server is ready");
        Ok::<_, Failure>(cluster)
    };
    let (cluster, gateway) = futures::try_join!(cluster, gateway)?;
    println!(
        "
$ kubectl apply -k crds; kubectl apply -k deploy"
    );
    print!("{}", cluster.install("deploy").await?);
    println!("(There are no nodes here: the operator runs as a process, with the token of this ServiceAccount.)\n");
    let operator = Operator::start(binary, &cluster).await?;
    print_step(started, "the operator is ready");
    apply_examples(&cluster.kubectl, &gateway, &operator).await?;
    for kind in ["agentgateways", "boards", "agents"] {
        all_ready(&cluster.kubectl, kind)
            .await
            .map_err(|e| format!("{e}\nthe end of the operator's log:\n{}", log_tail(&operator.log())))?;
        print_step(started, &format!("all {kind} are Ready"));
    }
    let agent = checked_in(&cluster)
        .await
        .map_err(|e| format!("{e}\nthe last requests to the model: {:#?}", last_model_requests(&model)))?;
    print_step(started, &format!("agent {agent} was woken, read its files and checked in by itself"));
    print_result(&cluster, &gateway, &agent).await?;
    print_hints(&cluster.kubectl, &gateway, &operator, &agent);
    Ok(RunningDemo { _operator: operator, _cluster: cluster, _gateway: gateway, _model: model })
}

/// Applies the examples with the demo's ports.
async fn apply_examples(kubectl: &Kubectl, gateway: &OpenClaw, operator: &Operator) -> Result<(), Failure> {
    println!("\n$ kubectl apply -k deploy/examples");
    let examples = kubectl.run(&["kustomize", "deploy/examples"]).await?;
    let examples = examples.replace(EXAMPLE_GATEWAY, &gateway.url()).replace(EXAMPLE_API, &operator.api_url());
    println!("{}", kubectl.apply(&examples).await?);
    Ok(())
}

async fn all_ready(kubectl: &Kubectl, kind: &str) -> Result<String, Failure> {
    let timeout = format!("--timeout={}s", EXAMPLES_TIMEOUT.as_secs());
    kubectl.run(&["wait", "--for=condition=Ready", kind, "--all", "-n", NAMESPACE, &timeout]).await
}

fn print_hints(kubectl: &Kubectl, gateway: &OpenClaw, operator: &Operator, agent: &str) {
    println!("To look further, while this runs:");
    println!("  export KUBECONFIG={}", kubectl.kubeconfig().display());
    println!("  kubectl describe agents.muster.dev {agent} -n {NAMESPACE}");
    println!("  kubectl explain agents.muster.dev.spec");
    println!("  kubectl get events -n {NAMESPACE}");
    println!("  ls {}/workspaces", gateway.home().display());
    println!(
        "  the fleet in a browser: {}, with the token of: kubectl create token viewer -n {NAMESPACE}\n",
        operator.api_url()
    );
}

/// The first agent whose condition `CheckedIn` is true.
async fn checked_in(cluster: &ControlPlane) -> Result<String, Failure> {
    let path = "jsonpath={range .items[*]}{.metadata.name} {.status.conditions[?(@.type==\"CheckedIn\")].status}{\"\\n\"}{end}";
    until("an agent to check in", EXAMPLES_TIMEOUT, async || {
        let agents =
            cluster.kubectl.run(&["get", "agents", "-n", NAMESPACE, "-o", path]).await.map_err(|e| e.to_string())?;
        let found = agents.lines().find_map(|line| line.strip_suffix(" True").map(str::to_owned));
        found.ok_or(agents)
    })
    .await
}

/// The last requests to the model, without the system prompt, which contains a token.
fn last_model_requests(model: &ScriptedModel) -> Vec<(String, Option<String>)> {
    model.requests().into_iter().rev().take(5).map(|request| (request.message, request.tool_output)).collect()
}

/// Prints the tables and one workspace file of the agent.
async fn print_result(cluster: &ControlPlane, gateway: &OpenClaw, agent: &str) -> Result<(), Failure> {
    println!("\n$ kubectl get agentgateways.muster.dev,boards.muster.dev,agents.muster.dev -n {NAMESPACE}");
    println!(
        "{}",
        cluster
            .kubectl
            .run(&["get", "agentgateways.muster.dev,boards.muster.dev,agents.muster.dev", "-n", NAMESPACE])
            .await?
    );
    let path = ["get", "agents.muster.dev", agent, "-n", NAMESPACE, "-o", "jsonpath={.status.workspacePath}"];
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

/// The line with its token masked. The token is in the line that the heartbeat command reads.
fn masked(line: &str) -> String {
    match line.strip_prefix("X-Agent-Token: ") {
        Some(_) => "X-Agent-Token: ********".to_owned(),
        None => line.to_owned(),
    }
}

fn log_tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
