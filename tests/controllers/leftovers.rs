//! A deletion says what is left and where, waits for it, and names its way out. The token of leftovers is not accepted.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use muster::api::object_key::ObjectKey;
use muster::api::{Agent, AgentGateway, Board, ConditionType};
use muster::controllers::agent;
use muster::core::event::Event;
use muster::hash::sha256_hex;
use muster_simulator::{ConfigLayout, Profile, Simulator};
use serde_json::{Value, json};

use crate::rig::{NS, Rig};

async fn provisioned(spec: Value) -> (Rig, Simulator, String) {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.agent("one", spec);
    rig.until_ready().await;
    let id = rig.agent_id("one");
    (rig, gateway, id)
}

fn worker_spec() -> Value {
    json!({ "boardRef": { "name": "ops" } })
}

fn left_behind_events(rig: &Rig) -> Vec<Event> {
    let events = rig.cluster.events().clone();
    events.into_iter().map(|(_, event)| event).filter(|event| event.reason == "LeftBehind").collect()
}

/// Hashes of the accepted tokens of the Agent.
fn accepted_hashes(rig: &Rig) -> Vec<String> {
    let token = rig.status("one").token;
    token.into_iter().flat_map(|t| [Some(t.sha256), t.previous.map(|p| p.sha256)]).flatten().collect()
}

/// A time in which a deletion that waits is looked at many times.
const LONG: Duration = Duration::from_mins(30);

/// The deletion of `one` waits for minutes, or for a change, and counts as no failure.
async fn assert_is_patient(rig: &Rig) {
    let waiting = rig.cluster.agents()[&ObjectKey::new(NS, "one")].clone();
    let next = agent::reconcile(rig.ctx(), &Arc::new(waiting)).await;
    assert_eq!((next.after, next.failed), (Some(Duration::from_mins(5)), false));
}

fn is_gone(rig: &Rig) -> bool {
    rig.cluster.agents().is_empty()
}

/// Waits until the deletion of `one` waits for this reason; returns the message.
async fn until_waiting(rig: &mut Rig, reason: &str) -> String {
    rig.delete::<Agent>("one");
    rig.until_reason("one", reason).await
}

/// Changes the deletion policy of the Agent while its deletion waits.
async fn let_go(rig: &mut Rig, policy: &str) {
    let mut spec = rig.cluster.agents()[&ObjectKey::new(NS, "one")].spec.clone();
    spec.deletion_policy = Some(serde_json::from_value(json!(policy)).unwrap());
    rig.agent("one", serde_json::to_value(spec).unwrap());
    rig.until("the deletion to finish", is_gone).await;
}

#[tokio::test(start_paused = true)]
async fn a_deletion_with_leftovers_names_them_waits_and_completes_when_the_gateway_can() {
    let (mut rig, gateway, id) = provisioned(worker_spec()).await;
    let workspace = rig.status("one").workspace_path.unwrap();
    gateway.block_trash();
    let message = until_waiting(&mut rig, "DeletionIncomplete").await;
    for words in [&*workspace, &*id, "fleet/gw", "EEXIST", "spec.deletionPolicy to RetainFiles"] {
        assert!(message.contains(words), "{words}: {message}");
    }
    assert!(!gateway.agents().contains_key(&id), "the agent no longer runs");
    assert_is_patient(&rig).await;
    rig.run_for(LONG).await;
    let events = left_behind_events(&rig);
    // A repeated removal names the paths that are left by then.
    let shown = rig.condition("one", ConditionType::Ready).2;
    assert!(
        events.len() <= 2 && events.last().is_some_and(|event| event.warning && event.message == shown),
        "{events:?}"
    );
    gateway.repair_trash();
    rig.until("the deletion to finish", is_gone).await;
    assert!(gateway.workspace(&workspace).is_empty(), "the files are in the trash");
    assert!(!rig.cluster.secrets().contains_key(&ObjectKey::new(NS, "one-token")), "the token Secret is deleted");
}

#[tokio::test(start_paused = true)]
async fn a_changed_policy_ends_the_wait_for_leftovers_and_an_event_names_them() {
    for policy in ["RetainFiles", "Orphan"] {
        let (mut rig, gateway, _) = provisioned(worker_spec()).await;
        let workspace = rig.status("one").workspace_path.unwrap();
        gateway.block_trash();
        until_waiting(&mut rig, "DeletionIncomplete").await;
        let_go(&mut rig, policy).await;
        assert!(gateway.workspace(&workspace).contains_key("AGENTS.md"), "{policy}: the files are left");
        let events = left_behind_events(&rig);
        assert!(events.iter().all(|event| event.message.contains(&workspace)) && !events.is_empty(), "{events:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn unpurged_sessions_are_named_with_the_remaining_workspace_and_purged_later() {
    let (mut rig, gateway, _) = provisioned(worker_spec()).await;
    let workspace = rig.status("one").workspace_path.unwrap();
    gateway.fail_purges();
    let message = until_waiting(&mut rig, "DeletionIncomplete").await;
    assert!(message.contains(&format!("{workspace}, its sessions stay")), "{message}");
    gateway.repair_trash();
    rig.until("the deletion to finish", is_gone).await;
    assert!(gateway.workspace(&workspace).is_empty() && left_behind_events(&rig).len() == 1);
}

#[tokio::test(start_paused = true)]
async fn leftovers_hold_no_gateway_that_is_deleted_longer_than_its_cleanup_timeout() {
    let (mut rig, gateway, id) = provisioned(worker_spec()).await;
    gateway.block_trash();
    rig.delete::<Agent>("one");
    rig.delete::<AgentGateway>("gw");
    rig.until("the deletion to finish", |rig| is_gone(rig) && rig.cluster.gateways().is_empty()).await;
    let events = left_behind_events(&rig);
    assert!(events.iter().any(|event| event.message.contains("openclaw agents delete")), "{events:?}");
    assert!(!gateway.agents().contains_key(&id));
}

/// An agent that is the only configured one on its gateway.
async fn only_agent() -> (Rig, Simulator, String) {
    let (mut rig, gateway, id) = provisioned(json!({ "boardRef": { "name": "ops" }, "agentId": "solo" })).await;
    let mut config = gateway.config();
    config["agents"]["entries"].as_object_mut().unwrap().remove("main");
    gateway.write_config(config);
    rig.run_for(Duration::from_mins(1)).await;
    (rig, gateway, id)
}

#[tokio::test(start_paused = true)]
async fn the_only_agent_of_a_gateway_stays_with_its_folder_until_there_is_another_or_the_policy_lets_go() {
    for way_out in ["another agent", "Orphan"] {
        let (mut rig, gateway, id) = only_agent().await;
        let workspace = rig.status("one").workspace_path.unwrap();
        let message = until_waiting(&mut rig, "DeletionBlocked").await;
        let words = ["is the only configured agent", &*workspace, &*id, "fleet/gw", "spec.deletionPolicy to Orphan"];
        assert!(words.iter().all(|words| message.contains(words)), "{message}");
        assert_is_patient(&rig).await;
        rig.run_for(LONG).await;
        let events = rig.cluster.events().clone();
        let blocked = events.iter().filter(|(_, event)| event.reason == "DeletionBlocked");
        assert_eq!(blocked.map(|(_, event)| &event.message).collect::<Vec<_>>(), [&message], "{events:?}");
        if way_out == "Orphan" {
            let_go(&mut rig, way_out).await;
            assert!(gateway.agents().contains_key(&id) && gateway.workspace(&workspace).contains_key("AGENTS.md"));
        } else {
            gateway.edit_config(|config| config["agents"]["entries"]["next"] = json!({ "workspace": "/srv/next" }));
            rig.until("the deletion to finish", is_gone).await;
            assert!(!gateway.agents().contains_key(&id) && gateway.workspace(&workspace).is_empty());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_only_agent_holds_no_gateway_that_is_deleted_longer_than_its_cleanup_timeout() {
    let (mut rig, gateway, id) = only_agent().await;
    rig.delete::<Agent>("one");
    rig.delete::<AgentGateway>("gw");
    rig.until("the deletion to finish", |rig| is_gone(rig) && rig.cluster.gateways().is_empty()).await;
    assert!(gateway.agents().contains_key(&id));
    let events = rig.cluster.events().clone();
    let named = |event: &Event| event.warning && event.message.contains("only configured agent");
    assert!(events.iter().any(|(_, event)| event.reason == "Deleting" && named(event)), "{events:?}");
}

/// Puts the folder of another agent into the folder of `one`.
fn put_within(gateway: &Simulator, workspace: &str) -> String {
    let inner = format!("{workspace}/notes");
    gateway.edit_config(|config| {
        let entry = json!({ "id": "inner", "workspace": inner });
        match config["agents"]["list"].as_array_mut() {
            Some(list) => list.push(entry),
            None => config["agents"]["entries"]["inner"] = json!({ "workspace": inner }),
        }
    });
    gateway.edit_file("inner", "MEMORY.md", Some("the memory of inner"));
    inner
}

#[tokio::test(start_paused = true)]
async fn a_folder_around_the_folder_of_another_agent_stays_and_the_condition_says_which() {
    for profile in [Profile::v2026_9_6, Profile::v2026_7_1, Profile::v2026_3_2] {
        let (mut rig, gateway) = Rig::with(profile());
        rig.board("ops");
        rig.agent("one", worker_spec());
        rig.until_ready().await;
        let (id, workspace) = (rig.agent_id("one"), rig.status("one").workspace_path.unwrap());
        let inner = put_within(&gateway, &workspace);
        rig.run_for(Duration::from_mins(11)).await;
        let message = until_waiting(&mut rig, "DeletionBlocked").await;
        let words = [&*workspace, &*inner, "\"inner\"", &*id, "spec.deletionPolicy to RetainFiles"];
        assert!(words.iter().all(|words| message.contains(words)), "{message}");
        rig.run_for(LONG).await;
        assert_eq!(gateway.count("agents.delete"), 0, "the gateway is not asked");
        let_go(&mut rig, "RetainFiles").await;
        assert!(!gateway.agents().contains_key(&id));
        assert_eq!(gateway.workspace(&inner)["MEMORY.md"], "the memory of inner");
        assert!(gateway.workspace(&workspace).contains_key("AGENTS.md"));
    }
}

#[tokio::test(start_paused = true)]
async fn the_folder_of_an_agent_that_was_removed_in_part_is_no_reason_to_keep_the_agent() {
    let (mut rig, gateway, id) = provisioned(worker_spec()).await;
    let workspace = rig.status("one").workspace_path.unwrap();
    gateway.block_trash();
    // The removal itself reads the config, and shows the other agent.
    let inner = put_within(&gateway, &workspace);
    until_waiting(&mut rig, "DeletionIncomplete").await;
    for _ in 0..30 {
        rig.run_for(Duration::from_mins(1)).await;
        assert_eq!(rig.condition("one", ConditionType::Ready).1, "DeletionIncomplete");
    }
    let message = rig.condition("one", ConditionType::Ready).2;
    let words = [&*workspace, &*inner, &*id, "is removed from gateway", "spec.deletionPolicy to RetainFiles"];
    assert!(words.iter().all(|words| message.contains(words)), "{message}");
    assert_is_patient(&rig).await;
    gateway.repair_trash();
    gateway.edit_config(|config| drop(config["agents"]["entries"].as_object_mut().unwrap().remove("inner")));
    rig.until("the deletion to finish", is_gone).await;
}

#[tokio::test(start_paused = true)]
async fn an_entry_in_an_included_file_is_removed_by_a_person_and_events_say_so_and_name_the_folder() {
    let (mut rig, gateway, id) = provisioned(worker_spec()).await;
    let workspace = rig.status("one").workspace_path.unwrap();
    gateway.lay_out_config(ConfigLayout::IncludedAgents);
    let message = until_waiting(&mut rig, "DeletionBlocked").await;
    for words in [
        "flatten $include-owned config",
        "remove the entry of",
        "in the file that has it",
        "spec.deletionPolicy to Orphan",
    ] {
        assert!(message.contains(words), "{words}: {message}");
    }
    rig.run_for(LONG).await;
    let messages = |rig: &Rig, reason: &str| {
        let events = rig.cluster.events().clone();
        events.into_iter().filter(|(_, e)| e.reason == reason).map(|(_, e)| e.message).collect::<Vec<_>>()
    };
    assert_eq!(messages(&rig, "DeletionBlocked"), [message]);
    gateway.edit_config(|config| drop(config["agents"]["entries"].as_object_mut().unwrap().remove(&id)));
    rig.until("the deletion to finish", is_gone).await;
    let removed = messages(&rig, "Removed");
    assert!(removed.len() == 1 && removed[0].contains(&workspace), "{removed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_shared_folder_holds_no_gateway_that_is_deleted_and_no_file_of_another_agent_goes() {
    let (mut rig, gateway, id) = provisioned(worker_spec()).await;
    let workspace = rig.status("one").workspace_path.unwrap();
    let inner = put_within(&gateway, &workspace);
    rig.run_for(Duration::from_mins(11)).await;
    rig.delete::<AgentGateway>("gw");
    rig.until("the deletion to finish", |rig| rig.cluster.gateways().is_empty()).await;
    assert!(!gateway.agents().contains_key(&id));
    assert_eq!(gateway.workspace(&inner)["MEMORY.md"], "the memory of inner");
    let events = rig.cluster.events().clone();
    let named = |event: &Event| event.warning && event.message.contains(&inner) && event.message.contains(&workspace);
    assert!(events.iter().any(|(_, event)| named(event)), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_leaves_nothing_sends_no_event() {
    let (mut rig, _gateway, _) = provisioned(worker_spec()).await;
    rig.delete::<Agent>("one");
    rig.until("the deletion to finish", |rig| rig.cluster.agents().is_empty()).await;
    assert!(left_behind_events(&rig).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_moved_agent_gets_a_new_token_under_every_deletion_policy() {
    for policy in ["Delete", "RetainFiles", "Orphan"] {
        let spec = |board: &str| json!({ "boardRef": { "name": board }, "deletionPolicy": policy });
        let (mut rig, first, id) = provisioned(spec("ops")).await;
        let second = rig.gateway("gw2");
        rig.apply::<Board>(json!({ "metadata": { "name": "far" }, "spec": { "gatewayRef": { "name": "gw2" } } }));
        let (old, workspace) = (rig.token("one"), rig.status("one").workspace_path.unwrap());
        first.block_trash();
        rig.agent("one", spec("far"));
        rig.until("the move", |_| second.agents().contains_key(&id)).await;
        rig.until_ready().await;
        let stays = first.workspace(&workspace);
        assert!(stays.values().any(|text| text.contains(&old)), "{policy}: the old token stays where it was");
        assert_ne!(rig.token("one"), old, "{policy}");
        assert_eq!(accepted_hashes(&rig), [sha256_hex(rig.token("one"))], "{policy}: only the new token is accepted");
        assert_eq!(left_behind_events(&rig).len(), usize::from(policy == "Delete"), "{policy}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_move_to_secret_only_delivery_revokes_the_token_in_the_old_files() {
    let (mut rig, first, id) = provisioned(json!({ "boardRef": { "name": "ops" }, "deletionPolicy": "Orphan" })).await;
    let second = rig.gateway("gw2");
    rig.apply::<Board>(json!({ "metadata": { "name": "far" }, "spec": { "gatewayRef": { "name": "gw2" } } }));
    let old = rig.token("one");
    let token = json!({ "delivery": "SecretOnly" });
    rig.agent("one", json!({ "boardRef": { "name": "far" }, "deletionPolicy": "Orphan", "token": token }));
    rig.until("the move", |_| second.agents().contains_key(&id)).await;
    rig.until_ready().await;
    assert!(
        first.file(&id, "AGENTS.md").is_some_and(|text| text.contains(&old)),
        "the old token stays in the old files"
    );
    assert_eq!(accepted_hashes(&rig), [sha256_hex(rig.token("one"))]);
    assert_ne!(rig.token("one"), old);
}

#[tokio::test(start_paused = true)]
async fn no_deletion_policy_leaves_a_valid_token() {
    for policy in ["Delete", "RetainFiles", "Orphan"] {
        let spec = json!({ "boardRef": { "name": "ops" }, "deletionPolicy": policy });
        let (mut rig, _gateway, _) = provisioned(spec.clone()).await;
        let old = rig.token("one");
        rig.delete::<Agent>("one");
        rig.until("the deletion to finish", |rig| rig.cluster.agents().is_empty()).await;
        assert!(!rig.cluster.secrets().contains_key(&ObjectKey::new(NS, "one-token")), "{policy}");
        // Another Secret with the name of the token Secret keeps the new Agent without a token.
        rig.apply::<Secret>(json!({ "metadata": { "name": "one-token" }, "data": {} }));
        rig.agent("one", spec);
        rig.until_reason("one", "SecretConflict").await;
        assert!(!accepted_hashes(&rig).contains(&sha256_hex(&old)), "{policy}");
    }
}

/// A gateway whose config is hardly more than the entries of two agents of Muster.
fn with_small_config(rig_profile: Profile) -> Profile {
    Profile { other_config_bytes: 0, ..rig_profile }
}

#[tokio::test(start_paused = true)]
async fn an_agent_whose_entry_is_most_of_the_config_is_deleted_after_its_entry_is_shorter() {
    let (mut rig, gateway) = Rig::with(with_small_config(Profile::v2026_9_6()));
    rig.board("ops");
    rig.agent("one", json!({ "boardRef": { "name": "ops" }, "heartbeat": { "prompt": "Check in. ".repeat(60) } }));
    rig.until_ready().await;
    let (id, workspace) = (rig.agent_id("one"), rig.status("one").workspace_path.unwrap());
    rig.delete::<Agent>("one");
    rig.until("the deletion to finish", is_gone).await;
    assert!(!gateway.agents().contains_key(&id) && gateway.workspace(&workspace).is_empty());
    let rejected = gateway.calls().into_iter().filter(|call| call.method == "agents.delete").count();
    assert_eq!(rejected, 2, "the gateway rejected the first deletion");
}

#[tokio::test(start_paused = true)]
async fn an_entry_too_long_to_be_removed_names_the_guard_and_the_way_out() {
    let (mut rig, gateway) = Rig::with(with_small_config(Profile::v2026_9_6()));
    rig.board("ops");
    rig.agent("one", json!({ "boardRef": { "name": "ops" }, "heartbeat": { "prompt": "Check in. ".repeat(300) } }));
    rig.until_ready().await;
    let id = rig.agent_id("one");
    let message = until_waiting(&mut rig, "DeletionBlocked").await;
    for words in ["size-drop:", "less than half as long", "openclaw.json", &id, "spec.deletionPolicy to Orphan"] {
        assert!(message.contains(words), "{words}: {message}");
    }
    assert_is_patient(&rig).await;
    gateway.edit_config(|config| drop(config["agents"]["entries"].as_object_mut().unwrap().remove(&id)));
    rig.until("the deletion to finish", is_gone).await;
}

#[tokio::test(start_paused = true)]
async fn the_entry_of_an_adopted_agent_is_not_shortened() {
    let (mut rig, gateway) = Rig::with(with_small_config(Profile::v2026_9_6()));
    let theirs = json!({ "name": "Desk", "workspace": "/w/desk", "heartbeat": { "prompt": "Look. ".repeat(200) } });
    gateway.edit_config(|config| config["agents"]["entries"]["desk"] = theirs.clone());
    rig.board("ops");
    rig.agent("one", json!({ "boardRef": { "name": "ops" }, "agentId": "desk", "adoptionPolicy": "IfExists" }));
    rig.until_ready().await;
    until_waiting(&mut rig, "DeletionBlocked").await;
    assert_eq!(gateway.agents()["desk"]["heartbeat"]["prompt"], theirs["heartbeat"]["prompt"]);
    let_go(&mut rig, "Orphan").await;
}
