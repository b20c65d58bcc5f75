//! Drift of files and sessions, and the cost of its detection.

use std::collections::BTreeMap;
use std::time::Duration;

use muster::api::agent::FileState;
use muster::api::requests::RequestKind;
use muster::api::{Agent, AgentGateway, ConditionType};
use muster_simulator::{Profile, Simulator};
use serde_json::{Value, json};

use crate::rig::{Rig, gateway_manifest};

/// Longer than the resync interval of ten minutes.
const RESYNC: Duration = Duration::from_secs(700);

fn unwoken_spec(more: &Value) -> Value {
    let mut spec = json!({ "boardRef": { "name": "ops" }, "wake": { "enabled": false } });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

async fn until_one_ready(rig: &mut Rig) {
    rig.until("all to be Ready", |rig| rig.condition("one", ConditionType::Ready).0 == "True").await;
}

async fn agent_with_soul_drift(drift: &str) -> (Rig, Simulator, String) {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.agent("one", unwoken_spec(&json!({ "files": [{ "name": "SOUL.md", "drift": drift }] })));
    until_one_ready(&mut rig).await;
    let id = rig.agent_id("one");
    (rig, gateway, id)
}

fn file_state(rig: &Rig, name: &str) -> FileState {
    rig.status("one").files.into_iter().find(|f| f.name == name).unwrap().state
}

fn events(rig: &Rig, reason: &str) -> usize {
    rig.cluster.events().iter().filter(|event| event.1.reason == reason).count()
}

#[tokio::test(start_paused = true)]
async fn reported_drift_is_kept_published_once_and_overwritten_on_request() {
    let (mut rig, gateway, id) = agent_with_soul_drift("Report").await;
    let right = gateway.file(&id, "SOUL.md").unwrap();
    gateway.edit_file(&id, "SOUL.md", Some("mine"));
    rig.run_for(3 * RESYNC).await;
    assert_eq!(gateway.file(&id, "SOUL.md").as_deref(), Some("mine"));
    assert_eq!(file_state(&rig, "SOUL.md"), FileState::Drifted);
    let (status, reason, message) = rig.condition("one", ConditionType::FilesSynced);
    assert_eq!((status.as_str(), reason.as_str()), ("True", "Drifted"));
    assert!(message.contains("SOUL.md") && message.contains("muster.dev/sync-requested-at"), "{message}");
    assert_eq!(rig.condition("one", ConditionType::Ready).0, "True");
    assert_eq!(events(&rig, "Drifted"), 1);
    rig.request::<Agent>("one", RequestKind::Sync);
    rig.until("the file to be overwritten", |_| gateway.file(&id, "SOUL.md").as_ref() == Some(&right)).await;
    rig.until("the state Synced", |rig| file_state(rig, "SOUL.md") == FileState::Synced).await;
    assert_eq!(rig.condition("one", ConditionType::FilesSynced).1, "Reconciled");
}

#[tokio::test(start_paused = true)]
async fn a_removed_file_is_reported_as_drift() {
    let (mut rig, gateway, id) = agent_with_soul_drift("Report").await;
    gateway.edit_file(&id, "SOUL.md", None);
    rig.run_for(2 * RESYNC).await;
    assert_eq!((file_state(&rig, "SOUL.md"), gateway.file(&id, "SOUL.md")), (FileState::Drifted, None));
}

#[tokio::test(start_paused = true)]
async fn ignored_drift_is_never_read_and_a_changed_spec_writes_the_file() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    // The id decides when the contents of all files are compared, within six hours.
    let spec = |name: &str| {
        let soul = json!({ "inline": "I am {{ agent_name }}." });
        unwoken_spec(
            &json!({ "agentId": "one-agent", "displayName": name, "files": [{ "name": "SOUL.md", "drift": "Ignore", "template": soul }] }),
        )
    };
    rig.agent("one", spec("One"));
    until_one_ready(&mut rig).await;
    let id = rig.agent_id("one");
    gateway.edit_file(&id, "SOUL.md", Some("mine"));
    let reads = gateway.count("agents.files.get");
    rig.run_for(2 * RESYNC).await;
    assert_eq!(gateway.count("agents.files.get"), reads);
    assert_eq!((file_state(&rig, "SOUL.md"), events(&rig, "Drifted")), (FileState::Ignored, 0));
    rig.agent("one", spec("Another"));
    rig.until("the new soul", |_| gateway.file(&id, "SOUL.md").as_deref() == Some("I am Another.\n")).await;
}

#[tokio::test(start_paused = true)]
async fn the_content_check_finds_a_change_of_equal_size_and_time() {
    let (mut rig, gateway, id) = agent_with_soul_drift("Correct").await;
    let right = gateway.file(&id, "SOUL.md").unwrap();
    gateway.garble_file(&id, "SOUL.md");
    assert_ne!(gateway.file(&id, "SOUL.md").as_ref(), Some(&right));
    let reads = gateway.count("agents.files.get");
    for _ in 0..40 {
        rig.run_for(RESYNC).await;
        if gateway.file(&id, "SOUL.md").as_ref() == Some(&right) {
            break;
        }
        assert_eq!(gateway.count("agents.files.get"), reads, "no file is read before the content check");
    }
    assert_eq!(gateway.file(&id, "SOUL.md"), Some(right));
}

#[tokio::test(start_paused = true)]
async fn the_content_check_runs_at_the_content_check_interval() {
    let (mut rig, gateway, id) = agent_with_soul_drift("Correct").await;
    let mut manifest = gateway_manifest("gw");
    manifest["spec"]["contentCheckInterval"] = json!("20m");
    rig.apply::<AgentGateway>(manifest);
    let right = gateway.file(&id, "SOUL.md").unwrap();
    for _ in 0..3 {
        gateway.garble_file(&id, "SOUL.md");
        rig.run_for(Duration::from_mins(20) + RESYNC).await;
        assert_eq!(gateway.file(&id, "SOUL.md").as_ref(), Some(&right));
    }
}

#[tokio::test(start_paused = true)]
async fn an_unchanged_resync_reads_once_per_gateway_and_once_per_agent() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    for name in ["one", "two", "three"] {
        // The id decides when the contents of all files are compared, within six hours.
        rig.agent(name, unwoken_spec(&json!({ "agentId": format!("{name}-agent") })));
    }
    rig.until("all to be Ready", |rig| rig.cluster.agents().values().all(crate::rig::ready)).await;
    rig.run_for(RESYNC).await;
    let (before, written) = (gateway.calls().len(), rig.write_counts());
    rig.run_for(3 * RESYNC).await;
    let mut calls: BTreeMap<String, usize> = BTreeMap::new();
    for call in &gateway.calls()[before..] {
        *calls.entry(call.method.clone()).or_default() += 1;
    }
    let files = calls.remove("agents.files.list").unwrap_or_default();
    // The agents look after their resync interval and up to a tenth of it.
    assert!((3 * 2..=3 * 4).contains(&files), "{files} lists of the files of three agents");
    let methods: Vec<_> = calls.keys().map(String::as_str).collect();
    assert_eq!(methods, ["config.get", "cron.list", "cron.status"]);
    assert!(calls.values().all(|count| (2..=4).contains(count)), "{calls:?}");
    assert_eq!(rig.write_counts(), written);
}

#[tokio::test(start_paused = true)]
async fn a_session_label_of_another_client_is_corrected_before_the_next_resync() {
    let (mut rig, gateway, _) = agent_with_soul_drift("Correct").await;
    let mut other = rig.second_operator();
    let key = rig.status("one").session_key.unwrap();
    let gateways = rig.status("one").gateway.unwrap();
    other.run_for(Duration::from_secs(20)).await;
    let link = other.ctx().gateways.handle(&gateways).unwrap();
    link.client().session_label(&key, "mine").await.unwrap();
    assert_eq!(gateway.sessions()[&key].label.as_deref(), Some("mine"));
    rig.run_for(Duration::from_secs(10)).await;
    assert_eq!(gateway.sessions()[&key].label.as_deref(), Some("one"));
}

const PROFILES: [fn() -> Profile; 2] = [Profile::v2026_7_1, Profile::v2026_9_6];

fn main_spec(files: &Value) -> Value {
    json!({ "role": "Main", "gatewayRef": { "name": "gw" }, "wake": { "enabled": false }, "files": files })
}

/// A Main agent with a BOOTSTRAP.md, which only the spec requests.
async fn main_with_bootstrap(profile: fn() -> Profile) -> (Rig, Simulator, String) {
    let (mut rig, gateway) = Rig::new();
    gateway.upgrade(profile().with_token("secret-token"));
    let bootstrap = json!([{ "name": "BOOTSTRAP.md", "policy": "Always", "template": { "inline": "Begin here." } }]);
    rig.agent("one", main_spec(&bootstrap));
    until_one_ready(&mut rig).await;
    let id = rig.agent_id("one");
    assert_eq!(gateway.file(&id, "BOOTSTRAP.md").as_deref(), Some("Begin here.\n"));
    (rig, gateway, id)
}

fn bootstrap_state(rig: &Rig) -> Option<FileState> {
    rig.status("one").files.into_iter().find(|f| f.name == "BOOTSTRAP.md").map(|f| f.state)
}

#[tokio::test(start_paused = true)]
async fn an_unwanted_file_is_emptied_unless_it_was_changed() {
    for (profile, (edit, left)) in PROFILES.iter().flat_map(|p| [(None, ""), (Some("mine"), "mine")].map(|e| (p, e))) {
        let (mut rig, gateway, id) = main_with_bootstrap(*profile).await;
        if edit.is_some() {
            gateway.edit_file(&id, "BOOTSTRAP.md", edit);
        }
        rig.agent("one", main_spec(&json!([])));
        let wanted = edit.map(|_| FileState::Left);
        rig.until("the state of the unwanted file", |rig| bootstrap_state(rig) == wanted).await;
        rig.run_for(2 * RESYNC).await;
        assert_eq!((bootstrap_state(&rig), gateway.file(&id, "BOOTSTRAP.md").as_deref()), (wanted, Some(left)));
    }
}

#[tokio::test(start_paused = true)]
async fn an_unwanted_file_is_read_before_it_is_emptied() {
    for profile in PROFILES {
        let (mut rig, gateway, id) = main_with_bootstrap(profile).await;
        gateway.garble_file(&id, "BOOTSTRAP.md");
        let garbled = gateway.file(&id, "BOOTSTRAP.md");
        rig.agent("one", main_spec(&json!([])));
        rig.until("the file to be left", |rig| bootstrap_state(rig) == Some(FileState::Left)).await;
        until_one_ready(&mut rig).await;
        assert_eq!(gateway.file(&id, "BOOTSTRAP.md"), garbled);
    }
}
