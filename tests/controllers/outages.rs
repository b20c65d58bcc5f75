//! Outages of gateways.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use muster::api::object_key::ObjectKey;
use muster::api::{Agent, AgentGateway, ConditionType};
use muster::controllers::agent;
use muster::core::requeue::Requeue;
use muster_simulator::{Fault, Simulator};
use serde_json::json;
use tokio::time::Instant;

use crate::cluster::path;
use crate::rig::{NS, Rig, gateway_manifest, ready};

/// Sixty agents that are Ready, without wakes and without pending work.
async fn sixty_ready_agents() -> (Rig, Simulator) {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    for n in 0..60 {
        rig.agent(&format!("agent-{n}"), json!({ "boardRef": { "name": "ops" }, "wake": { "enabled": false } }));
    }
    rig.until("all to be Ready", |rig| rig.cluster.agents().values().all(ready)).await;
    rig.run_for(Duration::from_secs(30)).await;
    (rig, gateway)
}

fn reasons(rig: &Rig) -> BTreeSet<(String, String)> {
    let names: Vec<_> = rig.cluster.agents().keys().map(|key| key.name.clone()).collect();
    names.iter().map(|name| rig.condition(name, ConditionType::Ready)).map(|(status, why, _)| (status, why)).collect()
}

fn only_reason(status: &str, reason: &str) -> BTreeSet<(String, String)> {
    [(status.to_owned(), reason.to_owned())].into()
}

#[tokio::test(start_paused = true)]
async fn sixty_agents_recover_with_their_gateway_with_few_requests_and_no_write() {
    let (mut rig, gateway) = sixty_ready_agents().await;
    let (writes, dials) = (gateway.writes(), rig.dials().len());
    gateway.kill();
    rig.until("all to be Unknown", |rig| reasons(rig) == only_reason("Unknown", "GatewayNotReady")).await;
    assert_eq!(rig.gateway_condition("gw", ConditionType::Reachable).1, "Unreachable");
    rig.run_for(Duration::from_mins(2)).await;
    let (calls, away) = (gateway.calls().len(), rig.dials().len() - dials);
    assert!((8..=60).contains(&away), "{away} attempted connections in two and a half minutes");
    gateway.start();
    rig.until("all to be Ready", |rig| reasons(rig) == only_reason("True", "Reconciled")).await;
    rig.run_for(Duration::from_secs(30)).await;
    assert_eq!(gateway.writes(), writes, "nothing has changed, so nothing may be written");
    let calls = gateway.calls().len() - calls;
    assert!(calls <= 60 * 3 + 40, "{calls} requests for sixty agents");
    assert!(gateway.max_in_flight() <= 16, "{} concurrent requests", gateway.max_in_flight());
}

#[tokio::test(start_paused = true)]
async fn changes_made_during_an_outage_take_few_config_writes_after_it() {
    let (mut rig, gateway) = sixty_ready_agents().await;
    let (patches, files) = (gateway.count("config.patch"), gateway.count("agents.files.set"));
    gateway.kill();
    rig.run_for(Duration::from_mins(1)).await;
    for n in 0..60 {
        let spec =
            json!({ "boardRef": { "name": "ops" }, "wake": { "enabled": false }, "displayName": format!("new {n}") });
        rig.agent(&format!("agent-{n}"), spec);
    }
    rig.run_for(Duration::from_secs(30)).await;
    gateway.start();
    rig.until("all to be Ready", |rig| rig.cluster.agents().values().all(ready)).await;
    let names =
        gateway.agents().values().filter(|entry| entry["name"].as_str().is_some_and(|n| n.starts_with("new"))).count();
    assert_eq!(names, 60);
    let (patches, files) = (gateway.count("config.patch") - patches, gateway.count("agents.files.set") - files);
    assert!(patches <= 6, "{patches} config writes");
    assert!(files <= 60 * 10, "{files} files were written");
    assert!(gateway.max_in_flight() <= 16, "{} concurrent requests", gateway.max_in_flight());
}

/// Starts an operator anew, to which the API server never lists the Agents.
fn restart_without_agents(rig: &mut Rig) {
    rig.stop();
    rig.faults.state().silent.insert(path::<Agent>(None));
    rig.start();
}

fn knows_roster(rig: &Rig) -> bool {
    rig.ctx().gateways.handle(&ObjectKey::new(NS, "gw")).is_some_and(|handle| handle.inventory().is_ok())
}

#[tokio::test(start_paused = true)]
async fn a_restarted_operator_connects_to_its_gateways_while_the_agents_are_still_listed_but_not_for_long() {
    let (mut rig, _gateway) = Rig::new();
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    restart_without_agents(&mut rig);
    rig.until("the roster", knows_roster).await;
    rig.until("the end of the connection", |rig| rig.ctx().gateways.handles().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn an_early_connection_is_opened_to_no_suspended_gateway_and_never_with_a_new_device_identity() {
    let (mut rig, _gateway) = Rig::new();
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    let key = ObjectKey::new(NS, "gw");
    let device = rig.cluster.gateways()[&key].device_secret_name();
    rig.cluster.remove::<Secret>(&ObjectKey::new(NS, &device));
    let (dials, writes) = (rig.dials().len(), rig.faults.state().writes);
    restart_without_agents(&mut rig);
    rig.run_for(Duration::from_mins(1)).await;
    assert_eq!((rig.dials().len(), rig.faults.state().writes), (dials, writes), "the device Secret is gone");
    rig.faults.state().silent.clear();
    rig.start();
    rig.until("another device Secret", |rig| rig.cluster.secrets().contains_key(&ObjectKey::new(NS, &device))).await;
    rig.until("the roster", knows_roster).await;
    rig.cluster.patch::<AgentGateway>(&key, &json!({ "spec": { "suspend": true } }));
    rig.until("the suspension", |rig| rig.ctx().gateways.handles().is_empty()).await;
    rig.run_for(Duration::from_mins(1)).await;
    let dials = rig.dials().len();
    restart_without_agents(&mut rig);
    rig.run_for(Duration::from_mins(1)).await;
    assert_eq!(rig.dials().len(), dials, "it is suspended");
}

#[tokio::test(start_paused = true)]
async fn clients_that_lose_one_gateway_reconnect_at_different_times() {
    let (mut rig, gateway) = Rig::new();
    let hosts: Vec<_> = (0..12).map(|n| format!("gw-{n}")).collect();
    for host in &hosts {
        rig.gateway(host);
        rig.host(host, &gateway);
    }
    let all_up =
        |rig: &Rig| (0..12).all(|n| rig.gateway_condition(&format!("gw-{n}"), ConditionType::Ready).0 == "True");
    rig.until("all to be connected", all_up).await;
    let before = rig.dials().len();
    gateway.kill();
    rig.run_for(Duration::from_secs(40)).await;
    let dials = rig.dials().split_off(before);
    let sixth = |host: &String| dials.iter().filter(|(name, _)| name == host).nth(5).map(|(_, at)| *at);
    let times: Vec<Instant> = hosts.iter().filter_map(sixth).collect();
    assert_eq!(times.len(), 12, "each client has dialled six times");
    let spread = *times.iter().max().unwrap() - *times.iter().min().unwrap();
    assert!(spread > Duration::from_secs(1), "the sixth attempts are within {spread:?}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_replaced_and_missed_changes_are_read() {
    let (mut rig, gateway) = Rig::new();
    let mut manifest = gateway_manifest("gw");
    manifest["spec"]["resyncInterval"] = json!("24h");
    rig.apply::<AgentGateway>(manifest);
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    let id = rig.agent_id("one");
    rig.run_for(Duration::from_secs(30)).await;
    let (dials, began) = (rig.dials().len(), Instant::now());
    gateway.silence_connections();
    gateway.remove_agent(&id);
    rig.until("a new connection", |rig| rig.dials().len() > dials).await;
    assert!(began.elapsed() <= Duration::from_secs(70), "two ticks are 60 s, and it took {:?}", began.elapsed());
    rig.until("the removed agent to be created again", |_| gateway.agents().contains_key(&id)).await;
    rig.until_ready().await;
    assert_eq!(rig.dials().len(), dials + 1);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_on_a_lost_host_is_reported_and_recovers() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    rig.run_for(Duration::from_secs(30)).await;
    gateway.lose_host();
    rig.until("Unreachable", |rig| rig.gateway_condition("gw", ConditionType::Reachable).1 == "Unreachable").await;
    rig.until("Unknown", |rig| rig.condition("one", ConditionType::Ready).0 == "Unknown").await;
    let writes = gateway.writes();
    gateway.start();
    rig.until_ready().await;
    rig.until("Reachable", |rig| rig.gateway_condition("gw", ConditionType::Reachable).0 == "True").await;
    assert_eq!(gateway.writes(), writes, "nothing has changed, so nothing may be written");
}

#[tokio::test(start_paused = true)]
async fn an_answered_wake_with_a_lost_reply_is_not_repeated_after_a_gateway_kill() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.worker("one");
    gateway.inject(Fault::on("chat.send").lose_reply());
    let answered = {
        let gateway = gateway.clone();
        async move {
            let roles = |gateway: &Simulator| gateway.sessions().into_values().flat_map(|s| s.messages).count();
            while roles(&gateway) < 2 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    };
    tokio::select! {
        biased;
        () = answered => {}
        () = rig.until("the answer", |_| false) => {}
    }
    gateway.kill();
    gateway.start();
    rig.until_ready().await;
    let chats = gateway.chats();
    assert_eq!((chats.len(), chats[0].runs), (1, 1), "{chats:?}");
}

#[tokio::test(start_paused = true)]
async fn an_agent_deleted_before_its_config_is_applied_leaves_nothing() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    gateway.inject(Fault::on("config.patch").kill_during());
    rig.worker("one");
    rig.until("the kill", |_| !gateway.is_running()).await;
    let id = rig.agent_id("one");
    assert!(gateway.agents().contains_key(&id) && !gateway.applied_agents().contains_key(&id));
    gateway.start();
    rig.until("NotSettled", |rig| rig.gateway_condition("gw", ConditionType::Settled).1 == "NotSettled").await;
    rig.delete::<Agent>("one");
    rig.until("the deletion to finish", |rig| rig.cluster.agents().is_empty()).await;
    assert_eq!(gateway.agents().into_keys().collect::<Vec<_>>(), ["main"]);
    assert!(gateway.orphans().is_empty(), "{:?}", gateway.orphans());
}

#[tokio::test(start_paused = true)]
async fn failing_config_writes_are_retried_with_backoff() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    let full = Fault::on("config.patch").error("UNAVAILABLE", "Error: ENOSPC: no space left on device, write", false);
    gateway.inject(full.lasting(Duration::from_mins(30)));
    rig.worker("one");
    rig.run_for(Duration::from_mins(29)).await;
    let tried = gateway.count("config.patch");
    assert!((20..=80).contains(&tried), "{tried} config writes in half an hour");
    let (status, reason, message) = rig.gateway_condition("gw", ConditionType::ConfigSynced);
    assert_eq!((status.as_str(), reason.as_str()), ("False", "GatewayError"));
    assert!(message.contains("ENOSPC"), "{message}");
    rig.run_for(Duration::from_mins(2)).await;
    rig.until_ready().await;
    assert_eq!(rig.gateway_condition("gw", ConditionType::ConfigSynced).0, "True");
}

/// A gateway that was killed during the removal of `one` and has exited at each boot since. Returns the agent's id.
async fn killed_during_removal() -> (Rig, Simulator, String) {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.worker("one");
    rig.worker("two");
    rig.until_ready().await;
    let id = rig.agent_id("one");
    gateway.inject(Fault::on("agents.delete").kill_for_good());
    rig.delete::<Agent>("one");
    rig.until("the kill", |_| !gateway.is_running()).await;
    gateway.start();
    assert!(!gateway.is_running(), "the gateway exits at each boot");
    (rig, gateway, id)
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_fails_to_boot_after_a_removal_is_reported_with_a_remedy() {
    let (mut rig, gateway, id) = killed_during_removal().await;
    let has_remedy = |text: &str| text.contains("status 78") && text.contains(&id) && text.contains("openclaw.json");
    let remedy_reported = |rig: &Rig| {
        let gateway = rig.gateway_condition("gw", ConditionType::Reachable).2;
        let agent = rig.condition("one", ConditionType::Ready).2;
        has_remedy(&gateway) && has_remedy(&agent)
    };
    let began = Instant::now();
    rig.until("the remedy", remedy_reported).await;
    let after = began.elapsed();
    assert!(after >= Duration::from_secs(110), "a boot takes a while, and the remedy was reported after {after:?}");
    rig.delete::<Agent>("two");
    rig.until_reason("two", "DeletionBlocked").await;
    let two = rig.condition("two", ConditionType::Ready).2;
    assert!(!two.contains("status 78"), "the removal of `two` had not begun: {two}");
    gateway.repair_half_deleted(&id);
    gateway.start();
    rig.until("the deletion of both agents", |rig| rig.cluster.agents().is_empty()).await;
    rig.until("Ready", |rig| rig.gateway_condition("gw", ConditionType::Ready).0 == "True").await;
    assert_eq!(gateway.agents().into_keys().collect::<Vec<_>>(), ["main"]);
    assert!(gateway.orphans().is_empty(), "{:?}", gateway.orphans());
    assert!(!rig.gateway_condition("gw", ConditionType::Reachable).2.contains("status 78"));
}

#[tokio::test(start_paused = true)]
async fn an_agent_blocked_by_a_failed_boot_is_reconciled_when_the_remedy_appears() {
    let (mut rig, _gateway, _) = killed_during_removal().await;
    rig.run_for(Duration::from_secs(20)).await;
    let one = Arc::new(rig.cluster.get::<Agent>(&ObjectKey::new(NS, "one")).unwrap());
    let next = agent::reconcile(rig.ctx(), &one).await;
    assert!(next.after.is_some_and(|after| after <= Duration::from_secs(110)), "{next:?}");
    rig.until("the remedy", |rig| rig.condition("one", ConditionType::Ready).2.contains("status 78")).await;
    let next = agent::reconcile(rig.ctx(), &one).await;
    assert_eq!(next, Requeue::retry(), "the usual retry follows");
}

#[tokio::test(start_paused = true)]
async fn the_boot_remedy_survives_a_restart_of_the_operator() {
    let (mut rig, _gateway, id) = killed_during_removal().await;
    rig.run_for(Duration::from_secs(20)).await;
    rig.start();
    rig.until("the remedy", |rig| rig.gateway_condition("gw", ConditionType::Reachable).2.contains(&id)).await;
}

#[tokio::test(start_paused = true)]
async fn a_gateway_away_for_another_reason_is_reported_without_the_boot_remedy() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    gateway.kill();
    rig.run_for(Duration::from_secs(10)).await;
    rig.delete::<Agent>("one");
    rig.run_for(Duration::from_mins(5)).await;
    assert_eq!(rig.cluster.agents().keys().next().map(|key| key.namespace.as_str()), Some(NS));
    for text in [rig.gateway_condition("gw", ConditionType::Reachable).2, rig.condition("one", ConditionType::Ready).2]
    {
        assert!(!text.is_empty() && !text.contains("status 78"), "{text}");
    }
}
