//! Which agents have heartbeats before, beside and after an agent of Muster, and what the gateway shows of them. Each test starts a
//! fresh gateway, because the rule for agents without a heartbeat block changes as soon as one agent has a block.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::LocalBoxFuture;
use libtest_mimic::{Failed, Trial};
use muster::openclaw::model::{ConfiguredHours, HeartbeatClaims, HeartbeatJobs, RosterShape};
use muster_harness::{Failure, OpenClaw, ScriptedModel};
use muster_simulator::Simulator;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::subject::{STEP_TIMEOUT, Subject, new_entry};
use crate::{Profiles, SIMULATED};

type Test = for<'a> fn(&'a Subject) -> LocalBoxFuture<'a, Result<(), Failure>>;

const TESTS: [(&str, Test); 2] = [
    ("an_empty_heartbeat_block_keeps_the_heartbeat_of_an_agent", |gateway| Box::pin(check_heartbeats(gateway))),
    ("the_gateway_shows_when_and_whether_heartbeats_run", |gateway| Box::pin(check_schedule(gateway))),
];
/// The agents that exist before.
const OTHER_AGENTS: [&str; 2] = ["main", "helper"];

pub(crate) fn trials(runtime: &Arc<Runtime>) -> Vec<Trial> {
    let of = |(name, test): (&'static str, Test)| {
        let real = move |(version, _): (&'static str, _)| {
            let runtime = Arc::clone(runtime);
            Trial::test(format!("OpenClaw {version}: {name}"), move || {
                runtime.block_on(on_real(version, test)).map_err(|error| super::failed(&error))
            })
        };
        SIMULATED.into_iter().map(move |profile| simulated(name, test, profile)).chain(SIMULATED.map(real))
    };
    TESTS.into_iter().flat_map(of).collect()
}

fn simulated(name: &str, test: Test, (version, profile): <Profiles as IntoIterator>::Item) -> Trial {
    let run = move || -> Result<(), Failed> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
        let simulator = Simulator::new(profile().with_token("token"));
        let test = async { test(&Subject::simulated(simulator).await?).await };
        runtime.block_on(test).map_err(|error: Failure| super::failed(&error))
    };
    Trial::test(format!("simulator {version}: {name}"), run)
}

async fn on_real(version: &str, test: Test) -> Result<(), Failure> {
    let model = ScriptedModel::start().await?;
    let gateway = OpenClaw::start_version(version, model.url()).await?;
    test(&Subject::real(&gateway).await?).await
}

/// The settings of the config and the jobs of the scheduler, as the client reads them.
async fn check_schedule(gateway: &Subject) -> Result<(), Failure> {
    let entry = new_entry();
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
