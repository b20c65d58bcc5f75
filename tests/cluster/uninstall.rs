//! The commands of `docs/uninstall.md`.

use std::path::Path;
use std::time::SystemTime;

use muster_harness::{Failure, until};

use crate::stack::{CONDITION_TIMEOUT, Stack, unwoken};

/// Ends the operator as its pod ends, and runs `kubectl delete -k deploy`.
async fn remove_operator(stack: &mut Stack) -> Result<(), Failure> {
    stack.operator.terminate().await?;
    stack.cluster.kubectl.run(&["delete", "-k", "deploy", "--timeout=360s"]).await?;
    Ok(())
}

async fn install_again(stack: &mut Stack) -> Result<(), Failure> {
    stack.cluster.install("deploy").await?;
    stack.operator.restart_reinstalled(&stack.cluster).await?;
    stack.renew_canary().await
}

fn changed_at(file: &Path) -> Result<SystemTime, Failure> {
    Ok(std::fs::metadata(file)?.modified()?)
}

pub(crate) async fn an_operator_that_is_installed_again_continues_with_the_same_agents(
    stack: &mut Stack,
) -> Result<(), Failure> {
    let fleet = stack.fleet("stays").await?;
    fleet.apply(&[unwoken("one")]).await?;
    fleet.all_ready().await?;
    let file = stack.workspace(&fleet, "one").await?.join("AGENTS.md");
    let before = (
        stack.agents()?,
        fleet.field("agent/one", ".metadata.uid").await?,
        fleet.field("agent/one", ".status.token.sha256").await?,
        changed_at(&file)?,
    );
    remove_operator(stack).await?;
    let left = stack.cluster.kubectl.run(&["get", "namespaces", "-o", "name"]).await?;
    assert!(!left.contains("muster-system"), "{left}");
    assert_eq!((stack.agents()?, changed_at(&file)?), (before.0.clone(), before.3));
    fleet.run(&["label", "agent", "one", "changed=meanwhile"]).await?;
    install_again(stack).await?;
    // The operator sees a change that was made without it.
    let suspend = ["patch", "agent", "one", "--type=merge", "-p", "{\"spec\":{\"displayName\":\"One again\"}}"];
    fleet.run(&suspend).await?;
    until("the changed name", CONDITION_TIMEOUT, async || {
        let name =
            stack.openclaw.config().map_err(|e| e.to_string())?.pointer("/agents/entries").map(ToString::to_string);
        let name = name.unwrap_or_default();
        if name.contains("One again") { Ok(()) } else { Err(name) }
    })
    .await?;
    fleet.all_ready().await?;
    let token = fleet.field("agent/one", ".status.token.sha256").await?;
    assert_eq!(
        (stack.agents()?, fleet.field("agent/one", ".metadata.uid").await?, token),
        (before.0, before.1, before.2)
    );
    fleet.delete().await
}

pub(crate) async fn the_documented_commands_leave_nothing(stack: &mut Stack) -> Result<(), Failure> {
    const KINDS: &str = "agents.muster.dev,boards.muster.dev,agentgateways.muster.dev";
    let fleet = stack.fleet("leaves").await?;
    fleet.apply(&[unwoken("one")]).await?;
    fleet.run(&["annotate", "board", "ops", "muster.dev/protected=true"]).await?;
    fleet.all_ready().await?;
    let kubectl = stack.cluster.kubectl.clone();
    kubectl.run(&["annotate", KINDS, "--all", "-A", "muster.dev/protected-"]).await?;
    kubectl.run(&["delete", KINDS, "--all", "-A", "--timeout=360s"]).await?;
    let secrets = ["get", "secrets", "-A", "-l", "app.kubernetes.io/managed-by=muster", "-o", "name"];
    until("Muster's Secrets to go", CONDITION_TIMEOUT, async || {
        let left = kubectl.run(&secrets).await.map_err(|e| e.to_string())?;
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await?;
    remove_operator(stack).await?;
    kubectl.run(&["delete", "-k", "crds", "--timeout=360s"]).await?;
    assert!(stack.agents()?.is_empty(), "{:?}", stack.agents()?);
    let everything =
        "crd,clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings,namespaces";
    let left = kubectl.run(&["get", everything, "-o", "name"]).await?;
    let left: Vec<_> = left.lines().filter(|name| name.contains("muster")).collect();
    assert!(left.is_empty(), "{left:?}");
    install_again(stack).await?;
    fleet.delete().await
}
