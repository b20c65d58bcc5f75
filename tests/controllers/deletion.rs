//! Deletion, in any order.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use muster::api::object_key::ObjectKey;
use muster::api::{Agent, AgentGateway, Board, ConditionType};
use muster::controllers::agent;
use muster::state::store::Store;
use muster_simulator::{Fault, Simulator};
use serde_json::json;

use crate::rig::{NS, Rig};

async fn provisioned() -> (Rig, Simulator, String) {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    let id = rig.agent_id("one");
    (rig, gateway, id)
}

fn agent_gone(rig: &Rig) -> bool {
    rig.store.state().agents.is_empty()
}

#[tokio::test(start_paused = true)]
async fn deleting_an_agent_removes_its_gateway_agent_workspace_and_secret() {
    let (mut rig, gateway, id) = provisioned().await;
    rig.delete::<Agent>("one");
    rig.until("the deletion to finish", agent_gone).await;
    assert!(!gateway.agents().contains_key(&id));
    assert!(gateway.file(&id, "AGENTS.md").is_none() && gateway.orphans().is_empty());
    assert!(!rig.store.state().secrets.contains_key(&ObjectKey::new(NS, "one-token")));
    assert!(rig.store.state().gateways.len() == 1);
}

#[tokio::test(start_paused = true)]
async fn a_stale_cache_repeats_no_removal() {
    let (mut rig, gateway, _) = provisioned().await;
    rig.delete::<Agent>("one");
    let cached = Arc::new(rig.store.state().agents[&ObjectKey::new(NS, "one")].clone());
    rig.until("the deletion to finish", agent_gone).await;
    agent::reconcile(rig.ctx(), &cached).await;
    assert_eq!(gateway.count("agents.delete"), 1);
}

#[tokio::test(start_paused = true)]
async fn any_order_of_deletion_leaves_nothing() {
    type Step = fn(&Rig);
    let steps: [Step; 4] = [
        |rig| rig.delete::<Agent>("one"),
        |rig| rig.delete::<Board>("ops"),
        |rig| rig.delete::<AgentGateway>("gw"),
        |rig| rig.delete::<Secret>("gw-auth"),
    ];
    for order in permutations(4) {
        let (mut rig, gateway, id) = provisioned().await;
        for index in &order {
            steps[*index](&rig);
            rig.reconcile_all().await;
        }
        rig.until("the deletion to finish", |rig| agent_gone(rig) && rig.store.state().gateways.is_empty()).await;
        assert!(!gateway.agents().contains_key(&id), "{order:?}: the agent is left on the gateway");
        let secrets: Vec<_> = rig.store.state().secrets.keys().cloned().collect();
        assert!(secrets.is_empty(), "{order:?}: {secrets:?}");
    }
}

fn permutations(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let insert = |rest: Vec<usize>| {
        (0..=rest.len()).map(move |at| {
            let mut order = rest.clone();
            order.insert(at, n - 1);
            order
        })
    };
    permutations(n - 1).into_iter().flat_map(insert).collect()
}

#[tokio::test(start_paused = true)]
async fn a_restarted_operator_cleans_up_without_the_gateways_secret() {
    let (mut rig, gateway, id) = provisioned().await;
    rig.delete::<Secret>("gw-auth");
    rig.delete::<AgentGateway>("gw");
    rig.delete::<Board>("ops");
    rig.delete::<Agent>("one");
    rig.start();
    rig.until("the deletion to finish", |rig| agent_gone(rig) && rig.store.state().gateways.is_empty()).await;
    assert!(!gateway.agents().contains_key(&id));
}

#[tokio::test(start_paused = true)]
async fn retain_files_keeps_the_files_and_orphan_keeps_the_agent() {
    for (policy, stays) in [("RetainFiles", false), ("Orphan", true)] {
        let (mut rig, gateway, id) = provisioned().await;
        let workspace = rig.status("one").workspace_path.unwrap();
        rig.agent("one", json!({ "boardRef": { "name": "ops" }, "deletionPolicy": policy }));
        rig.delete::<Agent>("one");
        rig.until("the deletion to finish", agent_gone).await;
        assert_eq!(gateway.agents().contains_key(&id), stays, "{policy}");
        assert!(gateway.workspace(&workspace).contains_key("AGENTS.md"), "{policy}: the files stay");
    }
}

#[tokio::test(start_paused = true)]
async fn many_removals_run_in_sequence_and_block_no_other_agent() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    let names: Vec<_> = (0..24).map(|number| format!("a{number:02}")).collect();
    for name in &names {
        rig.worker(name);
    }
    rig.until_ready().await;
    for _ in &names {
        gateway.inject(Fault::on("agents.delete").delay(Duration::from_secs(10)));
    }
    for name in &names {
        rig.delete::<Agent>(name);
    }
    rig.worker("z");
    rig.until("the new agent to be Ready", |rig| rig.condition("z", ConditionType::Ready).0 == "True").await;
    let left = rig.store.state().agents.len() - 1;
    assert!(left >= 12, "{left} of 24 removals were pending");
    rig.until("the deletion of the other agents", |rig| rig.store.state().agents.len() == 1).await;
    assert_eq!(gateway.agents().len(), 1 + usize::from(gateway.agents().contains_key("main")));
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_gateway_blocks_the_deletion_and_the_message_names_orphan() {
    let (mut rig, gateway, id) = provisioned().await;
    gateway.kill();
    rig.delete::<Agent>("one");
    let message = rig.until_reason("one", "DeletionBlocked").await;
    assert!(message.contains("Orphan"), "{message}");
    rig.run_for(Duration::from_mins(10)).await;
    assert_eq!(rig.store.state().agents.len(), 1, "the deletion waits for the gateway");
    gateway.start();
    rig.until("the deletion to finish", agent_gone).await;
    assert!(!gateway.agents().contains_key(&id));
}

#[tokio::test(start_paused = true)]
async fn deleting_an_unreachable_gateway_bounds_the_wait_and_reports_the_leftovers() {
    let (mut rig, gateway, id) = provisioned().await;
    gateway.kill();
    rig.delete::<Agent>("one");
    rig.delete::<AgentGateway>("gw");
    rig.until("the deletion to finish", |rig| agent_gone(rig) && rig.store.state().gateways.is_empty()).await;
    let events = rig.store.state().events.clone();
    assert!(events.iter().any(|(_, event)| event.warning && event.message.contains(&id)), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn deleting_a_gateway_removes_its_agents_and_reports_gateway_not_found() {
    let (mut rig, gateway, id) = provisioned().await;
    rig.delete::<AgentGateway>("gw");
    rig.until("the deletion of the gateway", |rig| rig.store.state().gateways.is_empty()).await;
    assert!(!gateway.agents().contains_key(&id));
    rig.until_reason("one", "GatewayNotFound").await;
    assert_eq!(rig.condition("one", ConditionType::Stalled).0, "True");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_agent_leaves_nothing_in_memory() {
    let (mut rig, gateway, id) = provisioned().await;
    rig.until("the end of the run", |rig| rig.status("one").wake.unwrap().answered_at.is_some()).await;
    let activity = rig.link("gw").client().activity();
    assert!(activity.borrow().of(&id).is_some());
    let object = rig.store.state().agents[&ObjectKey::new(NS, "one")].clone();
    let heartbeats = &rig.ctx().state.heartbeats;
    let now = rig.ctx().state.store.now();
    heartbeats.touch(&object, now);
    heartbeats.confirm(&object, "aa", now);
    rig.delete::<Agent>("one");
    rig.until("the deletion to finish", agent_gone).await;
    assert!(!gateway.agents().contains_key(&id));
    rig.link("gw").client().resync().await;
    assert_eq!(activity.borrow().of(&id), None);
    // The watch reports the deletion.
    rig.ctx().forget_agent(&object);
    let heartbeats = &rig.ctx().state.heartbeats;
    assert_eq!((heartbeats.newer_than_status(&object), heartbeats.confirmed(&object)), (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_somebody_puts_in_the_place_of_a_read_secret_is_not_deleted() {
    for (name, object) in [("one-token", "agent"), ("gw-device", "gateway")] {
        let (mut rig, _, _) = provisioned().await;
        let others: Secret = serde_json::from_value(json!({
            "metadata": { "name": name, "namespace": NS, "uid": "another-uid" }, "data": { "password": "b3RoZXJz" },
        }))
        .unwrap();
        if object == "gateway" {
            rig.delete::<Agent>("one");
            rig.until("the deletion of the agent", agent_gone).await;
            rig.delete::<AgentGateway>("gw");
        } else {
            rig.delete::<Agent>("one");
        }
        rig.store.state().replaced_before_deletion = Some(others.clone());
        let is_gone = |rig: &Rig| agent_gone(rig) && (object == "agent" || rig.store.state().gateways.is_empty());
        rig.until("the deletion to finish", is_gone).await;
        let left = rig.store.state().secrets.get(&ObjectKey::new(NS, name)).cloned();
        assert_eq!(left.and_then(|secret| secret.data), others.data, "{name}");
    }
}
