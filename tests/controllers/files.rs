//! Workspace files: policies, drift, templates, folding.

use std::time::Duration;

use muster::api::agent::FileState;
use muster::api::{Board, ConditionType};
use muster_simulator::{Profile, Simulator};
use serde_json::json;

use crate::rig::Rig;

async fn provisioned() -> (Rig, Simulator, String) {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    let id = rig.agent_id("one");
    (rig, gateway, id)
}

fn file_state(rig: &Rig, name: &str) -> (FileState, Option<String>) {
    let file = rig.status("one").files.into_iter().find(|f| f.name == name).unwrap();
    (file.state, file.into.map(|name| name.to_string()))
}

#[tokio::test(start_paused = true)]
async fn a_refused_file_becomes_a_section_of_agents_md() {
    let (rig, gateway, id) = provisioned().await;
    assert_eq!(file_state(&rig, "TOOLS.md"), (FileState::Folded, Some("AGENTS.md".into())));
    assert_eq!(file_state(&rig, "AGENTS.md").0, FileState::Synced);
    let agents = gateway.file(&id, "AGENTS.md").unwrap();
    assert!(agents.contains("muster:begin TOOLS.md") && agents.contains("/heartbeat"));
}

#[tokio::test(start_paused = true)]
async fn a_resync_repairs_an_emptied_changed_or_removed_file() {
    let (mut rig, gateway, id) = provisioned().await;
    let right = gateway.file(&id, "SOUL.md").unwrap();
    for wrong in [Some(""), Some("something else"), None] {
        gateway.edit_file(&id, "SOUL.md", wrong);
        rig.until("the repair", |_| gateway.file(&id, "SOUL.md").as_ref() == Some(&right)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_update_keeps_the_agents_own_files_and_restores_no_bootstrap() {
    let (mut rig, gateway, id) = provisioned().await;
    gateway.edit_file(&id, "MEMORY.md", Some("remember the milk"));
    gateway.edit_file(&id, "USER.md", Some("She likes it short."));
    gateway.edit_file(&id, "BOOTSTRAP.md", None);
    rig.agent("one", json!({ "boardRef": { "name": "ops" }, "displayName": "Other" }));
    rig.until_ready().await;
    rig.run_for(Duration::from_secs(1300)).await;
    assert_eq!(gateway.file(&id, "MEMORY.md").as_deref(), Some("remember the milk"));
    assert_eq!(gateway.file(&id, "USER.md").as_deref(), Some("She likes it short."));
    assert_eq!(gateway.file(&id, "BOOTSTRAP.md"), None);
}

#[tokio::test(start_paused = true)]
async fn a_memory_file_begun_after_the_last_reconcile_is_not_overwritten() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    let files = json!([{ "name": "MEMORY.md", "policy": "Unmanaged" }]);
    rig.agent("one", json!({ "boardRef": { "name": "ops" }, "files": files }));
    rig.until_ready().await;
    rig.run_for(Duration::from_mins(1)).await;
    let id = rig.agent_id("one");
    gateway.edit_file(&id, "MEMORY.md", Some("remember the milk"));
    rig.worker("one");
    rig.until_ready().await;
    rig.run_for(Duration::from_secs(1300)).await;
    assert_eq!(gateway.file(&id, "MEMORY.md").as_deref(), Some("remember the milk"));
    assert_eq!(file_state(&rig, "MEMORY.md").0, FileState::Kept);
}

#[tokio::test(start_paused = true)]
async fn a_file_refused_since_an_upgrade_is_reported_after_a_long_outage() {
    let (mut rig, gateway) = Rig::new();
    gateway.upgrade(Profile::v2026_7_1().with_token("secret-token"));
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    assert_eq!(file_state(&rig, "TOOLS.md").0, FileState::Synced);
    gateway.stop();
    rig.run_for(Duration::from_mins(3)).await;
    assert_eq!(rig.condition("one", ConditionType::Ready).0, "Unknown");
    gateway.upgrade(Profile::v2026_9_6().with_token("secret-token"));
    rig.until("TOOLS.md to be folded", |rig| file_state(rig, "TOOLS.md").0 == FileState::Folded).await;
    let events: Vec<_> = rig.cluster.events().iter().filter(|(_, n)| n.reason == "FileLeft").cloned().collect();
    assert!(events.len() == 1 && events[0].1.message.contains("TOOLS.md"), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn the_nearest_template_wins_and_its_change_is_written() {
    let (mut rig, gateway) = Rig::new();
    rig.config_map("of-gateway", &[("SOUL.md", "gateway {{ agent_name }}"), ("USER.md", "user of the gateway")]);
    rig.config_map("of-board", &[("SOUL.md", "board {{ board_name }}")]);
    let mut manifest = crate::rig::gateway_manifest("gw");
    manifest["spec"]["templates"] = json!({ "configMapRef": { "name": "of-gateway" } });
    rig.apply::<muster::api::AgentGateway>(manifest);
    rig.apply::<Board>(json!({ "metadata": { "name": "ops" }, "spec": {
        "gatewayRef": { "name": "gw" }, "templates": { "configMapRef": { "name": "of-board" } } } }));
    rig.worker("one");
    rig.until_ready().await;
    let id = rig.agent_id("one");
    assert_eq!(gateway.file(&id, "SOUL.md").as_deref(), Some("board ops\n"));
    assert_eq!(gateway.file(&id, "USER.md").as_deref(), Some("user of the gateway\n"));
    rig.config_map("of-board", &[("SOUL.md", "new {{ board_name }}")]);
    rig.until("the new text", |_| gateway.file(&id, "SOUL.md").as_deref() == Some("new ops\n")).await;
    rig.agent("one", json!({ "boardRef": { "name": "ops" }, "files": [{ "name": "SOUL.md", "template": { "inline": "own {{ agent_name }}" } }] }));
    rig.until("the agent's own template", |_| gateway.file(&id, "SOUL.md").as_deref() == Some("own one\n")).await;
}

#[tokio::test(start_paused = true)]
async fn an_additional_file_is_written_and_an_unmanaged_file_is_left_alone() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.agent(
        "one",
        json!({ "boardRef": { "name": "ops" }, "files": [
        { "name": "NOTES.md", "template": { "inline": "notes of {{ agent_name }}" } },
        { "name": "SOUL.md", "policy": "Unmanaged" } ] }),
    );
    rig.until_ready().await;
    let id = rig.agent_id("one");
    assert_eq!(gateway.file(&id, "SOUL.md"), None);
    assert!(
        gateway.file(&id, "AGENTS.md").unwrap().contains("notes of one"),
        "a refused file name is folded into AGENTS.md"
    );
}

#[tokio::test(start_paused = true)]
async fn a_too_large_file_is_not_written_and_the_message_names_the_limit() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    let long = "x".repeat(20_001);
    rig.agent(
        "one",
        json!({ "boardRef": { "name": "ops" }, "files": [{ "name": "SOUL.md", "template": { "inline": long } }] }),
    );
    let message = rig.until_reason("one", "FileTooLarge").await;
    assert!(message.contains("SOUL.md") && message.contains("20000"), "{message}");
    assert_eq!(file_state(&rig, "SOUL.md").0, FileState::TooLarge);
    assert_eq!(gateway.file(&rig.agent_id("one"), "SOUL.md"), None);
    assert_eq!(rig.condition("one", ConditionType::FilesSynced).0, "False");
    assert!(gateway.chats().is_empty(), "an incomplete agent is not woken");
}

/// An agent whose file of this name is unmanaged, right after a resync.
async fn with_unmanaged(name: &str) -> (Rig, Simulator, String) {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    apply_policy(&rig, name, "Unmanaged");
    rig.until_ready().await;
    let id = rig.agent_id("one");
    rig.run_for(Duration::from_mins(2)).await;
    tokio::time::advance(Duration::from_mins(10)).await;
    (rig, gateway, id)
}

fn apply_policy(rig: &Rig, name: &str, policy: &str) {
    rig.agent("one", json!({ "boardRef": { "name": "ops" }, "files": [{ "name": name, "policy": policy }] }));
}

#[tokio::test(start_paused = true)]
async fn a_file_begun_after_a_listing_of_an_earlier_pass_is_not_overwritten() {
    let (mut rig, gateway, id) = with_unmanaged("MEMORY.md").await;
    rig.run_for(Duration::from_secs(5)).await;
    gateway.edit_file(&id, "MEMORY.md", Some("theirs"));
    apply_policy(&rig, "MEMORY.md", "IfMissing");
    rig.until("the file", |rig| file_state(rig, "MEMORY.md").0 == FileState::Kept).await;
    assert_eq!(gateway.file(&id, "MEMORY.md").as_deref(), Some("theirs"));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_the_gateway_does_not_list_is_read_before_it_is_written_as_missing() {
    let (mut rig, gateway, id) = with_unmanaged("IDENTITY.md").await;
    gateway.edit_file(&id, "IDENTITY.md", Some("theirs"));
    apply_policy(&rig, "IDENTITY.md", "IfMissing");
    rig.until("the file", |rig| file_state(rig, "IDENTITY.md").0 == FileState::Kept).await;
    assert_eq!(gateway.file(&id, "IDENTITY.md").as_deref(), Some("theirs"));
}

#[tokio::test(start_paused = true)]
async fn a_new_agent_whose_files_were_listed_costs_no_read_of_these_files() {
    let (_rig, gateway, id) = provisioned().await;
    let calls = gateway.calls().into_iter();
    let reads = calls.filter(|call| call.method == "agents.files.get" && call.params["agentId"] == *id);
    assert_eq!(reads.map(|call| call.params["name"].clone()).collect::<Vec<_>>(), [json!(null); 0]);
}

#[tokio::test(start_paused = true)]
async fn the_gateways_own_limits_of_the_prompt_count_and_are_named() {
    let (mut rig, gateway) = Rig::new();
    gateway.edit_config(|config| config["agents"]["defaults"]["bootstrapMaxChars"] = json!(600));
    rig.board("ops");
    let file = |length: usize| json!({ "name": "SOUL.md", "template": { "inline": "x".repeat(length) } });
    let others = ["AGENTS.md", "IDENTITY.md", "TOOLS.md", "HEARTBEAT.md", "BOOTSTRAP.md", "MEMORY.md", "USER.md"];
    let spec = |length: usize| {
        let others = others.iter().map(|name| json!({ "name": name, "policy": "Unmanaged" }));
        json!({ "boardRef": { "name": "ops" }, "files": others.chain([file(length)]).collect::<Vec<_>>() })
    };
    rig.agent("one", spec(601));
    let message = rig.until_reason("one", "FileTooLarge").await;
    assert!(
        message.contains("SOUL.md is too long and stays as it was on the gateway: the new text has 601 characters"),
        "{message}"
    );
    assert!(message.contains("at most 600 (agents.defaults.bootstrapMaxChars of the gateway's config)"), "{message}");
    rig.agent("one", spec(600));
    rig.until_ready().await;
    gateway.edit_config(|config| config["agents"]["defaults"]["bootstrapMaxChars"] = json!(30_000));
    rig.agent("one", spec(25_000));
    rig.until_ready().await;
    assert_eq!(gateway.file(&rig.agent_id("one"), "SOUL.md").map(|text| text.trim_end().len()), Some(25_000));
}

#[tokio::test(start_paused = true)]
async fn files_that_together_are_longer_than_the_prompt_name_the_first_that_has_no_place() {
    let (mut rig, gateway) = Rig::new();
    gateway.edit_config(|config| config["agents"]["defaults"]["bootstrapTotalMaxChars"] = json!(1000));
    rig.board("ops");
    let others = ["TOOLS.md", "HEARTBEAT.md", "BOOTSTRAP.md", "MEMORY.md", "USER.md"];
    let spec = |soul: usize| {
        let files = [("AGENTS.md", 500), ("SOUL.md", soul), ("IDENTITY.md", 200)];
        let files = files.map(|(name, length)| json!({ "name": name, "template": { "inline": "x".repeat(length) } }));
        let others = others.map(|name| json!({ "name": name, "policy": "Unmanaged" }));
        json!({ "boardRef": { "name": "ops" }, "files": files.into_iter().chain(others).collect::<Vec<_>>() })
    };
    rig.agent("one", spec(301));
    let message = rig.until_reason("one", "FileTooLarge").await;
    assert!(message.contains("IDENTITY.md is too long"), "{message}");
    assert!(
        message.contains("at most 199 (what the files before it leave of agents.defaults.bootstrapTotalMaxChars of the gateway's config)"),
        "{message}"
    );
    let written = |name| gateway.file(&rig.agent_id("one"), name).map(|text| text.trim_end().len());
    assert_eq!((written("AGENTS.md"), written("SOUL.md")), (Some(500), Some(301)), "the files before it are written");
    rig.agent("one", spec(300));
    rig.until_ready().await;
    gateway.edit_config(|config| config["agents"]["defaults"]["bootstrapTotalMaxChars"] = json!(400));
    rig.agent("one", spec(299));
    let message = rig.until_reason("one", "FileTooLarge").await;
    assert!(message.contains("AGENTS.md is too long") && message.contains("at most 400 (agents."), "{message}");
}
