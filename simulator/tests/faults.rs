//! Faults happen at the call that the test names.

#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]

mod common;

use std::{io::ErrorKind, time::Duration};

use common::{Client, End, hello, instant};
use muster_simulator::{Fault, Origin, Outcome, Profile, Simulator};
use serde_json::{Value, json};
use tokio::time::{Instant, advance, sleep, timeout};

fn create() -> Value {
    json!({"name": "mc-1", "workspace": "/w/mc-1"})
}

/// Starts the gateway and connects as soon as it serves.
async fn restarted(simulator: &Simulator) -> Client {
    simulator.start();
    reconnected(simulator).await
}

/// Connects as soon as the gateway serves.
async fn reconnected(simulator: &Simulator) -> Client {
    loop {
        let mut client = Client::dial(simulator, Origin::Loopback).await;
        match client.connect(&hello(&json!({"token": "t"}))).await {
            Ok(_) => return client,
            Err(error) => {
                assert_eq!(error["message"], "gateway starting; retry shortly");
                assert_eq!(error["details"]["reason"], "startup-sidecars");
                assert_eq!(client.end().await, End::Closed(1013, "gateway starting".into()));
                sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_dropped_before_the_call_writes_nothing() {
    let simulator = instant();
    let mut client = Client::open(&simulator).await;
    simulator.inject(Fault::on("agents.create").drop_connection_before());
    client.send("agents.create", create()).await;
    assert_eq!(client.end().await, End::Lost);
    assert!(!simulator.agents().contains_key("mc-1"));
    assert_eq!(simulator.writes(), 0);
    assert_eq!(simulator.calls().pop().unwrap().outcome, Outcome::NotExecuted);
}

#[tokio::test(start_paused = true)]
async fn a_connection_dropped_after_the_call_keeps_the_write() {
    let simulator = instant();
    let mut client = Client::open(&simulator).await;
    simulator.inject(Fault::on("agents.create").drop_connection_after());
    client.send("agents.create", create()).await;
    assert_eq!(client.end().await, End::Lost);
    assert!(simulator.agents().contains_key("mc-1"));
    let call = simulator.calls().pop().unwrap();
    assert_eq!((call.outcome, call.answered), (Outcome::Ok, false));
}

#[tokio::test(start_paused = true)]
async fn an_injected_error_is_returned_unchanged_and_executes_nothing() {
    let simulator = instant();
    let mut client = Client::open(&simulator).await;
    simulator.inject(Fault::on_any_write().nth(2).error("UNAVAILABLE", "not now", true));
    client.call("agents.create", create()).await.unwrap();
    let error = client.call("agents.create", json!({"name": "mc-2"})).await.unwrap_err();
    assert_eq!(error, json!({"code": "UNAVAILABLE", "message": "not now", "retryable": true}));
    assert!(!simulator.agents().contains_key("mc-2"));
}

#[tokio::test(start_paused = true)]
async fn a_hung_call_gets_no_reply_and_other_calls_do() {
    let simulator = instant();
    let mut client = Client::open(&simulator).await;
    simulator.inject(Fault::on("config.get").hang());
    let hung = client.send("config.get", json!({})).await;
    client.call("config.get", json!({})).await.unwrap();
    assert!(timeout(Duration::from_mins(10), client.reply(&hung)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_delayed_call_is_answered_later() {
    let simulator = instant();
    let mut client = Client::open(&simulator).await;
    simulator.inject(Fault::on("health").delay(Duration::from_secs(7)));
    let start = Instant::now();
    client.call("health", json!({})).await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(7));
}

#[tokio::test(start_paused = true)]
async fn a_killed_gateway_refuses_connections_and_boots_again() {
    let simulator = Simulator::new(Profile::v2026_9_6());
    let mut client = Client::open(&simulator).await;
    client.register(&["mc-1"]).await.unwrap();
    simulator.kill();
    assert_eq!(client.end().await, End::Lost);
    assert_eq!(simulator.connect().unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let start = Instant::now();
    let mut client = restarted(&simulator).await;
    assert!(start.elapsed() >= Duration::from_secs(2));
    client.call("agents.files.list", json!({"agentId": "mc-1"})).await.unwrap();
    assert!(simulator.is_settled(), "a kill while nothing is written leaves no lease");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_killed_in_a_reload_is_unsettled_for_the_lease() {
    let simulator = Simulator::new(Profile::v2026_9_6());
    let mut client = Client::open(&simulator).await;
    simulator.inject(Fault::on("agents.create").kill_after());
    client.send("agents.create", create()).await;
    assert_eq!(client.end().await, End::Lost);
    let mut client = restarted(&simulator).await;
    assert!(!simulator.is_settled());
    let error = client.call("agents.create", create()).await.unwrap_err();
    assert_eq!(error["message"], "agent \"mc-1\" already exists");
    client.call("agents.files.list", json!({"agentId": "mc-1"})).await.unwrap_err();
    advance(Duration::from_mins(5)).await;
    client.call("agents.files.list", json!({"agentId": "mc-1"})).await.unwrap();
    assert!(simulator.is_settled());
}

#[tokio::test(start_paused = true)]
async fn a_kill_during_a_patch_writes_all_of_it_or_nothing() {
    let latency = Duration::from_secs(4);
    for (at, written) in [(500, false), (2_000, true)] {
        let simulator = Simulator::new(
            Profile::v2026_9_6().with_latency(
                move |method, _| {
                    if method == "config.patch" { latency } else { Duration::ZERO }
                },
            ),
        );
        let mut client = Client::open(&simulator).await;
        let hash = client.call("config.get", json!({})).await.unwrap()["hash"].clone();
        let raw = common::patch(&["mc-1", "mc-2", "mc-3"]);
        client.send("config.patch", json!({"raw": raw, "baseHash": hash})).await;
        sleep(Duration::from_millis(at)).await;
        simulator.kill();
        assert_eq!(client.end().await, End::Lost);
        assert_eq!(simulator.agents().len(), if written { 4 } else { 1 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_killed_delete_holds_its_lease_after_the_start() {
    let simulator = Simulator::new(Profile::v2026_9_6());
    let mut client = Client::open(&simulator).await;
    client.register(&["mc-1"]).await.unwrap();
    client.send("agents.delete", json!({"agentId": "mc-1"})).await;
    sleep(Duration::from_millis(200)).await;
    simulator.kill();
    let mut client = restarted(&simulator).await;
    let error = client.call("agents.delete", json!({"agentId": "mc-1"})).await.unwrap_err();
    assert!(error["message"].as_str().unwrap().contains("OPENCLAW_STATE_LEASE_HELD"));
    sleep(Duration::from_secs(45)).await;
    client.call("agents.delete", json!({"agentId": "mc-1"})).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_restart_sends_shutdown_and_refuses_pending_calls() {
    let simulator = Simulator::new(Profile::v2026_9_6());
    let mut client = Client::open(&simulator).await;
    let id = client.send("agents.create", create()).await;
    sleep(Duration::from_millis(10)).await;
    simulator.restart();
    let error = client.reply(&id).await.unwrap().unwrap_err();
    assert_eq!(error["message"], "agents.create unavailable during gateway restart");
    assert_eq!(client.event("shutdown").await["payload"]["reason"], "gateway restarting");
    assert_eq!(client.end().await, End::Closed(1012, "service restart".into()));
}

#[tokio::test(start_paused = true)]
async fn a_restarted_gateway_runs_a_repeated_message_again() {
    let simulator = instant();
    let mut client = Client::open(&simulator).await;
    client.register(&["mc-1"]).await.unwrap();
    let key = "agent:mc-1:main";
    let wake = json!({"sessionKey": key, "message": "wake", "idempotencyKey": "k"});
    let status = |reply: Value| reply["status"].as_str().unwrap().to_owned();
    assert_eq!(status(client.call("chat.send", wake.clone()).await.unwrap()), "started");
    assert_eq!(status(client.call("chat.send", wake.clone()).await.unwrap()), "in_flight");
    sleep(Duration::from_secs(5)).await;
    assert_eq!(status(client.call("chat.send", wake.clone()).await.unwrap()), "ok");
    simulator.kill();
    let mut client = restarted(&simulator).await;
    assert_eq!(status(client.call("chat.send", wake.clone()).await.unwrap()), "started");
    assert_eq!(simulator.chats()[0].runs, 2);
}

#[tokio::test(start_paused = true)]
async fn a_kill_loses_a_message_that_is_not_stored() {
    for (after, stored) in [(50, 0), (2_500, 1)] {
        let simulator = instant();
        let mut client = Client::open(&simulator).await;
        client.register(&["mc-1"]).await.unwrap();
        let wake = json!({"sessionKey": "agent:mc-1:main", "message": "w", "idempotencyKey": "k"});
        client.call("chat.send", wake).await.unwrap();
        sleep(Duration::from_millis(after)).await;
        simulator.kill();
        assert_eq!(simulator.sessions()["agent:mc-1:main"].messages.len(), stored);
    }
}

#[tokio::test(start_paused = true)]
async fn lost_events_leave_a_sequence_gap() {
    let simulator = instant();
    let mut client = Client::open(&simulator).await;
    simulator.send_event("skills.changed", &json!({}));
    simulator.lose_events(1);
    simulator.send_event("skills.changed", &json!({}));
    simulator.send_event("skills.changed", &json!({}));
    assert_eq!(client.event("skills.changed").await["seq"], 1);
    assert_eq!(client.event("skills.changed").await["seq"], 3);
}

#[tokio::test(start_paused = true)]
async fn a_draining_gateway_answers_the_upgrade_with_503() {
    let simulator = instant();
    simulator.drain();
    let stream = simulator.connect().unwrap();
    let error = tokio_tungstenite::client_async("ws://simulator/", stream).await.unwrap_err();
    assert!(error.to_string().contains("503"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_silenced_connection_stays_open_and_new_connections_are_served() {
    for (fault, written) in
        [(Fault::on("agents.create").silence_before(), false), (Fault::on("agents.create").silence_after(), true)]
    {
        let simulator = instant();
        let mut client = Client::open(&simulator).await;
        simulator.inject(fault);
        client.send("agents.create", create()).await;
        sleep(Duration::from_millis(1)).await;
        client.send("agents.list", json!({})).await;
        assert!(timeout(Duration::from_mins(10), client.end()).await.is_err(), "nothing comes, not even a tick");
        assert_eq!(simulator.agents().contains_key("mc-1"), written);
        assert_eq!(simulator.count("agents.list"), 0);
        Client::open(&simulator).await.call("agents.list", json!({})).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_is_repeated_or_overtaken_by_later_replies() {
    let simulator = instant();
    let mut client = Client::open(&simulator).await;
    simulator.inject(Fault::on("config.get").repeat_reply());
    let twice = client.send("config.get", json!({})).await;
    client.reply(&twice).await.unwrap().unwrap();
    client.reply(&twice).await.unwrap().unwrap();
    simulator.inject(Fault::on("config.get").hold_reply(Duration::from_secs(3)));
    let began = Instant::now();
    let held = client.send("config.get", json!({})).await;
    client.call("config.get", json!({})).await.unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO);
    client.reply(&held).await.unwrap().unwrap();
    assert_eq!(began.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn a_restart_during_a_call_refuses_the_call_or_loses_its_reply() {
    let simulator = instant();
    let mut client = Client::open(&simulator).await;
    simulator.inject(Fault::on("agents.create").restart_before());
    let id = client.send("agents.create", create()).await;
    assert_eq!(client.reply(&id).await.unwrap().unwrap_err()["code"], "UNAVAILABLE");
    assert_eq!(client.end().await, End::Closed(1012, "service restart".into()));
    let mut client = reconnected(&simulator).await;
    simulator.inject(Fault::on("agents.create").restart_after());
    let id = client.send("agents.create", create()).await;
    assert_eq!(client.reply(&id).await.unwrap_err(), End::Closed(1012, "service restart".into()));
    assert!(simulator.agents().contains_key("mc-1"));
}

#[tokio::test(start_paused = true)]
async fn a_kill_during_a_config_write_leaves_it_written_and_not_applied() {
    let simulator = instant();
    let mut client = Client::open(&simulator).await;
    simulator.inject(Fault::on("agents.create").kill_during());
    client.send("agents.create", create()).await;
    assert_eq!(client.end().await, End::Lost);
    let _client = restarted(&simulator).await;
    assert!(simulator.agents().contains_key("mc-1") && !simulator.is_settled());
    sleep(Duration::from_mins(5)).await;
    assert!(simulator.applied_agents().contains_key("mc-1"));
}

#[tokio::test(start_paused = true)]
async fn a_gateway_killed_for_good_starts_after_the_agent_is_removed_by_hand() {
    let simulator = instant();
    let mut client = Client::open(&simulator).await;
    client.register(&["mc-1"]).await.unwrap();
    simulator.inject(Fault::on("agents.delete").kill_for_good());
    client.send("agents.delete", json!({"agentId": "mc-1"})).await;
    assert_eq!(client.end().await, End::Lost);
    simulator.start();
    assert!(!simulator.is_running() && simulator.agents().contains_key("mc-1"));
    simulator.repair_half_deleted("mc-1");
    let mut client = restarted(&simulator).await;
    assert!(!simulator.agents().contains_key("mc-1"));
    let error = client.call("agents.delete", json!({"agentId": "mc-1"})).await.unwrap_err();
    assert!(error["message"].as_str().unwrap().contains("OPENCLAW_STATE_LEASE_HELD"), "{error}");
    sleep(Duration::from_secs(45)).await;
    client.call("agents.delete", json!({"agentId": "mc-1"})).await.unwrap();
    assert!(simulator.orphans().is_empty(), "{:?}", simulator.orphans());
}

#[tokio::test(start_paused = true)]
async fn a_gateway_on_a_lost_host_answers_nothing_until_its_start() {
    let simulator = instant();
    let mut client = Client::open(&simulator).await;
    simulator.lose_host();
    assert!(timeout(Duration::from_mins(10), client.end()).await.is_err());
    let stream = simulator.connect().unwrap();
    assert!(
        timeout(Duration::from_mins(10), tokio_tungstenite::client_async("ws://simulator/", stream)).await.is_err()
    );
    let _client = restarted(&simulator).await;
}
