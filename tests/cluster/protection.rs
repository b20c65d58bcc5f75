//! The admission policy that refuses the deletion of protected objects.

use muster_harness::{Failure, until};
use serde_json::{Value, json};

use crate::stack::{CONDITION_TIMEOUT, Fleet, Stack, board, manifest, unwoken};

/// A manifest with `muster.dev/protected` of this value, and a label.
fn protected(mut manifest: Value, value: &str) -> Value {
    manifest["metadata"]["annotations"] = json!({ "muster.dev/protected": value });
    manifest["metadata"]["labels"] = json!({ "app": "pruned" });
    manifest
}

/// The refusal of a command. Fails if the command succeeds.
async fn refused(fleet: &Fleet, args: &[&str]) -> Result<String, Failure> {
    let output = fleet.try_run(args, "").await?;
    if output.ok {
        Err(format!("kubectl {}: not refused: {}", args.join(" "), output.stdout).into())
    } else {
        Ok(output.stderr)
    }
}

/// Waits until the policy is in force: the API server loads a new policy some seconds after its creation.
async fn until_in_force(fleet: &Fleet) -> Result<(), Failure> {
    until("the policy to be in force", CONDITION_TIMEOUT, async || {
        let probe = protected(board("probe"), "maybe");
        let output = fleet.try_run(&["apply", "-f", "-", "--dry-run=server"], &probe.to_string()).await;
        let output = output.map_err(|e| e.to_string())?;
        if output.stderr.contains("muster-protection") { Ok(()) } else { Err(output.stdout) }
    })
    .await
}

/// Runs the command of a refusal that lifts the protection.
async fn lift(fleet: &Fleet, refusal: &str) -> Result<(), Failure> {
    let (_, command) = refusal.split_once("first run: kubectl ").ok_or_else(|| format!("no command: {refusal}"))?;
    let command: Vec<_> = command.lines().next().unwrap_or_default().split(' ').collect();
    fleet.run(&command).await?;
    Ok(())
}

pub(crate) async fn a_protected_object_is_deleted_only_after_its_protection_is_lifted(
    stack: &mut Stack,
) -> Result<(), Failure> {
    let fleet = stack.fleet("protected").await?;
    until_in_force(&fleet).await?;
    let gateway = protected(stack.gateway(), "true");
    fleet.apply(&[gateway, protected(board("ops"), "true"), protected(unwoken("one"), "true")]).await?;
    // The operator's own writes of the object are admitted.
    fleet.all_ready().await?;
    for object in ["agents.muster.dev/one", "boards.muster.dev/ops", "agentgateways.muster.dev/gw"] {
        let refusal = refused(&fleet, &["delete", object, "--wait=false"]).await?;
        let (kind, name) = object.split_once('/').unwrap_or_default();
        let expected = format!(
            "is forbidden: ValidatingAdmissionPolicy 'muster-protection' with binding 'muster-protection' denied request: the annotation muster.dev/protected: \"true\" refuses the deletion of {name}; to delete it all the same, first run: kubectl annotate {kind} {name} -n protected muster.dev/protected-"
        );
        assert!(refusal.contains(&expected), "{refusal}");
        assert_eq!(fleet.field(object, ".metadata.deletionTimestamp").await?, "", "{object}");
        lift(&fleet, &refusal).await?;
        fleet.run(&["delete", object, "--timeout=360s"]).await?;
    }
    assert!(stack.agents()?.is_empty(), "{:?}", stack.agents()?);
    fleet.delete().await
}

pub(crate) async fn collections_pipelines_and_namespaces_delete_no_protected_object(
    stack: &mut Stack,
) -> Result<(), Failure> {
    let fleet = stack.namespace("collected").await?;
    until_in_force(&fleet).await?;
    let plain = |name: &str| protected(unwoken(name), "false");
    fleet.apply(&[protected(unwoken("kept"), "true"), plain("a"), plain("z")]).await?;
    // A pipeline that prunes what is no longer in its manifests.
    let board = protected(board("ops"), "false");
    let prune = ["apply", "-f", "-", "--prune", "-l", "app=pruned", "--prune-allowlist=muster.dev/v1alpha1/Agent"];
    let pruned = fleet.try_run(&prune, &board.to_string()).await?;
    assert!(!pruned.ok && pruned.stderr.contains("muster.dev/protected"), "{}{}", pruned.stdout, pruned.stderr);
    // One request for a whole collection.
    let path = format!("/apis/muster.dev/v1alpha1/namespaces/{}/agents", fleet.namespace);
    fleet.apply(&[plain("a"), plain("z")]).await?;
    let refusal = refused(&fleet, &["delete", "--raw", &path]).await?;
    assert!(refusal.contains("muster.dev/protected"), "{refusal}");
    assert_eq!(fleet.field("agent/kept", ".metadata.deletionTimestamp").await?, "");
    // The namespace waits for the protected object.
    fleet.run(&["delete", "namespace", &fleet.namespace, "--wait=false"]).await?;
    let path = ".status.conditions[?(@.type==\"NamespaceDeletionContentFailure\")].message";
    let namespace = format!("namespace/{}", fleet.namespace);
    let message = until("the namespace to name the cause", CONDITION_TIMEOUT, async || {
        let message = fleet.field(&namespace, path).await.map_err(|e| e.to_string())?;
        if message.contains("muster.dev/protected") { Ok(message) } else { Err(message) }
    })
    .await?;
    assert_eq!(fleet.field("agent/kept", ".metadata.deletionTimestamp").await?, "");
    lift(&fleet, &message).await?;
    fleet.run(&["wait", "--for=delete", &namespace, "--timeout=360s"]).await?;
    Ok(())
}

pub(crate) async fn a_protected_agent_keeps_its_agent_when_its_namespace_is_deleted_with_the_gateway(
    stack: &mut Stack,
) -> Result<(), Failure> {
    let fleet = stack.fleet("guarded").await?;
    until_in_force(&fleet).await?;
    fleet.apply(&[stack.gateway(), board("ops"), protected(unwoken("kept"), "true"), unwoken("one")]).await?;
    fleet.all_ready().await?;
    let id = fleet.field("agent/kept", ".status.agentId").await?;
    fleet.run(&["delete", "namespace", &fleet.namespace, "--wait=false"]).await?;
    let message = fleet.until_reason("agent/kept", "Ready", "GatewayNotFound").await?;
    assert!(message.contains("muster.dev/protected"), "{message}");
    let message = fleet.until_reason("agentgateway/gw", "Ready", "AgentsBound").await?;
    assert!(message.contains("guarded/kept"), "{message}");
    // The refusal ends Kubernetes' request for all Agents, so that `one` may stay as an object. Its agent goes with the gateway.
    until("the agent of `one` to go", CONDITION_TIMEOUT, async || {
        let agents = stack.agents().map_err(|e| e.to_string())?;
        if agents == [id.as_str()] { Ok(()) } else { Err(format!("{agents:?}")) }
    })
    .await?;
    fleet.run(&["annotate", "agents.muster.dev", "kept", "muster.dev/protected-"]).await?;
    fleet.run(&["wait", "--for=delete", "namespace/guarded", "--timeout=360s"]).await?;
    assert!(stack.agents()?.is_empty(), "{:?}", stack.agents()?);
    Ok(())
}

pub(crate) async fn a_protected_namespace_and_the_definitions_are_not_deleted(
    stack: &mut Stack,
) -> Result<(), Failure> {
    let fleet = stack.namespace("kept").await?;
    until_in_force(&fleet).await?;
    fleet.run(&["annotate", "namespace", "kept", "muster.dev/protected=true"]).await?;
    let refusal = refused(&fleet, &["delete", "namespace", "kept", "--wait=false"]).await?;
    assert_eq!(fleet.field("namespace/kept", ".status.phase").await?, "Active");
    lift(&fleet, &refusal).await?;
    let definitions = ["agents.muster.dev", "boards.muster.dev", "agentgateways.muster.dev"];
    for name in definitions {
        let refusal = refused(&fleet, &["delete", "customresourcedefinition", name, "--wait=false"]).await?;
        let lift =
            format!("kubectl annotate customresourcedefinitions.apiextensions.k8s.io {name} muster.dev/protected-");
        assert!(refusal.contains(&lift), "{refusal}");
    }
    fleet.delete().await
}

pub(crate) async fn another_value_than_true_or_false_is_refused(stack: &mut Stack) -> Result<(), Failure> {
    let fleet = stack.namespace("values").await?;
    until_in_force(&fleet).await?;
    for value in ["True", "yes", ""] {
        for object in [unwoken("one"), board("ops"), stack.gateway()] {
            let refusal = fleet.refusal(&protected(object, value)).await?;
            assert!(refusal.contains("muster.dev/protected must be \"true\" or \"false\""), "{refusal}");
        }
    }
    fleet
        .apply(&[protected(unwoken("one"), "false"), manifest("Agent", "two", unwoken("two")["spec"].clone())])
        .await?;
    let annotate = ["annotate", "agent", "two", "muster.dev/protected=1"];
    assert!(refused(&fleet, &annotate).await?.contains("must be \"true\" or \"false\""));
    // A value from before the policy refuses no other write of the object.
    fleet.run(&["delete", "validatingadmissionpolicybinding", "muster-protection"]).await?;
    until("the policy to be out of force", CONDITION_TIMEOUT, async || {
        fleet.apply(&[protected(unwoken("old"), "yes")]).await.map_err(|e| e.to_string())
    })
    .await?;
    stack.cluster.install("deploy").await?;
    until_in_force(&fleet).await?;
    fleet.run(&["label", "agent", "old", "changed=meanwhile"]).await?;
    fleet.run(&["delete", "agents", "--all", "--timeout=60s"]).await?;
    fleet.delete().await
}
