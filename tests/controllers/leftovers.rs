//! Leftovers of a deleted agent are reported, and their token is not accepted.

use k8s_openapi::api::core::v1::Secret;
use muster::api::object_key::ObjectKey;
use muster::api::{Agent, Board};
use muster::core::event::Event;
use muster::hash::sha256_hex;
use muster_simulator::Simulator;
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
    let events = rig.store.state().events.clone();
    events.into_iter().map(|(_, event)| event).filter(|event| event.reason == "LeftBehind").collect()
}

/// Hashes of the accepted tokens of the Agent.
fn accepted_hashes(rig: &Rig) -> Vec<String> {
    let token = rig.status("one").token;
    token.into_iter().flat_map(|t| [Some(t.sha256), t.previous.map(|p| p.sha256)]).flatten().collect()
}

#[tokio::test(start_paused = true)]
async fn leftovers_of_a_deletion_are_reported_once_and_the_agent_is_deleted() {
    let (mut rig, gateway, id) = provisioned(worker_spec()).await;
    let workspace = rig.status("one").workspace_path.unwrap();
    gateway.block_trash();
    rig.delete::<Agent>("one");
    rig.until("the deletion to finish", |rig| rig.store.state().agents.is_empty()).await;
    assert!(!gateway.agents().contains_key(&id));
    assert!(gateway.workspace(&workspace).contains_key("AGENTS.md"), "the files are left");
    let events = left_behind_events(&rig);
    assert_eq!(events.len(), 1, "{events:?}");
    for words in [&*workspace, &*id, "fleet/gw", "EEXIST", "openclaw agents delete"] {
        assert!(events[0].warning && events[0].message.contains(words), "{words}: {events:?}");
    }
    assert!(!rig.store.state().secrets.contains_key(&ObjectKey::new(NS, "one-token")), "the token Secret is deleted");
}

#[tokio::test(start_paused = true)]
async fn unpurged_sessions_are_reported_with_the_remaining_workspace() {
    let (mut rig, gateway, _) = provisioned(worker_spec()).await;
    let workspace = rig.status("one").workspace_path.unwrap();
    gateway.fail_purges();
    rig.delete::<Agent>("one");
    rig.until("the deletion to finish", |rig| rig.store.state().agents.is_empty()).await;
    let events = left_behind_events(&rig);
    assert!(events.len() == 1 && events[0].message.contains(&format!("{workspace}, its sessions stay")), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_leaves_nothing_sends_no_event() {
    let (mut rig, _gateway, _) = provisioned(worker_spec()).await;
    rig.delete::<Agent>("one");
    rig.until("the deletion to finish", |rig| rig.store.state().agents.is_empty()).await;
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
        rig.until("the deletion to finish", |rig| rig.store.state().agents.is_empty()).await;
        assert!(!rig.store.state().secrets.contains_key(&ObjectKey::new(NS, "one-token")), "{policy}");
        // Another Secret with the name of the token Secret keeps the new Agent without a token.
        rig.apply::<Secret>(json!({ "metadata": { "name": "one-token" }, "data": {} }));
        rig.agent("one", spec);
        rig.until_reason("one", "SecretConflict").await;
        assert!(!accepted_hashes(&rig).contains(&sha256_hex(&old)), "{policy}");
    }
}
