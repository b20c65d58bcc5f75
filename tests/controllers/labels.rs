//! The label of a session is cosmetic: no answer to it blocks the agent.

use std::time::Duration;

use muster::api::{Agent, ConditionType};
use muster_simulator::{Fault, Profile, Simulator};
use serde_json::{Value, json};

use crate::rig::Rig;

fn apply_named(rig: &Rig, name: &str) {
    rig.agent("one", json!({ "boardRef": { "name": "ops" }, "displayName": name }));
}

/// An agent of this name on a gateway of this version. Another client gave `others` as labels to other sessions of the agent.
async fn woken_agent(profile: Profile, name: &str, others: &[&str]) -> (Rig, Simulator) {
    let (mut rig, gateway) = Rig::with(profile);
    rig.board("ops");
    // An older version accepted blanks around a name.
    let spec = json!({ "boardRef": { "name": "ops" }, "displayName": name });
    rig.unchecked::<Agent>(json!({ "metadata": { "name": "one" }, "spec": spec }));
    rig.until("the binding", |rig| rig.status("one").binding.is_some()).await;
    let link = rig.link("gw");
    for (number, label) in others.iter().enumerate() {
        let key = format!("agent:{}:other-{number}", rig.agent_id("one"));
        link.client().session_label(&key, label).await.unwrap();
    }
    rig.until_ready().await;
    (rig, gateway)
}

fn label(rig: &Rig, gateway: &Simulator) -> Option<String> {
    let key = rig.status("one").session_key.unwrap();
    gateway.sessions().get(&key).and_then(|session| session.label.clone())
}

fn session_ready(rig: &Rig) -> (String, String, String) {
    rig.condition("one", ConditionType::SessionReady)
}

fn labels_sent(gateway: &Simulator) -> Vec<Value> {
    let patches = gateway.calls().into_iter().filter(|call| call.method == "sessions.patch");
    patches.map(|call| call.params["label"].clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_name_with_surrounding_whitespace_is_labelled_once() {
    for name in ["Ops ", "\u{a0}Ops", "Ops\u{feff}", "Ops\n", "\u{3000}Ops\r\n"] {
        let (mut rig, gateway) = woken_agent(Profile::v2026_9_6(), name, &[]).await;
        rig.run_for(Duration::from_mins(2)).await;
        assert_eq!(labels_sent(&gateway), [json!("Ops")], "{name:?}");
        assert_eq!(gateway.agents()[&rig.agent_id("one")]["name"], "Ops", "{name:?}");
        assert_eq!((session_ready(&rig).0.as_str(), gateway.chats().len()), ("True", 1), "{name:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_blank_display_name_falls_back_to_the_object_name() {
    let (rig, gateway) = woken_agent(Profile::v2026_9_6(), "\u{a0} ", &[]).await;
    assert_eq!(label(&rig, &gateway).as_deref(), Some("one"));
}

#[tokio::test(start_paused = true)]
async fn a_label_in_use_by_another_session_gets_a_suffix_and_the_agent_is_woken() {
    for profile in [Profile::v2026_9_6(), Profile::v2026_3_2()] {
        let (mut rig, gateway) = woken_agent(profile, "Ops", &["Ops"]).await;
        let id = rig.agent_id("one");
        rig.until("the label", |rig| session_ready(rig).0 == "True").await;
        let expected = format!("Ops ({})", &id[..11]);
        assert_eq!(label(&rig, &gateway), Some(expected.clone()));
        assert!(session_ready(&rig).2.contains("label already in use: Ops"), "{}", session_ready(&rig).2);
        let warned = rig.cluster.events().iter().any(|event| event.1.reason == "LabelRefused");
        assert!(!warned, "a label with a suffix is no warning");
        let sent = labels_sent(&gateway).len();
        rig.run_for(Duration::from_mins(30)).await;
        assert_eq!((label(&rig, &gateway), labels_sent(&gateway).len()), (Some(expected), sent), "the label is kept");
        apply_named(&rig, "New");
        rig.until("the new name", |rig| label(rig, &gateway).as_deref() == Some("New")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_over_the_label_limit_of_an_old_gateway_is_shortened() {
    let name = "n".repeat(128);
    let (mut rig, gateway) = woken_agent(Profile::v2026_3_2(), &name, &[]).await;
    rig.until("the label", |rig| session_ready(rig).0 == "True").await;
    let label = label(&rig, &gateway).unwrap();
    assert!(label.len() == 64 && label.starts_with("nnn") && label.contains(" (mc-"), "{label}");
    let (rig, gateway) = woken_agent(Profile::v2026_9_6(), &name, &[]).await;
    assert_eq!(self::label(&rig, &gateway), Some(name));
}

#[tokio::test(start_paused = true)]
async fn refused_labels_are_retried_every_ten_minutes_and_the_agent_is_woken() {
    let (mut rig, gateway) = Rig::new();
    for _ in 0..4 {
        gateway.inject(Fault::on("sessions.patch").error("INVALID_REQUEST", "no labels today", false));
    }
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    rig.run_for(Duration::from_mins(1)).await;
    let (status, reason, message) = session_ready(&rig);
    assert_eq!((status.as_str(), reason.as_str()), ("False", "LabelRefused"));
    assert!(message.contains("no labels today") && message.contains("spec.displayName"), "{message}");
    assert_eq!(rig.condition("one", ConditionType::Ready).0, "True");
    assert_eq!((labels_sent(&gateway).len(), gateway.chats().len()), (2, 1));
    rig.until("the label", |rig| session_ready(rig).0 == "True").await;
    assert_eq!(labels_sent(&gateway).len(), 5, "two labels in each of two attempts, then the name");
}

#[tokio::test(start_paused = true)]
async fn a_transient_label_error_delays_no_wake() {
    let (mut rig, gateway) = Rig::new();
    for _ in 0..3 {
        gateway.inject(Fault::on("sessions.patch").error("INVALID_REQUEST", "the store is busy", true));
    }
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    assert_eq!(gateway.chats().len(), 1);
    rig.until("the label", |rig| session_ready(rig).0 == "True").await;
    assert_eq!(rig.status("one").session_label.unwrap().refusal, None);
}

#[tokio::test(start_paused = true)]
async fn a_session_is_found_by_its_key_among_many_newer_sessions_with_longer_keys() {
    for profile in [Profile::v2026_9_6(), Profile::v2026_3_2()] {
        let (rig, _gateway) = woken_agent(profile, "Ops", &[]).await;
        let main = rig.status("one").session_key.unwrap();
        let link = rig.link("gw");
        for number in 0..120 {
            link.client().session_label(&format!("{main}:thread:{number}"), &format!("Thread {number}")).await.unwrap();
        }
        let found = link.client().session(&main).await.unwrap().expect("the session exists");
        assert_eq!((found.key, found.label.as_deref()), (main, Some("Ops")));
    }
}
