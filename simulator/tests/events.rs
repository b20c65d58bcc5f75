//! The events that a connection gets.

#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]

mod common;

use std::time::Duration;

use common::{Client, hello, instant};
use muster_simulator::{Origin, Profile, Simulator};
use serde_json::json;
use tokio::time::{Instant, timeout};

#[tokio::test(start_paused = true)]
async fn events_are_numbered_for_each_connection() {
    let simulator = instant();
    let mut first = Client::open(&simulator).await;
    first.register(&["mc-1"]).await.unwrap();
    let mut second = Client::open(&simulator).await;
    second.register(&["mc-2"]).await.unwrap();
    let numbers =
        |client: &Client| client.events.iter().map(|event| event["seq"].as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!(numbers(&second), (1..=numbers(&second).len() as u64).collect::<Vec<_>>());
    first.call("health", json!({})).await.unwrap();
    assert!(numbers(&first).len() > numbers(&second).len());
}

#[tokio::test(start_paused = true)]
async fn session_changes_are_sent_after_a_subscription() {
    let simulator = instant();
    let mut client = Client::open(&simulator).await;
    let label = json!({"key": "agent:main:main", "label": "one"});
    client.call("sessions.patch", label.clone()).await.unwrap();
    assert!(client.events.is_empty());
    client.call("sessions.subscribe", json!({})).await.unwrap();
    client.call("sessions.patch", label).await.unwrap();
    let event = client.event("sessions.changed").await;
    assert_eq!(event["payload"]["reason"], "patch");
    assert_eq!(event["payload"]["session"]["label"], "one");
}

#[tokio::test(start_paused = true)]
async fn an_external_file_edit_sends_no_event() {
    let simulator = instant();
    let mut client = Client::open(&simulator).await;
    client.register(&["mc-1"]).await.unwrap();
    client.events.clear();
    simulator.edit_file("mc-1", "AGENTS.md", Some("other"));
    assert!(timeout(Duration::from_secs(20), client.end()).await.is_err());
    assert!(client.events.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_external_agent_removal_sends_config_changed() {
    let simulator = instant();
    let mut client = Client::open(&simulator).await;
    client.register(&["mc-1"]).await.unwrap();
    client.events.clear();
    simulator.remove_agent("mc-1");
    client.event("config.changed").await;
    assert!(simulator.orphans().is_empty());
    simulator.edit_config(|config| config["logging"] = json!({"level": "info"}));
    client.event("config.changed").await;
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_sends_the_events_of_its_cron_job() {
    let simulator = instant();
    let mut client = Client::open(&simulator).await;
    client.register(&["mc-1"]).await.unwrap();
    client.events.clear();
    simulator.begin_heartbeat("mc-1");
    let started = client.event("cron").await;
    assert_eq!(started["payload"]["job"]["declarationKey"], "heartbeat:mc-1");
    simulator.end_heartbeat("mc-1");
    assert_eq!(client.event("cron").await["payload"]["action"], "finished");
}

#[tokio::test(start_paused = true)]
async fn a_tick_is_sent_every_thirty_seconds_without_a_scope() {
    let simulator = instant();
    let mut client = Client::dial(&simulator, Origin::Remote).await;
    client.connect(&hello(&json!({"token": "t"}))).await.unwrap();
    let start = Instant::now();
    client.event("tick").await;
    client.event("tick").await;
    assert!((59..=61).contains(&start.elapsed().as_secs()));
    client.event("health").await;
}

#[tokio::test(start_paused = true)]
async fn older_versions_send_no_config_changed() {
    let simulator = Simulator::new(Profile::v2026_7_1().instant());
    let mut client = Client::open(&simulator).await;
    client.call("agents.create", json!({"name": "mc-1", "workspace": "/w"})).await.unwrap();
    client.call("agents.files.list", json!({"agentId": "mc-1"})).await.unwrap();
    assert!(client.events.iter().all(|event| event["event"] != "config.changed"));
}

#[tokio::test]
async fn a_port_serves_the_same_gateway() {
    let simulator = instant();
    let guard = simulator.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let stream = tokio::net::TcpStream::connect(guard.addr()).await.unwrap();
    let url = format!("ws://{}/", guard.addr());
    let (socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    drop(socket);
}
