//! Which agents have heartbeats before, beside and after an agent of Muster. Each test starts a fresh gateway, because the rule
//! for agents without a heartbeat block changes as soon as one agent has a block.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::{Failed, Trial};
use muster::openclaw::model::{HeartbeatClaims, RosterShape};
use muster_harness::{Failure, OpenClaw, ScriptedModel};
use muster_simulator::Simulator;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::subject::{STEP_TIMEOUT, Subject, new_entry};
use crate::{Profiles, SIMULATED};

const NAME: &str = "an_empty_heartbeat_block_keeps_the_heartbeat_of_an_agent";
/// The agents that exist before.
const OTHER_AGENTS: [&str; 2] = ["main", "helper"];

pub(crate) fn trials(runtime: &Arc<Runtime>) -> Vec<Trial> {
    let real = |(version, _): (&'static str, _)| {
        let runtime = Arc::clone(runtime);
        Trial::test(format!("OpenClaw {version}: {NAME}"), move || {
            runtime.block_on(on_real(version)).map_err(|error| super::failed(&error))
        })
    };
    SIMULATED.into_iter().map(simulated).chain(SIMULATED.map(real)).collect()
}

fn simulated((version, profile): <Profiles as IntoIterator>::Item) -> Trial {
    let test = move || -> Result<(), Failed> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
        let simulator = Simulator::new(profile().with_token("token"));
        let test = async { check_heartbeats(&Subject::simulated(simulator).await?).await };
        runtime.block_on(test).map_err(|error: Failure| super::failed(&error))
    };
    Trial::test(format!("simulator {version}: {NAME}"), test)
}

async fn on_real(version: &str) -> Result<(), Failure> {
    let model = ScriptedModel::start().await?;
    let gateway = OpenClaw::start_version(version, model.url()).await?;
    check_heartbeats(&Subject::real(&gateway).await?).await
}

async fn check_heartbeats(gateway: &Subject) -> Result<(), Failure> {
    let shape = gateway.inventory().await?.capabilities.roster;
    let mut agents = match shape {
        RosterShape::List => json!({ "list": OTHER_AGENTS.map(|id| json!({ "id": id })) }),
        RosterShape::Entries => json!({ "entries": { "main": {}, "helper": {} }, "ownership": "explicit" }),
    };
    agents["defaults"] = json!({ "heartbeat": { "every": "45m" } });
    gateway.patch(&json!({ "agents": agents })).await?;
    let before = until(gateway, "the defaults", |heartbeats| heartbeats.get("main") == Some(&2_700_000)).await?;
    gateway.client.resync().await;
    let first = new_entry();
    let made = HeartbeatClaims { keep: true, made: [first.id.clone()].into(), ..HeartbeatClaims::default() };
    let others: BTreeSet<String> = before.keys().cloned().collect();
    let rule = gateway.inventory().await?.heartbeats.plan(&made, &BTreeSet::new());
    assert_eq!(rule.record, others, "the recorded agents are the agents with a heartbeat");

    gateway.client.claim_heartbeats(HeartbeatClaims { recorded: rule.record, ..made.clone() });
    gateway.register(std::slice::from_ref(&first)).await?;
    let mut all = before.clone();
    all.insert(first.id.clone(), 1_800_000);
    until(gateway, "Muster's agent beside the others", |heartbeats| *heartbeats == all).await?;
    for id in &others {
        assert_eq!(gateway.row(id).await?.entry.and_then(|entry| entry.get("heartbeat").cloned()), Some(json!({})));
    }

    gateway.client.agent_delete(&first.id, true).await?;
    let claims = HeartbeatClaims { made: BTreeSet::new(), recorded: others.clone(), ..made };
    gateway.client.claim_heartbeats(claims);
    let block = |entry: &serde_json::Map<String, Value>| entry.contains_key("heartbeat");
    let block_removed = |id: &String, inventory: &muster::openclaw::model::Inventory| {
        inventory.agents.get(id).and_then(|row| row.entry.as_ref()).is_some_and(|entry| !block(entry))
    };
    gateway.until("no blocks", |inventory| others.iter().all(|id| block_removed(id, inventory))).await?;
    until(gateway, "the others alone", |heartbeats| *heartbeats == before).await?;
    Ok(())
}

/// Waits until the heartbeats of the agents (id and milliseconds) are as wanted.
async fn until(
    gateway: &Subject,
    what: &str,
    wanted: impl Fn(&BTreeMap<String, u64>) -> bool,
) -> Result<BTreeMap<String, u64>, Failure> {
    let end = Instant::now() + STEP_TIMEOUT;
    loop {
        let heartbeats = gateway.heartbeats().await?;
        if wanted(&heartbeats) {
            return Ok(heartbeats);
        }
        if Instant::now() > end {
            return Err(format!("{what}: {heartbeats:?}").into());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

impl Subject {
    /// The heartbeats that the gateway reports, in milliseconds by id.
    async fn heartbeats(&self) -> Result<BTreeMap<String, u64>, Failure> {
        let status = self.request("status", &json!({})).await?;
        let agents = status["heartbeat"]["agents"].as_array().ok_or("no word of heartbeats")?;
        let beats = |agent: &Value| Some((agent["agentId"].as_str()?.to_owned(), agent["everyMs"].as_u64()?));
        Ok(agents.iter().filter(|agent| agent["enabled"] == true).filter_map(beats).collect())
    }

    async fn patch(&self, raw: &Value) -> Result<(), Failure> {
        let config = self.request("config.get", &json!({})).await?;
        self.request("config.patch", &json!({ "raw": raw.to_string(), "baseHash": config["hash"] })).await?;
        Ok(())
    }
}
