//! Changes by other clients of a gateway: unmanaged agents, and changes of Muster's agents.

use std::time::Duration;

use muster::api::ConditionType;
use muster::api::gateway::AgentGatewayStatus;
use muster::api::object_key::ObjectKey;
use muster_simulator::{Fault, Profile, Simulator};
use serde_json::{Value, json};

use crate::rig::{NS, Rig};

/// The time within which a change with an event is seen.
const EVENT_LATENCY: Duration = Duration::from_secs(2);

fn status(rig: &Rig) -> AgentGatewayStatus {
    rig.cluster.gateways()[&ObjectKey::new(NS, "gw")].status.clone().unwrap_or_default()
}

fn unmanaged(rig: &Rig) -> Vec<(String, Option<String>)> {
    status(rig).unmanaged.into_iter().map(|agent| (agent.id, agent.name)).collect()
}

fn add_foreign_agent(gateway: &Simulator, id: &str, entry: Value) {
    gateway.edit_config(|config| {
        config["agents"]["ownership"] = json!("explicit");
        config["agents"]["entries"][id] = entry;
    });
}

#[tokio::test(start_paused = true)]
async fn unmanaged_agents_stay_in_the_status_while_the_gateway_is_away() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    add_foreign_agent(&gateway, "nova", json!({ "name": "Nova", "workspace": "/srv/nova" }));
    let wanted = [("main".to_owned(), None), ("nova".to_owned(), Some("Nova".to_owned()))];
    rig.run_for(EVENT_LATENCY).await;
    assert_eq!(unmanaged(&rig), wanted);
    gateway.kill();
    rig.run_for(Duration::from_mins(2)).await;
    assert_eq!((unmanaged(&rig), status(&rig).agents.unwrap().unmanaged), (wanted.to_vec(), 2));
    gateway.start();
    rig.agent("nova", json!({ "boardRef": { "name": "ops" }, "agentId": "nova", "adoptionPolicy": "IfExists" }));
    rig.until_ready().await;
    rig.run_for(EVENT_LATENCY).await;
    assert_eq!(unmanaged(&rig), [("main".to_owned(), None)]);
}

#[tokio::test(start_paused = true)]
async fn the_status_lists_a_hundred_unmanaged_agents_and_counts_all() {
    let (mut rig, gateway) = Rig::new();
    rig.run_for(EVENT_LATENCY).await;
    for number in 0..150 {
        add_foreign_agent(&gateway, &format!("a{number:03}"), json!({ "name": "n".repeat(500), "workspace": "/w" }));
    }
    rig.run_for(2 * EVENT_LATENCY).await;
    let listed = unmanaged(&rig);
    assert_eq!((listed.len(), status(&rig).agents.unwrap().unmanaged), (100, 151));
    assert_eq!(listed[0].1.as_ref().unwrap().len(), 128);
}

async fn one_ready_agent() -> (Rig, Simulator, String) {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    rig.run_for(Duration::from_mins(1)).await;
    let id = rig.agent_id("one");
    (rig, gateway, id)
}

fn entry(gateway: &Simulator, id: &str) -> Value {
    gateway.config()["agents"]["entries"][id].clone()
}

#[tokio::test(start_paused = true)]
async fn a_foreign_change_of_an_entry_is_corrected_within_two_seconds() {
    let changes =
        [("name", json!("Mine")), ("workspace", json!("/elsewhere")), ("heartbeat", json!({ "every": "24h" }))];
    for (key, value) in changes {
        let (mut rig, gateway, id) = one_ready_agent().await;
        let right = entry(&gateway, &id);
        gateway.edit_config(|config| config["agents"]["entries"][&id][key] = value);
        assert_ne!(entry(&gateway, &id), right, "{key}");
        rig.run_for(EVENT_LATENCY).await;
        assert_eq!(entry(&gateway, &id), right, "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_removed_agent_is_created_again_within_two_seconds() {
    let (mut rig, gateway, id) = one_ready_agent().await;
    let created = gateway.count("agents.create");
    gateway.remove_agent(&id);
    rig.run_for(EVENT_LATENCY).await;
    assert_eq!(gateway.count("agents.create"), created + 1, "the agent is created again");
    rig.until("the agent to be Ready again", |rig| {
        gateway.agents().contains_key(&id) && rig.condition("one", ConditionType::Ready).0 == "True"
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn without_config_events_a_removed_agent_is_noticed_within_two_minutes() {
    let (mut rig, gateway) = Rig::new();
    gateway.upgrade(Profile::v2026_7_1().with_token("secret-token"));
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    rig.run_for(Duration::from_mins(3)).await;
    let (id, read) = (rig.agent_id("one"), gateway.count("config.get"));
    rig.run_for(Duration::from_mins(4)).await;
    assert_eq!(gateway.count("config.get"), read, "a repeated health report causes no read");
    gateway.remove_agent(&id);
    rig.run_for(Duration::from_mins(2)).await;
    rig.until("the agent to be created again", |_| gateway.agents().contains_key(&id)).await;
    assert!(gateway.count("config.get") > read);
}

#[tokio::test(start_paused = true)]
async fn without_config_events_the_next_resync_corrects_a_changed_entry() {
    for (key, value) in [("name", "Mine"), ("workspace", "/elsewhere")] {
        let (mut rig, gateway) = Rig::new();
        gateway.upgrade(Profile::v2026_7_1().with_token("secret-token"));
        rig.board("ops");
        rig.worker("one");
        rig.until_ready().await;
        let id = rig.agent_id("one");
        let entry = |gateway: &Simulator| gateway.agents()[&id].clone();
        let right = entry(&gateway);
        gateway.edit_config(|config| config["agents"]["list"][1][key] = json!(value));
        assert_ne!(entry(&gateway), right, "{key}");
        rig.run_for(Duration::from_mins(11)).await;
        assert_eq!(entry(&gateway), right, "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_metadata_event_alone_shows_a_removed_agent_within_two_seconds() {
    let (mut rig, gateway) = Rig::new();
    gateway.upgrade(Profile::v2026_7_1().with_token("secret-token"));
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    rig.run_for(Duration::from_mins(1)).await;
    let (id, created) = (rig.agent_id("one"), gateway.count("agents.create"));
    gateway.remove_agent(&id);
    gateway.send_event("chat.metadata.changed", &json!({}));
    rig.run_for(EVENT_LATENCY).await;
    assert_eq!(gateway.count("agents.create"), created + 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_entry_that_the_spec_replaced_is_not_written_later() {
    let (mut rig, gateway, id) = one_ready_agent().await;
    let message = format!("invalid config: agents.entries.{id}.model");
    for _ in 0..2 {
        gateway.inject(Fault::on("config.patch").error("INVALID_REQUEST", &message, false));
    }
    let right = entry(&gateway, &id);
    rig.agent("one", json!({ "boardRef": { "name": "ops" }, "model": "no/such" }));
    rig.until_reason("one", "EntryRefused").await;
    rig.worker("one");
    rig.until_ready().await;
    rig.until("ConfigSynced", |rig| rig.gateway_condition("gw", ConditionType::ConfigSynced).0 == "True").await;
    gateway.edit_config(|config| config["logging"] = json!({ "level": "debug" }));
    rig.run_for(Duration::from_secs(30)).await;
    assert_eq!(entry(&gateway, &id), right);
}

#[tokio::test(start_paused = true)]
async fn an_event_gap_causes_a_full_read() {
    let (mut rig, gateway, id) = one_ready_agent().await;
    let right = entry(&gateway, &id);
    gateway.lose_events(5);
    gateway.edit_config(|config| config["agents"]["entries"][&id]["name"] = json!("Mine"));
    rig.run_for(Duration::from_secs(10)).await;
    assert_ne!(entry(&gateway, &id), right, "no event has reported the change");
    for _ in 0..5 {
        gateway.send_event("tick", &json!({}));
    }
    rig.run_for(EVENT_LATENCY).await;
    assert_eq!(entry(&gateway, &id), right);
}

#[tokio::test(start_paused = true)]
async fn the_next_resync_finds_a_change_without_an_event() {
    let (mut rig, gateway, id) = one_ready_agent().await;
    gateway.edit_file(&id, "SOUL.md", Some("mine"));
    rig.run_for(Duration::from_mins(11)).await;
    assert_ne!(gateway.file(&id, "SOUL.md").as_deref(), Some("mine"));
}
