//! Two AgentGateways of one gateway.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use muster::api::object_key::ObjectKey;
use muster::api::{Agent, AgentGateway, Board};
use muster_simulator::{Profile, Simulator};
use serde_json::json;
use tokio::time::Instant;

use crate::rig::{NS, Rig, gateway_manifest};

/// The namespace of the second AgentGateway.
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
    let mut manifest = gateway_manifest("gw");
    manifest["metadata"]["namespace"] = json!(OTHER);
    manifest["spec"]["url"] = json!("ws://GW:18789/");
    manifest["spec"]["workspaceRoot"] = json!("/home/openclaw/other");
    rig.apply::<AgentGateway>(manifest);
    let data = json!({ "token": "c2VjcmV0LXRva2Vu" });
    rig.apply::<Secret>(json!({ "metadata": { "name": "gw-auth", "namespace": OTHER }, "data": data }));
    let board =
        json!({ "metadata": { "name": "ops", "namespace": OTHER }, "spec": { "gatewayRef": { "name": "gw" } } });
    rig.apply::<Board>(board);
}

fn add_agent(rig: &Rig, namespace: &str, name: &str) {
    let metadata = json!({ "name": name, "namespace": namespace });
    rig.apply::<Agent>(json!({ "metadata": metadata, "spec": { "boardRef": { "name": "ops" } } }));
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
            rig.store.delete::<Agent>(&ObjectKey::new(namespace, format!("a{number}")));
        }
    }
    rig.until("the deletions", |rig| rig.store.state().agents.is_empty()).await;

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
