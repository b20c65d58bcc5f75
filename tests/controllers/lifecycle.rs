//! From an applied Agent to a working one, and no write after that.

use std::time::Duration;

use muster::api::agent::Phase;
use muster::api::object_key::ObjectKey;
use muster::api::{Agent, AgentGateway, ConditionType, keys};
use muster::controllers::gateway_handle::SetUp;
use serde_json::json;

use crate::rig::{NS, Rig, gateway_manifest};

#[tokio::test(start_paused = true)]
async fn an_applied_agent_becomes_ready_and_is_woken_once() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    let id = rig.agent_id("one");
    assert!(gateway.agents().contains_key(&id));
    assert!(gateway.file(&id, "AGENTS.md").unwrap().contains(&rig.token("one")));
    let chats = gateway.chats();
    assert_eq!(chats.len(), 1, "{chats:?}");
    assert_eq!(chats[0].session_key, format!("agent:{id}:main"));
    let phase = rig.status("one").phase;
    assert!(matches!(phase, Some(Phase::Ready | Phase::Active)), "before or in its run: {phase:?}");
    assert_eq!(rig.condition("one", ConditionType::CheckedIn).1, "WaitingForCheckIn");
}

#[tokio::test(start_paused = true)]
async fn an_agent_keeps_the_labels_and_the_annotations_that_no_reconcile_reads() {
    let (mut rig, _gateway) = Rig::new();
    rig.board("ops");
    let annotations = json!({ (keys::LAST_APPLIED): "{}", "example.com/note": "x" });
    let metadata = json!({ "name": "one", "labels": { "team": "infra" }, "annotations": annotations });
    rig.apply::<Agent>(json!({ "metadata": metadata, "spec": { "boardRef": { "name": "ops" } } }));
    rig.until_ready().await;
    let kept = rig.cluster.agents()[&ObjectKey::new(NS, "one")].metadata.clone();
    assert_eq!(kept.labels, Some([("team".to_owned(), "infra".to_owned())].into()));
    let kept: Vec<_> = kept.annotations.unwrap().into_keys().collect();
    assert_eq!(kept, ["example.com/note", keys::LAST_APPLIED, keys::AGENT_ID]);
}

#[tokio::test(start_paused = true)]
async fn agents_that_are_applied_together_are_ready_and_labelled_after_at_most_five_reconciles_each() {
    const AGENTS: u64 = 16;
    let (mut rig, _gateway) = Rig::new();
    rig.board("ops");
    rig.run_for(Duration::from_secs(20)).await;
    assert_eq!(rig.reconciles("agent"), 0);
    for n in 0..AGENTS {
        let spec = json!({ "boardRef": { "name": "ops" }, "wake": { "enabled": false } });
        rig.agent(&format!("worker-{n}"), spec);
    }
    rig.until_ready().await;
    let is_labelled = |agent: &Agent| agent.status.as_ref().is_some_and(|status| status.session_label.is_some());
    rig.until("the labels", |rig| rig.cluster.agents().values().all(is_labelled)).await;
    let reconciles = rig.reconciles("agent");
    assert!(reconciles <= 5 * AGENTS, "{reconciles} reconciles of {AGENTS} agents");
}

#[tokio::test(start_paused = true)]
async fn twenty_agents_of_all_roles_need_few_config_writes_and_then_none() {
    let (mut rig, gateway) = Rig::new();
    for board in ["ops", "web"] {
        rig.board(board);
        rig.agent(&format!("{board}-lead"), json!({ "role": "Lead", "boardRef": { "name": board } }));
    }
    rig.agent("main", json!({ "role": "Main", "gatewayRef": { "name": "gw" } }));
    for n in 0..17 {
        rig.worker(&format!("worker-{n}"));
    }
    rig.until_ready().await;
    assert!(gateway.count("config.patch") <= 3, "{} config writes", gateway.count("config.patch"));
    assert_eq!(gateway.agents().len(), 21, "20 and the gateway's own main");
    check_in_all(&rig).await;
    // Until the runs of the wakes have ended and the status shows it.
    rig.run_for(Duration::from_mins(1)).await;
    let before = (gateway.writes(), rig.write_counts());
    rig.run_for(Duration::from_mins(4)).await;
    assert_eq!((gateway.writes(), rig.write_counts()), before, "nothing changed, so nothing may be written");
}

/// Every agent checks in.
async fn check_in_all(rig: &Rig) {
    for key in rig.agent_keys() {
        assert_eq!(rig.check_in(&key.name, &json!({})).await, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn a_check_in_is_written_to_the_status_and_ends_the_wakes() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    rig.run_for(Duration::from_secs(2)).await;
    check_in_all(&rig).await;
    rig.until("the check-in", |rig| rig.condition("one", ConditionType::CheckedIn).0 == "True").await;
    rig.run_for(Duration::from_mins(7)).await;
    assert_eq!(gateway.chats().len(), 1, "a checked-in agent is not woken before two silent intervals");
}

#[tokio::test(start_paused = true)]
async fn a_silent_agent_is_woken_three_times() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    rig.until("MaxWakeAttempts", |rig| rig.condition("one", ConditionType::CheckedIn).1 == "MaxWakeAttempts").await;
    rig.run_for(Duration::from_mins(15)).await;
    let keys: std::collections::BTreeSet<_> = gateway.chats().iter().map(|c| c.idempotency_key.clone()).collect();
    assert_eq!((gateway.chats().len(), keys.len()), (3, 3));
    assert_eq!(rig.condition("one", ConditionType::Ready).0, "True");
}

#[tokio::test(start_paused = true)]
async fn a_changed_spec_and_a_changed_board_reach_config_and_files() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    let id = rig.agent_id("one");
    rig.agent("one", json!({ "boardRef": { "name": "ops" }, "displayName": "Senior Engineer", "identityProfile": { "role": "SRE" } }));
    rig.apply::<muster::api::Board>(json!({
        "metadata": { "name": "ops" },
        "spec": { "gatewayRef": { "name": "gw" }, "objective": "Keep the lights on" }
    }));
    rig.until_ready().await;
    rig.until("the new name", |_| gateway.agents()[&id]["name"] == "Senior Engineer").await;
    let session = format!("agent:{id}:main");
    rig.until("the label", |_| gateway.sessions()[&session].label.as_deref() == Some("Senior Engineer")).await;
    assert!(gateway.file(&id, "IDENTITY.md").unwrap().contains("SRE"));
    assert!(gateway.file(&id, "AGENTS.md").unwrap().contains("Keep the lights on"));
}

#[tokio::test(start_paused = true)]
async fn a_suspended_agent_has_no_heartbeat_and_is_not_woken() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.agent("one", json!({ "boardRef": { "name": "ops" }, "suspend": true }));
    rig.until("paused and provisioned", |rig| rig.condition("one", ConditionType::Ready).0 == "True").await;
    rig.run_for(Duration::from_mins(10)).await;
    assert_eq!(rig.status("one").phase, Some(Phase::Paused));
    assert_eq!(gateway.agents()[&rig.agent_id("one")]["heartbeat"]["every"], "0m");
    assert!(gateway.chats().is_empty());
    rig.agent("one", json!({ "boardRef": { "name": "ops" } }));
    rig.until_ready().await;
    assert_eq!(gateway.agents()[&rig.agent_id("one")]["heartbeat"]["every"], "5m");
}

#[tokio::test(start_paused = true)]
async fn a_moved_agent_leaves_nothing_on_its_first_gateway() {
    let (mut rig, first) = Rig::new();
    let second = rig.gateway("gw2");
    rig.board("ops");
    rig.apply::<muster::api::Board>(
        json!({ "metadata": { "name": "far" }, "spec": { "gatewayRef": { "name": "gw2" } } }),
    );
    rig.worker("one");
    rig.until_ready().await;
    let id = rig.agent_id("one");
    rig.agent("one", json!({ "boardRef": { "name": "far" } }));
    rig.until("the move", |_| second.agents().contains_key(&id)).await;
    rig.until_ready().await;
    assert!(!first.agents().contains_key(&id) && first.orphans().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_gateway_blocks_no_agent_of_another_gateway() {
    let (mut rig, first) = Rig::new();
    let second = rig.gateway("gw2");
    second.kill();
    rig.board("ops");
    rig.apply::<muster::api::Board>(
        json!({ "metadata": { "name": "far" }, "spec": { "gatewayRef": { "name": "gw2" } } }),
    );
    rig.worker("near");
    rig.agent("far", json!({ "boardRef": { "name": "far" } }));
    rig.until("the agent of the reachable gateway to be Ready", |rig| {
        rig.condition("near", ConditionType::Ready).0 == "True"
    })
    .await;
    let (status, reason, message) = rig.condition("far", ConditionType::Ready);
    assert_eq!((status.as_str(), reason.as_str()), ("Unknown", "GatewayNotReady"), "{message}");
    second.start();
    rig.until_ready().await;
    assert!(first.agents().len() == 2 && second.agents().len() == 2);
}

#[tokio::test(start_paused = true)]
async fn an_agent_removed_at_the_gateway_is_created_again() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    let id = rig.agent_id("one");
    gateway.remove_agent(&id);
    assert!(!gateway.agents().contains_key(&id));
    rig.until("the agent to be created again", |_| gateway.agents().contains_key(&id)).await;
    rig.until("the files to be written again", |rig| {
        gateway.file(&id, "AGENTS.md").is_some_and(|text| text.contains(&rig.token("one")))
    })
    .await;
    rig.until_ready().await;
    assert_eq!(gateway.count("agents.create"), 1, "a config write does not open an id that was deleted");
}

#[tokio::test(start_paused = true)]
async fn a_chosen_id_can_be_used_again_after_its_agent_is_deleted() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    for life in ["first", "second"] {
        rig.agent(life, json!({ "boardRef": { "name": "ops" }, "agentId": "ops-bot" }));
        rig.until_ready().await;
        assert_eq!(gateway.agents()["ops-bot"]["name"], life);
        let first = gateway.file("ops-bot", "BOOTSTRAP.md").unwrap();
        assert!(first.starts_with("# First start"), "not the gateway's own first file: {first}");
        rig.delete::<Agent>(life);
        rig.until("the deletion to finish", |rig| rig.cluster.agents().is_empty()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_closed_id_without_a_record_in_the_status_is_opened_again() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.worker("one");
    rig.until("its id", |rig| rig.status("one").agent_id.is_some()).await;
    // The id was used and deleted before, and no status shows that.
    gateway.close_id(&rig.agent_id("one"));
    rig.until_ready().await;
}

#[tokio::test(start_paused = true)]
async fn no_token_appears_in_status_events_or_errors() {
    let (mut rig, _gateway) = Rig::new();
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    let token = rig.token("one");
    let state = &rig.cluster;
    let agent: &Agent = &state.agents()[&ObjectKey::new(NS, "one")];
    assert!(!serde_json::to_string(agent).unwrap().contains(&token));
    assert!(!format!("{:?}", state.events()).contains(&token));
    assert!(!serde_json::to_string(&state.gateways().values().collect::<Vec<_>>()).unwrap().contains("secret-token"));
}

#[tokio::test(start_paused = true)]
async fn an_agent_without_a_permit_is_queued_when_a_permit_is_released() {
    let (mut rig, _gateway) = Rig::new();
    let mut manifest = gateway_manifest("gw");
    manifest["spec"]["maxConcurrentReconciles"] = json!(1);
    rig.apply::<AgentGateway>(manifest);
    rig.board("ops");
    rig.run_for(Duration::from_secs(10)).await;
    for name in ["one", "two", "three", "four"] {
        rig.worker(name);
    }
    let is_bound = |agent: &Agent| agent.status.as_ref().is_some_and(|status| status.binding.is_some());
    let started = |rig: &Rig| rig.cluster.agents().values().filter(|agent| is_bound(agent)).count();
    let link = rig.link("gw");
    let permit = link.agent_permit(&ObjectKey::new(NS, "other-agent"), SetUp::Unready).unwrap();
    rig.run_for(Duration::from_secs(2)).await;
    assert_eq!(started(&rig), 0, "the only permit is taken");
    drop(permit);
    rig.run_for(Duration::from_secs(2)).await;
    assert_eq!(started(&rig), 4, "the waiting agents were queued, although they had no id yet");
}

#[tokio::test(start_paused = true)]
async fn the_first_config_write_of_a_quiet_gateway_waits_a_moment_for_another_new_agent() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.run_for(Duration::from_secs(10)).await;
    let link = rig.link("gw");
    let another = link.agent_permit(&ObjectKey::new(NS, "other-agent"), SetUp::New).unwrap();
    rig.worker("one");
    rig.run_for(Duration::from_millis(20)).await;
    assert!(rig.status("one").binding.is_some(), "the agent is bound and its entry submitted");
    rig.run_for(Duration::from_millis(80)).await;
    assert_eq!(gateway.count("config.patch"), 0, "the write waits for the other new agent");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(gateway.count("config.patch"), 1, "the write does not wait for an agent that never comes");
    drop(another);
    rig.until_ready().await;
}

#[tokio::test(start_paused = true)]
async fn a_restarted_operator_writes_nothing_without_a_change() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    for name in ["one", "two"] {
        rig.worker(name);
    }
    rig.until_ready().await;
    rig.run_for(Duration::from_secs(30)).await;
    let (written, calls) = (rig.write_counts(), gateway.writes());
    rig.start();
    rig.run_for(Duration::from_secs(30)).await;
    assert_eq!(rig.write_counts(), written, "API writes and events");
    assert_eq!(gateway.writes(), calls, "writing requests");
}

#[tokio::test(start_paused = true)]
async fn a_new_workspace_root_holds_for_new_agents_and_the_others_keep_their_folders() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    let (id, old) = (rig.agent_id("one"), rig.status("one").workspace_path.unwrap());
    gateway.edit_file(&id, "MEMORY.md", Some("remember the milk"));
    let mut manifest = gateway_manifest("gw");
    manifest["spec"]["workspaceRoot"] = json!("/srv/agents");
    rig.apply::<AgentGateway>(manifest);
    rig.worker("two");
    rig.until("the second agent", |rig| rig.condition("two", ConditionType::Ready).0 == "True").await;
    rig.run_for(Duration::from_mins(15)).await;
    assert_eq!(rig.status("two").workspace_path, Some(format!("/srv/agents/workspace-{}", rig.agent_id("two"))));
    assert_eq!(rig.status("one").workspace_path.as_ref(), Some(&old));
    assert_eq!(gateway.file(&id, "MEMORY.md").as_deref(), Some("remember the milk"));
    let message = rig.condition("one", ConditionType::Registered).2;
    assert!(message.contains(&format!("its workspace stays {old}")), "{message}");
    assert!(!rig.condition("two", ConditionType::Registered).2.contains("stays"));
    // The agent goes with its folder.
    rig.delete::<Agent>("one");
    rig.until("the deletion", |rig| rig.agent_keys().len() == 1).await;
    assert!(gateway.workspace(&old).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_recreated_agent_is_not_ready_before_its_files_are_written() {
    let (mut rig, gateway) = Rig::new();
    let mut manifest = gateway_manifest("gw");
    manifest["spec"]["resyncInterval"] = json!("24h");
    rig.apply::<AgentGateway>(manifest);
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    let id = rig.agent_id("one");
    gateway.remove_agent(&id);
    rig.until("the loss to be seen", |rig| rig.condition("one", ConditionType::Ready).0 != "True").await;
    rig.until("Ready", |rig| rig.condition("one", ConditionType::Ready).0 == "True").await;
    assert!(gateway.file(&id, "AGENTS.md").is_some_and(|text| text.contains(&rig.token("one"))));
}
