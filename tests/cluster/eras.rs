//! The main job on real gateways of earlier eras.

use std::path::Path;

use muster_harness::{Failure, OpenClaw, until};
use serde_json::{Value, json};

use crate::stack::{Fleet, PATIENCE, Stack, asleep, board, manifest, worker};

pub(crate) async fn the_main_job_is_done_on_2026_3_2(stack: &mut Stack) -> Result<(), Failure> {
    main_job(stack, "2026.3.2").await
}

pub(crate) async fn the_main_job_is_done_on_2026_5_28(stack: &mut Stack) -> Result<(), Failure> {
    main_job(stack, "2026.5.28").await
}

pub(crate) async fn the_main_job_is_done_on_2026_7_1(stack: &mut Stack) -> Result<(), Failure> {
    main_job(stack, "2026.7.1").await
}

/// From `kubectl apply` to an agent that checks in, changes and goes.
async fn main_job(stack: &mut Stack, version: &str) -> Result<(), Failure> {
    let era = OpenClaw::start_era(version, stack.model.url()).await?;
    let fleet = stack.namespace(&format!("era-{}", version.replace('.', "-"))).await?;
    fleet.secret("gw", era.token()).await?;
    let mut gateway = stack.gateway();
    gateway["spec"]["url"] = json!(era.url());
    fleet.apply(&[gateway, board("ops"), worker("one"), asleep("two")]).await?;
    let done = provisioned(&fleet, &era).await;
    done.map_err(|e| format!("{e}\nthe end of the log of {version}:\n{}", era.tail()))?;
    fleet.delete().await
}

async fn provisioned(fleet: &Fleet, era: &OpenClaw) -> Result<(), Failure> {
    fleet.wait("condition=Ready", &["agent/one", "agent/two"]).await?;
    fleet.wait("condition=CheckedIn", &["agent/one"]).await?;
    let id = fleet.field("agent/one", ".status.agentId").await?;
    let config = era.config()?;
    let list = config["agents"]["list"].as_array().ok_or("the roster is no list")?;
    let entry = list.iter().find(|entry| entry["id"] == json!(id)).ok_or("no entry")?;
    assert_eq!(entry["heartbeat"]["every"], json!("5m"), "{entry}");
    assert!(list.iter().any(|entry| entry["id"] == "main"), "the gateway's own agent stays: {list:?}");

    let files = fleet.field("agent/one", ".status.files").await?;
    let files: Vec<Value> = serde_json::from_str(&files)?;
    let tools = files.iter().find(|file| file["name"] == "TOOLS.md").ok_or("no TOOLS.md")?;
    assert_eq!(tools["state"], json!("Synced"), "it is a file of its own here");
    let path = fleet.field("agent/one", ".status.workspacePath").await?;
    let path = path.replacen('~', &era.home().display().to_string(), 1);
    let read = |name: &str| std::fs::read_to_string(Path::new(&path).join(name));
    assert!(read("TOOLS.md")?.contains("/heartbeat"));

    let changed = json!({ "boardRef": { "name": "ops" }, "displayName": "Another Name" });
    fleet.apply(&[manifest("Agent", "one", changed)]).await?;
    until("the new name", PATIENCE, async || {
        let identity = read("IDENTITY.md").map_err(|e| e.to_string())?;
        if identity.contains("Another Name") { Ok(()) } else { Err(identity) }
    })
    .await?;
    fleet.run(&["delete", "agents", "--all"]).await?;
    let left = era.agents()?;
    assert!(left.is_empty(), "{left:?}");
    Ok(())
}
