//! Objects in place of a workspace file that are no plain text file.

use std::time::Duration;

use muster::api::agent::{Agent, FileState};
use muster::api::requests::RequestKind;
use muster::api::{AgentGateway, ConditionType};
use muster_simulator::{FileLink, Profile, Simulator};
use serde_json::{Value, json};

use crate::rig::{Rig, gateway_manifest};

/// Longer than the resync interval of a minute.
const RESYNC: Duration = Duration::from_secs(70);
/// Longer than the content check interval.
const CONTENT_CHECK: Duration = Duration::from_mins(11);

const PROFILES: [fn() -> Profile; 3] = [Profile::v2026_9_6, Profile::v2026_7_1, Profile::v2026_3_2];

fn spec(extra: &Value) -> Value {
    let mut spec = json!({ "boardRef": { "name": "ops" } });
    spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    spec
}

/// An agent that is Ready and was woken, and its id.
async fn one_ready_agent(profile: fn() -> Profile, extra: &Value) -> (Rig, Simulator, String) {
    let (mut rig, _) = Rig::new();
    let gateway = Simulator::new(profile().with_token("secret-token"));
    rig.host("gw", &gateway);
    let mut manifest = gateway_manifest("gw");
    manifest["spec"]["resyncInterval"] = json!("1m");
    manifest["spec"]["contentCheckInterval"] = json!("10m");
    rig.apply::<AgentGateway>(manifest);
    rig.board("ops");
    rig.agent("one", spec(extra));
    rig.until_ready().await;
    let id = rig.agent_id("one");
    (rig, gateway, id)
}

fn file_state(rig: &Rig, name: &str) -> FileState {
    rig.status("one").files.into_iter().find(|f| f.name == name).unwrap().state
}

fn events(rig: &Rig, reason: &str) -> usize {
    rig.cluster.events().iter().filter(|event| event.1.reason == reason).count()
}

/// The number of requests for a file.
fn file_requests(gateway: &Simulator, method: &str, id: &str, name: &str) -> usize {
    let calls = gateway.calls();
    calls.iter().filter(|c| c.method == method && c.params["agentId"] == id && c.params["name"] == name).count()
}

fn is_true(rig: &Rig, kind: ConditionType) -> bool {
    rig.condition("one", kind).0 == "True"
}

#[tokio::test(start_paused = true)]
async fn a_link_in_place_of_a_file_is_reported_and_blocks_nothing_else() {
    for (profile, link) in PROFILES.into_iter().zip([FileLink::Hard, FileLink::Symbolic, FileLink::Hard]) {
        let version = profile().version;
        let (mut rig, gateway, id) = one_ready_agent(profile, &json!({ "wake": { "enabled": true } })).await;
        let (agents, woken) = (gateway.file(&id, "AGENTS.md").unwrap(), gateway.chats().len());
        gateway.link_file(&id, "SOUL.md", link);
        gateway.edit_file(&id, "AGENTS.md", Some("theirs"));
        rig.agent("one", spec(&json!({ "displayName": "Another" })));
        let message = rig.until_reason("one", "FileRefused").await;
        for word in ["SOUL.md", &rig.status("one").workspace_path.unwrap(), "link", "Unmanaged"] {
            assert!(message.contains(word), "{version}: {word}: {message}");
        }
        let key = rig.status("one").session_key.unwrap();
        rig.until("the label", |_| gateway.sessions()[&key].label.as_deref() == Some("Another")).await;
        rig.until("the wake", |_| gateway.chats().len() > woken).await;
        rig.until("AGENTS.md to be repaired", |_| {
            gateway.file(&id, "AGENTS.md").is_some_and(|now| now.len() >= agents.len())
        })
        .await;
        let synced = rig.condition("one", ConditionType::FilesSynced);
        assert_eq!((synced.0.as_str(), synced.1.as_str()), ("False", "FileRefused"), "{version}");
        assert_eq!(
            (file_state(&rig, "SOUL.md"), file_state(&rig, "AGENTS.md")),
            (FileState::Refused, FileState::Synced)
        );
        assert!(is_true(&rig, ConditionType::Stalled) && is_true(&rig, ConditionType::SessionReady), "{version}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_is_retried_at_each_resync_published_once_and_its_removal_recovers() {
    for profile in PROFILES {
        let version = profile().version;
        let (mut rig, gateway, id) = one_ready_agent(profile, &json!({ "wake": { "enabled": false } })).await;
        let soul = gateway.file(&id, "SOUL.md");
        gateway.link_file(&id, "SOUL.md", FileLink::Symbolic);
        rig.until_reason("one", "FileRefused").await;
        rig.run_for(Duration::from_mins(1)).await;
        let tries = |gateway: &Simulator| file_requests(gateway, "agents.files.set", &id, "SOUL.md");
        let (before, written) = (tries(&gateway), rig.write_counts());
        rig.run_for(5 * RESYNC).await;
        assert!((3..=6).contains(&(tries(&gateway) - before)), "{version}: {}", tries(&gateway) - before);
        assert_eq!((rig.write_counts(), events(&rig, "FileRefused")), (written, 1), "{version}");
        gateway.edit_file(&id, "SOUL.md", None);
        rig.until("the file to be written", |_| gateway.file(&id, "SOUL.md") == soul).await;
        rig.until("Ready", |rig| is_true(rig, ConditionType::Ready)).await;
        assert_eq!(file_state(&rig, "SOUL.md"), FileState::Synced);
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_unlisted_file_is_replaced_without_a_read() {
    let (mut rig, gateway, id) = one_ready_agent(Profile::v2026_9_6, &json!({ "wake": { "enabled": false } })).await;
    let identity = gateway.file(&id, "IDENTITY.md").unwrap();
    gateway.edit_bytes(&id, "IDENTITY.md", Some(&vec![7; 12 * 1024 * 1024]));
    let reads = file_requests(&gateway, "agents.files.get", &id, "IDENTITY.md");
    // A new connection discards the sizes that were seen before.
    rig.start();
    rig.until("the file to be replaced", |_| gateway.file(&id, "IDENTITY.md").as_ref() == Some(&identity)).await;
    rig.until("Ready", |rig| is_true(rig, ConditionType::Ready)).await;
    assert_eq!(file_requests(&gateway, "agents.files.get", &id, "IDENTITY.md"), reads);
}

#[tokio::test(start_paused = true)]
async fn a_link_in_place_of_a_file_blocks_no_session_reset() {
    let (mut rig, gateway, id) = one_ready_agent(Profile::v2026_9_6, &json!({ "wake": { "enabled": false } })).await;
    gateway.link_file(&id, "SOUL.md", FileLink::Symbolic);
    rig.until_reason("one", "FileRefused").await;
    let tries = file_requests(&gateway, "agents.files.set", &id, "SOUL.md");
    rig.request::<Agent>("one", RequestKind::ResetSession);
    rig.until("the reset", |_| gateway.count("sessions.reset") == 1).await;
    assert!(file_requests(&gateway, "agents.files.set", &id, "SOUL.md") <= tries + 2);
}

#[tokio::test(start_paused = true)]
async fn the_policy_unmanaged_accepts_a_link_in_place_of_a_file() {
    let (mut rig, gateway, id) = one_ready_agent(Profile::v2026_9_6, &json!({})).await;
    gateway.link_file(&id, "SOUL.md", FileLink::Hard);
    rig.until_reason("one", "FileRefused").await;
    rig.agent("one", spec(&json!({ "files": [{ "name": "SOUL.md", "policy": "Unmanaged" }] })));
    rig.until_ready().await;
    assert_eq!(file_state(&rig, "SOUL.md"), FileState::Unmanaged);
}

#[tokio::test(start_paused = true)]
async fn the_message_names_the_first_of_several_links_and_counts_the_others() {
    let (mut rig, gateway, id) = one_ready_agent(Profile::v2026_9_6, &json!({ "wake": { "enabled": false } })).await;
    for name in ["IDENTITY.md", "SOUL.md", "MEMORY.md"] {
        gateway.link_file(&id, name, FileLink::Hard);
    }
    // A new connection also reads IDENTITY.md, which this version does not list.
    rig.start();
    rig.until("all three links to be reported", |rig| {
        rig.condition("one", ConditionType::Ready).2.contains("and 2 more")
    })
    .await;
    let message = rig.condition("one", ConditionType::FilesSynced).2;
    for name in ["IDENTITY.md", "SOUL.md", "MEMORY.md"] {
        assert!(message.contains(name) && file_state(&rig, name) == FileState::Refused, "{name}: {message}");
        gateway.edit_file(&id, name, None);
    }
    rig.until("Ready", |rig| is_true(rig, ConditionType::Ready)).await;
}

#[tokio::test(start_paused = true)]
async fn a_binary_file_is_handled_as_drift() {
    let utf16: Vec<u8> = "\u{feff}Grüße".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for profile in PROFILES {
        let version = profile().version;
        let reported = json!([{ "name": "USER.md", "policy": "Always", "drift": "Report" }]);
        let (mut rig, gateway, id) =
            one_ready_agent(profile, &json!({ "wake": { "enabled": false }, "files": reported })).await;
        let right = gateway.file(&id, "AGENTS.md");
        for name in ["AGENTS.md", "USER.md"] {
            gateway.edit_bytes(&id, name, Some(&utf16));
        }
        for _ in 0..2 * RESYNC.as_secs() / 5 {
            rig.run_for(Duration::from_secs(5)).await;
            assert_ne!(rig.condition("one", ConditionType::Ready).1, "GatewayError", "{version}");
        }
        assert_eq!(gateway.file(&id, "AGENTS.md"), right, "{version}");
        assert_eq!(
            (file_state(&rig, "AGENTS.md"), file_state(&rig, "USER.md")),
            (FileState::Synced, FileState::Drifted)
        );
        let drifted = gateway.file(&id, "USER.md").unwrap();
        assert!(drifted.contains('\u{fffd}'), "{version}: the drifted file is kept: {drifted}");
        assert!(is_true(&rig, ConditionType::Ready), "{version}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_very_large_file_is_never_read_and_replaced_only_under_drift_correct() {
    let large = vec![0xff; 2 * 1024 * 1024];
    for profile in PROFILES {
        let version = profile().version;
        let reported = json!([{ "name": "USER.md", "policy": "Always", "drift": "Report" }]);
        let (mut rig, gateway, id) =
            one_ready_agent(profile, &json!({ "wake": { "enabled": false }, "files": reported })).await;
        let right = gateway.file(&id, "AGENTS.md");
        let names = ["AGENTS.md", "USER.md", "MEMORY.md", "BOOTSTRAP.md"];
        for name in names {
            gateway.edit_bytes(&id, name, Some(&large));
        }
        let reads = || names.map(|name| file_requests(&gateway, "agents.files.get", &id, name));
        let before = reads();
        rig.until("the repair", |_| gateway.file(&id, "AGENTS.md") == right).await;
        assert_eq!(reads(), before, "{version}");
        rig.run_for(CONTENT_CHECK + RESYNC).await;
        assert_eq!(reads()[1..], before[1..], "{version}");
        let states = names.map(|name| file_state(&rig, name));
        let wanted = [FileState::Synced, FileState::Drifted, FileState::Kept, FileState::Kept];
        assert_eq!(states, wanted, "{version}");
        assert!(is_true(&rig, ConditionType::Ready), "{version}");
        for name in &names[1..] {
            assert_ne!(gateway.file(&id, name).map(|text| text.is_empty()), Some(true), "{version}: {name}");
        }
    }
}
