//! Whether an agent is alive: a silence counts only when a call was due.

use std::time::Duration;

use muster::api::ConditionType;
use muster::api::agent::{Agent, Phase};
use muster::api::requests::RequestKind;
use muster_simulator::{Fault, Profile, Simulator};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::rig::Rig;

/// An agent with these heartbeat settings that was woken and has checked in.
async fn idle_agent(profile: Profile, heartbeat: Value) -> (Rig, Simulator, String) {
    let (mut rig, gateway) = Rig::with(profile);
    rig.board("ops");
    rig.agent("one", json!({ "boardRef": { "name": "ops" }, "heartbeat": heartbeat }));
    rig.until_ready().await;
    rig.until("the end of the run", |rig| rig.status("one").wake.unwrap().answered_at.is_some()).await;
    check_in(&rig).await;
    rig.until("the check-in", |rig| checked_in(rig).1 == "CheckedIn").await;
    let id = rig.agent_id("one");
    (rig, gateway, id)
}

async fn check_in(rig: &Rig) {
    assert_eq!(rig.check_in("one", &json!({ "status": "idle" })).await, 200);
}

fn checked_in(rig: &Rig) -> (String, String, String) {
    rig.condition("one", ConditionType::CheckedIn)
}

fn heartbeat(rig: &Rig) -> (String, String, String) {
    rig.condition("one", ConditionType::HeartbeatConfigured)
}

fn phase(rig: &Rig) -> Option<Phase> {
    rig.status("one").phase
}

/// Reconciles every minute for this time.
async fn run_long(rig: &mut Rig, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        rig.run_for(Duration::from_mins(1)).await;
    }
}

async fn assert_neither_offline_nor_woken(rig: &mut Rig, gateway: &Simulator, time: Duration) {
    let woken = gateway.chats().len();
    let end = Instant::now() + time;
    while Instant::now() < end {
        run_long(rig, Duration::from_mins(5)).await;
        assert_eq!((phase(rig), gateway.chats().len()), (Some(Phase::Idle), woken), "{:?}", checked_in(rig));
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_outside_its_active_hours_is_neither_offline_nor_woken_until_they_begin() {
    // The clock of a rig starts at midnight.
    let hours = json!({ "start": "23:00", "end": "00:09", "timezone": "UTC" });
    let (mut rig, gateway, _) = idle_agent(Profile::v2026_9_6(), json!({ "activeHours": hours })).await;
    assert_eq!(rig.status("one").active_hours.unwrap().end, "00:09");
    assert_neither_offline_nor_woken(&mut rig, &gateway, Duration::from_hours(22)).await;
    run_long(&mut rig, Duration::from_mins(71)).await;
    assert_eq!(gateway.chats().len(), 2, "ten minutes after the window opened");
}

#[tokio::test(start_paused = true)]
async fn the_active_hours_of_the_gateway_hold_for_an_agent_without_its_own() {
    let (mut rig, gateway, _) = idle_agent(Profile::v2026_7_1(), json!({})).await;
    let hours = json!({ "start": "23:00", "end": "00:09", "timezone": "user" });
    gateway.edit_config(|config| {
        config["agents"]["defaults"]["heartbeat"]["activeHours"] = hours;
        config["agents"]["defaults"]["userTimezone"] = json!("UTC");
    });
    rig.link("gw").client().resync().await;
    rig.until("the hours", |rig| rig.status("one").active_hours.is_some()).await;
    assert_eq!(rig.status("one").active_hours.unwrap().timezone.as_deref(), Some("UTC"));
    assert_neither_offline_nor_woken(&mut rig, &gateway, Duration::from_hours(3)).await;
    gateway.kill();
    rig.run_for(Duration::from_mins(30)).await;
    assert_ne!(phase(&rig), Some(Phase::Offline), "the hours are recorded");
}

#[tokio::test(start_paused = true)]
async fn a_changed_spec_wakes_an_agent_when_its_active_hours_begin() {
    let hours = json!({ "start": "01:00", "end": "02:00", "timezone": "UTC" });
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.agent("one", json!({ "boardRef": { "name": "ops" }, "heartbeat": { "activeHours": hours } }));
    rig.until("Ready", |rig| rig.condition("one", ConditionType::Ready).0 == "True").await;
    run_long(&mut rig, Duration::from_mins(30)).await;
    let (status, reason, message) = checked_in(&rig);
    assert_eq!((status.as_str(), reason.as_str(), gateway.chats().len()), ("False", "OutsideActiveHours", 0));
    assert!(message.contains("Muster wakes it at "), "{message}");
    run_long(&mut rig, Duration::from_mins(35)).await;
    assert_eq!(gateway.chats().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_whose_scheduler_is_off_makes_no_agent_offline() {
    let (mut rig, gateway, _) = idle_agent(Profile::v2026_9_6(), json!({})).await;
    gateway.edit_config(|config| config["cron"] = json!({ "enabled": false }));
    rig.until("the reason", |rig| heartbeat(rig).1 == "HeartbeatsOff").await;
    let (status, _, message) = heartbeat(&rig);
    assert!(status == "False" && message.contains("cron.enabled is false"), "{message}");
    assert_eq!(rig.condition("one", ConditionType::Ready).0, "True");
    assert_neither_offline_nor_woken(&mut rig, &gateway, Duration::from_hours(3)).await;
    assert_eq!(checked_in(&rig).0, "True");
    gateway.edit_config(|config| config["cron"] = json!({ "enabled": true }));
    rig.until("the heartbeat", |rig| heartbeat(rig).1 == "Reconciled").await;
    rig.until("the wake", |_| gateway.chats().len() == 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_changed_agent_without_due_calls_is_offline_only_when_it_does_not_answer_the_wake() {
    for answers in [true, false] {
        let (mut rig, gateway, _) = idle_agent(Profile::v2026_9_6(), json!({})).await;
        gateway.edit_config(|config| config["cron"] = json!({ "enabled": false }));
        rig.until("the reason", |rig| heartbeat(rig).1 == "HeartbeatsOff").await;
        run_long(&mut rig, Duration::from_hours(1)).await;
        let woken = gateway.chats().len();
        rig.agent("one", json!({ "boardRef": { "name": "ops" }, "emoji": "🦊" }));
        let is_online = |rig: &Rig| assert_ne!(phase(rig), Some(Phase::Offline), "{:?}", checked_in(rig));
        rig.until("the wake", |rig| {
            is_online(rig);
            gateway.chats().len() > woken && rig.status("one").wake.unwrap().answered_at.is_none()
        })
        .await;
        is_online(&rig);
        if answers {
            check_in(&rig).await;
            rig.until("the answer", |rig| {
                is_online(rig);
                rig.status("one").wake.unwrap().answered_at.is_some()
            })
            .await;
            assert_neither_offline_nor_woken(&mut rig, &gateway, Duration::from_hours(1)).await;
        } else {
            rig.until("the end of the wait", |rig| phase(rig) == Some(Phase::Offline)).await;
            assert_eq!(checked_in(&rig).1, "DeadlineExceeded");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_gateway_without_heartbeat_jobs_runs_heartbeats_although_its_scheduler_is_off() {
    let (mut rig, gateway, _) = idle_agent(Profile::v2026_7_1(), json!({})).await;
    gateway.edit_config(|config| config["cron"] = json!({ "enabled": false }));
    rig.until("the wake of a silent agent", |_| gateway.chats().len() == 2).await;
    assert_eq!(heartbeat(&rig).1, "Reconciled");
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_the_gateway_skips_is_no_due_call_and_the_condition_says_why() {
    let (mut rig, gateway, id) = idle_agent(Profile::v2026_9_6(), json!({})).await;
    for (reason, named) in [("empty-heartbeat-file", "scratch"), ("no-route", "spec.heartbeat.target")] {
        gateway.skip_heartbeat(&id, reason);
        rig.until("the reason", |rig| heartbeat(rig).1 == "HeartbeatSkipped" && heartbeat(rig).2.contains(named)).await;
        assert_neither_offline_nor_woken(&mut rig, &gateway, Duration::from_hours(1)).await;
    }
    rig.stop();
    rig.start();
    rig.run_for(Duration::from_mins(1)).await;
    assert_eq!(heartbeat(&rig).1, "HeartbeatSkipped", "cron.list shows it after a restart");
    gateway.end_heartbeat(&id);
    rig.until("a heartbeat", |rig| heartbeat(rig).1 == "Reconciled").await;
    rig.until("the wake of a silent agent", |_| gateway.chats().len() == 2).await;
}

#[tokio::test(start_paused = true)]
async fn heartbeats_skipped_behind_another_agent_move_the_silence_and_are_named_when_they_go_on() {
    let (mut rig, gateway, id) = idle_agent(Profile::v2026_9_6(), json!({})).await;
    for _ in 0..12 {
        gateway.skip_heartbeat(&id, "cron-in-progress");
        assert_neither_offline_nor_woken(&mut rig, &gateway, Duration::from_mins(5)).await;
    }
    let (status, reason, message) = heartbeat(&rig);
    assert_eq!((status.as_str(), reason.as_str()), ("False", "HeartbeatSkipped"));
    assert!(message.contains("cron-in-progress"), "{message}");
    rig.until("the wake", |_| gateway.chats().len() == 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_running_heartbeat_whose_last_skip_has_lost_its_reason_says_nothing() {
    let (mut rig, gateway, id) = idle_agent(Profile::v2026_9_6(), json!({})).await;
    for _ in 0..4 {
        gateway.skip_heartbeat(&id, "quiet-hours");
        run_long(&mut rig, Duration::from_mins(5)).await;
    }
    let (_, reason, message) = checked_in(&rig);
    assert!(reason == "CheckedIn" && message.contains("no further call is due"), "{message}");
    gateway.begin_heartbeat(&id);
    rig.stop();
    rig.start();
    rig.run_for(Duration::from_mins(1)).await;
    assert_eq!(heartbeat(&rig).1, "Reconciled", "{:?}", heartbeat(&rig));
    gateway.skip_heartbeat(&id, "requests-in-flight");
    rig.run_for(Duration::from_mins(1)).await;
    let (_, reason, message) = heartbeat(&rig);
    assert!(reason == "HeartbeatSkipped" && message.contains("look for a run that does not end"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_fails_is_shown_and_its_silence_counts() {
    let (mut rig, gateway, id) = idle_agent(Profile::v2026_9_6(), json!({})).await;
    gateway.begin_heartbeat(&id);
    gateway.time_out_heartbeat(&id);
    rig.until("the reason", |rig| heartbeat(rig).1 == "HeartbeatFailed").await;
    assert!(heartbeat(&rig).2.contains("(timeout)"), "{:?}", heartbeat(&rig));
    assert_eq!(rig.condition("one", ConditionType::Ready).0, "True");
    rig.until("silence", |rig| phase(rig) == Some(Phase::Offline)).await;
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_list_of_jobs_is_unknown_and_no_error() {
    let (mut rig, gateway) = Rig::new();
    gateway.inject(
        Fault::on("cron.list")
            .error("INVALID_REQUEST", "missing scope: operator.read", false)
            .lasting(Duration::from_hours(1)),
    );
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    let (status, reason, message) = heartbeat(&rig);
    assert_eq!((status.as_str(), reason.as_str()), ("Unknown", "HeartbeatUnknown"));
    assert!(message.contains("missing scope: operator.read"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn settings_of_the_gateway_that_hide_files_from_heartbeats_are_set_to_false_in_the_entry() {
    let (mut rig, gateway, id) = idle_agent(Profile::v2026_9_6(), json!({})).await;
    let block = |gateway: &Simulator| gateway.agents()[&id]["heartbeat"].clone();
    assert!(block(&gateway).get("lightContext").is_none(), "a setting that the gateway may not know is not written");
    gateway.edit_config(|config| {
        let defaults = &mut config["agents"]["defaults"]["heartbeat"];
        (defaults["lightContext"], defaults["isolatedSession"]) = (json!(true), json!(true));
    });
    rig.until("the entry", |_| block(&gateway)["lightContext"] == false).await;
    assert_eq!(block(&gateway)["isolatedSession"], false);
    rig.until("the heartbeat", |rig| heartbeat(rig).1 == "Reconciled").await;
}

#[tokio::test(start_paused = true)]
async fn the_prompt_of_a_heartbeat_asks_for_the_check_in_unless_the_spec_has_another_one() {
    let (mut rig, gateway, id) = idle_agent(Profile::v2026_9_6(), json!({})).await;
    let prompt = |gateway: &Simulator| gateway.agents()[&id]["heartbeat"]["prompt"].as_str().unwrap().to_owned();
    assert!(prompt(&gateway).contains("check in once"), "{}", prompt(&gateway));
    rig.agent("one", json!({ "boardRef": { "name": "ops" }, "heartbeat": { "prompt": "Mine" } }));
    rig.until("the prompt", |_| prompt(&gateway) == "Mine").await;
}

#[tokio::test(start_paused = true)]
async fn the_jobs_of_a_gateway_are_read_once_for_all_its_agents() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    for n in 0..20 {
        rig.worker(&format!("a{n}"));
    }
    rig.until_ready().await;
    rig.run_for(Duration::from_mins(1)).await;
    let before = gateway.count("cron.list");
    rig.run_for(Duration::from_mins(9)).await;
    assert!(gateway.count("cron.list") - before <= 1, "{} reads", gateway.count("cron.list") - before);
}

#[tokio::test(start_paused = true)]
async fn the_wakes_of_an_agent_that_never_answers_are_paused_and_a_restart_does_not_end_the_pause() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    rig.until("the pause", |rig| checked_in(rig).1 == "MaxWakeAttempts").await;
    assert!(checked_in(&rig).2.contains("its wakes are paused until "), "{:?}", checked_in(&rig));
    for _ in 0..4 {
        rig.run_for(Duration::from_mins(10)).await;
        rig.stop();
        rig.start();
    }
    assert_eq!((gateway.chats().len(), phase(&rig)), (3, Some(Phase::Offline)));
    run_long(&mut rig, Duration::from_mins(30)).await;
    assert_eq!(gateway.chats().len(), 4, "one wake after the pause");
    run_long(&mut rig, Duration::from_hours(20)).await;
    assert_eq!(gateway.chats().len(), 7, "after 1 h, 2 h, 4 h and 8 h");
    assert_eq!(phase(&rig), Some(Phase::Offline));
}

#[tokio::test(start_paused = true)]
async fn a_requested_wake_is_sent_during_a_pause_and_outside_the_active_hours() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    rig.until("the pause", |rig| checked_in(rig).1 == "MaxWakeAttempts").await;
    rig.request::<Agent>("one", RequestKind::Wake);
    rig.until("the requested wake", |_| gateway.chats().len() == 4).await;
    let handled = |rig: &Rig| rig.status("one").requests.iter().any(|r| r.kind == RequestKind::Wake);
    rig.until("the record", handled).await;
    assert_eq!((checked_in(&rig).1.as_str(), rig.status("one").wake.unwrap().attempts), ("WaitingForCheckIn", 1));

    let hours = json!({ "start": "12:00", "end": "13:00", "timezone": "UTC" });
    rig.agent("one", json!({ "boardRef": { "name": "ops" }, "heartbeat": { "activeHours": hours } }));
    rig.until("quiet hours", |rig| checked_in(rig).1 == "OutsideActiveHours").await;
    rig.run_for(Duration::from_secs(5)).await;
    rig.request::<Agent>("one", RequestKind::Wake);
    rig.until("the second requested wake", |_| gateway.chats().len() == 5).await;
    rig.run_for(Duration::from_mins(2)).await;
    assert_eq!(gateway.chats().len(), 5, "one wake for one request");
}
