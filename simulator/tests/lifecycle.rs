//! The lifecycle of an agent: registered, given files, woken, deleted.

mod common;

use std::time::Duration;

use common::{Client, instant};
use muster_simulator::{Fault, Profile, Simulator};
use serde_json::json;

const KEY: &str = "agent:mc-1:main";

#[tokio::test(start_paused = true)]
async fn an_agent_is_registered_given_files_woken_and_deleted() {
    let simulator = Simulator::new(Profile::v2026_9_6());
    let mut client = Client::open(&simulator).await;
    client.register(&["mc-1"]).await.unwrap();
    let file = json!({"agentId": "mc-1", "name": "AGENTS.md", "content": "hello"});
    client.call("agents.files.set", file).await.unwrap();
    client.call("sessions.patch", json!({"key": KEY, "label": "One"})).await.unwrap();
    let wake = json!({"sessionKey": KEY, "message": "wake up", "deliver": true, "idempotencyKey": "k"});
    assert_eq!(client.call("chat.send", wake).await.unwrap()["status"], "started");
    while client.event("chat").await["payload"]["state"] != "final" {}
    assert_eq!(simulator.file("mc-1", "AGENTS.md").as_deref(), Some("hello"));
    assert_eq!(simulator.sessions()[KEY].label.as_deref(), Some("One"));
    assert_eq!(simulator.sessions()[KEY].messages[0], ("user".to_owned(), "wake up".to_owned()));

    client.call("agents.delete", json!({"agentId": "mc-1"})).await.unwrap();
    assert_eq!(simulator.agents().into_keys().collect::<Vec<_>>(), ["main"]);
    assert!(simulator.orphans().is_empty(), "{:?}", simulator.orphans());
    assert_eq!(simulator.writes(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_created_agent_is_not_found_until_it_is_applied() {
    let profile = Profile::v2026_9_6().with_visibility_delay(Duration::from_millis(1_500));
    let simulator = Simulator::new(profile);
    let mut client = Client::open(&simulator).await;
    client.call("agents.create", json!({"name": "mc-1", "workspace": "/w/mc-1"})).await.unwrap();
    assert!(!simulator.is_settled());
    for method in ["agents.files.list", "agents.delete"] {
        let error = client.call(method, json!({"agentId": "mc-1"})).await.unwrap_err();
        assert_eq!(error["message"], "agent \"mc-1\" not found");
    }
    let event = client.event("config.changed").await;
    let config = client.call("config.get", json!({})).await.unwrap();
    assert_eq!(event["payload"]["hash"], config["hash"]);
    assert_eq!(config["appliedConfigHash"], config["configRevisionHash"]);
    client.call("agents.files.list", json!({"agentId": "mc-1"})).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_unsettled_gateway_accepts_writes_and_applies_them_after_the_lease() {
    let simulator = instant();
    let mut client = Client::open(&simulator).await;
    simulator.leave_unsettled(Duration::from_mins(5));
    client.register(&["mc-1"]).await.unwrap();
    let config = client.call("config.get", json!({})).await.unwrap();
    assert_ne!(config["appliedConfigHash"], config["configRevisionHash"]);
    client.call("agents.files.list", json!({"agentId": "mc-1"})).await.unwrap_err();
    client.event("config.changed").await;
    assert!(simulator.is_settled());
    client.call("agents.files.list", json!({"agentId": "mc-1"})).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn concurrent_creates_of_one_name_create_one_agent() {
    let simulator = Simulator::new(Profile::v2026_9_6());
    let mut client = Client::open(&simulator).await;
    let mut ids = Vec::new();
    for _ in 0..8 {
        ids.push(client.send("agents.create", json!({"name": "mc-1"})).await);
    }
    let mut created = 0;
    for id in ids {
        match client.reply(&id).await.unwrap() {
            Ok(_) => created += 1,
            Err(error) => assert_eq!(error["message"], "agent \"mc-1\" already exists"),
        }
    }
    assert_eq!(created, 1);
}

#[tokio::test(start_paused = true)]
async fn a_label_for_an_unknown_agent_leaves_an_orphan_session() {
    let simulator = instant();
    let mut client = Client::open(&simulator).await;
    client.call("sessions.patch", json!({"key": "agent:mc-none:main", "label": "x"})).await.unwrap();
    assert!(simulator.orphans().sessions.contains("agent:mc-none:main"));
}

#[tokio::test(start_paused = true)]
async fn the_patch_budget_is_per_connection() {
    let simulator = Simulator::new(Profile::v2026_9_6().instant().with_patch_budget(2, Duration::from_mins(1)));
    let mut client = Client::open(&simulator).await;
    for _ in 0..2 {
        client.call("config.patch", json!({"raw": "{}", "baseHash": "stale"})).await.unwrap_err();
    }
    let refused = client.call("config.patch", json!({"raw": "{}"})).await.unwrap_err();
    assert_eq!(refused["message"], "rate limit exceeded for config.patch; retry after 60s");
    assert_eq!(refused["details"], json!({"method": "config.patch", "limit": "2 per 60s"}));
    let mut other = Client::open(&simulator).await;
    other.register(&["mc-1"]).await.unwrap();
    tokio::time::advance(Duration::from_mins(1)).await;
    client.call("config.patch", json!({"raw": "{}"})).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_calls_as_busy() {
    let simulator = Simulator::new(Profile::v2026_9_6());
    let mut client = Client::open(&simulator).await;
    let mut ids = Vec::new();
    for _ in 0..480 {
        ids.push(client.send("health", json!({})).await);
    }
    let mut busy = 0;
    for id in ids {
        if let Err(error) = client.reply(&id).await.unwrap() {
            assert_eq!(error["message"], "The server is busy. Please try again in a moment.");
            busy += 1;
        }
    }
    assert_eq!(busy, 180);
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_leaves_the_write_and_the_connection() {
    let simulator = instant();
    let mut client = Client::open(&simulator).await;
    simulator.inject(Fault::on("agents.create").lose_reply());
    client.send("agents.create", json!({"name": "mc-1"})).await;
    client.call("health", json!({})).await.unwrap();
    let error = client.call("agents.create", json!({"name": "mc-1"})).await.unwrap_err();
    assert_eq!(error["message"], "agent \"mc-1\" already exists");
    assert_eq!(simulator.faults_left(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_write_leaves_a_state_that_a_retry_completes() {
    for nth in 1..=3 {
        let simulator = instant();
        simulator.inject(Fault::on_any_write().nth(nth).drop_connection_after());
        while simulator.file("mc-1", "AGENTS.md").is_none() || simulator.sessions().is_empty() {
            let mut client = Client::open(&simulator).await;
            if !simulator.agents().contains_key("mc-1") {
                let hash = client.call("config.get", json!({})).await.unwrap()["hash"].clone();
                let raw = common::patch(&["mc-1"]);
                client.send("config.patch", json!({"raw": raw, "baseHash": hash})).await;
            }
            let file = json!({"agentId": "mc-1", "name": "AGENTS.md", "content": "x"});
            client.send("agents.files.set", file).await;
            let label = client.send("sessions.patch", json!({"key": KEY, "label": "x"})).await;
            let _ = client.reply(&label).await;
        }
        assert!(simulator.orphans().is_empty(), "{:?}", simulator.orphans());
        assert_eq!(simulator.faults_left(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_label_is_trimmed_like_javascript_and_limited_by_the_version() {
    for (profile, limit) in [(Profile::v2026_9_6(), 512), (Profile::v2026_3_2(), 64)] {
        let simulator = Simulator::new(profile.instant());
        let mut client = Client::open(&simulator).await;
        for label in ["Ops ", "\u{a0}Ops", "Ops\u{feff}", "\r\nOps\u{2029}"] {
            let patched = client.call("sessions.patch", json!({"key": KEY, "label": label})).await.unwrap();
            assert_eq!(patched["entry"]["label"], "Ops", "{label:?}");
        }
        let longest = "x".repeat(limit);
        client.call("sessions.patch", json!({"key": KEY, "label": longest})).await.unwrap();
        for label in ["x".repeat(limit + 1), " ".into(), "🦀".repeat(limit / 2 + 1)] {
            let error = client.call("sessions.patch", json!({"key": KEY, "label": label})).await.unwrap_err();
            assert_eq!(error["code"], "INVALID_REQUEST", "{label:?}");
        }
        assert_eq!(simulator.sessions()[KEY].label, Some(longest));
    }
}

#[tokio::test(start_paused = true)]
async fn a_label_of_another_session_of_the_agent_is_refused() {
    let simulator = instant();
    let mut client = Client::open(&simulator).await;
    client.call("sessions.patch", json!({"key": "agent:mc-1:other", "label": "Ops"})).await.unwrap();
    let error = client.call("sessions.patch", json!({"key": KEY, "label": " Ops "})).await.unwrap_err();
    assert_eq!((&error["code"], &error["message"]), (&json!("INVALID_REQUEST"), &json!("label already in use: Ops")));
    client.call("sessions.patch", json!({"key": "agent:mc-2:main", "label": "Ops"})).await.unwrap();
    client.call("sessions.patch", json!({"key": "agent:mc-1:other", "label": "Ops"})).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_message_steers_the_active_run() {
    let simulator = Simulator::new(Profile::v2026_9_6());
    let mut client = Client::open(&simulator).await;
    client.register(&["mc-1"]).await.unwrap();
    simulator.begin_run("mc-1");
    let wake = json!({"sessionKey": KEY, "message": "wake up", "deliver": true, "idempotencyKey": "k"});
    assert_eq!(client.call("chat.send", wake).await.unwrap()["status"], "started");
    assert_eq!((simulator.steered().len(), simulator.chats()[0].runs), (1, 0), "no run of its own");
    assert_eq!(simulator.sessions()[KEY].messages, [("user".to_owned(), "wake up".to_owned())]);
    simulator.end_run("mc-1");
    assert!(!simulator.sessions()[KEY].running);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_cannot_move_files_reports_it_and_keeps_the_id_closed() {
    let simulator = instant();
    let mut client = Client::open(&simulator).await;
    client.register(&["mc-1"]).await.unwrap();
    client.call("agents.files.set", json!({"agentId": "mc-1", "name": "AGENTS.md", "content": "x"})).await.unwrap();
    simulator.fail_purges();
    let reply = client.call("agents.delete", json!({"agentId": "mc-1"})).await.unwrap();
    assert_eq!((&reply["purgeFailed"], &reply["failed"]), (&json!(true), &json!([])));
    simulator.block_trash();
    let reply = client.call("agents.delete", json!({"agentId": "mc-1"})).await.unwrap();
    assert!(reply["failed"][0]["reason"].as_str().unwrap().contains(".Trash") && reply["purgeFailed"].is_null());
    let error = client.call("agents.create", json!({"name": "mc-1", "workspace": "/w"})).await.unwrap_err();
    assert_eq!(error["message"], "agent \"mc-1\" deletion cleanup is still pending");
    simulator.repair_trash();
    let reply = client.call("agents.delete", json!({"agentId": "mc-1"})).await.unwrap();
    assert_eq!(reply["failed"], json!([]));
    client.call("agents.create", json!({"name": "mc-1", "workspace": "/w"})).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_old_version_leaves_files_without_an_error() {
    let simulator = Simulator::new(Profile::v2026_3_2().instant());
    let mut client = Client::open(&simulator).await;
    client.call("agents.create", json!({"name": "mc-1", "workspace": "/w/mc-1"})).await.unwrap();
    client.call("health", json!({})).await.unwrap();
    simulator.block_trash();
    let reply = client.call("agents.delete", json!({"agentId": "mc-1"})).await.unwrap();
    assert!(reply["failed"].is_null() && !simulator.workspace("/w/mc-1").is_empty());
    client.call("agents.create", json!({"name": "mc-1", "workspace": "/w/mc-1"})).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_simulator_that_drops_parameters_still_counts_calls() {
    let mut profile = Profile::v2026_9_6().instant();
    profile.keeps_params = false;
    let simulator = Simulator::new(profile);
    let mut client = Client::open(&simulator).await;
    client.call("config.patch", json!({"raw": common::patch(&["mc-1"]), "baseHash": "stale"})).await.unwrap_err();
    client.register(&["mc-1"]).await.unwrap();
    assert_eq!((simulator.count("config.patch"), simulator.writes()), (2, 2));
    assert!(simulator.calls().iter().all(|call| call.params.is_null()));
}
