//! The phase of an agent, from the gateway's events and its own reports.

use std::time::Duration;

use muster::api::agent::{CheckIn, Phase};
use muster_simulator::Simulator;

use serde_json::json;

use crate::rig::Rig;

/// A worker that was woken and whose run has ended.
async fn idle_agent() -> (Rig, Simulator) {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    check_in(&rig, CheckIn::Idle, None).await;
    rig.until("the end of its first run", |rig| phase(rig) == Some(Phase::Idle)).await;
    (rig, gateway)
}

fn phase(rig: &Rig) -> Option<Phase> {
    rig.status("one").phase
}

async fn check_in(rig: &Rig, status: CheckIn, task: Option<&str>) {
    assert_eq!(rig.check_in("one", &json!({ "status": status, "current_task_id": task })).await, 200);
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_run_makes_an_agent_active_until_it_ends() {
    let (mut rig, gateway) = idle_agent().await;
    let id = rig.agent_id("one");
    gateway.begin_heartbeat(&id);
    rig.until("work", |rig| phase(rig) == Some(Phase::Active)).await;
    gateway.end_heartbeat(&id);
    rig.until("the end of the run", |rig| phase(rig) == Some(Phase::Idle)).await;
}

#[tokio::test(start_paused = true)]
async fn a_reported_status_sets_the_phase_between_runs() {
    let (mut rig, gateway) = idle_agent().await;
    check_in(&rig, CheckIn::Active, Some("T-1")).await;
    rig.until("the report", |rig| phase(rig) == Some(Phase::Active)).await;
    assert_eq!(rig.status("one").heartbeat.unwrap().current_task.as_deref(), Some("T-1"));
    let id = rig.agent_id("one");
    gateway.begin_heartbeat(&id);
    gateway.end_heartbeat(&id);
    rig.run_for(Duration::from_secs(30)).await;
    assert_eq!(phase(&rig), Some(Phase::Active), "the reported task still counts");
}

#[tokio::test(start_paused = true)]
async fn a_silent_agent_goes_offline_and_a_check_in_brings_it_back() {
    let (mut rig, _) = idle_agent().await;
    rig.until("silence", |rig| phase(rig) == Some(Phase::Offline)).await;
    check_in(&rig, CheckIn::Idle, None).await;
    rig.until("the phase Idle", |rig| phase(rig) == Some(Phase::Idle)).await;
}

/// Reconciles for this time and returns every phase that was seen.
async fn phases(rig: &mut Rig, seconds: u64) -> Vec<Phase> {
    let mut seen = Vec::new();
    for _ in 0..seconds {
        seen.extend(phase(rig).filter(|phase| seen.last() != Some(phase)));
        rig.run_for(Duration::from_secs(1)).await;
    }
    seen
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_the_operator_changes_no_phase_and_no_status() {
    let (mut rig, _) = idle_agent().await;
    rig.run_for(Duration::from_secs(40)).await;
    let before = rig.status("one");
    rig.start();
    assert_eq!(phases(&mut rig, 60).await, [Phase::Idle]);
    assert_eq!(rig.status("one"), before);
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_the_gateway_changes_no_phase() {
    let (mut rig, gateway) = idle_agent().await;
    let before = rig.status("one");
    gateway.kill();
    assert_eq!(phases(&mut rig, 20).await, [Phase::Idle]);
    gateway.start();
    assert_eq!(phases(&mut rig, 60).await, [Phase::Idle]);
    assert_eq!(rig.status("one").conditions, before.conditions);
}

#[tokio::test(start_paused = true)]
async fn a_run_lost_in_a_gateway_kill_does_not_keep_an_agent_active() {
    let (mut rig, gateway) = idle_agent().await;
    gateway.begin_heartbeat(&rig.agent_id("one"));
    rig.until("work", |rig| phase(rig) == Some(Phase::Active)).await;
    gateway.kill();
    rig.run_for(Duration::from_secs(10)).await;
    gateway.start();
    rig.until("the phase Idle", |rig| phase(rig) == Some(Phase::Idle)).await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_run_event_is_noticed_and_the_phase_corrected() {
    let (mut rig, gateway) = idle_agent().await;
    let id = rig.agent_id("one");
    gateway.begin_heartbeat(&id);
    rig.until("work", |rig| phase(rig) == Some(Phase::Active)).await;
    gateway.lose_events(1);
    gateway.end_heartbeat(&id);
    rig.until("the phase Idle", |rig| phase(rig) == Some(Phase::Idle)).await;
}

#[tokio::test(start_paused = true)]
async fn an_operator_started_after_a_long_time_waits_for_check_ins_before_it_wakes() {
    let (mut rig, gateway) = idle_agent().await;
    let woken = gateway.chats().len();
    rig.stop();
    tokio::time::advance(Duration::from_mins(30)).await;
    rig.start();
    assert_eq!(phases(&mut rig, 9 * 60).await, [Phase::Idle]);
    assert_eq!(gateway.chats().len(), woken);
    rig.until("the phase Offline", |rig| phase(rig) == Some(Phase::Offline)).await;
    rig.stop();
    rig.start();
    assert!(!phases(&mut rig, 60).await.contains(&Phase::Idle), "a restart does not reset the silence");
}
