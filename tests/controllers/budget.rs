//! Gateways with a small budget of config writes.

use std::time::Duration;

use muster::api::{Agent, ConditionType};
use muster_simulator::{Profile, Simulator};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::rig::{NS, Rig, ready};

const AGENTS: usize = 30;

/// A gateway whose version accepts three config writes a minute.
fn with_three_writes_a_minute() -> (Rig, Simulator) {
    let (mut rig, _) = Rig::new();
    let gateway = Simulator::new(Profile::v2026_7_1().with_token("secret-token"));
    rig.host("gw", &gateway);
    rig.start();
    rig.board("ops");
    (rig, gateway)
}

fn apply_agents(rig: &Rig, extra: &Value) {
    for number in 0..AGENTS {
        let mut spec = json!({ "boardRef": { "name": "ops" }, "wake": { "enabled": false } });
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        rig.agent(&format!("agent-{number}"), spec);
    }
}

fn all_ready(rig: &Rig) -> bool {
    rig.cluster.agents().values().all(ready)
}

/// The number of agents with this heartbeat interval.
fn agents_with_interval(gateway: &Simulator, every: &str) -> usize {
    let list = gateway.config()["agents"]["list"].as_array().cloned().unwrap_or_default();
    list.iter().filter(|entry| entry["heartbeat"]["every"] == json!(every)).count()
}

#[tokio::test(start_paused = true)]
async fn thirty_agents_get_their_heartbeat_within_the_write_budget_of_one_minute() {
    let (mut rig, gateway) = with_three_writes_a_minute();
    rig.run_for(Duration::from_secs(5)).await;
    let began = Instant::now();
    apply_agents(&rig, &json!({}));
    rig.until("all to be Ready", all_ready).await;
    assert!(began.elapsed() < Duration::from_mins(1), "the agents waited for the next budget: {:?}", began.elapsed());
    assert!(gateway.count("config.patch") <= 3, "{}", gateway.count("config.patch"));
    assert_eq!(agents_with_interval(&gateway, "5m"), AGENTS);
}

/// Applies the agents one by one. Returns the time from the last one until all are Ready.
async fn apply_one_by_one(rig: &mut Rig, gateway: &Simulator) -> Duration {
    let (began, before) = (Instant::now(), gateway.count("config.patch"));
    let cluster = rig.cluster.clone();
    let arriving = async {
        for number in 0..AGENTS {
            cluster.apply::<Agent>(agent_manifest(number));
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        Instant::now()
    };
    let all_applied = |rig: &Rig| rig.cluster.agents().len() == AGENTS && all_ready(rig);
    let (last, ()) = tokio::join!(arriving, rig.until("all to be Ready", all_applied));
    let (patches, minutes) = (gateway.count("config.patch") - before, began.elapsed().as_secs() / 60 + 1);
    // The first write over the budget is refused, and its error has the start of the next minute.
    assert!(patches as u64 <= 4 * minutes, "{patches} config writes in {minutes} minutes");
    last.elapsed()
}

fn agent_manifest(number: usize) -> Value {
    let spec = json!({ "boardRef": { "name": "ops" }, "wake": { "enabled": false } });
    json!({ "metadata": { "name": format!("agent-{number}"), "namespace": NS }, "spec": spec })
}

#[tokio::test(start_paused = true)]
async fn thirty_agents_applied_one_by_one_get_their_heartbeat_by_the_next_write_budget() {
    let (mut rig, gateway) = with_three_writes_a_minute();
    rig.run_for(Duration::from_secs(5)).await;
    let took = apply_one_by_one(&mut rig, &gateway).await;
    assert!(took < Duration::from_secs(75), "{took:?}");
    assert_eq!(agents_with_interval(&gateway, "5m"), AGENTS);
}

#[tokio::test(start_paused = true)]
async fn a_change_over_the_write_budget_is_reported_and_blocks_no_file_write() {
    let (mut rig, gateway) = with_three_writes_a_minute();
    apply_agents(&rig, &json!({}));
    rig.until("all to be Ready", all_ready).await;
    rig.run_for(Duration::from_mins(2)).await;
    for every in ["6m", "7m", "8m"] {
        apply_agents(&rig, &json!({ "heartbeat": { "interval": every } }));
        rig.until("the interval to reach all agents", |_| agents_with_interval(&gateway, every) == AGENTS).await;
    }
    apply_agents(&rig, &json!({ "heartbeat": { "interval": "10m" } }));
    let waiting = |rig: &Rig| rig.condition("agent-7", ConditionType::Ready).1 == "RateLimited";
    rig.until("RateLimited", waiting).await;
    let soul = json!({ "inline": "I am {{ agent_name }}." });
    apply_agents(
        &rig,
        &json!({ "heartbeat": { "interval": "10m" }, "files": [{ "name": "SOUL.md", "template": soul }] }),
    );
    let began = Instant::now();
    rig.until("all to be Ready", all_ready).await;
    assert!(began.elapsed() < Duration::from_secs(90), "{:?}", began.elapsed());
    assert_eq!(agents_with_interval(&gateway, "10m"), AGENTS);
    let id = rig.agent_id("agent-7");
    assert_eq!(gateway.file(&id, "SOUL.md").as_deref(), Some("I am agent-7.\n"));
}

#[tokio::test(start_paused = true)]
async fn thirty_agents_applied_one_by_one_are_ready_without_the_next_write_budget() {
    let (mut rig, gateway) = with_three_writes_a_minute();
    rig.run_for(Duration::from_secs(5)).await;
    let took = apply_one_by_one(&mut rig, &gateway).await;
    assert!(took <= Duration::from_secs(20), "Ready {took:?} after the last agent");
    assert_eq!(agents_with_interval(&gateway, "5m"), AGENTS);
}

#[tokio::test(start_paused = true)]
async fn sixty_agents_applied_at_once_cost_at_most_two_config_writes() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.run_for(Duration::from_secs(5)).await;
    let before = gateway.count("config.patch");
    for number in 0..60 {
        rig.apply::<Agent>(agent_manifest(number));
    }
    rig.until("all to be Ready", all_ready).await;
    let patches = gateway.count("config.patch") - before;
    assert!((1..=2).contains(&patches), "{patches} config writes");
}

#[tokio::test(start_paused = true)]
async fn the_entry_of_an_agent_that_is_applied_alone_is_written_at_once() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.run_for(Duration::from_secs(20)).await;
    rig.apply::<Agent>(agent_manifest(0));
    let (began, before) = (Instant::now(), gateway.count("config.patch"));
    while gateway.count("config.patch") == before {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(began.elapsed() < Duration::from_millis(50), "{:?}", began.elapsed());
}
