//! The main job on real gateways of earlier versions.

use std::path::Path;

use muster_harness::{Failure, OpenClaw, until};
use serde_json::{Value, json};

use crate::stack::{CONDITION_TIMEOUT, Fleet, Stack, manifest, unwoken, worker};

pub(crate) async fn the_main_job_works_on_2026_3_2(stack: &mut Stack) -> Result<(), Failure> {
    check_main_job(stack, "2026.3.2").await
}

pub(crate) async fn the_main_job_works_on_2026_5_28(stack: &mut Stack) -> Result<(), Failure> {
    check_main_job(stack, "2026.5.28").await
}

pub(crate) async fn the_main_job_works_on_2026_7_1(stack: &mut Stack) -> Result<(), Failure> {
    check_main_job(stack, "2026.7.1").await
}

pub(crate) async fn an_upgrade_from_2026_7_1_is_noticed_and_files_are_folded(stack: &mut Stack) -> Result<(), Failure> {
    let mut gateway = OpenClaw::start_version("2026.7.1", stack.model.url()).await?;
    let fleet = stack.fleet_on("upgrade", &gateway).await?;
    fleet.apply(&[unwoken("one")]).await?;
    let done = check_upgrade(&fleet, &mut gateway).await;
    done.map_err(|e| format!("{e}\nthe end of the gateway's log:\n{}", gateway.tail()))?;
    fleet.delete().await
}

async fn check_upgrade(fleet: &Fleet, gateway: &mut OpenClaw) -> Result<(), Failure> {
    fleet.all_ready().await?;
    assert_eq!(state_of(fleet, "TOOLS.md").await?, json!("Synced"));
    let ids = gateway.agents()?;
    gateway.upgrade().await?;
    until("the new version and the folded file", CONDITION_TIMEOUT, async || {
        let version = fleet.field("agentgateway/gw", ".status.serverVersion").await.map_err(|e| e.to_string())?;
        let state = state_of(fleet, "TOOLS.md").await.map_err(|e| e.to_string())?;
        if version == "2026.9.6" && state == json!("Folded") { Ok(()) } else { Err(format!("{version}, {state}")) }
    })
    .await?;
    fleet.all_ready().await?;
    assert_eq!(gateway.agents()?, ids, "exactly the same agents");
    assert!(gateway.config()?["agents"]["entries"].is_object(), "the config has the form of the new version");
    Ok(())
}

/// From 2026.5.28 over 2026.7.1 to the newest version, each time as soon as new agents are in the config.
pub(crate) async fn agents_survive_two_upgrades_in_the_middle_of_their_set_up(
    stack: &mut Stack,
) -> Result<(), Failure> {
    let mut gateway = OpenClaw::start_version("2026.5.28", stack.model.url()).await?;
    let fleet = stack.fleet_on("upgrades", &gateway).await?;
    let done = check_upgrades(&fleet, &mut gateway).await;
    done.map_err(|e| format!("{e}\nthe end of the gateway's log:\n{}", gateway.tail()))?;
    fleet.delete().await
}

async fn check_upgrades(fleet: &Fleet, gateway: &mut OpenClaw) -> Result<(), Failure> {
    let mut names: Vec<String> = Vec::new();
    let mut first_ids = Vec::new();
    for round in ["old", "middle", "new"] {
        let before = gateway.agents()?.len();
        let added: Vec<_> = (0..3).map(|number| format!("{round}-{number}")).collect();
        fleet.apply(&added.iter().map(|name| unwoken(name)).collect::<Vec<_>>()).await?;
        names.extend(added);
        until("new agents in the config", CONDITION_TIMEOUT, async || {
            let agents = gateway.agents().map_err(|e| e.to_string())?;
            if agents.len() > before { Ok(()) } else { Err(format!("{agents:?}")) }
        })
        .await?;
        match round {
            "old" => {
                first_ids = gateway.agents()?;
                gateway.upgrade_to("2026.7.1").await?;
            }
            "middle" => gateway.upgrade().await?,
            _ => {}
        }
    }
    fleet.all_ready().await?;
    let mut wanted = Vec::new();
    for name in &names {
        wanted.push(fleet.field(&format!("agent/{name}"), ".status.agentId").await?);
    }
    wanted.sort();
    let mut agents = gateway.agents()?;
    agents.sort();
    assert_eq!(agents, wanted, "exactly these agents");
    assert!(first_ids.iter().all(|id| agents.contains(id)), "{first_ids:?} of the first version stay: {agents:?}");
    Ok(())
}

/// The state of one file of the agent `one`.
async fn state_of(fleet: &Fleet, name: &str) -> Result<Value, Failure> {
    let files: Vec<Value> = serde_json::from_str(&fleet.field("agent/one", ".status.files").await?)?;
    let file = files.into_iter().find(|file| file["name"] == json!(name)).ok_or(format!("no {name}"))?;
    Ok(file["state"].clone())
}

/// From `kubectl apply` to an agent that checks in, changes and goes.
async fn check_main_job(stack: &mut Stack, version: &str) -> Result<(), Failure> {
    let gateway = OpenClaw::start_version(version, stack.model.url()).await?;
    let fleet = stack.fleet_on(&format!("era-{}", version.replace('.', "-")), &gateway).await?;
    fleet.apply(&[worker("one"), unwoken("two")]).await?;
    let done = check_lifecycle(&fleet, &gateway).await;
    done.map_err(|e| format!("{e}\nthe end of the log of {version}:\n{}", gateway.tail()))?;
    fleet.delete().await
}

async fn check_lifecycle(fleet: &Fleet, gateway: &OpenClaw) -> Result<(), Failure> {
    fleet.wait("condition=Ready", &["agent/one", "agent/two"]).await?;
    fleet.wait("condition=CheckedIn", &["agent/one"]).await?;
    let id = fleet.field("agent/one", ".status.agentId").await?;
    let config = gateway.config()?;
    let list = config["agents"]["list"].as_array().ok_or("the roster is no list")?;
    let entry = list.iter().find(|entry| entry["id"] == json!(id)).ok_or("no entry")?;
    assert_eq!(entry["heartbeat"]["every"], json!("5m"), "{entry}");
    assert!(list.iter().any(|entry| entry["id"] == "main"), "the gateway's own agent stays: {list:?}");

    assert_eq!(state_of(fleet, "TOOLS.md").await?, json!("Synced"), "an old version accepts TOOLS.md");
    let path = fleet.field("agent/one", ".status.workspacePath").await?;
    let path = path.replacen('~', &gateway.home().display().to_string(), 1);
    let read = |name: &str| std::fs::read_to_string(Path::new(&path).join(name));
    assert!(read("TOOLS.md")?.contains("/heartbeat"));

    let changed = json!({ "boardRef": { "name": "ops" }, "displayName": "Another Name" });
    fleet.apply(&[manifest("Agent", "one", changed)]).await?;
    until("the new name", CONDITION_TIMEOUT, async || {
        let identity = read("IDENTITY.md").map_err(|e| e.to_string())?;
        if identity.contains("Another Name") { Ok(()) } else { Err(identity) }
    })
    .await?;
    fleet.run(&["delete", "agents", "--all"]).await?;
    let left = gateway.agents()?;
    assert!(left.is_empty(), "{left:?}");
    Ok(())
}

/// More agents than the three config writes that 2026.7.1 accepts in a minute.
pub(crate) async fn thirty_agents_on_2026_7_1_fit_the_write_budget_of_one_minute(
    stack: &mut Stack,
) -> Result<(), Failure> {
    let gateway = OpenClaw::start_version("2026.7.1", stack.model.url()).await?;
    let fleet = stack.fleet_on("thirty", &gateway).await?;
    let agents = (0..30).map(|number| unwoken(&format!("agent-{number}")));
    fleet.wait("condition=Ready", &["board/ops"]).await?;
    let before = stack.operator.metric("muster_gateway_requests_total", &["method=\"config.patch\""]).await?;
    fleet.apply(&agents.collect::<Vec<_>>()).await?;
    let done = fleet.wait("condition=Ready", &["agents", "--all"]).await;
    done.map_err(|e| format!("{e}\nthe end of the gateway's log:\n{}", gateway.tail()))?;
    let after = stack.operator.metric("muster_gateway_requests_total", &["method=\"config.patch\""]).await?;
    assert!(after - before <= 3.0, "{} config writes", after - before);
    let config = gateway.config()?;
    let list = config["agents"]["list"].as_array().ok_or("the roster is no list")?;
    let paced = list.iter().filter(|entry| entry["heartbeat"]["every"] == json!("5m")).count();
    assert_eq!(paced, 30, "{list:?}");
    // The removal one by one would take two minutes. From a gateway that is gone, nothing is removed.
    drop(gateway);
    fleet.delete().await
}
