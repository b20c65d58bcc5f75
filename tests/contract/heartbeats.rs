//! Which agents have heartbeats before, beside and after an agent of Muster, and what the gateway shows of them. The first test starts a
//! fresh gateway, because the rule for agents without a heartbeat block changes as soon as one agent has a block.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libtest_mimic::Trial;
use muster::openclaw::model::{
    AgentEntry, ConfiguredHours, HeartbeatClaims, HeartbeatEntry, HeartbeatJobs, RosterShape,
};
use muster_harness::{Failure, OpenClaw, ScriptedModel};
use muster_simulator::Simulator;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::run::{Run, long};
use crate::subject::{STEP_TIMEOUT, Subject, new_entry, repeated};
use crate::{NEWEST, SIMULATED, Test};

const HEARTBEATS: &str = "an_empty_heartbeat_block_keeps_the_heartbeat_of_an_agent";
const SCHEDULE: &str = "the_gateway_shows_when_and_whether_heartbeats_run";
/// The agents that exist before.
const OTHER_AGENTS: [&str; 2] = ["main", "helper"];

/// The test that shares a gateway with other tests.
pub(crate) const SHARING: (&str, Test) = (SCHEDULE, |gateway| Box::pin(check_schedule(gateway)));

pub(crate) fn trials(run: &Run) -> Vec<Trial> {
    let fresh: (&str, Test) = (HEARTBEATS, |gateway| Box::pin(check_heartbeats(gateway)));
    let simulated = |(name, test): (&'static str, Test)| {
        SIMULATED.map(|(version, profile)| {
            run.simulated(format!("simulator {version}: {name}"), move || async move {
                test(&Subject::simulated(Simulator::new(profile().with_token("token"))).await?).await
            })
        })
    };
    let real = |version: &'static str| run.real(format!("OpenClaw {version}: {HEARTBEATS}"), move || on_real(version));
    let others = SIMULATED.into_iter().map(|(version, _)| version).filter(|version| *version != NEWEST);
    let simulated = [fresh, SHARING].into_iter().flat_map(simulated);
    simulated.chain([real(NEWEST)]).chain(long(others.map(real))).collect()
}

/// The entry of an agent whose heartbeats are on.
fn beating_entry() -> AgentEntry {
    let entry = new_entry();
    AgentEntry { heartbeat: HeartbeatEntry { every: Some("30m".into()), ..entry.heartbeat }, ..entry }
}

async fn on_real(version: &str) -> Result<(), Failure> {
    let model = ScriptedModel::start().await?;
    let gateway = OpenClaw::start_version(version, model.url()).await?;
    check_heartbeats(&Subject::real(&gateway).await?).await
}

/// The settings of the config and the jobs of the scheduler, as the client reads them.
async fn check_schedule(gateway: &Subject) -> Result<(), Failure> {
    let entry = beating_entry();
    gateway.register(std::slice::from_ref(&entry)).await?;
    let hours = json!({ "start": "22:00", "end": "24:00", "timezone": "user" });
    let heartbeat = json!({ "every": "45m", "activeHours": hours, "lightContext": true });
    let defaults = json!({ "heartbeat": heartbeat, "userTimezone": "Asia/Tokyo" });
    gateway.patch(&json!({ "agents": { "defaults": defaults } })).await?;
    let wanted = ConfiguredHours { start: "22:00".into(), end: "24:00".into(), timezone: Some("Asia/Tokyo".into()) };
    gateway.client.resync().await;
    let inventory =
        gateway.until("the hours", |inventory| inventory.heartbeat(&entry.id).active_hours.is_some()).await?;
    let configured = inventory.heartbeat(&entry.id);
    assert_eq!((configured.active_hours, configured.light_context), (Some(wanted), true));

    let has_jobs = inventory.capabilities.roster == RosterShape::Entries;
    until_jobs(gateway, "the job", |jobs| match jobs {
        HeartbeatJobs::Listed(jobs) => has_jobs && jobs.get(&entry.id).is_some_and(|job| job.enabled),
        HeartbeatJobs::NoJobs => !has_jobs,
        HeartbeatJobs::Unreadable(_) | HeartbeatJobs::SchedulerOff => false,
    })
    .await?;
    gateway.patch(&json!({ "cron": { "enabled": false } })).await?;
    until_jobs(gateway, "the scheduler that is off", |jobs| match jobs {
        HeartbeatJobs::SchedulerOff => has_jobs,
        HeartbeatJobs::NoJobs => !has_jobs,
        HeartbeatJobs::Unreadable(_) | HeartbeatJobs::Listed(_) => false,
    })
    .await?;
    let off = |inventory: &muster::openclaw::model::Inventory| inventory.heartbeat_defaults.cron_disabled;
    gateway.until("the setting", off).await?;
    Ok(())
}

/// Reads the jobs again and again until they are as wanted.
async fn until_jobs(gateway: &Subject, what: &str, wanted: impl Fn(&HeartbeatJobs) -> bool) -> Result<(), Failure> {
    let end = Instant::now() + STEP_TIMEOUT;
    loop {
        gateway.client.resync().await;
        let jobs = gateway.client.heartbeat_jobs().borrow().clone();
        if jobs.as_deref().is_some_and(&wanted) {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(format!("{what}: {jobs:?}").into());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
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
    let first = beating_entry();
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
        assert_eq!(gateway.row(id).await?.entry.and_then(|entry| entry.tree().remove("heartbeat")), Some(json!({})));
    }

    repeated(STEP_TIMEOUT, async || gateway.client.agent_delete(&first.id, true).await).await?;
    let claims = HeartbeatClaims { made: BTreeSet::new(), recorded: others.clone(), ..made };
    gateway.client.claim_heartbeats(claims);
    let block = |entry: &serde_json::Map<String, Value>| entry.contains_key("heartbeat");
    let block_removed = |id: &String, inventory: &muster::openclaw::model::Inventory| {
        inventory.entry(id).is_some_and(|entry| !block(&entry))
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
