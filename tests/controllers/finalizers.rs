//! Muster removes its finalizers when their purpose has ended, whoever owns the object.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use muster::api::object_key::ObjectKey;
use muster::api::{Agent, AgentGateway, Board, ConditionType};
use muster::controllers::gateway::orphaned_secrets::release;
use muster::core::gateway::cleanup::DeletedGateway;
use serde_json::{Value, json};

use crate::cluster::path_of;
use crate::rig::{NS, Rig, gateway_manifest};

const CREDENTIALS_FINALIZER: &str = "muster.dev/credentials";

fn secret(rig: &Rig, name: &str) -> Option<Secret> {
    rig.cluster.secrets().get(&ObjectKey::new(NS, name)).cloned()
}

/// A Secret as a backup stores it: without owners, uid and version.
fn backup_of(rig: &Rig, name: &str) -> Value {
    let mut secret = serde_json::to_value(secret(rig, name).unwrap()).unwrap();
    let meta = secret["metadata"].as_object_mut().unwrap();
    for field in ["ownerReferences", "uid", "resourceVersion", "deletionTimestamp"] {
        meta.remove(field);
    }
    secret
}

async fn until_connected(rig: &mut Rig) {
    rig.until("the gateway to be ready", |rig| rig.gateway_condition("gw", ConditionType::Ready).0 == "True").await;
}

fn device_id(rig: &Rig) -> Option<String> {
    rig.cluster.gateways()[&ObjectKey::new(NS, "gw")].status.as_ref()?.device_id.clone()
}

fn owners(rig: &Rig, secret_name: &str) -> Vec<String> {
    let owners = secret(rig, secret_name).unwrap().metadata.owner_references;
    owners.into_iter().flatten().map(|owner| owner.uid).collect()
}

/// Deletes every object of the namespace, as its deletion does, and waits until nothing is left.
async fn end_namespace(rig: &mut Rig) {
    let (agents, boards, secrets) = {
        let state = &rig.cluster;
        let names = |keys: Vec<&ObjectKey>| keys.into_iter().map(|key| key.name.clone()).collect::<Vec<_>>();
        (
            names(state.agents().keys().collect()),
            names(state.boards().keys().collect()),
            names(state.secrets().keys().collect()),
        )
    };
    for name in secrets {
        rig.delete::<Secret>(&name);
    }
    for name in boards {
        rig.delete::<Board>(&name);
    }
    for name in agents {
        rig.delete::<Agent>(&name);
    }
    rig.delete::<AgentGateway>("gw");
    rig.until("the deletion of all objects", |rig| {
        let state = &rig.cluster;
        state.agents().is_empty() && state.gateways().is_empty() && state.secrets().is_empty()
    })
    .await;
}

/// Removes the finalizer of the AgentGateway, and deletes the object.
fn delete_without_finalizer(rig: &Rig) {
    rig.cluster.remove::<AgentGateway>(&ObjectKey::new(NS, "gw"));
    assert!(rig.cluster.gateways().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_restored_device_secret_is_reused_and_its_namespace_can_be_deleted() {
    // Without an owner, and with an owner that does not exist.
    for dead in [None, Some("00000000-0000-4000-8000-00000000dead")] {
        let (mut rig, _gateway) = Rig::new();
        until_connected(&mut rig).await;
        let (mut backup, device) = (backup_of(&rig, "gw-device"), device_id(&rig));
        end_namespace(&mut rig).await;
        if let Some(uid) = dead {
            backup["metadata"]["ownerReferences"] = json!([{ "apiVersion": "muster.dev/v1alpha1", "kind": "AgentGateway",
                "name": "gw", "uid": uid, "controller": true }]);
        }
        rig.apply::<Secret>(backup);
        rig.secret("gw-auth", "token", "secret-token");
        rig.apply::<AgentGateway>(gateway_manifest("gw"));
        rig.board("ops");
        rig.worker("one");
        rig.until_ready().await;
        let uid = rig.cluster.gateways()[&ObjectKey::new(NS, "gw")].metadata.uid.clone().unwrap();
        assert_eq!(owners(&rig, "gw-device"), [uid], "{dead:?}");
        assert_eq!(device_id(&rig), device, "the device identity is unchanged");
        end_namespace(&mut rig).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_secret_without_an_owner_gets_its_gateway_as_owner_again() {
    let (mut rig, _gateway) = Rig::new();
    until_connected(&mut rig).await;
    let uids = owners(&rig, "gw-device");
    rig.cluster.edit::<Secret>(&ObjectKey::new(NS, "gw-device"), |secret| {
        (secret.metadata.owner_references, secret.metadata.finalizers) = (None, None);
    });
    rig.until("the owner to be restored", |rig| owners(rig, "gw-device") == uids).await;
    assert_eq!(secret(&rig, "gw-device").unwrap().metadata.finalizers.unwrap(), [CREDENTIALS_FINALIZER]);
    end_namespace(&mut rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_user_made_secret_gets_no_owner_finalizer_or_label() {
    let (mut rig, _gateway) = Rig::new();
    until_connected(&mut rig).await;
    let mut own = backup_of(&rig, "gw-device");
    let key = own["data"]["device-key"].clone();
    own = json!({ "metadata": { "name": "mine" }, "data": { "device-key": key } });
    rig.apply::<Secret>(own);
    let mut manifest = gateway_manifest("gw");
    manifest["spec"]["device"] = json!({ "secretName": "mine" });
    rig.apply::<AgentGateway>(manifest);
    rig.until("the deletion of the former device Secret", |rig| secret(rig, "gw-device").is_none()).await;
    rig.delete::<AgentGateway>("gw");
    rig.until("the deletion to finish", |rig| rig.cluster.gateways().is_empty()).await;
    let meta = secret(&rig, "mine").expect("the Secret was deleted").metadata;
    assert!(meta.owner_references.is_none() && meta.finalizers.is_none() && meta.labels.is_none(), "{meta:?}");
}

async fn until_released(rig: &mut Rig) {
    rig.until("the release of the Secret", |rig| secret(rig, "gw-device").is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn a_gateway_without_its_finalizer_leaves_no_held_secret() {
    let (mut rig, _gateway) = Rig::new();
    until_connected(&mut rig).await;
    delete_without_finalizer(&rig);
    let held = secret(&rig, "gw-device").unwrap().metadata;
    assert!(held.deletion_timestamp.is_some() && held.finalizers.is_some(), "the finalizer holds the Secret");
    until_released(&mut rig).await;
    assert!(rig.ctx().gateways.handles().is_empty(), "no connection is left");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_deleted_while_no_operator_ran_is_found_through_references_to_it() {
    let (mut rig, _gateway) = Rig::new();
    rig.board("ops");
    until_connected(&mut rig).await;
    rig.stop();
    delete_without_finalizer(&rig);
    rig.start();
    until_released(&mut rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_secret_release_is_retried_with_backoff_despite_new_releases() {
    let (mut rig, _gateway) = Rig::new();
    rig.board("ops");
    until_connected(&mut rig).await;
    rig.stop();
    delete_without_finalizer(&rig);
    rig.faults.state().failures = usize::MAX;
    rig.start();
    for number in 0..120 {
        let name = format!("other-{number}");
        rig.apply::<AgentGateway>(gateway_manifest(&name));
        rig.cluster.remove::<AgentGateway>(&ObjectKey::new(NS, name));
        rig.run_for(Duration::from_secs(30)).await;
    }
    let path = path_of::<Secret>(&ObjectKey::new(NS, "gw-device"));
    let attempts = rig.faults.state().failed.iter().filter(|failed| **failed == path).count();
    // At 0, 0.5, 1.5, 3.5 and 7.5 minutes, at 15.5, and each 10 minutes from then on.
    assert_eq!(attempts, 10, "within an hour");
    rig.faults.state().failures = 0;
    until_released(&mut rig).await;
}

#[tokio::test(start_paused = true)]
async fn the_device_secret_of_an_unreadable_gateway_is_left_alone() {
    let (mut rig, _gateway) = Rig::new();
    rig.board("ops");
    until_connected(&mut rig).await;
    rig.stop();
    rig.cluster.make_unreadable::<AgentGateway>(&ObjectKey::new(NS, "gw"));
    rig.start();
    rig.run_for(Duration::from_mins(1)).await;
    assert!(secret(&rig, "gw-device").is_some(), "an unreadable gateway counts as present");
    let held = secret(&rig, "gw-device");
    let mut gone = gateway_manifest("gone");
    gone["apiVersion"] = json!("muster.dev/v1alpha1");
    gone["kind"] = json!("AgentGateway");
    gone["metadata"]["namespace"] = json!(NS);
    gone["spec"]["device"] = json!({ "secretName": "gw-device" });
    let gone = DeletedGateway::from_resource(&serde_json::from_value(gone).unwrap());
    release(rig.ctx(), &gone).await.unwrap();
    assert_eq!(secret(&rig, "gw-device"), held, "the unreadable gateway owns the Secret");
    let mut held = held.unwrap();
    held.metadata.owner_references = None;
    rig.cluster.put(&held);
    let held = secret(&rig, "gw-device").unwrap();
    release(rig.ctx(), &gone).await.unwrap();
    assert_eq!(secret(&rig, "gw-device"), Some(held), "the Secret has the default name of the unreadable gateway");
}

#[tokio::test(start_paused = true)]
async fn the_token_secret_of_an_unreadable_agent_is_not_taken_over() {
    let (mut rig, _gateway) = Rig::new();
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    let uids = owners(&rig, "one-token");
    rig.cluster.make_unreadable::<Agent>(&ObjectKey::new(NS, "one"));
    rig.agent("two", json!({ "boardRef": { "name": "ops" }, "token": { "secretName": "one-token" } }));
    rig.until_reason("two", "SecretConflict").await;
    assert_eq!(owners(&rig, "one-token"), uids);
}

#[tokio::test(start_paused = true)]
async fn a_suspended_gateway_without_a_finalizer_releases_a_restored_secret() {
    let (mut rig, _gateway) = Rig::new();
    until_connected(&mut rig).await;
    let backup = backup_of(&rig, "gw-device");
    end_namespace(&mut rig).await;
    rig.apply::<Secret>(backup);
    let mut manifest = gateway_manifest("gw");
    manifest["spec"]["suspend"] = json!(true);
    rig.apply::<AgentGateway>(manifest);
    rig.run_for(Duration::from_secs(2)).await;
    delete_without_finalizer(&rig);
    rig.delete::<Secret>("gw-device");
    assert!(secret(&rig, "gw-device").is_some(), "the finalizer holds the Secret");
    until_released(&mut rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_recreated_gateway_takes_over_the_device_secret_of_its_predecessor() {
    let (mut rig, _gateway) = Rig::new();
    until_connected(&mut rig).await;
    let device = device_id(&rig);
    delete_without_finalizer(&rig);
    rig.apply::<AgentGateway>(gateway_manifest("gw"));
    rig.run_for(Duration::from_mins(1)).await;
    assert!(secret(&rig, "gw-device").is_some(), "the new gateway needs the Secret");
    until_connected(&mut rig).await;
    assert_eq!(device_id(&rig), device);
    end_namespace(&mut rig).await;
}

#[tokio::test(start_paused = true)]
async fn deleting_a_gateway_keeps_a_device_secret_that_another_gateway_uses() {
    let (mut rig, _gateway) = Rig::new();
    rig.gateway("gw2");
    for name in ["gw", "gw2"] {
        let mut manifest = gateway_manifest(name);
        manifest["spec"]["device"] = json!({ "secretName": "shared" });
        rig.apply::<AgentGateway>(manifest);
    }
    until_connected(&mut rig).await;
    rig.until("the other gateway to be Ready", |rig| rig.gateway_condition("gw2", ConditionType::Ready).0 == "True")
        .await;
    rig.delete::<AgentGateway>("gw");
    rig.until("the deletion of the first gateway", |rig| rig.cluster.gateways().len() == 1).await;
    rig.run_for(Duration::from_mins(12)).await;
    assert_eq!(rig.gateway_condition("gw2", ConditionType::Ready).0, "True");
    let uid = rig.cluster.gateways()[&ObjectKey::new(NS, "gw2")].metadata.uid.clone().unwrap();
    assert_eq!(owners(&rig, "shared"), [uid]);
    rig.delete::<AgentGateway>("gw2");
    rig.until("the deletion of all objects", |rig| {
        rig.cluster.gateways().is_empty() && secret(rig, "shared").is_none()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_deletion_blocked_by_a_foreign_finalizer_releases_the_device_secret() {
    let (mut rig, _gateway) = Rig::new();
    until_connected(&mut rig).await;
    let finalizers = Some(vec!["example.com/other".to_owned()]);
    rig.cluster.edit::<AgentGateway>(&ObjectKey::new(NS, "gw"), |gateway| gateway.metadata.finalizers = finalizers);
    rig.delete::<AgentGateway>("gw");
    rig.until("the deletion of the Secret", |rig| secret(rig, "gw-device").is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn a_restored_token_secret_is_reused_with_a_new_token() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    let (backup, old) = (backup_of(&rig, "one-token"), rig.token("one"));
    rig.delete::<Agent>("one");
    rig.until("the deletion to finish", |rig| rig.cluster.agents().is_empty()).await;
    rig.apply::<Secret>(backup);
    rig.worker("one");
    rig.until_ready().await;
    let uid = rig.cluster.agents()[&ObjectKey::new(NS, "one")].metadata.uid.clone().unwrap();
    assert_eq!(owners(&rig, "one-token"), [uid]);
    assert_ne!(rig.token("one"), old, "a token of a former agent is not accepted");
    let tools = gateway.file(&rig.agent_id("one"), "TOOLS.md").or(gateway.file(&rig.agent_id("one"), "AGENTS.md"));
    assert!(tools.unwrap().contains(&rig.token("one")));
    assert!(!secret(&rig, "one-token").unwrap().data.unwrap().contains_key("previous-token"));
}

#[tokio::test(start_paused = true)]
async fn a_token_secret_without_an_owner_keeps_the_token_of_its_agent() {
    let (mut rig, _gateway) = Rig::new();
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    let (backup, old, uids) = (backup_of(&rig, "one-token"), rig.token("one"), owners(&rig, "one-token"));
    rig.cluster.remove::<Secret>(&ObjectKey::new(NS, "one-token"));
    rig.apply::<Secret>(backup);
    rig.until("the owner to be restored", |rig| owners(rig, "one-token") == uids).await;
    rig.until_ready().await;
    assert_eq!((rig.token("one"), rig.status("one").token.unwrap().revision), (old, 1));
}
