//! Backups, and namespaces whose gateway is gone.

use muster_harness::{Failure, OpenClaw};
use serde_json::{Value, json};

use crate::stack::{Fleet, Stack, board, manifest, other_client, until_settled, unwoken, worker};

const NAMES: [&str; 2] = ["one", "lead"];
/// The kinds in the order in which a backup restores them.
const KINDS: [&str; 4] = ["secrets", "agentgateways", "boards", "agents"];

/// All objects of a namespace, as `kubectl get -o json` shows them.
async fn objects(fleet: &Fleet) -> Result<Vec<Value>, Failure> {
    let mut found = Vec::new();
    for kind in KINDS {
        let list: Value = serde_json::from_str(&fleet.run(&["get", kind, "-o", "json"]).await?)?;
        found.extend(list["items"].as_array().into_iter().flatten().cloned());
    }
    Ok(found)
}

/// An object as Velero restores it: uid, owners and status are gone; labels, annotations and finalizers stay.
fn restored_by_velero(mut object: Value) -> Value {
    let kept = ["name", "labels", "annotations", "finalizers"];
    if let Some(meta) = object["metadata"].as_object_mut() {
        meta.retain(|field, _| kept.contains(&field.as_str()));
    }
    if let Some(object) = object.as_object_mut() {
        object.remove("status");
    }
    object
}

/// Removes a namespace as the loss of a cluster does: no operator runs, and the gateway keeps its agents.
async fn lose(stack: &mut Stack, fleet: Fleet) -> Result<(), Failure> {
    stack.operator.terminate().await?;
    for object in objects(&fleet).await? {
        if object["metadata"]["finalizers"].is_array() {
            let name = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
            let patch = "{\"metadata\":{\"finalizers\":null}}";
            fleet.run(&["patch", &name("/kind"), &name("/metadata/name"), "--type=merge", "-p", patch]).await?;
        }
    }
    fleet.delete().await
}

async fn session_id(stack: &Stack, agent_id: &str) -> Result<Option<String>, Failure> {
    let session = other_client(&stack.openclaw).await?.session(&format!("agent:{agent_id}:main")).await?;
    Ok(session.map(|session| session.id))
}

async fn tokens(fleet: &Fleet) -> Result<Vec<String>, Failure> {
    let mut tokens = Vec::new();
    for name in NAMES {
        tokens.push(fleet.field(&format!("secret/{name}-token"), ".data.token").await?);
    }
    Ok(tokens)
}

async fn ids(fleet: &Fleet) -> Result<Vec<String>, Failure> {
    let mut ids = Vec::new();
    for name in NAMES {
        ids.push(fleet.field(&format!("agent/{name}"), ".status.agentId").await?);
    }
    Ok(ids)
}

pub(crate) async fn a_lost_cluster_is_restored_with_the_same_agents_and_their_memory(
    stack: &mut Stack,
) -> Result<(), Failure> {
    let lead = manifest(
        "Agent",
        "lead",
        json!({ "boardRef": { "name": "ops" }, "role": "Lead", "wake": { "enabled": false } }),
    );
    for by_velero in [true, false] {
        let fleet = stack.fleet("backed-up-fleet").await?;
        fleet.apply(&[worker("one"), lead.clone()]).await?;
        fleet.all_ready().await?;
        fleet.wait("condition=CheckedIn", &["agent/one"]).await?;
        let (former_ids, former_tokens, mut agents) = (ids(&fleet).await?, tokens(&fleet).await?, stack.agents()?);
        let memory = stack.workspace(&fleet, "one").await?.join("MEMORY.md");
        std::fs::write(&memory, "remember the milk")?;
        let session = session_id(stack, &former_ids[0]).await?;
        assert!(session.is_some());
        until_settled(&stack.openclaw).await?;
        let mut backup = objects(&fleet).await?;
        lose(stack, fleet).await?;

        let fleet = stack.namespace("backed-up-fleet").await?;
        if by_velero {
            backup = backup.into_iter().map(restored_by_velero).collect();
        }
        fleet.apply(&backup).await?;
        stack.operator.restart().await?;
        fleet.all_ready().await?;
        fleet.wait("condition=CheckedIn", &["agent/one"]).await?;
        let mut now = stack.agents()?;
        now.sort();
        agents.sort();
        assert_eq!((now, ids(&fleet).await?), (agents, former_ids.clone()), "by Velero: {by_velero}");
        assert_eq!(std::fs::read_to_string(&memory)?, "remember the milk");
        assert_eq!(session_id(stack, &former_ids[0]).await?, session, "by Velero: {by_velero}");
        if by_velero {
            assert_eq!(tokens(&fleet).await?, former_tokens);
            assert_eq!(fleet.field("agent/one", ".status.binding.takenUp").await?, "true");
        }
        fleet.delete().await?;
        assert!(stack.agents()?.is_empty(), "by Velero: {by_velero}: {:?}", stack.agents()?);
    }
    Ok(())
}

pub(crate) async fn a_namespace_ends_although_the_gateway_of_another_namespace_is_gone(
    stack: &mut Stack,
) -> Result<(), Failure> {
    let mut own = OpenClaw::start(stack.model.url()).await?;
    let shared = stack.fleet_on("shared-gateway", &own).await?;
    let allowed = json!({ "spec": { "allowedNamespaces": { "from": "All" } } }).to_string();
    shared.run(&["patch", "agentgateway", "gw", "--type=merge", "-p", &allowed]).await?;
    let guests = stack.namespace("guests").await?;
    let mut ops = board("ops");
    ops["spec"]["gatewayRef"]["namespace"] = json!("shared-gateway");
    guests.apply(&[ops, unwoken("one")]).await?;
    guests.wait("condition=Ready", &["agent/one"]).await?;
    let id = guests.field("agent/one", ".status.agentId").await?;
    until_settled(&own).await?;
    own.kill();
    shared.until_reason("agentgateway/gw", "Reachable", "Unreachable").await?;
    guests.delete().await?;
    let selector = "--field-selector=regarding.kind=AgentGateway,reason=Deleting";
    let events = shared.run(&["get", "events.events.k8s.io", selector, "-o", "jsonpath={.items[*].note}"]).await?;
    assert!(events.contains("Agent guests/one") && events.contains(&id), "{events}");
    shared.delete().await
}
