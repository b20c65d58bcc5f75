//! Protected Agents, whose AgentGateway is deleted.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use muster::api::object_key::ObjectKey;
use muster::api::{Agent, AgentGateway, Board, ConditionType, keys};
use muster_simulator::Simulator;
use serde_json::json;

use crate::rig::{NS, Rig};

fn protect(rig: &Rig, name: &str, value: &str) {
    rig.cluster.annotate::<Agent>(&ObjectKey::new(NS, name), keys::PROTECTED, value);
}

/// Two Agents, of which `kept` is protected.
async fn fleet() -> (Rig, Simulator) {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.worker("kept");
    rig.worker("one");
    rig.until_ready().await;
    protect(&rig, "kept", "true");
    (rig, gateway)
}

/// Deletes what the deletion of the namespace deletes.
fn delete_the_rest(rig: &Rig) {
    rig.delete::<AgentGateway>("gw");
    rig.delete::<Board>("ops");
    rig.delete::<Agent>("one");
    for name in ["gw-auth", "gw-device", "kept-token", "one-token"] {
        rig.delete::<Secret>(name);
    }
}

#[tokio::test(start_paused = true)]
async fn a_protected_agent_keeps_its_agent_while_its_gateway_is_being_deleted() {
    let (mut rig, gateway) = fleet().await;
    let (before, ids) = (rig.status("kept"), ["kept", "one"].map(|name| rig.agent_id(name)));
    delete_the_rest(&rig);
    rig.run_for(Duration::from_mins(5)).await;
    rig.start();
    rig.run_for(Duration::from_mins(5)).await;
    assert_eq!(ids.each_ref().map(|id| gateway.agents().contains_key(id)), [true, false]);
    let now = rig.status("kept");
    assert_eq!((&now.binding, &now.token), (&before.binding, &before.token), "the agent can still report");
    let (status, reason, message) = rig.condition("kept", ConditionType::Ready);
    assert_eq!((status.as_str(), reason.as_str()), ("False", "GatewayNotFound"));
    assert!(message.contains("is being deleted") && message.contains(keys::PROTECTED), "{message}");
    let (_, reason, message) = rig.gateway_condition("gw", ConditionType::Ready);
    assert_eq!(reason, "AgentsBound");
    assert!(message.contains("fleet/kept") && message.contains(keys::PROTECTED), "{message}");

    protect(&rig, "kept", "false");
    rig.delete::<Agent>("kept");
    rig.until("the deletion", |rig| rig.cluster.agents().is_empty() && rig.cluster.gateways().is_empty()).await;
    assert!(!gateway.agents().contains_key(&ids[0]));
    assert!(rig.cluster.secrets().is_empty(), "{:?}", rig.cluster.secrets().keys());
}

#[tokio::test(start_paused = true)]
async fn an_agent_whose_protection_is_lifted_goes_with_its_gateway() {
    let (mut rig, gateway) = fleet().await;
    let id = rig.agent_id("kept");
    rig.delete::<AgentGateway>("gw");
    rig.run_for(Duration::from_mins(5)).await;
    assert!(gateway.agents().contains_key(&id));
    protect(&rig, "kept", "false");
    rig.until("the release", |rig| rig.cluster.gateways().is_empty()).await;
    assert!(!gateway.agents().contains_key(&id) && rig.status("kept").binding.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_protected_agent_that_moves_leaves_the_gateway_that_is_being_deleted() {
    let (mut rig, gateway) = fleet().await;
    let other = rig.gateway("gw2");
    let id = rig.agent_id("kept");
    rig.apply::<Board>(json!({ "metadata": { "name": "new" }, "spec": { "gatewayRef": { "name": "gw2" } } }));
    rig.delete::<AgentGateway>("gw");
    rig.agent("kept", json!({ "boardRef": { "name": "new" } }));
    rig.until("the move", |rig| !rig.cluster.gateways().contains_key(&ObjectKey::new(NS, "gw"))).await;
    rig.until("the new agent", |rig| rig.condition("kept", ConditionType::Ready).0 == "True").await;
    assert!(!gateway.agents().contains_key(&id) && other.agents().contains_key(&id));
}
