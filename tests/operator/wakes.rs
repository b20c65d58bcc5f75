//! A wake is neither lost nor sent twice, and has its end.

use std::time::Duration;

use muster::api::ConditionType;
use muster_simulator::{Fault, Simulator};
use serde_json::json;

use crate::rig::Rig;

async fn woken() -> (Rig, Simulator) {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    (rig, gateway)
}

fn reason(rig: &Rig) -> String {
    rig.condition("one", ConditionType::CheckedIn).1
}

fn runs(gateway: &Simulator) -> Vec<usize> {
    gateway.chats().iter().map(|c| c.runs).collect()
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_does_not_answer_goes_through_every_reason_to_offline() {
    let (mut rig, _) = woken().await;
    assert_eq!(reason(&rig), "WaitingForCheckIn");
    rig.until("the deadline", |rig| reason(rig) == "DeadlineExceeded").await;
    rig.until("the second wake", |rig| reason(rig) == "WaitingForCheckIn").await;
    rig.until("the last deadline", |rig| reason(rig) == "MaxWakeAttempts").await;
    assert_eq!(rig.status("one").phase, Some(muster::api::agent::Phase::Offline));
    assert_eq!(rig.status("one").wake.unwrap().attempts, 3);
}

#[tokio::test(start_paused = true)]
async fn a_wake_that_the_gateway_lost_when_it_was_killed_is_sent_again_under_the_same_key() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.worker("one");
    rig.until("the wake", |_| gateway.count("chat.send") == 1).await;
    gateway.kill();
    rig.until("the record of it", |rig| rig.status("one").wake.is_some()).await;
    rig.pause(Duration::from_secs(20)).await;
    gateway.start();
    rig.until("the second run", |_| runs(&gateway) == [2]).await;
    rig.rest(Duration::from_mins(2)).await;
    assert_eq!(runs(&gateway), [2], "once more, under the same key");
    assert_eq!(rig.status("one").wake.unwrap().attempts, 1, "it is the same attempt");
}

#[tokio::test(start_paused = true)]
async fn a_wake_whose_run_has_ended_is_not_sent_again_when_the_gateway_restarts() {
    let (mut rig, gateway) = woken().await;
    rig.until("the end of the run", |rig| rig.status("one").wake.unwrap().answered_at.is_some()).await;
    gateway.restart();
    rig.rest(Duration::from_mins(3)).await;
    assert_eq!(runs(&gateway), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_alone_wakes_nobody_twice() {
    let (mut rig, gateway) = woken().await;
    rig.pause(Duration::from_secs(1)).await;
    gateway.drop_connections();
    rig.rest(Duration::from_mins(3)).await;
    assert_eq!(runs(&gateway), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_new_generation_starts_over() {
    let (mut rig, gateway) = woken().await;
    rig.until("giving up", |rig| reason(rig) == "MaxWakeAttempts").await;
    rig.agent("one", json!({ "boardRef": { "name": "ops" }, "displayName": "New" }));
    rig.until("a new wake", |rig| rig.status("one").wake.unwrap().attempts == 1).await;
    assert_eq!(reason(&rig), "WaitingForCheckIn");
    rig.until("four messages", |_| gateway.chats().len() == 4).await;
}

#[tokio::test(start_paused = true)]
async fn a_retry_resets_no_session_and_replaces_no_token() {
    let (mut rig, gateway) = woken().await;
    let token = rig.token("one");
    rig.until("giving up", |rig| reason(rig) == "MaxWakeAttempts").await;
    assert_eq!(gateway.count("sessions.reset"), 0);
    assert_eq!(rig.token("one"), token);
}

#[tokio::test(start_paused = true)]
async fn who_is_paused_has_no_heartbeat_and_who_is_resumed_has_it_again_and_is_woken() {
    let (mut rig, gateway) = woken().await;
    let id = rig.agent_id("one");
    let every = |gateway: &Simulator| gateway.agents()[&id]["heartbeat"]["every"].clone();
    assert_eq!(every(&gateway), "5m");
    let files = gateway.workspace(&rig.status("one").workspace_path.unwrap());
    rig.agent("one", json!({ "boardRef": { "name": "ops" }, "suspend": true }));
    rig.until("the pause", |rig| every(&gateway) == "0m" && reason(rig) == "Suspended").await;
    rig.rest(Duration::from_mins(20)).await;
    assert_eq!(gateway.chats().len(), 1, "it is not woken");
    assert_eq!(gateway.workspace(&rig.status("one").workspace_path.unwrap()), files, "its files stay");
    assert_eq!(rig.status("one").phase, Some(muster::api::agent::Phase::Paused));
    rig.worker("one");
    rig.until("the heartbeat", |_| every(&gateway) == "5m").await;
    rig.until("a wake", |_| gateway.chats().len() == 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_asks_to_be_asked_again_is_no_trouble() {
    let (mut rig, gateway) = Rig::new();
    let words = "Error: Session store changed while preparing its metadata. Retry the request.";
    for method in ["sessions.list", "sessions.patch", "chat.history", "chat.send"] {
        gateway.inject(Fault::on(method).error("UNAVAILABLE", words, false));
    }
    rig.board("ops");
    rig.worker("one");
    rig.until("the wake", |rig| {
        let status = rig.status("one");
        assert_ne!(status.last_error.map(|e| e.code).as_deref(), Some("UNAVAILABLE"));
        status.wake.is_some()
    })
    .await;
    assert!(gateway.calls().iter().all(|call| call.method != "agents.create"), "its id is no trouble either");
}
