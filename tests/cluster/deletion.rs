//! Deletion finishes in any order and leaves nothing.

use std::process::Command;

use muster_harness::{Failure, OpenClaw, until};
use serde_json::{Value, json};

use crate::stack::{CONDITION_TIMEOUT, Fleet, Stack, board, manifest, unwoken, worker};

pub(crate) async fn a_deleted_agent_leaves_nothing(stack: &mut Stack) -> Result<(), Failure> {
    let fleet = stack.fleet("gone").await?;
    fleet.apply(&[worker("one"), unwoken("two")]).await?;
    fleet.wait("condition=CheckedIn", &["agent/one"]).await?;
    let (id, workspace) = (fleet.field("agent/one", ".status.agentId").await?, stack.workspace(&fleet, "one").await?);
    fleet.run(&["delete", "agent", "one", "--timeout=360s"]).await?;
    assert!(!stack.agents()?.contains(&id) && !workspace.exists(), "{id} is still there");
    let state = stack.openclaw.home().join(".openclaw/agents").join(&id);
    let left: Vec<_> =
        std::fs::read_dir(&state).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
    assert!(left.is_empty(), "{left:?} is left in {}", state.display());
    until("its Secret to go", CONDITION_TIMEOUT, async || {
        let secrets = fleet.run(&["get", "secrets", "-o", "name"]).await.map_err(|e| e.to_string())?;
        if secrets.contains("one-token") { Err(secrets) } else { Ok(()) }
    })
    .await?;
    fleet.wait("condition=Ready", &["agent/two"]).await?;
    assert_eq!(stack.agents()?.len(), 1);
    fleet.delete().await
}

pub(crate) async fn a_deleted_memory_is_brought_back_from_the_trash(stack: &mut Stack) -> Result<(), Failure> {
    let fleet = stack.fleet("memory").await?;
    let mut archivist = unwoken("archivist");
    archivist["spec"]["agentId"] = json!("archivist");
    fleet.apply(std::slice::from_ref(&archivist)).await?;
    fleet.all_ready().await?;
    let workspace = stack.workspace(&fleet, "archivist").await?;
    std::fs::write(workspace.join("MEMORY.md"), "months of memory")?;
    std::fs::create_dir_all(workspace.join("memory"))?;
    std::fs::write(workspace.join("memory/2026-11-28.md"), "a day")?;
    fleet.run(&["delete", "agent", "archivist", "--timeout=360s"]).await?;
    assert!(!workspace.exists());
    let events = ["get", "events", "--field-selector=reason=Removed", "-o", "jsonpath={.items[*].message}"];
    let event = until("the event", CONDITION_TIMEOUT, async || {
        let message = fleet.run(&events).await.map_err(|e| e.to_string())?;
        if message.is_empty() { Err("there is none yet".to_owned()) } else { Ok(message) }
    })
    .await?;
    assert!(event.contains(&format!("moved its folder {} to its trash", workspace.display())), "{event}");
    let start = event.find("find ~/.Trash").ok_or("the event has no command")?;
    let command = event[start..].split(" shows it").next().unwrap_or_default();
    let shell = Command::new("sh").args(["-c", command]).env("HOME", stack.openclaw.home()).output()?;
    let found = String::from_utf8(shell.stdout)?;
    assert_eq!(found.lines().count(), 1, "{command}: {found}");
    std::fs::rename(found.trim(), &workspace)?;
    fleet.apply(&[archivist]).await?;
    fleet.all_ready().await?;
    assert_eq!(stack.file(&fleet, "archivist", "MEMORY.md").await?, "months of memory");
    assert_eq!(stack.file(&fleet, "archivist", "memory/2026-11-28.md").await?, "a day");
    fleet.delete().await
}

/// Deletes an Agent and waits until the deletion waits for this reason; returns the message, after a look at the event.
async fn until_waiting(fleet: &Fleet, name: &str, reason: &str, event: &str) -> Result<String, Failure> {
    fleet.run(&["delete", "agent", name, "--wait=false"]).await?;
    let message = fleet.until_reason(&format!("agent/{name}"), "Ready", reason).await?;
    let selector = format!("--field-selector=reason={event},involvedObject.name={name}");
    until("the event", CONDITION_TIMEOUT, async || {
        let args = ["get", "events", &selector, "-o", "jsonpath={.items[*].message}"];
        let seen = fleet.run(&args).await.map_err(|e| e.to_string())?;
        if seen.contains(&message) { Ok(()) } else { Err(seen) }
    })
    .await?;
    Ok(message)
}

pub(crate) async fn a_refused_and_a_partial_deletion_name_what_is_left_and_their_way_out(
    stack: &mut Stack,
) -> Result<(), Failure> {
    let entries = json!({ "solo": { "workspace": "~/own/solo" } });
    // Without these the config is so short that the gateway refuses a deletion which halves the file (docs/gateway-facts.md).
    let models = (1..=3).map(
        |n| json!({ "id": format!("m{n}"), "name": format!("Model {n}"), "contextWindow": 120_000, "maxTokens": 8192 }),
    );
    let provider = json!({ "baseUrl": "http://127.0.0.1:9/v1", "apiKey": "unused", "api": "openai-completions",
        "models": models.collect::<Vec<_>>() });
    let config = json!({
        "gateway": { "mode": "local" },
        "agents": { "ownership": "explicit", "entries": entries },
        "models": { "mode": "merge", "providers": { "scripted": provider } },
    });
    let gateway = OpenClaw::start_configured("2026.9.6", &config.to_string()).await?;
    let fleet = stack.fleet_on("waiting", &gateway).await?;
    let adopted = json!({ "boardRef": { "name": "ops" }, "agentId": "solo", "adoptionPolicy": "IfExists", "wake": { "enabled": false } });
    fleet.apply(&[manifest("Agent", "solo", adopted)]).await?;
    fleet.all_ready().await?;
    let message = until_waiting(&fleet, "solo", "DeletionBlocked", "DeletionBlocked").await?;
    for words in ["is the only configured agent", "own/solo", "spec.deletionPolicy to Orphan"] {
        assert!(message.contains(words), "{words}: {message}");
    }
    fleet.run(&["patch", "agent", "solo", "--type=merge", "-p", r#"{"spec":{"deletionPolicy":"Orphan"}}"#]).await?;
    fleet.wait("delete", &["agent/solo"]).await?;
    assert_eq!(gateway.agents()?, ["solo"]);

    fleet.apply(&[unwoken("two")]).await?;
    fleet.all_ready().await?;
    let path = fleet.field("agent/two", ".status.workspacePath").await?;
    let workspace = gateway.home().join(path.trim_start_matches("~/"));
    let trash = gateway.home().join(".Trash");
    std::fs::write(&trash, "no folder")?;
    let message = until_waiting(&fleet, "two", "DeletionIncomplete", "LeftBehind").await?;
    for words in [&*workspace.display().to_string(), "spec.deletionPolicy to RetainFiles"] {
        assert!(message.contains(words), "{words}: {message}");
    }
    assert!(workspace.join("AGENTS.md").exists() && gateway.agents()? == ["solo"]);
    std::fs::remove_file(&trash)?;
    // A request has Muster look before the five minutes are over.
    fleet.run(&["annotate", "agent", "two", "muster.dev/sync-requested-at=2026-01-01T00:00:00Z"]).await?;
    fleet.wait("delete", &["agent/two"]).await?;
    assert!(!workspace.exists(), "the rest is in the trash");
    fleet.delete().await
}

pub(crate) async fn a_namespace_with_a_gateway_and_its_secret_can_be_deleted(stack: &mut Stack) -> Result<(), Failure> {
    let fleet = stack.fleet("doomed").await?;
    fleet.apply(&[worker("one"), unwoken("two"), unwoken("three")]).await?;
    fleet.all_ready().await?;
    assert_eq!(stack.agents()?.len(), 3);
    let mut workspaces = Vec::new();
    for agent in ["one", "two", "three"] {
        workspaces.push(stack.workspace(&fleet, agent).await?);
    }
    fleet.delete().await?;
    assert!(stack.agents()?.is_empty(), "{:?}", stack.agents()?);
    // Only these agents count: the gateway may restore the folder of an agent that was deleted during a run (seen on 2026.9.6).
    workspaces.retain(|path| path.exists());
    assert!(workspaces.is_empty(), "left: {workspaces:?}");
    Ok(())
}

pub(crate) async fn agents_can_be_deleted_after_their_gateway(stack: &mut Stack) -> Result<(), Failure> {
    for order in [["agentgateway/gw", "board/ops", "agent/one"], ["board/ops", "agentgateway/gw", "agent/one"]] {
        let fleet = stack.fleet("orders").await?;
        fleet.apply(&[unwoken("one")]).await?;
        fleet.all_ready().await?;
        fleet.run(&["delete", "secret", "gw"]).await?;
        for object in order {
            fleet.run(&["delete", object, "--wait=false"]).await?;
        }
        let all = ["agentgateways,boards,agents", "--all"];
        fleet.run(&[&["wait", "--for=delete", "--timeout=360s"][..], &all[..]].concat()).await?;
        assert!(stack.agents()?.is_empty(), "{order:?}: {:?}", stack.agents()?);
        let secrets = fleet.run(&["get", "secrets", "-o", "name"]).await?;
        assert!(!secrets.contains("gw-device"), "{order:?}: {secrets}");
        fleet.delete().await?;
    }
    Ok(())
}

pub(crate) async fn a_restored_namespace_can_be_deleted(stack: &mut Stack) -> Result<(), Failure> {
    let from = stack.fleet("backed-up").await?;
    from.apply(&[unwoken("one")]).await?;
    from.all_ready().await?;
    let device = from.field("agentgateway/gw", ".status.deviceId").await?;
    let mut secrets = Vec::new();
    for name in ["gw-device", "one-token"] {
        let text = from.run(&["get", "secret", name, "-o", "json"]).await?;
        let mut secret: Value = serde_json::from_str(&text)?;
        let meta = secret["metadata"].as_object_mut().ok_or("no metadata")?;
        for field in ["ownerReferences", "uid", "resourceVersion", "namespace"] {
            meta.remove(field);
        }
        secrets.push(secret);
    }
    from.delete().await?;
    let fleet = stack.namespace("restored").await?;
    fleet.apply(&secrets).await?;
    fleet.secret("gw", stack.openclaw.token()).await?;
    fleet.apply(&[stack.gateway(), board("ops"), unwoken("one")]).await?;
    fleet.all_ready().await?;
    assert_eq!(fleet.field("agentgateway/gw", ".status.deviceId").await?, device);
    for (secret, owner) in [("gw-device", "AgentGateway gw"), ("one-token", "Agent one")] {
        let path = ".metadata.ownerReferences[0]['kind','name']";
        assert_eq!(fleet.field(&format!("secret/{secret}"), path).await?, owner);
    }
    fleet.delete().await
}

pub(crate) async fn a_gateway_without_its_finalizer_blocks_no_namespace_deletion(
    stack: &mut Stack,
) -> Result<(), Failure> {
    for running in [true, false] {
        let fleet = stack.fleet("torn").await?;
        fleet.wait("condition=Ready", &["agentgateway/gw", "board/ops"]).await?;
        if !running {
            stack.operator.terminate().await?;
        }
        fleet
            .run(&["patch", "agentgateway", "gw", "--type=merge", "-p", "{\"metadata\":{\"finalizers\":null}}"])
            .await?;
        fleet.run(&["delete", "agentgateway", "gw", "--timeout=60s"]).await?;
        if !running {
            stack.operator.restart().await?;
        }
        until("the device Secret to go", CONDITION_TIMEOUT, async || {
            let secrets = fleet.run(&["get", "secrets", "-o", "name"]).await.map_err(|e| e.to_string())?;
            if secrets.contains("gw-device") { Err(secrets) } else { Ok(()) }
        })
        .await?;
        fleet.delete().await?;
    }
    Ok(())
}

pub(crate) async fn an_agent_with_a_name_refused_today_can_still_be_deleted(stack: &mut Stack) -> Result<(), Failure> {
    let fleet = stack.fleet("old-names").await?;
    // The former definition of the resource.
    let schema = "/spec/versions/0/schema/openAPIV3Schema";
    let secret_name = format!("{schema}/properties/spec/properties/token/properties/secretName/pattern");
    let before = json!([{ "op": "remove", "path": format!("{schema}/x-kubernetes-validations") },
        { "op": "remove", "path": secret_name }]);
    fleet.run(&["patch", "crd", "agents.muster.dev", "--type=json", "-p", &before.to_string()]).await?;
    let name = "a".repeat(250);
    let mut old = manifest("Agent", &name, json!({ "boardRef": { "name": "ops" }, "token": { "secretName": "../x" } }));
    old["metadata"]["finalizers"] = json!(["muster.dev/agent"]);
    until("the old definition to be served", CONDITION_TIMEOUT, async || {
        fleet.apply(std::slice::from_ref(&old)).await.map_err(|e| e.to_string())
    })
    .await?;
    stack.cluster.install("deploy").await?;
    // A name that was accepted once is not a new name.
    let mut lengths = (237..=253).cycle();
    until("the new definition to be served", CONDITION_TIMEOUT, async || {
        let long = "b".repeat(lengths.next().unwrap_or_default());
        let refused = manifest("Agent", &long, json!({ "boardRef": { "name": "ops" } }));
        fleet.refusal(&refused).await.map(|_| ()).map_err(|e| e.to_string())
    })
    .await?;
    let message = fleet.until_reason(&format!("agent/{name}"), "Ready", "InvalidSpec").await?;
    assert!(message.contains("spec.token.secretName"), "{message}");
    fleet.run(&["delete", "agent", &name, "--timeout=60s"]).await?;
    fleet.delete().await
}
