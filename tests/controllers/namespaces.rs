//! An operator that works in some namespaces only, and an AgentGateway in another one.

use std::time::Duration;

use muster::api::agent::Agent;
use muster::api::object_key::ObjectKey;
use muster::api::watched_namespaces::WatchedNamespaces;
use muster::api::{AgentGateway, Board, ConditionType};
use muster::core::objects::Coverage;
use muster_simulator::Simulator;
use serde_json::{Value, json};

use crate::rig::{NS, Rig, gateway_manifest};

/// The namespace of the Agent. The AgentGateway is in [`NS`].
const GUESTS: &str = "guests";

/// An Agent in [`GUESTS`] on the AgentGateway of [`NS`], which admits these namespaces.
fn with_guest(allowed: &Value) -> (Rig, Simulator) {
    let (rig, gateway) = Rig::new();
    let mut manifest = gateway_manifest("gw");
    manifest["spec"]["allowedNamespaces"] = allowed.clone();
    rig.apply::<AgentGateway>(manifest);
    let reference = json!({ "name": "gw", "namespace": NS });
    let metadata = |name: &str| json!({ "name": name, "namespace": GUESTS });
    rig.apply::<Board>(json!({ "metadata": metadata("ops"), "spec": { "gatewayRef": reference } }));
    rig.apply::<Agent>(json!({ "metadata": metadata("one"), "spec": { "boardRef": { "name": "ops" } } }));
    (rig, gateway)
}

fn only(names: &[&str]) -> WatchedNamespaces {
    WatchedNamespaces::Only(names.iter().copied().map(str::to_owned).collect())
}

/// Restarts the operator with another knowledge of the namespace of the AgentGateway.
fn restart(rig: &mut Rig, coverage: Option<Coverage>) {
    rig.stop();
    let (namespaces, refused) = match coverage {
        None | Some(Coverage::Complete) => (WatchedNamespaces::All, None),
        Some(Coverage::NotWatched) => (only(&[GUESTS]), None),
        Some(Coverage::Refused) => (only(&[GUESTS, NS]), Some(NS.to_owned())),
    };
    rig.namespaces = namespaces;
    rig.faults.state().refused = refused.into_iter().collect();
    rig.start();
}

fn guest() -> ObjectKey {
    ObjectKey::new(GUESTS, "one")
}

/// Status, reason and message of the guest's condition `Ready`.
fn ready(rig: &Rig) -> (String, String, String) {
    let conditions = rig.cluster.agents()[&guest()].status.clone().unwrap_or_default().conditions;
    let ready = muster::api::conditions::find(&conditions, ConditionType::Ready);
    ready.map(|c| (c.status.to_string(), c.reason.to_string(), c.message.to_string())).unwrap_or_default()
}

async fn until_reason(rig: &mut Rig, reason: &str) -> String {
    rig.until(reason, |rig| ready(rig).1 == reason).await;
    ready(rig).2
}

#[tokio::test(start_paused = true)]
async fn a_gateway_in_a_namespace_that_is_not_watched_is_no_missing_gateway() {
    let (mut rig, _gateway) = with_guest(&json!({ "from": "All" }));
    for (coverage, words) in
        [(Coverage::NotWatched, "does not name it"), (Coverage::Refused, "grant the operator its Role")]
    {
        restart(&mut rig, Some(coverage));
        rig.run_for(Duration::from_mins(1)).await;
        let message = until_reason(&mut rig, "NamespaceNotWatched").await;
        assert!(message.contains("--namespaces") && message.contains(words), "{message}");
        let board = rig.cluster.boards()[&ObjectKey::new(GUESTS, "ops")].status.clone().unwrap();
        assert!(board.conditions.iter().any(|c| c.reason == "NamespaceNotWatched"), "{:?}", board.conditions);
    }
    restart(&mut rig, None);
    rig.until_ready().await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_stays_bound_while_the_namespace_of_its_gateway_is_not_watched() {
    let (mut rig, gateway) = with_guest(&json!({ "from": "All" }));
    rig.until_ready().await;
    let bound = rig.cluster.agents()[&guest()].status.clone().unwrap().binding;
    restart(&mut rig, Some(Coverage::Refused));
    until_reason(&mut rig, "NamespaceNotWatched").await;
    assert_eq!(rig.cluster.agents()[&guest()].status.clone().unwrap().binding, bound);
    rig.cluster.delete::<Agent>(&guest());
    let message = until_reason(&mut rig, "DeletionBlocked").await;
    assert!(message.contains("--namespaces") && message.contains("Orphan"), "{message}");
    assert_eq!(gateway.agents().len(), 2, "main and the agent of the guest");
    restart(&mut rig, None);
    rig.until("the deletion", |rig| rig.cluster.agents().is_empty()).await;
    assert_eq!(gateway.agents().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_selector_admits_nothing_while_the_labels_of_namespaces_cannot_be_read() {
    let selector = json!({ "from": "Selector", "selector": { "matchLabels": { "team": "a" } } });
    let (mut rig, gateway) = with_guest(&selector);
    rig.cluster.label_namespace(GUESTS, "team", "a");
    rig.faults.state().denies_namespaces = true;
    let message = until_reason(&mut rig, "NotAdmitted").await;
    assert!(message.contains("no right to get namespace \"guests\""), "{message}");
    assert_eq!(gateway.agents().len(), 1);
    rig.faults.state().denies_namespaces = false;
    rig.until_ready().await;
    // A right that is lost later takes no agent away.
    rig.faults.state().denies_namespaces = true;
    rig.run_for(Duration::from_hours(2)).await;
    assert_eq!(ready(&rig).1, "KubernetesError");
    assert_eq!(gateway.agents().len(), 2);
    assert!(rig.cluster.agents()[&guest()].status.clone().unwrap().revocation.is_none());
}

/// The AgentGateway of [`NS`] is being deleted, and the operator may not read the namespace `refused`.
async fn deleted_beside_a_refused_namespace(allowed: &Value) -> (Rig, Simulator) {
    let (mut rig, gateway) = Rig::new();
    let mut manifest = gateway_manifest("gw");
    manifest["spec"]["allowedNamespaces"] = allowed.clone();
    rig.apply::<AgentGateway>(manifest);
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    rig.stop();
    rig.namespaces = only(&[NS, "refused"]);
    rig.faults.state().refused = ["refused".to_owned()].into();
    rig.start();
    rig.delete::<Agent>("one");
    rig.delete::<AgentGateway>("gw");
    rig.run_for(Duration::from_mins(10)).await;
    (rig, gateway)
}

#[tokio::test(start_paused = true)]
async fn a_gateway_goes_although_a_namespace_is_refused_that_it_does_not_admit() {
    let selector = json!({ "from": "Selector", "selector": { "matchLabels": { "team": "a" } } });
    for allowed in [Value::Null, json!({ "from": "Same" }), selector] {
        let (rig, gateway) = deleted_beside_a_refused_namespace(&allowed).await;
        let state = &rig.cluster;
        assert!(state.gateways().is_empty() && state.secrets().len() == 1, "{allowed}: {:?}", state.secrets().keys());
        assert_eq!(gateway.agents().len(), 1);
        let left = state.events().into_iter().filter(|(name, event)| name == "gw" && event.message.contains("refused"));
        assert_eq!(left.count(), 1, "{allowed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_gateway_keeps_its_credentials_while_a_namespace_that_it_admits_is_refused() {
    let (mut rig, _gateway) = deleted_beside_a_refused_namespace(&json!({ "from": "All" })).await;
    let (_, reason, message) = rig.gateway_condition("gw", ConditionType::Ready);
    assert_eq!(reason, "KubernetesError");
    for words in ["namespace \"refused\"", "grant the operator its Role", "--namespaces"] {
        assert!(message.contains(words), "{message}");
    }
    assert!(rig.cluster.secrets().contains_key(&ObjectKey::new(NS, "gw-device")));
    rig.faults.state().refused.clear();
    rig.until("the deletion", |rig| rig.cluster.gateways().is_empty()).await;
}
