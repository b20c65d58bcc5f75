//! Two AgentGateways of one gateway, and one AgentGateway for two namespaces.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use muster::api::conditions::find;
use muster::api::object_key::ObjectKey;
use muster::api::{Agent, AgentGateway, AgentStatus, Board, ConditionType};
use muster_simulator::{Profile, Simulator};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::rig::{NS, Rig, gateway_manifest};

/// The namespace of the second AgentGateway, or of the guests.
const OTHER: &str = "other";
/// The duration of each write to the roster.
const WRITE_TIME: Duration = Duration::from_secs(5);

type Writes = Arc<Mutex<Vec<(String, Instant)>>>;

/// An operator, and a gateway that records when its roster writes begin.
fn recorded() -> (Rig, Simulator, Writes) {
    let writes = Writes::default();
    let begun = Arc::clone(&writes);
    let latency = move |method: &str, _| {
        if !matches!(method, "agents.create" | "agents.delete" | "config.patch") {
            return Duration::ZERO;
        }
        begun.lock().unwrap().push((method.to_owned(), Instant::now()));
        WRITE_TIME
    };
    let (rig, gateway) = Rig::with(Profile::v2026_9_6().with_latency(latency));
    (rig, gateway, writes)
}

/// Adds an AgentGateway in the namespace [`OTHER`], with a Secret, a Board and a URL of its own in another form.
fn add_other(rig: &Rig) {
    add_other_gateway(rig);
    let board =
        json!({ "metadata": { "name": "ops", "namespace": OTHER }, "spec": { "gatewayRef": { "name": "gw" } } });
    rig.apply::<Board>(board);
}

/// The AgentGateway of the namespace [`OTHER`], for the same gateway.
fn add_other_gateway(rig: &Rig) {
    let mut manifest = gateway_manifest("gw");
    manifest["metadata"]["namespace"] = json!(OTHER);
    manifest["spec"]["url"] = json!("ws://GW:18789/");
    manifest["spec"]["workspaceRoot"] = json!("/home/openclaw/other");
    rig.apply::<AgentGateway>(manifest);
    let data = json!({ "token": "c2VjcmV0LXRva2Vu" });
    rig.apply::<Secret>(json!({ "metadata": { "name": "gw-auth", "namespace": OTHER }, "data": data }));
}

fn add_agent(rig: &Rig, namespace: &str, name: &str) {
    apply_agent(rig, namespace, name, &json!({}));
}

fn apply_agent(rig: &Rig, namespace: &str, name: &str, more: &Value) {
    let mut manifest = json!({ "metadata": { "name": name, "namespace": namespace }, "spec": more });
    manifest["spec"]["wake"] = json!({ "enabled": false });
    if manifest["spec"]["role"] != "Main" {
        manifest["spec"]["boardRef"] = json!({ "name": "ops" });
    }
    rig.apply::<Agent>(manifest);
}

#[tokio::test(start_paused = true)]
async fn no_two_roster_writes_to_one_gateway_overlap_whichever_gateway_object_they_are_for() {
    let (mut rig, gateway, writes) = recorded();
    rig.board("ops");
    add_other(&rig);
    rig.run_for(Duration::from_secs(5)).await;
    for number in 0..4 {
        for namespace in [NS, OTHER] {
            add_agent(&rig, namespace, &format!("a{number}"));
            rig.run_for(Duration::from_secs(2)).await;
        }
    }
    rig.until_ready().await;
    for number in 0..4 {
        for namespace in [NS, OTHER] {
            rig.cluster.delete::<Agent>(&ObjectKey::new(namespace, format!("a{number}")));
        }
    }
    rig.until("the deletions", |rig| rig.cluster.agents().is_empty()).await;

    let writes = writes.lock().unwrap().clone();
    for pair in writes.windows(2) {
        assert!(pair[1].1 - pair[0].1 >= WRITE_TIME, "two writes at the same time: {writes:?}");
    }
    let mut counts = BTreeMap::new();
    for (method, _) in &writes {
        *counts.entry(method.as_str()).or_insert(0) += 1;
    }
    assert_eq!(counts["agents.delete"], 8);
    assert!(counts["config.patch"] >= 2, "both write their config entries: {counts:?}");
    assert_eq!(rig.dials().len(), 2, "each has a connection of its own: {:?}", rig.dials());
    assert!(gateway.agents().keys().all(|id| id == "main"), "{:?}", gateway.agents());
}

/// How long the agents of a namespace stay that is no longer admitted.
const GRACE_PERIOD: Duration = Duration::from_mins(30);

/// Sets `allowedNamespaces` of the AgentGateway `gw`.
fn allow(rig: &Rig, allowed: &Value) {
    let mut manifest = gateway_manifest("gw");
    manifest["spec"]["allowedNamespaces"] = allowed.clone();
    manifest["spec"]["revocationGracePeriod"] = json!("30m");
    rig.apply::<AgentGateway>(manifest);
}

/// An operator, a gateway, and a Board of the namespace [`OTHER`] on its AgentGateway `gw`.
fn with_guests(allowed: &Value) -> (Rig, Simulator) {
    let (rig, gateway) = Rig::new();
    allow(&rig, allowed);
    rig.board("ops");
    let reference = json!({ "name": "gw", "namespace": NS });
    rig.apply::<Board>(
        json!({ "metadata": { "name": "ops", "namespace": OTHER }, "spec": { "gatewayRef": reference } }),
    );
    (rig, gateway)
}

fn guest(rig: &Rig, name: &str) -> AgentStatus {
    rig.cluster.agents()[&ObjectKey::new(OTHER, name)].status.clone().unwrap_or_default()
}

/// Reason and message of `Ready` of a guest.
fn ready(rig: &Rig, name: &str) -> (String, String) {
    let status = guest(rig, name);
    find(&status.conditions, ConditionType::Ready)
        .map(|c| (c.reason.to_string(), c.message.to_string()))
        .unwrap_or_default()
}

async fn until_guest(rig: &mut Rig, name: &str, reason: &str) -> String {
    rig.until(reason, |rig| ready(rig, name).0 == reason).await;
    ready(rig, name).1
}

/// The events of an object with this reason.
fn events(rig: &Rig, object: &str, reason: &str) -> Vec<String> {
    let events = rig.cluster.events();
    let found = events.iter().filter(|(name, event)| name == object && event.reason == reason);
    found.map(|(_, event)| event.message.clone()).collect()
}

/// The requests that change something on the gateway.
fn changes(gateway: &Simulator) -> usize {
    ["agents.create", "agents.delete", "agents.files.set", "config.patch", "sessions.patch", "chat.send"]
        .iter()
        .map(|method| gateway.count(method))
        .sum()
}

#[tokio::test(start_paused = true)]
async fn an_agent_beyond_the_terms_of_the_gateway_reaches_no_gateway() {
    let (mut rig, gateway) = with_guests(&json!({ "from": "All" }));
    apply_agent(&rig, OTHER, "one", &json!({ "agentId": "nova" }));
    apply_agent(&rig, OTHER, "two", &json!({ "role": "Main", "gatewayRef": { "name": "gw", "namespace": NS } }));
    let message = until_guest(&mut rig, "one", "NotPermitted").await;
    assert!(message.contains("spec.agentId") && message.contains("permissions.chosenIds"), "{message}");
    let message = until_guest(&mut rig, "two", "NotPermitted").await;
    assert!(message.contains("spec.role Main") && message.contains("permissions.roles"), "{message}");
    rig.run_for(Duration::from_secs(30)).await;
    assert_eq!((changes(&gateway), guest(&rig, "one").binding), (0, None));
    apply_agent(&rig, NS, "own", &json!({ "agentId": "nova", "model": "acme/large" }));
    rig.until("the owner's agent", |rig| rig.condition("own", ConditionType::Ready).0 == "True").await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_beyond_changed_terms_is_reported_and_left_as_it_is() {
    let permissions = json!({ "models": ["acme/*"] });
    let (mut rig, gateway) = with_guests(&json!({ "from": "All", "permissions": permissions }));
    apply_agent(&rig, OTHER, "one", &json!({ "model": "acme/large" }));
    rig.until_ready().await;
    let before = (changes(&gateway), gateway.agents());
    allow(&rig, &json!({ "from": "All", "permissions": { "models": ["other/*"] } }));
    let message = until_guest(&mut rig, "one", "NotPermitted").await;
    assert!(message.contains("spec.model \"acme/large\"") && message.contains("other/*"), "{message}");
    apply_agent(&rig, OTHER, "one", &json!({ "model": "acme/large", "displayName": "Changed" }));
    rig.run_for(GRACE_PERIOD * 3).await;
    assert_eq!((changes(&gateway), gateway.agents()), before);
    apply_agent(&rig, OTHER, "one", &json!({ "model": "other/small", "displayName": "Changed" }));
    rig.until_ready().await;
}

#[tokio::test(start_paused = true)]
async fn a_namespace_has_at_most_its_number_of_agents_and_a_free_place_is_taken() {
    let (mut rig, gateway) = with_guests(&json!({ "from": "All", "permissions": { "maxAgentsPerNamespace": 2 } }));
    for name in ["a", "b", "c"] {
        add_agent(&rig, OTHER, name);
    }
    add_agent(&rig, NS, "own");
    let message = until_guest(&mut rig, "c", "NamespaceFull").await;
    assert!(message.contains("maxAgentsPerNamespace") && message.contains("fleet/gw"), "{message}");
    rig.until("two guests", |rig| ["a", "b"].iter().all(|name| ready(rig, name).0 == "Reconciled")).await;
    assert_eq!(gateway.agents().len(), 1 + 3, "with the main agent");
    rig.cluster.delete::<Agent>(&ObjectKey::new(OTHER, "a"));
    until_guest(&mut rig, "c", "Reconciled").await;
}

#[tokio::test(start_paused = true)]
async fn agents_of_a_namespace_that_is_no_longer_admitted_are_released_after_the_grace_period() {
    let (mut rig, gateway) = with_guests(&json!({ "from": "All" }));
    add_agent(&rig, OTHER, "one");
    apply_agent(&rig, OTHER, "kept", &json!({ "deletionPolicy": "Orphan" }));
    add_agent(&rig, NS, "own");
    rig.until_ready().await;
    let ids = ["one", "kept"].map(|name| guest(&rig, name).agent_id.unwrap());
    allow(&rig, &Value::Null);
    rig.run_for(Duration::from_secs(5)).await;
    let (reason, message) = ready(&rig, "one");
    assert!(reason == "NotAdmitted" && message.contains("removed from the gateway after"), "{reason} {message}");
    assert!(guest(&rig, "one").revocation.is_some(), "the token is refused at once");
    let kept = ready(&rig, "kept").1;
    assert!(kept.contains("stays on the gateway") && !kept.contains("removed from"), "Orphan: {kept}");
    let revoked = events(&rig, "gw", "AdmissionRevoked");
    assert!(revoked.len() == 1 && revoked[0].contains("\"other\""), "one event for both agents: {revoked:?}");
    assert!(revoked[0].contains("by their deletionPolicy after 30m"), "{revoked:?}");
    assert_eq!(events(&rig, "one", "NotAdmitted").len(), 1);
    let before = changes(&gateway);
    rig.run_for(GRACE_PERIOD / 2).await;
    assert_eq!(changes(&gateway), before);
    assert!(ids.iter().all(|id| gateway.agents().contains_key(id)));

    rig.run_for(GRACE_PERIOD / 2 + Duration::from_mins(1)).await;
    assert_eq!(ids.each_ref().map(|id| gateway.agents().contains_key(id)), [false, true], "by its deletionPolicy");
    for name in ["one", "kept"] {
        let status = guest(&rig, name);
        assert_eq!((status.binding, status.token.unwrap().sha256), (None, String::new()));
        assert!(status.revocation.unwrap().removed_at.is_some());
        let (reason, message) = ready(&rig, name);
        assert!(reason == "NotAdmitted" && message.contains("was released"), "{reason} {message}");
        assert_eq!(events(&rig, name, "NotAdmitted").len(), 2);
    }
    assert_eq!(events(&rig, "gw", "AgentsReleased").len(), 1, "the second is counted on the first");
    assert_eq!(rig.condition("own", ConditionType::Ready).0, "True");
    let settled = rig.write_counts();
    rig.run_for(GRACE_PERIOD).await;
    assert_eq!(rig.write_counts(), settled);

    rig.cluster.delete::<Agent>(&ObjectKey::new(OTHER, "kept"));
    allow(&rig, &json!({ "from": "All" }));
    rig.until_ready().await;
    assert_eq!(guest(&rig, "one").revocation, None);
}

#[tokio::test(start_paused = true)]
async fn admission_given_again_within_the_grace_period_leaves_everything_as_it_was() {
    let (mut rig, gateway) = with_guests(&json!({ "from": "All" }));
    add_agent(&rig, OTHER, "one");
    add_agent(&rig, OTHER, "two");
    rig.until_ready().await;
    // The labels of the sessions wait until both are set up.
    rig.run_for(Duration::from_mins(1)).await;
    let before = (changes(&gateway), gateway.config(), guest(&rig, "one").token);
    allow(&rig, &json!({ "from": "Same" }));
    rig.run_for(GRACE_PERIOD / 2).await;
    assert!(guest(&rig, "one").revocation.is_some());
    allow(&rig, &json!({ "from": "All" }));
    rig.until_ready().await;
    rig.run_for(GRACE_PERIOD).await;
    assert_eq!((changes(&gateway), gateway.config(), guest(&rig, "one").token), before);
    assert_eq!(events(&rig, "gw", "AdmissionRestored").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_agent_cannot_stay_on_a_gateway_that_revoked_it_and_can_leave_at_once() {
    let (mut rig, gateway) = with_guests(&json!({ "from": "All" }));
    add_agent(&rig, OTHER, "stays");
    add_agent(&rig, OTHER, "moves");
    rig.until_ready().await;
    let ids = ["stays", "moves"].map(|name| guest(&rig, name).agent_id.unwrap());
    allow(&rig, &Value::Null);
    rig.until("the revocation", |rig| guest(rig, "stays").revocation.is_some()).await;
    add_other_gateway(&rig);
    let own = json!({ "metadata": { "name": "own", "namespace": OTHER }, "spec": { "gatewayRef": { "name": "gw" } } });
    rig.apply::<Board>(own);
    for (name, board) in [("stays", "no-such-board"), ("moves", "own")] {
        let metadata = json!({ "name": name, "namespace": OTHER });
        rig.apply::<Agent>(json!({ "metadata": metadata, "spec": { "boardRef": { "name": board } } }));
    }
    rig.until("the move", |rig| ready(rig, "moves").0 == "Reconciled").await;
    assert_eq!(guest(&rig, "moves").revocation, None);
    assert!(events(&rig, "gw", "AdmissionRestored").is_empty());
    assert!(gateway.agents().contains_key(&ids[0]), "the grace period lasts");
    rig.run_for(GRACE_PERIOD + Duration::from_mins(1)).await;
    assert!(!gateway.agents().contains_key(&ids[0]) && gateway.agents().contains_key(&ids[1]));
}
