//! No agent gets a folder that an agent of another namespace left.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use muster::api::object_key::ObjectKey;
use muster::api::{Agent, AgentGateway, Board};
use muster_simulator::{Profile, Simulator};
use serde_json::{Value, json};

use crate::rig::{NS, Rig, gateway_manifest, ready};

/// Two namespaces that the AgentGateway admits.
const GUESTS: [&str; 2] = ["team-a", "team-b"];
const SECRET: &str = "the secret of the former agent";

/// An AgentGateway that permits its guests everything, and a Board in each namespace.
fn shared(profile: Profile) -> (Rig, Simulator) {
    let (rig, gateway) = Rig::with(profile);
    let mut manifest = gateway_manifest("gw");
    let permissions =
        json!({ "roles": ["Worker", "Lead", "Main"], "chosenIds": true, "adoption": true, "takingUp": true });
    manifest["spec"]["allowedNamespaces"] = json!({ "from": "All", "permissions": permissions });
    rig.apply::<AgentGateway>(manifest);
    for namespace in [NS, GUESTS[0], GUESTS[1]] {
        let reference = json!({ "name": "gw", "namespace": NS });
        let board =
            json!({ "metadata": { "name": "ops", "namespace": namespace }, "spec": { "gatewayRef": reference } });
        rig.apply::<Board>(board);
    }
    (rig, gateway)
}

fn apply(rig: &Rig, namespace: &str, metadata: &Value, spec: &Value) {
    let mut manifest = json!({ "metadata": metadata, "spec": spec });
    manifest["metadata"]["name"] = json!("one");
    manifest["metadata"]["namespace"] = json!(namespace);
    rig.apply::<Agent>(manifest);
}

fn agent(rig: &Rig, namespace: &str) -> Option<Agent> {
    rig.cluster.agents().get(&ObjectKey::new(namespace, "one")).cloned()
}

/// The workspace of the Agent once it is Ready.
async fn until_ready(rig: &mut Rig, namespace: &str) -> String {
    rig.until("the Agent to be Ready", |rig| agent(rig, namespace).is_some_and(|agent| ready(&agent))).await;
    agent(rig, namespace).and_then(|agent| agent.status?.workspace_path).unwrap()
}

/// Deletes the Agent, which leaves its files with the secret in them.
async fn leave(rig: &mut Rig, gateway: &Simulator, namespace: &str) -> String {
    until_ready(rig, namespace).await;
    let binding = agent(rig, namespace).and_then(|agent| agent.status?.binding).unwrap();
    for file in ["USER.md", "MEMORY.md"] {
        gateway.edit_file(&binding.agent_id, file, Some(SECRET));
    }
    rig.cluster.delete::<Agent>(&ObjectKey::new(namespace, "one"));
    rig.until("the deletion to finish", |rig| agent(rig, namespace).is_none()).await;
    assert_eq!(gateway.workspace(&binding.workspace)["MEMORY.md"], SECRET, "the files are left");
    binding.workspace
}

fn holds_secret(gateway: &Simulator, workspace: &str) -> bool {
    gateway.workspace(workspace).values().any(|text| text.contains(SECRET))
}

const PROFILES: [fn() -> Profile; 2] = [Profile::v2026_9_6, Profile::v2026_7_1];

#[tokio::test(start_paused = true)]
async fn an_agent_of_another_namespace_with_the_same_chosen_id_gets_no_file_of_the_former_agent() {
    for profile in PROFILES {
        for (first, second) in [(GUESTS[0], GUESTS[1]), (NS, GUESTS[0]), (GUESTS[0], NS)] {
            let (mut rig, gateway) = shared(profile());
            let spec = json!({ "boardRef": { "name": "ops" }, "agentId": "shared", "deletionPolicy": "RetainFiles" });
            apply(&rig, first, &json!({}), &spec);
            let left = leave(&mut rig, &gateway, first).await;
            apply(&rig, second, &json!({}), &spec);
            let workspace = until_ready(&mut rig, second).await;
            assert!(!holds_secret(&gateway, &workspace), "{first} to {second}: {workspace}");
            assert!(holds_secret(&gateway, &left), "the left folder is as it was");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_gets_no_file_of_a_former_agent_of_another_agent_gateway_with_the_same_url() {
    let own = GUESTS[0];
    for (first, second) in [(NS, own), (own, NS)] {
        let (mut rig, gateway) = shared(Profile::v2026_9_6());
        let mut manifest = gateway_manifest("gw");
        manifest["metadata"]["namespace"] = json!(own);
        rig.apply::<AgentGateway>(manifest);
        let data = json!({ "token": "c2VjcmV0LXRva2Vu" });
        rig.apply::<Secret>(json!({ "metadata": { "name": "gw-auth", "namespace": own }, "data": data }));
        let reference = json!({ "name": "gw" });
        let board = json!({ "metadata": { "name": "own", "namespace": own }, "spec": { "gatewayRef": reference } });
        rig.apply::<Board>(board);
        let spec = |namespace: &str| {
            let board = if namespace == own { "own" } else { "ops" };
            json!({ "boardRef": { "name": board }, "agentId": "shared", "deletionPolicy": "RetainFiles" })
        };
        rig.run_for(Duration::from_secs(30)).await;
        apply(&rig, first, &json!({}), &spec(first));
        leave(&mut rig, &gateway, first).await;
        apply(&rig, second, &json!({}), &spec(second));
        let workspace = until_ready(&mut rig, second).await;
        assert!(!holds_secret(&gateway, &workspace), "{first} to {second}: {workspace}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_main_agent_of_another_namespace_gets_no_file_of_the_former_main_agent() {
    let (mut rig, gateway) = shared(Profile::v2026_9_6());
    let reference = json!({ "name": "gw", "namespace": NS });
    let spec = json!({ "role": "Main", "gatewayRef": reference, "deletionPolicy": "RetainFiles" });
    apply(&rig, GUESTS[0], &json!({}), &spec);
    leave(&mut rig, &gateway, GUESTS[0]).await;
    apply(&rig, GUESTS[1], &json!({}), &spec);
    let workspace = until_ready(&mut rig, GUESTS[1]).await;
    assert!(!holds_secret(&gateway, &workspace), "{workspace}");
}

#[tokio::test(start_paused = true)]
async fn a_claim_of_another_namespace_gets_no_file_of_the_former_agent() {
    let (mut rig, gateway) = shared(Profile::v2026_9_6());
    let spec = json!({ "boardRef": { "name": "ops" }, "deletionPolicy": "RetainFiles" });
    apply(&rig, GUESTS[0], &json!({}), &spec);
    until_ready(&mut rig, GUESTS[0]).await;
    let id = agent(&rig, GUESTS[0]).and_then(|agent| agent.status?.agent_id).unwrap();
    leave(&mut rig, &gateway, GUESTS[0]).await;
    apply(&rig, GUESTS[1], &json!({ "annotations": { "muster.dev/agent-id": id } }), &spec);
    let workspace = until_ready(&mut rig, GUESTS[1]).await;
    assert!(workspace.contains(&id), "the claim is permitted: {workspace}");
    assert!(!holds_secret(&gateway, &workspace), "{workspace}");
}

#[tokio::test(start_paused = true)]
async fn an_agent_of_the_same_namespace_gets_its_folder_again_and_an_event_says_so() {
    for namespace in [NS, GUESTS[0]] {
        let (mut rig, gateway) = shared(Profile::v2026_9_6());
        let spec = json!({ "boardRef": { "name": "ops" }, "agentId": "shared", "deletionPolicy": "RetainFiles" });
        let found = |rig: &Rig| {
            let events = rig.cluster.events().clone();
            events
                .into_iter()
                .filter(|(_, event)| event.reason == "FolderFound")
                .map(|(_, e)| e.message)
                .collect::<Vec<_>>()
        };
        apply(&rig, namespace, &json!({}), &spec);
        let left = leave(&mut rig, &gateway, namespace).await;
        assert!(found(&rig).is_empty(), "{namespace}");
        apply(&rig, namespace, &json!({}), &spec);
        assert_eq!(until_ready(&mut rig, namespace).await, left);
        assert_eq!(gateway.workspace(&left)["MEMORY.md"], SECRET);
        let events = found(&rig);
        assert!(events.len() == 1 && events[0].contains(&left) && events[0].contains("MEMORY.md"), "{events:?}");
    }
}
