//! Deletion, in any order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Secret};
use muster::api::agent::{DeletionPolicy, Phase};
use muster::api::object_key::ObjectKey;
use muster::api::{Agent, AgentGateway, Board, ConditionType};
use muster::controllers::agent;
use muster::core::event::Event;
use muster_simulator::{Fault, Profile, Simulator};
use serde_json::json;

use crate::cluster::path_of;
use crate::rig::{NS, Rig, gateway_manifest};

async fn provisioned() -> (Rig, Simulator, String) {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    let id = rig.agent_id("one");
    (rig, gateway, id)
}

/// So many Agents, which have been Ready and are deleted at once, on a gateway that takes ten seconds for each removal.
async fn removed_slowly(count: usize) -> (Rig, Simulator, Vec<String>) {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    let names: Vec<_> = (0..count).map(|number| format!("a{number:02}")).collect();
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
    (rig, gateway, names)
}

fn agent_gone(rig: &Rig) -> bool {
    rig.cluster.agents().is_empty()
}

#[tokio::test(start_paused = true)]
async fn deleting_an_agent_removes_its_gateway_agent_workspace_and_secret() {
    let (mut rig, gateway, id) = provisioned().await;
    rig.delete::<Agent>("one");
    rig.until("the deletion to finish", agent_gone).await;
    assert!(!gateway.agents().contains_key(&id));
    assert!(gateway.file(&id, "AGENTS.md").is_none() && gateway.orphans().is_empty());
    assert!(!rig.cluster.secrets().contains_key(&ObjectKey::new(NS, "one-token")));
    assert!(rig.cluster.gateways().len() == 1);
}

#[tokio::test(start_paused = true)]
async fn a_stale_cache_repeats_no_removal() {
    let (mut rig, gateway, _) = provisioned().await;
    rig.delete::<Agent>("one");
    let cached = Arc::new(rig.cluster.agents()[&ObjectKey::new(NS, "one")].clone());
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
            rig.run_for(Duration::from_secs(1)).await;
        }
        rig.until("the deletion to finish", |rig| agent_gone(rig) && rig.cluster.gateways().is_empty()).await;
        assert!(!gateway.agents().contains_key(&id), "{order:?}: the agent is left on the gateway");
        let secrets: Vec<_> = rig.cluster.secrets().keys().cloned().collect();
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
    rig.until("the deletion to finish", |rig| agent_gone(rig) && rig.cluster.gateways().is_empty()).await;
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

/// Applies the gateway `gw` with this default of its agents' deletion policy.
fn gateway_default(rig: &Rig, policy: Option<&str>) {
    let mut manifest = gateway_manifest("gw");
    manifest["spec"]["agentDefaults"] = json!({ "deletionPolicy": policy });
    rig.apply::<AgentGateway>(manifest);
}

#[tokio::test(start_paused = true)]
async fn the_default_of_the_gateway_holds_for_agents_without_a_policy() {
    for (own, stays) in [(None, true), (Some("Delete"), false)] {
        let (mut rig, gateway) = Rig::new();
        gateway_default(&rig, Some("RetainFiles"));
        rig.board("ops");
        rig.agent("one", json!({ "boardRef": { "name": "ops" }, "deletionPolicy": own }));
        rig.until_ready().await;
        let (id, status) = (rig.agent_id("one"), rig.status("one"));
        let recorded = if stays { DeletionPolicy::RetainFiles } else { DeletionPolicy::Delete };
        assert_eq!(status.binding.unwrap().deletion_policy, Some(recorded));
        rig.delete::<Agent>("one");
        rig.until("the deletion to finish", agent_gone).await;
        assert!(!gateway.agents().contains_key(&id));
        let files = gateway.workspace(&status.workspace_path.unwrap());
        assert_eq!(files.contains_key("AGENTS.md"), stays, "{own:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_default_of_the_gateway_is_recorded_once() {
    let (mut rig, _, _) = provisioned().await;
    rig.run_for(Duration::from_secs(30)).await;
    let policy = |rig: &Rig| rig.status("one").binding.unwrap().deletion_policy;
    assert_eq!(policy(&rig), Some(DeletionPolicy::Delete));
    gateway_default(&rig, Some("Orphan"));
    rig.until("the policy in the binding", |rig| policy(rig) == Some(DeletionPolicy::Orphan)).await;
    rig.run_for(Duration::from_secs(5)).await;
    let written = rig.write_counts();
    rig.run_for(Duration::from_secs(30)).await;
    assert_eq!(rig.write_counts(), written, "the policy is recorded once");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_lost_its_default_together_with_the_deletion_keeps_the_files() {
    let (mut rig, gateway) = Rig::new();
    gateway_default(&rig, Some("RetainFiles"));
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    let workspace = rig.status("one").workspace_path.unwrap();
    gateway_default(&rig, None);
    rig.delete::<Agent>("one");
    rig.until("the deletion to finish", agent_gone).await;
    assert!(gateway.workspace(&workspace).contains_key("AGENTS.md"));
}

#[tokio::test(start_paused = true)]
async fn the_deletion_of_a_board_and_its_gateway_follows_the_policy_of_each_agent() {
    let (mut rig, gateway) = Rig::new();
    gateway_default(&rig, Some("RetainFiles"));
    rig.board("ops");
    let policies = [
        ("inherits", None, [false, true]),
        ("deletes", Some("Delete"), [false; 2]),
        ("stays", Some("Orphan"), [true; 2]),
    ];
    for (name, policy, _) in policies {
        rig.agent(name, json!({ "boardRef": { "name": "ops" }, "deletionPolicy": policy }));
    }
    rig.until_ready().await;
    let known = policies.map(|(name, _, _)| (rig.agent_id(name), rig.status(name).workspace_path.unwrap()));
    rig.delete::<Board>("ops");
    rig.delete::<AgentGateway>("gw");
    rig.until("the deletion of the gateway", |rig| rig.cluster.gateways().is_empty()).await;
    for ((id, workspace), (name, _, stays)) in known.iter().zip(policies) {
        let seen = [gateway.agents().contains_key(id), gateway.workspace(workspace).contains_key("AGENTS.md")];
        assert_eq!(seen, stays, "{name}: the agent and its files");
    }
}

#[tokio::test(start_paused = true)]
async fn a_vanished_gateway_removes_nothing() {
    let (mut rig, gateway, id) = provisioned().await;
    rig.cluster.remove::<AgentGateway>(&ObjectKey::new(NS, "gw"));
    rig.delete::<Agent>("one");
    rig.until("the deletion to finish", agent_gone).await;
    assert!(gateway.agents().contains_key(&id));
    let events = rig.cluster.events().clone();
    assert!(events.iter().any(|(_, event)| event.warning && event.message.contains("no longer exists")), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn the_event_of_a_removal_names_the_folder_and_where_it_is() {
    for (policy, profile, words) in [
        ("Delete", Profile::v2026_9_6(), ["moved its folder", "find ~/.Trash"]),
        ("Delete", Profile::v2026_7_1(), ["does not report the result", "find ~/.Trash"]),
        ("RetainFiles", Profile::v2026_9_6(), ["stays there", "its folder"]),
    ] {
        let (mut rig, _) = Rig::with(profile);
        rig.board("ops");
        rig.agent("one", json!({ "boardRef": { "name": "ops" }, "deletionPolicy": policy }));
        rig.until_ready().await;
        let workspace = rig.status("one").workspace_path.unwrap();
        rig.delete::<Agent>("one");
        rig.until("the deletion to finish", agent_gone).await;
        let events = rig.cluster.events().clone();
        let events: Vec<_> = events.into_iter().map(|(_, event)| event).filter(|e| e.reason == "Removed").collect();
        assert_eq!(events.len(), 1, "{policy}: {events:?}");
        let Event { warning, message, .. } = &events[0];
        assert!(!warning && message.contains(workspace.trim_start_matches('~')), "{message}");
        assert!(words.iter().all(|words| message.contains(words)), "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn many_removals_run_in_sequence_and_block_no_other_agent() {
    let (mut rig, gateway, _) = removed_slowly(24).await;
    rig.worker("z");
    rig.until("the new agent to be Ready", |rig| rig.condition("z", ConditionType::Ready).0 == "True").await;
    let left = rig.cluster.agents().len() - 1;
    assert!(left >= 12, "{left} of 24 removals were pending");
    rig.until("the deletion of the other agents", |rig| rig.cluster.agents().len() == 1).await;
    assert_eq!(gateway.agents().len(), 1 + usize::from(gateway.agents().contains_key("main")));
}

/// How often each Agent was written after its deletion, the request of the user and the end included.
fn writes_of_deletions(rig: &Rig) -> BTreeMap<String, usize> {
    let mut versions = BTreeMap::new();
    for event in rig.cluster.history::<Agent>() {
        let metadata = &event["object"]["metadata"];
        if !metadata["deletionTimestamp"].is_null() {
            *versions.entry(metadata["name"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    versions
}

#[tokio::test(start_paused = true)]
async fn a_removal_is_shown_in_the_status_once_if_it_takes_long() {
    let (mut rig, gateway, _) = provisioned().await;
    rig.worker("two");
    rig.until_ready().await;
    rig.delete::<Agent>("one");
    rig.until("the quick deletion", |rig| rig.cluster.agents().len() == 1).await;
    gateway.inject(Fault::on("agents.delete").delay(Duration::from_mins(1)));
    rig.delete::<Agent>("two");
    rig.until("the phase", |rig| rig.status("two").phase == Some(Phase::Deleting)).await;
    assert_eq!(rig.condition("two", ConditionType::Ready).1, "Deleting");
    rig.until("the slow deletion", agent_gone).await;
    let ended = BTreeMap::from([("one".to_owned(), 2), ("two".to_owned(), 3)]);
    assert_eq!((writes_of_deletions(&rig), gateway.count("agents.delete")), (ended, 2));
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_waits_for_its_turn_of_removal_is_written_once_before_it() {
    let (mut rig, _gateway, names) = removed_slowly(8).await;
    rig.until("a removal to wait for its turn", |rig| {
        rig.condition("a07", ConditionType::Ready).2.contains("its turn")
    })
    .await;
    rig.until("the deletions", |rig| rig.cluster.agents().is_empty()).await;
    let writes = writes_of_deletions(&rig);
    // The request of the user, the phase Deleting, and the end. The first removals may be over before they are shown.
    assert_eq!(writes.keys().collect::<Vec<_>>(), names.iter().collect::<Vec<_>>());
    assert!(writes.values().all(|writes| [2, 3].contains(writes)), "{writes:?}");
    assert!(names[2..].iter().all(|name| writes[name] == 3), "{writes:?}");
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_gateway_blocks_the_deletion_and_the_message_names_orphan() {
    let (mut rig, gateway, id) = provisioned().await;
    gateway.kill();
    rig.delete::<Agent>("one");
    let message = rig.until_reason("one", "DeletionBlocked").await;
    assert!(message.contains("Orphan"), "{message}");
    rig.run_for(Duration::from_mins(10)).await;
    assert_eq!(rig.cluster.agents().len(), 1, "the deletion waits for the gateway");
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
    rig.until("the deletion to finish", |rig| agent_gone(rig) && rig.cluster.gateways().is_empty()).await;
    let events = rig.cluster.events().clone();
    assert!(events.iter().any(|(_, event)| event.warning && event.message.contains(&id)), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn deleting_a_gateway_removes_its_agents_and_reports_gateway_not_found() {
    let (mut rig, gateway, id) = provisioned().await;
    rig.delete::<AgentGateway>("gw");
    rig.until("the deletion of the gateway", |rig| rig.cluster.gateways().is_empty()).await;
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
    let object = rig.cluster.agents()[&ObjectKey::new(NS, "one")].clone();
    let heartbeats = &rig.ctx().state.heartbeats;
    let now = rig.cluster.now();
    heartbeats.touch(&object, now);
    heartbeats.confirm(&object, "aa", now);
    rig.delete::<Agent>("one");
    rig.until("the deletion to finish", agent_gone).await;
    assert!(!gateway.agents().contains_key(&id));
    rig.link("gw").client().resync().await;
    assert_eq!(activity.borrow().of(&id), None);
    let heartbeats = &rig.ctx().state.heartbeats;
    assert_eq!((heartbeats.newer_than_status(&object), heartbeats.confirmed(&object)), (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_somebody_puts_in_the_place_of_a_read_secret_is_not_deleted() {
    for (name, object) in [("one-token", "agent"), ("gw-device", "gateway")] {
        let (mut rig, _, _) = provisioned().await;
        let others = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": name, "namespace": NS, "uid": "another-uid" }, "data": { "password": "b3RoZXJz" },
        });
        if object == "gateway" {
            rig.delete::<Agent>("one");
            rig.until("the deletion of the agent", agent_gone).await;
            rig.delete::<AgentGateway>("gw");
        } else {
            rig.delete::<Agent>("one");
        }
        let path = path_of::<Secret>(&ObjectKey::new(NS, name));
        rig.faults.state().replaced_before_deletion.insert(path, others.clone());
        let is_gone = |rig: &Rig| agent_gone(rig) && (object == "agent" || rig.cluster.gateways().is_empty());
        rig.until("the deletion to finish", is_gone).await;
        let left = rig.cluster.secrets().get(&ObjectKey::new(NS, name)).cloned();
        let data = left.and_then(|secret| secret.data).map(|data| serde_json::to_value(data).unwrap());
        assert_eq!(data.as_ref(), Some(&others["data"]), "{name}");
    }
}

/// The Agent `one` of this namespace on the AgentGateway `gw`, whose gateway is away, while Agent and namespace are being deleted.
async fn deleted_with_its_namespace(namespace: &str) -> (Rig, Simulator) {
    let (mut rig, gateway) = Rig::new();
    let mut manifest = gateway_manifest("gw");
    manifest["spec"]["allowedNamespaces"] = json!({ "from": "All" });
    manifest["spec"]["cleanupTimeout"] = json!("5m");
    rig.apply::<AgentGateway>(manifest);
    let meta = |name: &str| json!({ "name": name, "namespace": namespace });
    let reference = json!({ "gatewayRef": { "name": "gw", "namespace": NS } });
    rig.apply::<Board>(json!({ "metadata": meta("ops"), "spec": reference }));
    rig.apply::<Agent>(json!({ "metadata": meta("one"), "spec": { "boardRef": { "name": "ops" } } }));
    rig.until_ready().await;
    gateway.stop();
    rig.run_for(Duration::from_mins(1)).await;
    rig.cluster.delete::<Agent>(&ObjectKey::new(namespace, "one"));
    (rig, gateway)
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_goes_with_its_namespace_is_let_go_after_the_timeout_of_its_gateway() {
    for namespace in ["other", NS] {
        let (mut rig, gateway) = deleted_with_its_namespace(namespace).await;
        rig.run_for(Duration::from_mins(10)).await;
        assert!(!agent_gone(&rig), "{namespace}: the namespace stays, so that the Agent waits for its gateway");
        let now = rig.cluster.now();
        rig.cluster.delete::<Namespace>(&ObjectKey::new("", namespace));
        rig.run_for(Duration::from_mins(4)).await;
        assert!(!agent_gone(&rig), "{namespace}: spec.cleanupTimeout is 5m");
        rig.until("the deletion to finish", agent_gone).await;
        let waited = Duration::try_from(rig.cluster.now().duration_since(now)).unwrap();
        assert!(waited < Duration::from_mins(6), "{namespace}: {waited:?}");
        let events = rig.cluster.events().clone();
        let shown = |(on, event): &(String, Event)| on == "gw" && event.warning && event.reason == "Deleting";
        let shown = events.into_iter().find(shown).map(|(_, event)| event.message);
        // Events of a namespace that is being deleted are refused.
        assert_eq!(shown.is_some(), namespace != NS, "{shown:?}");
        if let Some(message) = shown {
            assert!(message.contains("Agent other/one") && message.contains("namespace \"other\""), "{message}");
        }
        gateway.start();
        assert_eq!(gateway.agents().len(), 2, "the agent is left there");
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_goes_with_its_namespace_is_removed_from_a_gateway_that_comes_back() {
    let (mut rig, gateway) = deleted_with_its_namespace("other").await;
    let _now = rig.cluster.now();
    rig.cluster.delete::<Namespace>(&ObjectKey::new("", "other"));
    rig.run_for(Duration::from_mins(2)).await;
    gateway.start();
    rig.until("the deletion to finish", agent_gone).await;
    assert_eq!(gateway.agents().len(), 1);
}
