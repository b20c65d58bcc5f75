//! Agents that are taken up again: objects from a backup, from another cluster, and from an operator that was installed again.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::Resource;
use muster::api::agent::BindingStatus;
use muster::api::object_key::ObjectKey;
use muster::api::{Agent, AgentGateway, Board, ConditionType};
use muster_simulator::Simulator;
use serde::Serialize;
use serde_json::{Value, json};

use crate::rig::{NS, Rig, ready, woken};

const ANNOTATION: &str = "muster.dev/agent-id";
const MEMORY: &str = "remember the milk";
const NAMES: [&str; 3] = ["one", "lead", "main"];
/// The namespace of the guests.
const OTHER: &str = "other";

/// A tool that carries objects into another cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tool {
    /// Velero restores labels, annotations and finalizers. Owners, uid and status are gone.
    Velero,
    /// `kubectl get -o yaml | kubectl apply -f -` keeps owners of which the other cluster knows nothing, and drops uid and status.
    Kubectl,
    /// `muster export` writes labels, annotations and the spec.
    Export,
}

const TOOLS: [Tool; 3] = [Tool::Velero, Tool::Kubectl, Tool::Export];

impl Tool {
    /// An object as the other cluster gets it.
    fn carry<K: Serialize>(self, object: &K) -> Value {
        let mut object = serde_json::to_value(object).unwrap();
        let original = object.to_string();
        object.as_object_mut().unwrap().remove("status");
        let kept: &[&str] = match self {
            Self::Velero => &["name", "namespace", "labels", "annotations", "finalizers"],
            Self::Kubectl => &["name", "namespace", "labels", "annotations", "finalizers", "ownerReferences"],
            Self::Export => &["name", "namespace", "labels", "annotations"],
        };
        let meta = object["metadata"].as_object_mut().unwrap();
        meta.retain(|field, _| kept.contains(&field.as_str()));
        if self == Self::Kubectl {
            object["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = json!(original);
        }
        object
    }
}

/// The objects of a cluster, as a tool carries them.
#[derive(Clone)]
struct Backup {
    secrets: Vec<Value>,
    gateways: Vec<Value>,
    boards: Vec<Value>,
    agents: Vec<Value>,
}

impl Backup {
    fn of(rig: &Rig, tool: Tool) -> Self {
        fn all<K: Serialize>(objects: &BTreeMap<ObjectKey, K>, tool: Tool) -> Vec<Value> {
            objects.values().map(|object| tool.carry(object)).collect()
        }
        let state = &rig.cluster;
        Self {
            secrets: all(&state.secrets(), tool),
            gateways: all(&state.gateways(), tool),
            boards: all(&state.boards(), tool),
            agents: all(&state.agents(), tool),
        }
    }

    fn without_secret(mut self, name: &str) -> Self {
        self.secrets.retain(|secret| secret["metadata"]["name"] != name);
        self
    }

    /// Applies all objects in another cluster, whose operator reaches the same gateway.
    fn restore(self, gateway: &Simulator) -> Rig {
        let rig = another_cluster(gateway);
        self.agents.into_iter().for_each(|agent| rig.apply::<Agent>(agent));
        self.boards.into_iter().for_each(|board| rig.apply::<Board>(board));
        self.gateways.into_iter().for_each(|gateway| rig.apply::<AgentGateway>(gateway));
        self.secrets.into_iter().for_each(|secret| rig.apply::<Secret>(secret));
        rig
    }
}

/// An empty cluster with other uids. Its operator reaches the gateway.
fn another_cluster(gateway: &Simulator) -> Rig {
    let mut rig = Rig::empty();
    rig.host("gw", gateway);
    rig.start();
    rig
}

/// A cluster with a worker, a lead and a main agent, which have memories and have deleted their BOOTSTRAP.md.
async fn fleet() -> (Rig, Simulator) {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.worker("one");
    rig.agent("lead", json!({ "boardRef": { "name": "ops" }, "role": "Lead" }));
    rig.agent("main", json!({ "gatewayRef": { "name": "gw" }, "role": "Main" }));
    rig.until_ready().await;
    for name in NAMES {
        gateway.edit_file(&rig.agent_id(name), "MEMORY.md", Some(MEMORY));
        gateway.edit_file(&rig.agent_id(name), "BOOTSTRAP.md", None);
    }
    (rig, gateway)
}

/// Ends the cluster, as a lost machine does.
fn lost(mut rig: Rig) {
    rig.stop();
}

fn binding(rig: &Rig, name: &str) -> BindingStatus {
    rig.status(name).binding.unwrap()
}

fn annotation(rig: &Rig, name: &str) -> Option<String> {
    let state = &rig.cluster;
    state.agents()[&ObjectKey::new(NS, name)].metadata.annotations.as_ref()?.get(ANNOTATION).cloned()
}

fn uid<K: Resource>(object: &K) -> Option<String> {
    object.meta().uid.clone()
}

fn agents(gateway: &Simulator) -> Vec<String> {
    gateway.agents().into_keys().filter(|id| id != "main").collect()
}

fn session_ids(gateway: &Simulator) -> BTreeMap<String, String> {
    gateway.sessions().into_iter().map(|(key, session)| (key, session.id)).collect()
}

fn holds_token(rig: &Rig, gateway: &Simulator, name: &str) -> bool {
    let token = rig.token(name);
    ["TOOLS.md", "AGENTS.md"].iter().any(|f| gateway.file(&rig.agent_id(name), f).is_some_and(|t| t.contains(&token)))
}

async fn delete_everything(rig: &mut Rig) {
    for name in rig.agent_keys() {
        rig.cluster.delete::<Agent>(&name);
    }
    rig.delete::<Board>("ops");
    rig.delete::<AgentGateway>("gw");
    rig.until("the deletion of all objects", |rig| {
        let state = &rig.cluster;
        state.agents().is_empty() && state.gateways().is_empty()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn each_agent_has_the_annotation_with_its_id_from_its_first_write_on() {
    let (rig, _) = fleet().await;
    for name in NAMES {
        assert_eq!(annotation(&rig, name), Some(rig.agent_id(name)), "{name}");
        assert_eq!(rig.status(name).binding.unwrap().claimed_for, None, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_agents_are_taken_up_from_the_objects_of_each_tool() {
    for tool in TOOLS {
        let (old, gateway) = fleet().await;
        let names = NAMES.map(|name| (name, old.agent_id(name), old.token(name)));
        let (ids, sessions, resets) = (agents(&gateway), session_ids(&gateway), gateway.count("sessions.reset"));
        let backup = Backup::of(&old, tool);
        lost(old);
        let mut rig = backup.restore(&gateway);
        rig.until_ready().await;
        assert_eq!(agents(&gateway), ids, "{tool:?}: nothing is doubled");
        assert_eq!((session_ids(&gateway), gateway.count("sessions.reset")), (sessions, resets), "{tool:?}");
        assert_eq!(gateway.count("agents.delete"), 0, "{tool:?}");
        for (name, id, token) in names {
            assert_eq!((rig.agent_id(name), annotation(&rig, name)), (id.clone(), Some(id.clone())), "{tool:?} {name}");
            assert_eq!(gateway.file(&id, "MEMORY.md").as_deref(), Some(MEMORY), "{tool:?} {name}");
            assert_eq!(gateway.file(&id, "BOOTSTRAP.md"), None, "{tool:?}: {name} is no new agent");
            assert!(holds_token(&rig, &gateway, name), "{tool:?} {name}");
            // Kubernetes deletes a Secret whose owner does not exist.
            let has_proof = tool != Tool::Kubectl;
            assert_eq!(rig.token(name) == token, has_proof, "{tool:?} {name}");
            let binding = binding(&rig, name);
            assert_eq!((binding.taken_up, binding.adopted), (has_proof, !has_proof), "{tool:?} {name}");
            let secret = rig.cluster.secrets()[&ObjectKey::new(NS, format!("{name}-token"))].clone();
            let owner = secret.metadata.owner_references.unwrap().remove(0).uid;
            assert_eq!(Some(owner.clone()), uid(&rig.cluster.agents()[&ObjectKey::new(NS, name)]), "{tool:?} {name}");
            assert_eq!(secret.data.unwrap()["agent-id"].0, owner.as_bytes(), "{tool:?} {name}");
        }
        delete_everything(&mut rig).await;
        assert!(agents(&gateway).is_empty() && gateway.orphans().is_empty(), "{tool:?}: {:?}", gateway.orphans());
        let secrets: Vec<_> = rig.cluster.secrets().keys().map(|key| key.name.clone()).collect();
        assert_eq!(secrets, ["gw-auth"], "{tool:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn agents_that_muster_only_observes_by_now_come_back_from_the_objects_of_each_tool() {
    let set_policy = |rig: &Rig, policy: &str| {
        let patch = json!({ "spec": { "managementPolicy": policy } });
        for name in NAMES {
            rig.cluster.patch::<Agent>(&ObjectKey::new(NS, name), &patch);
        }
    };
    for tool in TOOLS {
        let (mut old, gateway) = fleet().await;
        set_policy(&old, "Observe");
        for name in NAMES {
            old.until_reason(name, "Observed").await;
        }
        let (ids, writes) = (NAMES.map(|name| old.agent_id(name)), gateway.writes());
        let backup = Backup::of(&old, tool);
        lost(old);
        let mut rig = backup.restore(&gateway);
        for name in NAMES {
            rig.until_reason(name, "Observed").await;
        }
        assert_eq!((NAMES.map(|name| rig.agent_id(name)), gateway.writes()), (ids.clone(), writes), "{tool:?}");
        set_policy(&rig, "Manage");
        for name in NAMES {
            rig.until_reason(name, "Reconciled").await;
        }
        assert_eq!((NAMES.map(|name| rig.agent_id(name)), gateway.count("agents.delete")), (ids, 0), "{tool:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_operator_that_is_installed_again_finds_its_agents_and_writes_nothing() {
    let (mut rig, gateway) = fleet().await;
    rig.run_for(std::time::Duration::from_secs(30)).await;
    let (ids, writes) = (agents(&gateway), (rig.write_counts(), gateway.writes()));
    rig.stop();
    rig.start();
    rig.run_for(std::time::Duration::from_mins(1)).await;
    assert_eq!((agents(&gateway), (rig.write_counts(), gateway.writes())), (ids, writes));
}

#[tokio::test(start_paused = true)]
async fn an_agent_from_before_the_annotation_gets_it_by_one_write() {
    let (mut rig, gateway) = fleet().await;
    rig.stop();
    let key = ObjectKey::new(NS, "one");
    rig.cluster.edit::<Agent>(&key, |agent| agent.metadata.annotations = None);
    rig.start();
    let writes = gateway.writes();
    rig.until("the annotation", |rig| annotation(rig, "one") == Some(rig.agent_id("one"))).await;
    rig.cluster.annotate::<Agent>(&key, ANNOTATION, "mc-of-somebody-else");
    rig.until("the former annotation", |rig| annotation(rig, "one") == Some(rig.agent_id("one"))).await;
    assert_eq!((gateway.writes(), rig.agent_id("one")), (writes, binding(&rig, "one").agent_id));
}

#[tokio::test(start_paused = true)]
async fn a_crash_after_any_write_of_a_taking_up_keeps_the_token_and_doubles_nothing() {
    let writes = {
        let (old, gateway) = fleet().await;
        let backup = Backup::of(&old, Tool::Velero);
        lost(old);
        let mut rig = backup.restore(&gateway);
        rig.until_ready().await;
        rig.faults.state().writes
    };
    for crash_at in 1..=writes {
        let (old, gateway) = fleet().await;
        let (ids, sessions) = (agents(&gateway), session_ids(&gateway));
        let tokens = NAMES.map(|name| old.token(name));
        let backup = Backup::of(&old, Tool::Velero);
        lost(old);
        let mut rig = backup.restore(&gateway);
        rig.faults.state().crash_at = [crash_at].into();
        let crashed = rig.faults.crashed.clone();
        tokio::select! {
            biased;
            () = crashed.notified() => rig.start(),
            () = rig.until_ready() => {}
        }
        rig.until_ready().await;
        assert_eq!((agents(&gateway), session_ids(&gateway)), (ids, sessions), "crash after write {crash_at}");
        assert_eq!(NAMES.map(|name| rig.token(name)), tokens, "crash after write {crash_at}");
        assert!(NAMES.iter().all(|name| binding(&rig, name).taken_up), "crash after write {crash_at}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_without_its_secret_is_adopted_and_its_folder_stays_at_deletion() {
    let (old, gateway) = fleet().await;
    let (id, token) = (old.agent_id("one"), old.token("one"));
    let backup = Backup::of(&old, Tool::Velero).without_secret("one-token");
    lost(old);
    let mut rig = backup.restore(&gateway);
    rig.until_ready().await;
    let bound = binding(&rig, "one");
    assert_eq!((bound.agent_id.as_str(), bound.adopted), (id.as_str(), true));
    assert_ne!(rig.token("one"), token);
    assert!(holds_token(&rig, &gateway, "one"));
    rig.delete::<Agent>("one");
    rig.until("the deletion", |rig| rig.cluster.agents().len() == 2).await;
    assert!(!agents(&gateway).contains(&id));
    assert_eq!(gateway.workspace(&bound.workspace)["MEMORY.md"], MEMORY);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_only_the_secret_holds_is_kept_by_an_adopted_agent() {
    let (mut old, gateway) = fleet().await;
    old.agent("quiet", json!({ "boardRef": { "name": "ops" }, "token": { "delivery": "SecretOnly" } }));
    old.until_ready().await;
    let (id, token) = (old.agent_id("quiet"), old.token("quiet"));
    let backup = Backup::of(&old, Tool::Velero);
    lost(old);
    let mut rig = backup.restore(&gateway);
    rig.until_ready().await;
    assert_eq!((rig.agent_id("quiet"), rig.token("quiet")), (id, token));
    assert!(binding(&rig, "quiet").adopted, "no file proves it");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_the_gateway_lost_is_created_under_its_id_with_the_files_that_are_left() {
    let (mut old, gateway) = fleet().await;
    old.agent("kept", json!({ "boardRef": { "name": "ops" }, "deletionPolicy": "RetainFiles" }));
    old.until_ready().await;
    let (id, workspace) = (old.agent_id("kept"), binding(&old, "kept").workspace);
    gateway.edit_file(&id, "MEMORY.md", Some(MEMORY));
    let backup = Backup::of(&old, Tool::Velero);
    old.delete::<Agent>("kept");
    old.until("the deletion", |rig| rig.cluster.agents().len() == 3).await;
    lost(old);
    let mut rig = backup.restore(&gateway);
    rig.until_ready().await;
    let bound = binding(&rig, "kept");
    assert_eq!((bound.agent_id, bound.workspace, bound.adopted), (id.clone(), workspace, false));
    assert_eq!(gateway.file(&id, "MEMORY.md").as_deref(), Some(MEMORY));
}

#[tokio::test(start_paused = true)]
async fn a_copied_manifest_gets_an_agent_of_its_own_and_the_original_is_untouched() {
    let (mut rig, gateway) = fleet().await;
    let before = (rig.status("one"), gateway.writes());
    let mut copy = Tool::Kubectl.carry(&rig.cluster.agents()[&ObjectKey::new(NS, "one")].clone());
    copy["metadata"]["name"] = json!("copy");
    rig.apply::<Agent>(copy);
    rig.until_ready().await;
    assert_ne!(rig.agent_id("copy"), rig.agent_id("one"));
    assert_eq!(annotation(&rig, "copy"), Some(rig.agent_id("copy")));
    assert_eq!(rig.status("one").binding, before.0.binding);
    assert_eq!(agents(&gateway).len(), 4);
    rig.delete::<Agent>("copy");
    rig.until("the deletion", |rig| rig.cluster.agents().len() == 3).await;
    assert!(agents(&gateway).contains(&rig.agent_id("one")));
}

#[tokio::test(start_paused = true)]
async fn of_two_restored_agents_with_one_annotation_one_is_taken_up_and_the_other_is_new() {
    let (old, gateway) = fleet().await;
    let id = old.agent_id("one");
    let mut backup = Backup::of(&old, Tool::Velero);
    let mut twin = backup.agents.iter().find(|agent| agent["metadata"]["name"] == "one").unwrap().clone();
    twin["metadata"]["name"] = json!("twin");
    backup.agents.push(twin);
    lost(old);
    let mut rig = backup.restore(&gateway);
    rig.until_ready().await;
    assert_eq!((rig.agent_id("one"), agents(&gateway).len()), (id.clone(), 4));
    assert_ne!(rig.agent_id("twin"), id);
    assert_eq!(annotation(&rig, "twin"), Some(rig.agent_id("twin")));
}

#[tokio::test(start_paused = true)]
async fn an_annotation_that_is_no_id_claims_nothing() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    gateway.edit_config(|config| config["agents"]["entries"]["nova"] = json!({ "workspace": "/srv/nova" }));
    for (name, text) in [("a", "../../etc"), ("b", "nova"), ("c", "main"), ("d", "")] {
        let meta = json!({ "name": name, "annotations": { ANNOTATION: text } });
        rig.apply::<Agent>(json!({ "metadata": meta, "spec": { "boardRef": { "name": "ops" } } }));
    }
    rig.until_ready().await;
    for name in ["a", "b", "c", "d"] {
        assert_eq!(annotation(&rig, name), Some(rig.agent_id(name)));
        let own = uid(&rig.cluster.agents()[&ObjectKey::new(NS, name)]).unwrap();
        assert_eq!(rig.agent_id(name), format!("mc-{own}"));
    }
    assert_eq!(gateway.agents()["nova"]["workspace"], "/srv/nova");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_was_taken_up_and_moves_to_another_gateway_gets_its_own_id_there() {
    let (old, gateway) = fleet().await;
    let id = old.agent_id("one");
    let backup = Backup::of(&old, Tool::Export);
    lost(old);
    let mut rig = backup.restore(&gateway);
    rig.until_ready().await;
    let other = rig.gateway("gw2");
    rig.apply::<Board>(json!({ "metadata": { "name": "lab" }, "spec": { "gatewayRef": { "name": "gw2" } } }));
    rig.agent("one", json!({ "boardRef": { "name": "lab" } }));
    rig.until_ready().await;
    let own = format!("mc-{}", uid(&rig.cluster.agents()[&ObjectKey::new(NS, "one")]).unwrap());
    assert_eq!((rig.agent_id("one"), annotation(&rig, "one")), (own.clone(), Some(own.clone())));
    assert_eq!(agents(&other), [own]);
    assert!(!agents(&gateway).contains(&id), "the deletion policy removed it");
}

#[tokio::test(start_paused = true)]
async fn a_lead_after_a_lead_that_was_taken_up_gets_the_id_of_the_present_board() {
    let (old, gateway) = fleet().await;
    let former = old.agent_id("lead");
    let backup = Backup::of(&old, Tool::Velero);
    lost(old);
    let mut rig = backup.clone().restore(&gateway);
    rig.until_ready().await;
    let lead = |rig: &Rig| rig.agent("lead", json!({ "boardRef": { "name": "ops" }, "role": "Lead" }));
    let board_uid = uid(&rig.cluster.boards()[&ObjectKey::new(NS, "ops")]).unwrap();
    for _ in 0..2 {
        rig.delete::<Agent>("lead");
        rig.until("the deletion", |rig| rig.cluster.agents().len() == 2).await;
        assert!(!agents(&gateway).contains(&former));
        lead(&rig);
        rig.until_ready().await;
        assert_eq!(rig.agent_id("lead"), format!("lead-{board_uid}"));
    }
}

/// A guest of the AgentGateway `gw` in the namespace [`OTHER`], whose cluster is lost, and what a backup has of it.
async fn guest_fleet() -> (Rig, Simulator, String, Value) {
    let (mut old, gateway) = Rig::new();
    admit_guests(&old, &json!({}));
    old.apply::<Agent>(json!({ "metadata": { "name": "guest", "namespace": OTHER },
        "spec": { "boardRef": { "name": "ops" } } }));
    old.until_ready().await;
    let key = ObjectKey::new(OTHER, "guest");
    let id = guest(&old).agent_id.unwrap();
    gateway.edit_file(&id, "MEMORY.md", Some(MEMORY));
    let agent = Tool::Velero.carry(&old.cluster.agents()[&key].clone());
    let secret = Tool::Velero.carry(&old.cluster.secrets()[&ObjectKey::new(OTHER, "guest-token")].clone());
    let device = Backup::of(&old, Tool::Velero);
    lost(old);
    let rig = another_cluster(&gateway);
    for secret in device.secrets.iter().filter(|secret| secret["metadata"]["namespace"] == NS) {
        rig.apply::<Secret>(secret.clone());
    }
    admit_guests(&rig, &json!({}));
    rig.apply::<Agent>(agent);
    (rig, gateway, id, secret)
}

fn admit_guests(rig: &Rig, permissions: &Value) {
    let mut manifest = crate::rig::gateway_manifest("gw");
    manifest["spec"]["allowedNamespaces"] = json!({ "from": "All", "permissions": permissions });
    rig.apply::<AgentGateway>(manifest);
    let reference = json!({ "name": "gw", "namespace": NS });
    rig.apply::<Board>(
        json!({ "metadata": { "name": "ops", "namespace": OTHER }, "spec": { "gatewayRef": reference } }),
    );
}

fn guest(rig: &Rig) -> muster::api::AgentStatus {
    rig.cluster.agents()[&ObjectKey::new(OTHER, "guest")].status.clone().unwrap_or_default()
}

async fn until_unproven(rig: &mut Rig) -> String {
    let message = |rig: &Rig| {
        let status = guest(rig);
        let ready = muster::api::conditions::find(&status.conditions, ConditionType::Ready).cloned();
        ready.filter(|ready| ready.reason == "ClaimUnproven").map(|ready| ready.message.to_string())
    };
    rig.until("the reason ClaimUnproven", |rig| message(rig).is_some()).await;
    message(rig).unwrap()
}

async fn until_guest_ready(rig: &mut Rig) {
    let is_ready = |rig: &Rig| rig.cluster.agents().get(&ObjectKey::new(OTHER, "guest")).is_some_and(woken);
    rig.until("the guest to be ready", is_ready).await;
}

#[tokio::test(start_paused = true)]
async fn a_guest_without_a_proof_is_told_what_is_missing_and_taken_up_with_its_secret() {
    let (mut rig, gateway, id, secret) = guest_fleet().await;
    let writes = gateway.writes();
    let message = until_unproven(&mut rig).await;
    for words in [&*id, "guest-token", "takingUp", ANNOTATION] {
        assert!(message.contains(words), "{message}");
    }
    rig.run_for(std::time::Duration::from_mins(1)).await;
    assert_eq!((gateway.writes(), guest(&rig).binding), (writes, None));
    let key = ObjectKey::new(OTHER, "guest");
    assert_eq!(rig.cluster.agents()[&key].metadata.annotations.as_ref().unwrap()[ANNOTATION], id, "the claim is kept");
    rig.apply::<Secret>(secret);
    until_guest_ready(&mut rig).await;
    let bound = guest(&rig).binding.unwrap();
    assert_eq!((bound.agent_id.as_str(), bound.taken_up, bound.adopted), (id.as_str(), true, false));
    assert_eq!(gateway.file(&id, "MEMORY.md").as_deref(), Some(MEMORY));
}

#[tokio::test(start_paused = true)]
async fn a_guest_is_taken_up_without_a_proof_where_the_gateway_permits_it() {
    let (mut rig, gateway, id, _) = guest_fleet().await;
    until_unproven(&mut rig).await;
    admit_guests(&rig, &json!({ "takingUp": true }));
    until_guest_ready(&mut rig).await;
    let bound = guest(&rig).binding.unwrap();
    assert_eq!((bound.agent_id.as_str(), bound.taken_up, bound.adopted), (id.as_str(), false, true));
    assert_eq!(agents(&gateway), [id]);
}

#[tokio::test(start_paused = true)]
async fn a_guest_without_its_annotation_gets_a_new_agent_and_the_former_one_stays() {
    let (mut rig, gateway, id, _) = guest_fleet().await;
    until_unproven(&mut rig).await;
    rig.cluster.edit::<Agent>(&ObjectKey::new(OTHER, "guest"), |guest| guest.metadata.annotations = None);
    until_guest_ready(&mut rig).await;
    assert_ne!(guest(&rig).agent_id, Some(id.clone()));
    assert_eq!((agents(&gateway).len(), gateway.file(&id, "MEMORY.md").as_deref()), (2, Some(MEMORY)));
}

#[tokio::test(start_paused = true)]
async fn a_guest_gets_no_agent_by_a_text_that_stands_in_a_workspace() {
    let (mut rig, gateway, id, mut secret) = guest_fleet().await;
    let known = "-".repeat(43);
    gateway.edit_file(&id, "AGENTS.md", Some(&format!("# Rules\n{known}\nBe kind.")));
    gateway.edit_file(&id, "TOOLS.md", Some(&known));
    secret["data"]["token"] = json!("LS0tLS0tLS0tLS0tLS0tLS0tLS0tLS0tLS0tLS0tLS0tLS0tLS0tLS0tLQ==");
    secret["metadata"]["annotations"]["muster.dev/issued-sha256"] = json!(muster::hash::sha256_hex(&known));
    rig.apply::<Secret>(secret);
    until_unproven(&mut rig).await;
    rig.run_for(std::time::Duration::from_mins(1)).await;
    assert_eq!(guest(&rig).binding, None);
}

#[tokio::test(start_paused = true)]
async fn a_restored_agent_of_a_gateway_that_is_away_can_be_deleted_at_once() {
    let (old, gateway) = fleet().await;
    let backup = Backup::of(&old, Tool::Velero);
    lost(old);
    gateway.stop();
    let mut rig = backup.restore(&gateway);
    rig.run_for(std::time::Duration::from_secs(40)).await;
    assert!(rig.cluster.agents().values().all(|agent| !ready(agent)));
    delete_everything(&mut rig).await;
    gateway.start();
    assert_eq!(agents(&gateway).len(), 3, "a claim names nothing that is removed");
}

#[tokio::test(start_paused = true)]
async fn a_chosen_id_is_taken_up_from_a_backup_without_adoption() {
    let (mut old, gateway) = fleet().await;
    old.agent("bot", json!({ "boardRef": { "name": "ops" }, "agentId": "ops-bot" }));
    old.until_ready().await;
    let token = old.token("bot");
    gateway.edit_file("ops-bot", "MEMORY.md", Some(MEMORY));
    let backup = Backup::of(&old, Tool::Export);
    lost(old);
    let mut rig = backup.restore(&gateway);
    rig.until_ready().await;
    let bound = binding(&rig, "bot");
    assert_eq!((bound.agent_id.as_str(), bound.taken_up, bound.claimed_for), ("ops-bot", true, None));
    assert_eq!((rig.token("bot"), gateway.file("ops-bot", "MEMORY.md").as_deref()), (token, Some(MEMORY)));
}
