//! A wake is neither lost nor sent twice, and the number of wakes is limited.

use std::time::Duration;

use muster::api::ConditionType;
use muster::api::agent::Phase;
use muster_simulator::{Fault, Profile, Simulator};
use serde_json::json;

use crate::rig::Rig;

async fn woken_agent() -> (Rig, Simulator) {
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
async fn a_silent_agent_passes_through_every_wake_reason_to_offline() {
    let (mut rig, _) = woken_agent().await;
    assert_eq!(reason(&rig), "WaitingForCheckIn");
    rig.until("the deadline", |rig| reason(rig) == "DeadlineExceeded").await;
    rig.until("the second wake", |rig| reason(rig) == "WaitingForCheckIn").await;
    rig.until("the last deadline", |rig| reason(rig) == "MaxWakeAttempts").await;
    assert_eq!(rig.status("one").phase, Some(muster::api::agent::Phase::Offline));
    assert_eq!(rig.status("one").wake.unwrap().attempts, 3);
}

#[tokio::test(start_paused = true)]
async fn a_wake_lost_in_a_gateway_kill_is_sent_again_with_the_same_key() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.worker("one");
    rig.until("the wake in the status", |rig| rig.status("one").wake.is_some()).await;
    gateway.kill();
    rig.run_for(Duration::from_secs(20)).await;
    gateway.start();
    rig.until("the second run", |_| runs(&gateway) == [2]).await;
    rig.run_for(Duration::from_mins(2)).await;
    assert_eq!(runs(&gateway), [2], "the second run has the same key");
    assert_eq!(rig.status("one").wake.unwrap().attempts, 1, "the second send is the same attempt");
}

#[tokio::test(start_paused = true)]
async fn a_wake_with_an_ended_run_is_not_repeated_after_a_gateway_restart() {
    let (mut rig, gateway) = woken_agent().await;
    rig.until("the end of the run", |rig| rig.status("one").wake.unwrap().answered_at.is_some()).await;
    gateway.restart();
    rig.run_for(Duration::from_mins(3)).await;
    assert_eq!(runs(&gateway), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_alone_repeats_no_wake() {
    let (mut rig, gateway) = woken_agent().await;
    rig.run_for(Duration::from_secs(1)).await;
    gateway.drop_connections();
    rig.run_for(Duration::from_mins(3)).await;
    assert_eq!(runs(&gateway), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_new_generation_restarts_the_wake_attempts() {
    let (mut rig, gateway) = woken_agent().await;
    rig.until("MaxWakeAttempts", |rig| reason(rig) == "MaxWakeAttempts").await;
    rig.agent("one", json!({ "boardRef": { "name": "ops" }, "displayName": "New" }));
    rig.until("a new wake", |rig| rig.status("one").wake.unwrap().attempts == 1).await;
    assert_eq!(reason(&rig), "WaitingForCheckIn");
    rig.until("four messages", |_| gateway.chats().len() == 4).await;
}

#[tokio::test(start_paused = true)]
async fn a_wake_retry_resets_no_session_and_replaces_no_token() {
    let (mut rig, gateway) = woken_agent().await;
    let token = rig.token("one");
    rig.until("MaxWakeAttempts", |rig| reason(rig) == "MaxWakeAttempts").await;
    assert_eq!(gateway.count("sessions.reset"), 0);
    assert_eq!(rig.token("one"), token);
}

#[tokio::test(start_paused = true)]
async fn a_paused_agent_has_no_heartbeat_and_a_resumed_agent_is_woken() {
    let (mut rig, gateway) = woken_agent().await;
    let id = rig.agent_id("one");
    let every = |gateway: &Simulator| gateway.agents()[&id]["heartbeat"]["every"].clone();
    assert_eq!(every(&gateway), "5m");
    let files = gateway.workspace(&rig.status("one").workspace_path.unwrap());
    rig.agent("one", json!({ "boardRef": { "name": "ops" }, "suspend": true }));
    rig.until("the pause", |rig| every(&gateway) == "0m" && reason(rig) == "Suspended").await;
    rig.run_for(Duration::from_mins(20)).await;
    assert_eq!(gateway.chats().len(), 1, "a paused agent is not woken");
    assert_eq!(
        gateway.workspace(&rig.status("one").workspace_path.unwrap()),
        files,
        "the files of a paused agent are kept"
    );
    assert_eq!(rig.status("one").phase, Some(muster::api::agent::Phase::Paused));
    rig.worker("one");
    rig.until("the heartbeat", |_| every(&gateway) == "5m").await;
    rig.until("a wake", |_| gateway.chats().len() == 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_retry_request_of_the_gateway_is_no_error() {
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
    assert!(gateway.calls().iter().all(|call| call.method != "agents.create"), "the retries create no agent");
}

/// An agent that was woken, whose run has ended, and that has checked in.
async fn idle_agent() -> (Rig, Simulator, String) {
    let (mut rig, gateway) = woken_agent().await;
    rig.until("the end of the run", |rig| rig.status("one").wake.unwrap().answered_at.is_some()).await;
    check_in(&rig).await;
    rig.until("the check-in", |rig| reason(rig) == "CheckedIn").await;
    let id = rig.agent_id("one");
    (rig, gateway, id)
}

/// The agent checks in.
async fn check_in(rig: &Rig) {
    assert_eq!(rig.check_in("one", &json!({ "status": "idle" })).await, 200);
}

#[tokio::test(start_paused = true)]
async fn a_running_agent_is_not_woken_and_its_silence_counts_from_the_end_of_the_run() {
    let (mut rig, gateway, id) = idle_agent().await;
    gateway.begin_run(&id);
    rig.run_for(Duration::from_mins(40)).await;
    assert_eq!((reason(&rig).as_str(), gateway.chats().len()), ("CheckedIn", 1));
    assert_eq!(rig.status("one").phase, Some(Phase::Active));
    gateway.end_run(&id);
    rig.run_for(Duration::from_mins(9)).await;
    assert_eq!((rig.status("one").phase, gateway.chats().len()), (Some(Phase::Idle), 1));
    rig.until("the wake", |_| gateway.chats().len() == 2).await;
    assert_eq!(gateway.steered(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_new_spec_wakes_a_running_agent_after_the_run() {
    let (mut rig, gateway, id) = idle_agent().await;
    gateway.begin_run(&id);
    rig.agent("one", json!({ "boardRef": { "name": "ops" }, "displayName": "New" }));
    rig.run_for(Duration::from_mins(3)).await;
    assert_eq!(gateway.chats().len(), 1);
    gateway.end_run(&id);
    rig.until("the wake", |_| gateway.chats().len() == 2).await;
    assert_eq!(gateway.steered(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_run_longer_than_the_wake_deadline_restarts_the_deadline_at_its_end() {
    let profile = Profile { run_time: Duration::from_mins(20), ..Profile::v2026_9_6() };
    let (mut rig, gateway) = Rig::with(profile);
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    rig.run_for(Duration::from_mins(19)).await;
    assert_eq!((reason(&rig).as_str(), gateway.chats().len()), ("WaitingForCheckIn", 1));
    rig.until("the end of the run", |rig| rig.status("one").wake.unwrap().answered_at.is_some()).await;
    rig.run_for(Duration::from_mins(4)).await;
    assert_eq!((reason(&rig).as_str(), gateway.chats().len()), ("WaitingForCheckIn", 1));
    rig.until("the second wake", |_| gateway.chats().len() == 2).await;
    assert_eq!(gateway.steered(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_run_begun_before_the_operator_started_is_not_interrupted() {
    let (mut rig, gateway, id) = idle_agent().await;
    gateway.begin_run(&id);
    rig.stop();
    tokio::time::advance(Duration::from_mins(30)).await;
    rig.start();
    rig.run_for(Duration::from_mins(30)).await;
    let link = rig.link("gw");
    link.client().session_label(&format!("agent:{id}:other"), "other").await.unwrap();
    rig.run_for(Duration::from_mins(30)).await;
    assert_eq!((rig.status("one").phase, gateway.chats().len()), (Some(Phase::Active), 1));
    gateway.end_run(&id);
    rig.until("the wake", |_| gateway.chats().len() == 2).await;
    assert_eq!(gateway.steered(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_begins_during_a_wake_is_not_interrupted() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.worker("one");
    rig.until("the binding", |rig| rig.status("one").binding.is_some()).await;
    gateway.inject(Fault::on("chat.history").delay(Duration::from_secs(5)));
    let begun = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        while gateway.count("chat.history") == 0 {
            ticks.tick().await;
        }
        gateway.begin_run(&rig.agent_id("one"));
    };
    begun.await;
    assert_eq!(gateway.sessions().values().filter(|session| session.running).count(), 1);
    rig.run_for(Duration::from_mins(2)).await;
    assert_eq!((gateway.chats().len(), gateway.steered()), (0, Vec::new()));
    gateway.end_run(&rig.agent_id("one"));
    rig.until("the wake", |_| gateway.chats().len() == 1).await;
}
