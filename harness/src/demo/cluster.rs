//! The demo on a real control plane, with kubectl.

use std::path::Path;

use muster_harness::{Binaries, ControlPlane, Failure, KubeCommand, OpenClaw, Operator, ScriptedModel, until};

use crate::examples::{self, NAMESPACE, TIMEOUT};
use crate::progress::Progress;

/// Everything that the demo starts. The fields drop in this order.
pub(crate) struct ClusterDemo {
    _operator: Operator,
    _cluster: ControlPlane,
    _gateway: OpenClaw,
    _model: ScriptedModel,
}

/// Starts everything, and waits until the examples are Ready and one agent has checked in.
pub(crate) async fn bring_up(progress: &Progress, binary: &Path) -> Result<ClusterDemo, Failure> {
    tokio::task::spawn_blocking(|| Binaries::control_plane().and(Binaries::openclaw())).await??;
    progress.step("starting the control plane and the gateway side by side");
    let model = ScriptedModel::start().await?;
    let gateway = async {
        let gateway = OpenClaw::start_with(model.url(), examples::TOKEN).await?;
        progress.step("the gateway answers");
        Ok::<_, Failure>(gateway)
    };
    let cluster = async {
        let cluster = ControlPlane::start().await?;
        progress.step("the API server is ready");
        Ok::<_, Failure>(cluster)
    };
    let both = Box::pin(async { futures::try_join!(cluster, gateway) });
    let (cluster, gateway) = progress.during(|| "the control plane and the gateway start".to_owned(), both).await?;
    println!("\n$ kubectl apply -k crds; kubectl apply -k deploy");
    print!("{}", cluster.install("deploy").await?);
    println!("(There are no nodes here: the operator runs as a process, with the token of this ServiceAccount.)\n");
    let operator = Operator::start(binary, &cluster).await?;
    progress.step("the operator is ready");
    apply_examples(&cluster.kubectl, &gateway, &operator).await?;
    for kind in ["agentgateways", "boards", "agents"] {
        let ready = all_ready(&cluster.kubectl, kind);
        progress
            .during(|| format!("the {kind} become Ready"), ready)
            .await
            .map_err(|e| format!("{e}\nthe end of the operator's log:\n{}", examples::log_tail(&operator.log())))?;
        progress.step(&format!("all {kind} are Ready"));
    }
    let agent = progress
        .during(|| "an agent checks in".to_owned(), checked_in(&cluster))
        .await
        .map_err(|e| format!("{e}\nthe last requests to the model: {:#?}", examples::last_model_requests(&model)))?;
    progress.step(&format!("agent {agent} was woken, read its files and checked in by itself"));
    print_result(&cluster, &gateway, &agent).await?;
    print_hints(&cluster.kubectl, &gateway, &operator, &agent);
    Ok(ClusterDemo { _operator: operator, _cluster: cluster, _gateway: gateway, _model: model })
}

/// Applies the examples with the demo's ports.
async fn apply_examples(kubectl: &KubeCommand, gateway: &OpenClaw, operator: &Operator) -> Result<(), Failure> {
    println!("\n$ kubectl apply -k deploy/examples");
    let text = kubectl.run(&["kustomize", "deploy/examples"]).await?;
    let text = examples::with_addresses(&text, &gateway.url(), &operator.api_url())?;
    println!("{}", kubectl.apply(&text).await?);
    Ok(())
}

async fn all_ready(kubectl: &KubeCommand, kind: &str) -> Result<String, Failure> {
    let timeout = format!("--timeout={}s", TIMEOUT.as_secs());
    kubectl.run(&["wait", "--for=condition=Ready", kind, "--all", "-n", NAMESPACE, &timeout]).await
}

fn print_hints(kubectl: &KubeCommand, gateway: &OpenClaw, operator: &Operator, agent: &str) {
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
    until("an agent to check in", TIMEOUT, async || {
        let agents =
            cluster.kubectl.run(&["get", "agents", "-n", NAMESPACE, "-o", path]).await.map_err(|e| e.to_string())?;
        let found = agents.lines().find_map(|line| line.strip_suffix(" True").map(str::to_owned));
        found.ok_or(agents)
    })
    .await
}

/// Prints the tables and one workspace file of the agent.
async fn print_result(cluster: &ControlPlane, gateway: &OpenClaw, agent: &str) -> Result<(), Failure> {
    let kinds = "agentgateways.muster.dev,boards.muster.dev,agents.muster.dev";
    println!("\n$ kubectl get {kinds} -n {NAMESPACE}");
    println!("{}", cluster.kubectl.run(&["get", kinds, "-n", NAMESPACE]).await?);
    let path = ["get", "agents.muster.dev", agent, "-n", NAMESPACE, "-o", "jsonpath={.status.workspacePath}"];
    let workspace = cluster.kubectl.run(&path).await?;
    println!("AGENTS.md of {agent}, as the gateway has it (its token is hidden here):\n");
    examples::print_agents_file(&workspace, gateway.home(), |text| text)
}
