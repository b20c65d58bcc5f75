//! A suspended AgentGateway: everything on it stays as it was, and its Boards and Agents keep Ready.

use std::time::Duration;

use muster::api::{Agent, AgentGateway, Board, ConditionType};
use muster::core::kstatus::Settled;
use serde_json::json;

use crate::rig::{NS, Rig, gateway_manifest};

fn suspended(suspend: bool) -> serde_json::Value {
    let mut manifest = gateway_manifest("gw");
    manifest["spec"]["suspend"] = json!(suspend);
    manifest["spec"]["suspendReason"] = json!("disk is replaced");
    manifest
}

/// Whether the Agent `one`, its Board and its AgentGateway are Ready in their present generation.
fn settled(rig: &Rig) -> [bool; 3] {
    let state = &rig.cluster;
    let key = |name: &str| muster::api::object_key::ObjectKey::new(NS, name);
    let (agent, board): (&Agent, &Board) = (&state.agents()[&key("one")], &state.boards()[&key("ops")]);
    [agent.is_settled(), board.is_settled(), state.gateways()[&key("gw")].is_settled()]
}

#[tokio::test(start_paused = true)]
async fn a_suspended_gateway_and_its_agents_keep_ready_and_nothing_is_written_until_it_resumes() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    rig.apply::<AgentGateway>(suspended(true));
    rig.until("the suspension", |rig| rig.gateway_condition("gw", ConditionType::Suspended).0 == "True").await;
    rig.agent("one", json!({ "boardRef": { "name": "ops" }, "displayName": "Renamed" }));
    rig.run_for(Duration::from_mins(30)).await;
    assert_eq!(settled(&rig), [true; 3], "{}", rig.summary());
    let id = rig.agent_id("one");
    assert_ne!(gateway.agents()[&id]["name"], "Renamed");
    let (status, reason, message) = rig.condition("one", ConditionType::Ready);
    assert_eq!((status.as_str(), reason.as_str()), ("True", "Reconciled"));
    assert!(message.contains("AgentGateway fleet/gw is suspended (disk is replaced)"), "{message}");
    for kind in [ConditionType::Reconciling, ConditionType::Stalled] {
        assert_eq!(rig.condition("one", kind).0, "", "{kind}");
        assert_eq!(rig.gateway_condition("gw", kind).0, "", "{kind}");
    }
    let (_, _, message) = rig.gateway_condition("gw", ConditionType::Suspended);
    assert!(message.contains("(disk is replaced)"), "{message}");
    rig.apply::<AgentGateway>(suspended(false));
    rig.until("the new name", |_| gateway.agents()[&id]["name"] == "Renamed").await;
    rig.until_ready().await;
    assert!(!rig.condition("one", ConditionType::Ready).2.contains("suspended"));
}

#[tokio::test(start_paused = true)]
async fn a_reference_that_is_corrected_while_the_gateway_is_suspended_is_no_fault_any_more() {
    let (mut rig, _gateway) = Rig::new();
    rig.board("ops");
    rig.agent("one", json!({ "boardRef": { "name": "gone" } }));
    rig.until_reason("one", "BoardNotFound").await;
    rig.apply::<AgentGateway>(suspended(true));
    rig.worker("one");
    rig.until_reason("one", "Suspended").await;
    assert_eq!(rig.condition("one", ConditionType::Stalled).0, "");
    rig.apply::<AgentGateway>(suspended(false));
    rig.until_ready().await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_new_on_a_suspended_gateway_is_unknown_and_not_reconciling() {
    let (mut rig, gateway) = Rig::new();
    rig.apply::<AgentGateway>(suspended(true));
    rig.board("ops");
    rig.worker("one");
    rig.run_for(Duration::from_mins(30)).await;
    let (status, reason, _) = rig.condition("one", ConditionType::Ready);
    assert_eq!((status.as_str(), reason.as_str()), ("Unknown", "Suspended"));
    assert_eq!(rig.condition("one", ConditionType::Reconciling).0, "");
    let (status, reason, message) = rig.condition("one", ConditionType::TokenIssued);
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Suspended"));
    assert!(message.contains("one-token") && message.contains("disk is replaced"), "{message}");
    assert!(!gateway.agents().keys().any(|id| id.starts_with("mc-")));
    rig.apply::<AgentGateway>(suspended(false));
    rig.until_ready().await;
}
