//! The heartbeats of unmanaged agents.

use std::collections::BTreeMap;
use std::time::Duration;

use muster::api::object_key::ObjectKey;
use muster::api::{Agent, AgentGateway, ConditionType};
use muster_simulator::{Fault, Profile, Simulator};
use serde_json::{Value, json};

use crate::rig::{NS, Rig, gateway_manifest};

const HALF_AN_HOUR: u64 = 30 * 60_000;
const SETTLE_TIME: Duration = Duration::from_secs(5);

/// An operator with a Board, and a gateway whose defaults give all its agents a heartbeat.
fn gateway_with_default_heartbeat() -> (Rig, Simulator) {
    let (rig, gateway) = Rig::new();
    gateway.edit_config(|config| config["agents"]["defaults"]["heartbeat"] = json!({ "every": "30m" }));
    rig.board("ops");
    (rig, gateway)
}

async fn one_ready_agent() -> (Rig, Simulator) {
    let (mut rig, gateway) = gateway_with_default_heartbeat();
    rig.worker("one");
    rig.until_ready().await;
    rig.run_for(SETTLE_TIME).await;
    (rig, gateway)
}

fn recorded_blocks(rig: &Rig) -> Vec<String> {
    recorded_blocks_of(rig, "gw")
}

fn recorded_blocks_of(rig: &Rig, gateway: &str) -> Vec<String> {
    let state = &rig.cluster;
    let status = state.gateways()[&ObjectKey::new(NS, gateway)].status.clone().unwrap_or_default();
    status.shared_heartbeats.map(|shared| shared.kept).unwrap_or_default()
}

fn heartbeat_block(gateway: &Simulator, id: &str) -> Value {
    gateway.agents()[id]["heartbeat"].clone()
}

/// The heartbeat intervals of unmanaged agents, in milliseconds.
fn foreign_heartbeats(gateway: &Simulator) -> BTreeMap<String, u64> {
    gateway.heartbeat_intervals().into_iter().filter(|(id, _)| !id.starts_with("mc-")).collect()
}

fn only_main_heartbeat() -> BTreeMap<String, u64> {
    [("main".to_owned(), HALF_AN_HOUR)].into()
}

fn set_policy(rig: &Rig, policy: &str) {
    let mut manifest = gateway_manifest("gw");
    manifest["spec"]["configPolicy"] = json!({ "sharedHeartbeats": policy });
    rig.apply::<AgentGateway>(manifest);
}

#[tokio::test(start_paused = true)]
async fn a_new_agent_never_interrupts_a_heartbeat_of_another_agent() {
    let (rig, gateway) = one_ready_agent().await;
    assert_eq!(foreign_heartbeats(&gateway), only_main_heartbeat());
    assert_eq!((heartbeat_block(&gateway, "main"), recorded_blocks(&rig)), (json!({}), vec!["main".to_owned()]));
    let patches: Vec<_> = gateway.calls().into_iter().filter(|call| call.method == "config.patch").collect();
    let first = patches[0].params["raw"].as_str().unwrap();
    assert!(first.contains(&rig.agent_id("one")) && first.contains("\"main\":{\"heartbeat\":{}}"), "{first}");
    assert_eq!(rig.gateway_condition("gw", ConditionType::HeartbeatsShared).0, "True");
}

#[tokio::test(start_paused = true)]
async fn the_ambient_agent_keeps_its_heartbeat_on_a_gateway_without_defaults() {
    let (mut rig, gateway) = gateway_with_default_heartbeat();
    gateway.edit_config(|config| config["agents"]["defaults"] = json!({}));
    rig.worker("one");
    rig.until_ready().await;
    assert_eq!(foreign_heartbeats(&gateway), only_main_heartbeat());
}

#[tokio::test(start_paused = true)]
async fn the_same_agents_have_heartbeats_before_and_after_muster_on_each_version() {
    for profile in [Profile::v2026_3_2(), Profile::v2026_5_28(), Profile::v2026_7_1()] {
        let version = profile.version;
        let (mut rig, gateway) = gateway_with_default_heartbeat();
        gateway.upgrade(profile.with_token("secret-token"));
        gateway.edit_config(|config| config["agents"]["list"] = json!([{ "id": "main" }, { "id": "helper" }]));
        rig.until("the gateway", |rig| rig.gateway_condition("gw", ConditionType::Ready).0 == "True").await;
        let before = gateway.heartbeat_intervals();
        rig.worker("one");
        rig.until_ready().await;
        assert_eq!(foreign_heartbeats(&gateway), before, "{version}");
        rig.delete::<Agent>("one");
        rig.run_for(Duration::from_mins(3)).await;
        assert_eq!(gateway.heartbeat_intervals(), before, "{version}");
        assert_eq!(gateway.config()["agents"]["list"], json!([{ "id": "main" }, { "id": "helper" }]), "{version}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_foreign_agent_has_a_heartbeat_by_the_gateways_rule() {
    let (mut rig, gateway) = one_ready_agent().await;
    gateway.edit_config(|config| config["agents"]["entries"]["nova"] = json!({ "name": "Nova" }));
    rig.run_for(SETTLE_TIME).await;
    assert_eq!(foreign_heartbeats(&gateway).into_keys().collect::<Vec<_>>(), ["main", "nova"]);
    assert_eq!(recorded_blocks(&rig), ["main", "nova"]);
    gateway.edit_config(|config| config["agents"]["defaults"]["heartbeat"]["agentId"] = json!("nova"));
    rig.run_for(SETTLE_TIME).await;
    assert_eq!((recorded_blocks(&rig), heartbeat_block(&gateway, "main")), (vec!["nova".to_owned()], Value::Null));
}

#[tokio::test(start_paused = true)]
async fn deleting_the_last_agent_removes_the_blocks_and_other_heartbeats_continue() {
    let (mut rig, gateway) = one_ready_agent().await;
    rig.worker("two");
    rig.until_ready().await;
    rig.delete::<Agent>("two");
    rig.run_for(SETTLE_TIME).await;
    assert_eq!(heartbeat_block(&gateway, "main"), json!({}));
    rig.delete::<Agent>("one");
    rig.run_for(Duration::from_secs(30)).await;
    assert_eq!((heartbeat_block(&gateway, "main"), recorded_blocks(&rig)), (Value::Null, vec![]));
    assert_eq!(foreign_heartbeats(&gateway), only_main_heartbeat());
    let main = &gateway.config()["agents"]["entries"]["main"];
    assert!(main["workspace"].is_string(), "the gateway's own migration is kept: {main}");
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_block_with_foreign_settings_is_kept() {
    let (mut rig, gateway) = one_ready_agent().await;
    gateway.edit_config(|config| config["agents"]["entries"]["main"]["heartbeat"]["every"] = json!("10m"));
    rig.run_for(SETTLE_TIME).await;
    assert_eq!(recorded_blocks(&rig), [] as [String; 0]);
    rig.delete::<Agent>("one");
    rig.run_for(Duration::from_secs(30)).await;
    assert_eq!(heartbeat_block(&gateway, "main"), json!({ "every": "10m" }));
}

#[tokio::test(start_paused = true)]
async fn the_policy_leave_writes_no_block_and_a_condition_names_the_stopped_agents() {
    let (mut rig, gateway) = gateway_with_default_heartbeat();
    set_policy(&rig, "Leave");
    rig.worker("one");
    rig.until_ready().await;
    rig.run_for(SETTLE_TIME).await;
    assert_eq!(
        (foreign_heartbeats(&gateway), heartbeat_block(&gateway, "main"), recorded_blocks(&rig)),
        (BTreeMap::new(), Value::Null, vec![])
    );
    let (status, reason, message) = rig.gateway_condition("gw", ConditionType::HeartbeatsShared);
    assert_eq!((status.as_str(), reason.as_str()), ("False", "HeartbeatsStopped"));
    assert!(message.contains(" main:") && message.contains("sharedHeartbeats to Keep"), "{message}");
    assert_eq!(rig.gateway_condition("gw", ConditionType::Ready).0, "True");
    assert!(rig.cluster.events().iter().any(|(_, event)| event.reason == "HeartbeatsStopped" && event.warning));
    set_policy(&rig, "Keep");
    rig.run_for(SETTLE_TIME).await;
    assert_eq!((foreign_heartbeats(&gateway), recorded_blocks(&rig)), (only_main_heartbeat(), vec!["main".to_owned()]));
    assert_eq!(rig.gateway_condition("gw", ConditionType::HeartbeatsShared).0, "True");
    set_policy(&rig, "Leave");
    rig.run_for(SETTLE_TIME).await;
    assert_eq!(
        (foreign_heartbeats(&gateway), heartbeat_block(&gateway, "main"), recorded_blocks(&rig)),
        (BTreeMap::new(), Value::Null, vec![])
    );
}

#[tokio::test(start_paused = true)]
async fn no_heartbeat_block_is_written_without_a_change() {
    let (mut rig, gateway) = gateway_with_default_heartbeat();
    rig.agent("one", json!({ "boardRef": { "name": "ops" }, "wake": { "enabled": false } }));
    rig.until_ready().await;
    rig.run_for(Duration::from_mins(1)).await;
    assert_eq!(recorded_blocks(&rig), ["main"]);
    let before = (rig.write_counts(), gateway.count("config.patch"));
    rig.run_for(Duration::from_mins(30)).await;
    assert_eq!((rig.write_counts(), gateway.count("config.patch")), before);
    rig.start();
    rig.run_for(Duration::from_mins(2)).await;
    assert_eq!(gateway.count("config.patch"), before.1, "after a start of the operator");
}

#[tokio::test(start_paused = true)]
async fn a_crash_after_any_write_keeps_the_heartbeats_of_other_agents() {
    let (rig, _) = one_ready_agent().await;
    let writes = rig.faults.state().writes;
    for crash_at in 1..=writes {
        let (mut rig, gateway) = gateway_with_default_heartbeat();
        rig.worker("one");
        rig.faults.state().crash_at = [crash_at].into();
        let crashed = rig.faults.crashed.clone();
        tokio::select! {
            biased;
            () = crashed.notified() => rig.start(),
            () = rig.run_for(Duration::from_mins(2)) => {}
        }
        rig.faults.state().crash_at.clear();
        rig.until_ready().await;
        rig.run_for(SETTLE_TIME).await;
        assert_eq!(
            (foreign_heartbeats(&gateway), recorded_blocks(&rig)),
            (only_main_heartbeat(), vec!["main".to_owned()]),
            "write {crash_at}"
        );
        rig.delete::<Agent>("one");
        rig.run_for(Duration::from_mins(1)).await;
        assert_eq!(
            (heartbeat_block(&gateway, "main"), recorded_blocks(&rig)),
            (Value::Null, vec![]),
            "write {crash_at}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn no_heartbeat_block_is_written_before_the_blocks_of_others_are_recorded() {
    let (mut rig, gateway) = gateway_with_default_heartbeat();
    rig.run_for(SETTLE_TIME).await;
    rig.worker("one");
    for _ in 0..200 {
        let written = gateway.count("config.patch") > 0;
        assert!(!written || !recorded_blocks(&rig).is_empty());
        if written {
            return;
        }
        rig.run_for(Duration::from_millis(100)).await;
    }
    panic!("nothing was written");
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_to_a_config_write_ends_no_heartbeat() {
    for fault in [Fault::on("config.patch").lose_reply(), Fault::on("config.patch").drop_connection_before()] {
        let (mut rig, gateway) = gateway_with_default_heartbeat();
        gateway.inject(fault);
        rig.worker("one");
        rig.until_ready().await;
        assert_eq!(foreign_heartbeats(&gateway), only_main_heartbeat());
    }
}

#[tokio::test(start_paused = true)]
async fn an_adopted_agent_without_a_heartbeat_setting_keeps_the_gateways_heartbeat() {
    let (mut rig, gateway) = gateway_with_default_heartbeat();
    gateway.edit_config(|config| {
        config["agents"]["ownership"] = json!("explicit");
        config["agents"]["entries"] = json!({ "main": {}, "nova": { "workspace": "/srv/nova" } });
    });
    let adopt = json!({ "boardRef": { "name": "ops" }, "agentId": "nova", "adoptionPolicy": "IfExists" });
    rig.agent("nova", adopt.clone());
    rig.until_ready().await;
    rig.run_for(SETTLE_TIME).await;
    assert_eq!(
        (heartbeat_block(&gateway, "nova"), foreign_heartbeats(&gateway).len()),
        (Value::Null, 2),
        "no agent has a block yet"
    );
    rig.worker("one");
    rig.until_ready().await;
    rig.run_for(SETTLE_TIME).await;
    assert_eq!((heartbeat_block(&gateway, "nova"), foreign_heartbeats(&gateway).len()), (json!({}), 2));
    let mut named = adopt;
    named["heartbeat"] = json!({ "interval": "10m" });
    rig.agent("nova", named);
    rig.until_ready().await;
    rig.delete::<Agent>("one");
    rig.run_for(Duration::from_secs(30)).await;
    let wanted = [("main".to_owned(), HALF_AN_HOUR), ("nova".to_owned(), 600_000)];
    assert_eq!(
        foreign_heartbeats(&gateway),
        wanted.into(),
        "the block of the adopted agent is Muster's, so the other blocks stay"
    );
}

#[tokio::test(start_paused = true)]
async fn an_orphaned_agent_with_a_heartbeat_block_ends_no_other_heartbeat() {
    let (mut rig, gateway) = gateway_with_default_heartbeat();
    rig.agent("one", json!({ "boardRef": { "name": "ops" }, "deletionPolicy": "Orphan" }));
    rig.until_ready().await;
    rig.delete::<Agent>("one");
    rig.run_for(Duration::from_secs(30)).await;
    assert_eq!((foreign_heartbeats(&gateway), recorded_blocks(&rig)), (only_main_heartbeat(), vec![]));
}

#[tokio::test(start_paused = true)]
async fn deleting_an_agent_gateway_removes_its_heartbeat_blocks() {
    let (mut rig, gateway) = one_ready_agent().await;
    rig.delete::<AgentGateway>("gw");
    rig.delete::<Agent>("one");
    rig.until("the deletion to finish", |rig| rig.cluster.gateways().is_empty()).await;
    assert_eq!((heartbeat_block(&gateway, "main"), foreign_heartbeats(&gateway)), (Value::Null, only_main_heartbeat()));
}

#[tokio::test(start_paused = true)]
async fn deleting_an_unreachable_agent_gateway_reports_the_remaining_blocks() {
    let (mut rig, gateway) = one_ready_agent().await;
    gateway.lose_host();
    rig.delete::<AgentGateway>("gw");
    rig.delete::<Agent>("one");
    rig.until("the deletion to finish", |rig| rig.cluster.gateways().is_empty()).await;
    let state = &rig.cluster;
    let reports_blocks = |message: &str| message.contains("empty heartbeat blocks") && message.contains("main");
    assert!(state.events().iter().any(|(_, event)| reports_blocks(&event.message)), "{:?}", state.events());
}

#[tokio::test(start_paused = true)]
async fn remaining_blocks_are_reported_once_despite_failing_writes() {
    let (mut rig, gateway) = one_ready_agent().await;
    gateway.lose_host();
    rig.delete::<AgentGateway>("gw");
    rig.delete::<Agent>("one");
    rig.until("the deletion of the agent", |rig| rig.cluster.agents().is_empty()).await;
    rig.faults.state().failures = 20;
    rig.until("the deletion to finish", |rig| rig.cluster.gateways().is_empty()).await;
    let state = &rig.cluster;
    assert_eq!(rig.faults.state().failures, 0, "writes failed");
    let reports_blocks =
        state.events().iter().filter(|(_, event)| event.message.contains("empty heartbeat blocks")).count();
    assert_eq!(reports_blocks, 1, "{:?}", state.events());
}

#[tokio::test(start_paused = true)]
async fn two_agent_gateways_with_one_url_keep_the_blocks_until_neither_has_an_agent() {
    let (mut rig, gateway) = one_ready_agent().await;
    let mut second = gateway_manifest("gw");
    second["metadata"]["name"] = json!("second");
    second["spec"]["configPolicy"] = json!({ "sharedHeartbeats": "Leave" });
    rig.apply::<AgentGateway>(second);
    rig.apply::<muster::api::Board>(
        json!({ "metadata": { "name": "other" }, "spec": { "gatewayRef": { "name": "second" } } }),
    );
    rig.agent("two", json!({ "boardRef": { "name": "other" } }));
    rig.until_ready().await;
    rig.run_for(SETTLE_TIME).await;
    assert_eq!(recorded_blocks_of(&rig, "second"), ["main"], "one AgentGateway with Keep decides");
    rig.delete::<AgentGateway>("gw");
    rig.delete::<Agent>("one");
    rig.until("the deletion to finish", |rig| rig.cluster.gateways().len() == 1).await;
    let second = ObjectKey::new(NS, "second");
    rig.cluster.patch::<AgentGateway>(&second, &json!({ "spec": { "configPolicy": null } }));
    rig.run_for(SETTLE_TIME).await;
    assert_eq!((heartbeat_block(&gateway, "main"), foreign_heartbeats(&gateway)), (json!({}), only_main_heartbeat()));
    rig.delete::<Agent>("two");
    rig.run_for(Duration::from_secs(30)).await;
    assert_eq!((heartbeat_block(&gateway, "main"), foreign_heartbeats(&gateway)), (Value::Null, only_main_heartbeat()));
}
