//! Ids that are in use, or come into use before the agent is created: the conflict is reported and nothing is taken over.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use muster::api::object_key::ObjectKey;
use muster::api::{Agent, AgentGateway, Board, ConditionType};
use muster_simulator::{Profile, Simulator};
use serde_json::{Value, json};

use crate::rig::{NS, Rig, gateway_manifest};

async fn delete_agent(rig: &mut Rig, name: &str) {
    rig.delete::<Agent>(name);
    rig.until("the deletion to finish", |rig| rig.status(name).agent_id.is_none()).await;
}

fn lead_spec(extra: &Value) -> Value {
    let mut spec = json!({ "boardRef": { "name": "ops" }, "role": "Lead" });
    spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    spec
}

#[tokio::test(start_paused = true)]
async fn an_orphaned_lead_passes_to_its_successor_only_by_adoption() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.agent("first", lead_spec(&json!({ "deletionPolicy": "Orphan" })));
    rig.until_ready().await;
    let id = rig.agent_id("first");
    delete_agent(&mut rig, "first").await;
    let left = (gateway.agents()[&id].clone(), gateway.file(&id, "AGENTS.md"));
    rig.agent("second", lead_spec(&json!({})));
    let message = rig.until_reason("second", "AgentIdTaken").await;
    assert!(message.contains(&id) && message.contains("IfExists"), "{message}");
    delete_agent(&mut rig, "second").await;
    assert_eq!((gateway.agents()[&id].clone(), gateway.file(&id, "AGENTS.md")), left);
    rig.agent("third", lead_spec(&json!({ "agentId": id, "adoptionPolicy": "IfExists" })));
    rig.until_ready().await;
    assert_eq!(gateway.count("agents.create"), 0);
}

/// Creates an agent, removes it and creates its successor by `agents.create` and then a config write: a config write does not
/// open a deleted id. `remembered` returns the id that the status of the board or the gateway keeps meanwhile.
async fn assert_id_is_reused(spec: Value, remembered: impl Fn(&Rig) -> Option<String>) {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.agent("first", spec.clone());
    rig.until_ready().await;
    let id = rig.agent_id("first");
    delete_agent(&mut rig, "first").await;
    assert!(!gateway.agents().contains_key(&id));
    assert_eq!(remembered(&rig).as_ref(), Some(&id));
    let before = gateway.calls().len();
    rig.agent("second", spec);
    rig.until_ready().await;
    assert_eq!(rig.agent_id("second"), id);
    let calls: Vec<_> = gateway.calls()[before..].iter().map(|call| call.method.clone()).collect();
    let first = |method: &str| calls.iter().position(|call| call == method);
    assert!(first("agents.create").is_some() && first("agents.create") < first("config.patch"), "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn a_removed_lead_frees_its_id_for_the_next_lead() {
    let board = |rig: &Rig| rig.cluster.boards()[&ObjectKey::new(NS, "ops")].status.clone().unwrap();
    assert_id_is_reused(lead_spec(&json!({})), |rig| board(rig).lead_agent_id).await;
}

#[tokio::test(start_paused = true)]
async fn a_removed_main_agent_frees_its_id_for_the_next_main_agent() {
    let gateway = |rig: &Rig| rig.cluster.gateways()[&ObjectKey::new(NS, "gw")].status.clone().unwrap();
    let main = json!({ "gatewayRef": { "name": "gw" }, "role": "Main" });
    assert_id_is_reused(main, |rig| gateway(rig).main_agent_id).await;
}

#[tokio::test(start_paused = true)]
async fn two_agent_gateways_with_one_url_share_their_ids() {
    let (mut rig, _) = Rig::new();
    let mut same = gateway_manifest("same");
    same["spec"]["url"] = json!("ws://gw:18789/");
    same["spec"]["auth"]["tokenSecretRef"]["name"] = json!("gw-auth");
    rig.apply::<AgentGateway>(same);
    rig.board("ops");
    rig.apply::<Board>(json!({ "metadata": { "name": "others" }, "spec": { "gatewayRef": { "name": "same" } } }));
    rig.agent("one", json!({ "boardRef": { "name": "ops" }, "agentId": "nova" }));
    rig.until_ready().await;
    let second = json!({ "boardRef": { "name": "others" }, "agentId": "nova", "adoptionPolicy": "IfExists" });
    rig.agent("two", second);
    let message = rig.until_reason("two", "AgentIdTaken").await;
    assert!(message.contains("fleet/one"), "{message}");
}

/// An Agent `one` on a gateway and an Agent `two` on another gateway, both with the same id.
fn with_one_id_on_two_gateways() -> (Rig, [Simulator; 2]) {
    let (mut rig, gateway) = Rig::new();
    let another = rig.gateway("same");
    rig.board("ops");
    rig.apply::<Board>(json!({ "metadata": { "name": "others" }, "spec": { "gatewayRef": { "name": "same" } } }));
    rig.agent("one", json!({ "boardRef": { "name": "ops" }, "agentId": "nova" }));
    rig.agent("two", json!({ "boardRef": { "name": "others" }, "agentId": "nova" }));
    (rig, [gateway, another])
}

#[tokio::test(start_paused = true)]
async fn one_id_on_two_gateways_is_no_conflict() {
    let (mut rig, gateways) = with_one_id_on_two_gateways();
    rig.until_ready().await;
    assert!(gateways.iter().all(|gateway| gateway.agents().contains_key("nova")));
}

#[tokio::test(start_paused = true)]
async fn deleting_the_loser_of_an_id_conflict_by_url_removes_nothing() {
    let (mut rig, [gateway, _]) = with_one_id_on_two_gateways();
    rig.until_ready().await;
    let mut same = gateway_manifest("same");
    same["spec"]["url"] = json!("ws://gw:18789");
    same["spec"]["auth"]["tokenSecretRef"]["name"] = json!("gw-auth");
    rig.apply::<AgentGateway>(same);
    rig.until_reason("two", "AgentIdTaken").await;
    let ours = (gateway.agents()["nova"].clone(), gateway.file("nova", "AGENTS.md"));
    delete_agent(&mut rig, "two").await;
    rig.run_for(Duration::from_secs(30)).await;
    assert_eq!(gateway.count("agents.delete"), 0);
    assert_eq!((gateway.agents()["nova"].clone(), gateway.file("nova", "AGENTS.md")), ours);
}

#[tokio::test(start_paused = true)]
async fn a_foreign_agent_created_while_ours_waits_is_not_taken_over() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.apply::<Secret>(json!({ "metadata": { "name": "nova-token" }, "data": {} }));
    rig.agent("nova", json!({ "boardRef": { "name": "ops" }, "agentId": "nova" }));
    rig.until_reason("nova", "SecretConflict").await;
    let theirs = json!({ "name": "Theirs", "workspace": "/srv/nova", "model": "acme/large" });
    gateway.edit_config(|config| {
        config["agents"]["ownership"] = json!("explicit");
        config["agents"]["entries"]["nova"] = theirs.clone();
    });
    gateway.edit_file("nova", "SOUL.md", Some("theirs"));
    rig.delete::<Secret>("nova-token");
    rig.until_reason("nova", "AgentIdTaken").await;
    rig.run_for(Duration::from_secs(30)).await;
    delete_agent(&mut rig, "nova").await;
    assert_eq!(gateway.agents()["nova"], theirs);
    assert_eq!(gateway.file("nova", "SOUL.md").as_deref(), Some("theirs"));
}

#[tokio::test(start_paused = true)]
async fn an_agent_gateway_without_valid_credentials_blocks_no_id_and_removes_nothing() {
    let (mut rig, [gateway, _]) = with_one_id_on_two_gateways();
    rig.delete::<Agent>("one");
    rig.until("the removal of one", |rig| !gateway.agents().contains_key("nova") && rig.agent_keys().len() == 1).await;
    rig.until_ready().await;
    let mut same = gateway_manifest("same");
    same["spec"]["url"] = json!("ws://gw:18789");
    rig.secret("same-auth", "token", "guessed");
    rig.apply::<AgentGateway>(same);
    rig.until("the refusal", |rig| rig.gateway_condition("same", ConditionType::Authenticated).1 == "BadCredentials")
        .await;
    rig.agent("one", json!({ "boardRef": { "name": "ops" }, "agentId": "nova" }));
    rig.until("our agent", |rig| rig.condition("one", ConditionType::Ready).0 == "True").await;
    let ours = (gateway.count("agents.delete"), gateway.agents()["nova"].clone());
    rig.delete::<Agent>("two");
    rig.until("the deletion of two", |rig| rig.agent_keys().len() == 1).await;
    assert_eq!((gateway.count("agents.delete"), gateway.agents()["nova"].clone()), ours);
    rig.delete::<Agent>("one");
    rig.until("our deletion", |rig| rig.agent_keys().is_empty()).await;
    assert!(!gateway.agents().contains_key("nova"), "the claim of another does not keep our agent");
}

#[tokio::test(start_paused = true)]
async fn the_binding_follows_the_address_of_the_gateway_and_an_agent_of_another_address_is_not_taken() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.agent("nova", json!({ "boardRef": { "name": "ops" }, "agentId": "nova" }));
    rig.worker("two");
    rig.until_ready().await;
    let address = |rig: &Rig, name: &str| rig.status(name).binding.unwrap().address;
    assert_eq!(address(&rig, "nova"), "ws://gw:18789");
    let mut renamed = gateway_manifest("gw");
    renamed["spec"]["url"] = json!("ws://alias:18789");
    rig.host("alias", &gateway);
    rig.apply::<AgentGateway>(renamed.clone());
    rig.until("the new address", |rig| ["nova", "two"].iter().all(|name| address(rig, name) == "ws://alias:18789"))
        .await;
    rig.until_ready().await;

    let another = Simulator::new(Profile::v2026_9_6().with_token("secret-token"));
    let theirs = json!({ "name": "Theirs", "workspace": "/srv/nova", "model": "acme/large" });
    another.edit_config(|config| {
        config["agents"]["ownership"] = json!("explicit");
        config["agents"]["entries"]["nova"] = theirs.clone();
    });
    rig.host("elsewhere", &another);
    renamed["spec"]["url"] = json!("ws://elsewhere:18789");
    rig.apply::<AgentGateway>(renamed);
    rig.until_reason("nova", "AgentIdTaken").await;
    rig.until("the other agent", |rig| address(rig, "two") == "ws://elsewhere:18789").await;
    delete_agent(&mut rig, "nova").await;
    assert_eq!((another.count("agents.delete"), &another.agents()["nova"]), (0, &theirs));
}

#[tokio::test(start_paused = true)]
async fn a_chosen_id_does_not_give_the_folder_of_another_agent() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.agent("main", json!({ "gatewayRef": { "name": "gw" }, "role": "Main" }));
    rig.until_ready().await;
    let folder = rig.status("main").workspace_path.unwrap();
    let id = folder.rsplit_once("/workspace-").unwrap().1.to_owned();
    assert!(id.starts_with("gateway-"), "{folder}");
    rig.agent("tenant", json!({ "boardRef": { "name": "ops" }, "agentId": id }));
    let message = rig.until_reason("tenant", "AgentIdTaken").await;
    assert!(message.contains(&id) && message.contains("spec.agentId"), "{message}");
    let theirs = json!({ "workspace": "/home/openclaw/workspaces//workspace-nova/./in" });
    gateway.edit_config(|config| {
        config["agents"]["entries"]["theirs"] = theirs.clone();
    });
    rig.agent("nova", json!({ "boardRef": { "name": "ops" }, "agentId": "nova" }));
    let message = rig.until_reason("nova", "WorkspaceTaken").await;
    assert!(message.contains("agent \"theirs\" of the gateway"), "{message}");
    assert!(!gateway.agents().contains_key(&id) && !gateway.agents().contains_key("nova"));
}

/// An old gateway with an agent whose workspace is neither in its entry nor in the roster.
fn old_gateway_without_workspaces() -> (Rig, Simulator) {
    let (rig, _) = Rig::new();
    let gateway = Simulator::new(Profile::v2026_3_2().with_token("secret-token"));
    rig.host("gw", &gateway);
    gateway
        .edit_config(|config| config["agents"]["list"] = json!([{ "id": "main" }, { "id": "nova", "name": "Nova" }]));
    gateway.edit_file("nova", "SOUL.md", Some("old soul"));
    (rig, gateway)
}

#[tokio::test(start_paused = true)]
async fn an_agent_without_a_workspace_in_its_entry_is_adopted_in_its_default_workspace() {
    let (mut rig, gateway) = old_gateway_without_workspaces();
    rig.board("ops");
    let files: Vec<_> = ["SOUL.md", "AGENTS.md"].iter().map(|f| json!({ "name": f, "policy": "Unmanaged" })).collect();
    rig.agent(
        "nova",
        json!({ "boardRef": { "name": "ops" }, "agentId": "nova", "adoptionPolicy": "IfExists",
        "wake": { "enabled": false }, "files": files }),
    );
    rig.until("the agent to be Ready", |rig| rig.condition("nova", ConditionType::Ready).0 == "True").await;
    let workspace = rig.status("nova").workspace_path.unwrap();
    assert!(workspace.ends_with("workspace-nova"), "{workspace}");
    assert_eq!(gateway.agents()["nova"], json!({ "id": "nova", "name": "Nova" }));
    assert_eq!(gateway.file("nova", "SOUL.md").as_deref(), Some("old soul"));
}
