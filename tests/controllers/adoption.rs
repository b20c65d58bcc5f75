//! Adoption of agents that a gateway already has.

use std::time::Duration;

use muster::api::agent::{FileState, Phase};
use muster::api::conditions::find;
use muster::api::{Agent, AgentGateway, Board, ConditionType};
use muster_simulator::Simulator;
use serde_json::{Value, json};

use crate::rig::{NS, Rig, gateway_manifest, ready as is_ready};

const WORKSPACE: &str = "/srv/nova";
/// Longer than the resync interval of ten minutes.
const RESYNC: Duration = Duration::from_secs(700);
/// The methods that change something on a gateway.
const WRITE_METHODS: [&str; 9] = [
    "agents.create",
    "agents.update",
    "agents.delete",
    "agents.files.set",
    "config.patch",
    "sessions.patch",
    "sessions.reset",
    "sessions.delete",
    "chat.send",
];

/// An operator, and a gateway with an agent `nova` that no resource declares.
async fn with_unmanaged_nova() -> (Rig, Simulator) {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.run_for(Duration::from_secs(5)).await;
    gateway.edit_config(|config| {
        config["agents"]["ownership"] = json!("explicit");
        config["agents"]["entries"]["nova"] = json!({
            "name": "Nova", "workspace": WORKSPACE, "model": { "primary": "acme/large", "fallbacks": ["acme/small"] },
            "heartbeat": { "every": "45m", "lightContext": true }, "tools": { "allow": ["exec"] },
        });
    });
    for (name, text) in [("AGENTS.md", "mine"), ("SOUL.md", "old soul"), ("MEMORY.md", "remember")] {
        gateway.edit_file("nova", name, Some(text));
    }
    (rig, gateway)
}

fn entry(gateway: &Simulator) -> Value {
    gateway.config()["agents"]["entries"]["nova"].clone()
}

fn write_count(gateway: &Simulator) -> usize {
    WRITE_METHODS.iter().map(|method| gateway.count(method)).sum()
}

/// The spec of an Agent for `nova`, with these additional fields.
fn nova_spec(more: &Value) -> Value {
    let mut spec = json!({ "boardRef": { "name": "ops" }, "agentId": "nova" });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

/// The spec of an Agent that adopts `nova` unchanged.
fn adopt_unchanged_spec() -> Value {
    let names =
        ["AGENTS.md", "SOUL.md", "TOOLS.md", "IDENTITY.md", "HEARTBEAT.md", "BOOTSTRAP.md", "MEMORY.md", "USER.md"];
    let files: Vec<_> = names.iter().map(|name| json!({ "name": name, "policy": "Unmanaged" })).collect();
    nova_spec(&json!({ "adoptionPolicy": "IfExists", "wake": { "enabled": false }, "files": files }))
}

async fn until_agent_ready(rig: &mut Rig, name: &str) {
    let what = format!("{name} to be Ready");
    rig.until(&what, |rig| rig.condition(name, ConditionType::Ready).0 == "True").await;
}

#[tokio::test(start_paused = true)]
async fn a_taken_id_message_names_the_adoption_policy_and_the_gateway_agent_stays_unchanged() {
    let (mut rig, gateway) = with_unmanaged_nova().await;
    let before = (entry(&gateway), write_count(&gateway));
    rig.agent("nova", nova_spec(&json!({})));
    let message = rig.until_reason("nova", "AgentIdTaken").await;
    assert!(message.contains("spec.adoptionPolicy") && message.contains("IfExists"), "{message}");
    assert!(rig.status("nova").binding.is_none());
    rig.run_for(RESYNC).await;
    rig.delete::<Agent>("nova");
    rig.until("the deletion to finish", |rig| rig.cluster.agents().is_empty()).await;
    assert_eq!((entry(&gateway), write_count(&gateway)), before);
    assert_eq!(gateway.file("nova", "AGENTS.md").as_deref(), Some("mine"));
}

#[tokio::test(start_paused = true)]
async fn adopting_with_no_named_settings_makes_no_gateway_write() {
    let (mut rig, gateway) = with_unmanaged_nova().await;
    let before = (entry(&gateway), write_count(&gateway), gateway.workspace(WORKSPACE));
    rig.agent("nova", adopt_unchanged_spec());
    until_agent_ready(&mut rig, "nova").await;
    rig.run_for(2 * RESYNC).await;
    assert_eq!((entry(&gateway), write_count(&gateway), gateway.workspace(WORKSPACE)), before);
    let status = rig.status("nova");
    assert_eq!(status.workspace_path.as_deref(), Some(WORKSPACE));
    assert_eq!(status.session_key.as_deref(), Some("agent:nova:main"));
    assert!(status.binding.unwrap().adopted);
    assert_eq!(status.phase, Some(Phase::Ready));
    assert_eq!(rig.token("nova").len(), 43);
}

#[tokio::test(start_paused = true)]
async fn adoption_applies_the_settings_in_the_spec_and_keeps_the_others() {
    let (mut rig, gateway) = with_unmanaged_nova().await;
    let named = json!({
        "adoptionPolicy": "IfExists", "model": "acme/tiny", "heartbeat": { "interval": "5m" }, "wake": { "enabled": false },
    });
    rig.agent("nova", nova_spec(&named));
    until_agent_ready(&mut rig, "nova").await;
    let current = entry(&gateway);
    assert_eq!(
        (&current["name"], &current["workspace"], &current["model"]),
        (&json!("Nova"), &json!(WORKSPACE), &json!({ "primary": "acme/tiny", "fallbacks": ["acme/small"] }))
    );
    assert_eq!(current["heartbeat"], json!({ "every": "5m", "lightContext": true }));
    assert_eq!(current["tools"], json!({ "allow": ["exec"] }));
    let file = |name: &str| gateway.file("nova", name).unwrap_or_default();
    assert!(file("AGENTS.md").contains(WORKSPACE), "AGENTS.md is rendered for the existing workspace");
    assert_eq!(file("MEMORY.md"), "remember");
    assert_eq!(gateway.file("nova", "BOOTSTRAP.md"), None, "an adopted agent gets no BOOTSTRAP.md");
    let bootstrap = rig.status("nova").files.into_iter().find(|f| f.name == "BOOTSTRAP.md").unwrap();
    assert_eq!(bootstrap.state, FileState::Kept);
    assert!(gateway.sessions().is_empty(), "a label creates no session");
}

#[tokio::test(start_paused = true)]
async fn a_crash_after_the_binding_write_adopts_the_same_agent() {
    let (mut rig, gateway) = with_unmanaged_nova().await;
    rig.agent("nova", adopt_unchanged_spec());
    rig.until("the binding", |rig| rig.status("nova").binding.is_some()).await;
    rig.start();
    until_agent_ready(&mut rig, "nova").await;
    assert_eq!(entry(&gateway)["workspace"], json!(WORKSPACE));
    assert!(rig.status("nova").binding.unwrap().adopted);
}

#[tokio::test(start_paused = true)]
async fn deleting_an_adopted_agent_keeps_its_workspace_and_orphan_keeps_the_agent() {
    for (policy, stays) in [("Delete", false), ("RetainFiles", false), ("Orphan", true)] {
        let (mut rig, gateway) = with_unmanaged_nova().await;
        let mut spec = adopt_unchanged_spec();
        spec["deletionPolicy"] = json!(policy);
        rig.agent("nova", spec);
        until_agent_ready(&mut rig, "nova").await;
        rig.delete::<Agent>("nova");
        rig.until("the deletion to finish", |rig| rig.cluster.agents().is_empty()).await;
        assert_eq!(gateway.agents().contains_key("nova"), stays, "{policy}");
        assert_eq!(gateway.workspace(WORKSPACE)["SOUL.md"], "old soul", "{policy}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unused_id_with_adoption_is_created_and_its_workspace_is_deleted_with_the_agent() {
    let (mut rig, gateway) = with_unmanaged_nova().await;
    let mut spec = nova_spec(&json!({ "adoptionPolicy": "IfExists", "wake": { "enabled": false } }));
    spec["agentId"] = json!("atlas_2");
    rig.agent("atlas", spec);
    until_agent_ready(&mut rig, "atlas").await;
    let binding = rig.status("atlas").binding.unwrap();
    assert_eq!((binding.adopted, binding.workspace.as_str()), (false, "/home/openclaw/workspaces/workspace-atlas_2"));
    rig.delete::<Agent>("atlas");
    rig.until("the deletion to finish", |rig| rig.cluster.agents().is_empty()).await;
    assert!(gateway.workspace(&binding.workspace).is_empty());
    assert!(gateway.agents().contains_key("nova"));
}

#[tokio::test(start_paused = true)]
async fn an_adopted_agent_moved_or_removed_at_the_gateway_returns_to_its_workspace() {
    let (mut rig, gateway) = with_unmanaged_nova().await;
    rig.agent("nova", adopt_unchanged_spec());
    until_agent_ready(&mut rig, "nova").await;
    gateway.edit_config(|config| config["agents"]["entries"]["nova"]["workspace"] = json!("/elsewhere"));
    rig.until("the former workspace", |_| entry(&gateway)["workspace"] == json!(WORKSPACE)).await;
    gateway.remove_agent("nova");
    rig.until("the agent to be created again", |_| entry(&gateway)["workspace"] == json!(WORKSPACE)).await;
    until_agent_ready(&mut rig, "nova").await;
}

#[tokio::test(start_paused = true)]
async fn the_older_of_two_adopters_gets_the_agent_and_deleting_the_other_removes_nothing() {
    let (mut rig, gateway) = with_unmanaged_nova().await;
    rig.agent("nova", adopt_unchanged_spec());
    rig.agent("nova-too", adopt_unchanged_spec());
    until_agent_ready(&mut rig, "nova").await;
    rig.until_reason("nova-too", "AgentIdTaken").await;
    rig.delete::<Agent>("nova-too");
    rig.until("the deletion of one agent", |rig| rig.cluster.agents().len() == 1).await;
    rig.run_for(RESYNC).await;
    assert!(gateway.agents().contains_key("nova"));
    assert_eq!(rig.condition("nova", ConditionType::Ready).0, "True");
}

#[tokio::test(start_paused = true)]
async fn suspend_keeps_a_heartbeat_that_the_spec_does_not_set() {
    let (mut rig, gateway) = with_unmanaged_nova().await;
    let mut spec = adopt_unchanged_spec();
    rig.agent("nova", spec.clone());
    until_agent_ready(&mut rig, "nova").await;
    for (suspend, interval, every) in [(true, None, "45m"), (true, Some("30m"), "0m"), (false, Some("30m"), "30m")] {
        spec["suspend"] = json!(suspend);
        if let Some(interval) = interval {
            spec["heartbeat"] = json!({ "interval": interval });
        }
        rig.agent("nova", spec.clone());
        let phase = if suspend { Phase::Paused } else { Phase::Ready };
        rig.until("the phase", |rig| {
            rig.status("nova").phase == Some(phase) && entry(&gateway)["heartbeat"]["every"] == json!(every)
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn deleting_the_loser_of_two_concurrent_bindings_removes_nothing() {
    let (mut rig, gateway) = with_unmanaged_nova().await;
    let mut open = gateway_manifest("gw");
    open["spec"]["allowedNamespaces"] =
        json!({ "from": "All", "permissions": { "chosenIds": true, "adoption": true } });
    rig.apply::<AgentGateway>(open);
    let reference = json!({ "name": "gw", "namespace": NS });
    let board = json!({ "name": "ops", "namespace": "other" });
    rig.apply::<Board>(json!({ "metadata": board, "spec": { "gatewayRef": reference } }));
    rig.agent("nova", adopt_unchanged_spec());
    until_agent_ready(&mut rig, "nova").await;
    // The write of the other binding began before the cache showed the first one.
    let mut binding = json!(rig.status("nova").binding.unwrap());
    binding["uid"] = json!("uid-other");
    let finalizers = ["muster.dev/agent"];
    let metadata = json!({ "name": "nova", "namespace": "other", "uid": "uid-other", "finalizers": finalizers });
    let status = json!({ "binding": binding });
    rig.apply::<Agent>(json!({ "metadata": metadata, "spec": adopt_unchanged_spec(), "status": status }));
    let agents = |rig: &Rig| rig.cluster.agents().clone();
    let taken = |agent: &Agent| {
        let conditions = agent.status.clone().unwrap_or_default().conditions;
        find(&conditions, ConditionType::Ready).is_some_and(|ready| ready.reason == "AgentIdTaken")
    };
    rig.until("AgentIdTaken on one agent", |rig| agents(rig).values().filter(|agent| taken(agent)).count() == 1).await;
    let loser = agents(&rig).into_iter().find(|(_, agent)| taken(agent)).unwrap().0;
    rig.cluster.delete::<Agent>(&loser);
    rig.until("the deletion of one agent", |rig| rig.cluster.agents().len() == 1).await;
    rig.run_for(RESYNC).await;
    assert_eq!((gateway.count("agents.delete"), &entry(&gateway)["workspace"]), (0, &json!(WORKSPACE)));
    assert!(agents(&rig).values().all(is_ready));
}
