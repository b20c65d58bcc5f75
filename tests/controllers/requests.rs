//! One-shot requests. Each is handled once.

use std::collections::BTreeMap;
use std::time::Duration;

use muster::api::object_key::ObjectKey;
use muster::api::requests::RequestKind;
use muster::api::{Agent, AgentGateway, Board, ConditionType};
use muster_simulator::{Fault, Outcome, Simulator};
use serde_json::json;

use crate::cluster::Kind;
use crate::rig::{NS, Rig};

async fn two_ready_agents() -> (Rig, Simulator) {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.worker("one");
    rig.worker("two");
    rig.until_ready().await;
    rig.run_for(Duration::from_mins(1)).await;
    (rig, gateway)
}

fn handled(rig: &Rig, name: &str, kind: RequestKind) -> bool {
    rig.status(name).requests.iter().any(|r| r.kind == kind && r.handled_at.is_some())
}

/// The number of files written to agents since a call, by name.
fn written_since(gateway: &Simulator, call: usize) -> BTreeMap<String, usize> {
    let mut files = BTreeMap::new();
    for call in gateway.calls().iter().skip(call).filter(|c| c.method == "agents.files.set") {
        *files.entry(call.params["name"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    files
}

/// The number of executed session resets.
fn resets(gateway: &Simulator) -> usize {
    gateway.calls().iter().filter(|c| c.method == "sessions.reset" && c.outcome != Outcome::NotExecuted).count()
}

#[tokio::test(start_paused = true)]
async fn a_sync_request_writes_only_files_with_the_policy_always() {
    let (mut rig, gateway) = two_ready_agents().await;
    let before = gateway.calls().len();
    rig.request::<Agent>("one", RequestKind::Sync);
    rig.until("the sync", |rig| handled(rig, "one", RequestKind::Sync)).await;
    let files = written_since(&gateway, before);
    assert!(files["AGENTS.md"] == 1 && files["SOUL.md"] == 1, "{files:?}");
    assert!(!files.contains_key("MEMORY.md") && !files.contains_key("BOOTSTRAP.md"), "{files:?}");
    let before = (gateway.writes(), rig.write_counts());
    rig.run_for(Duration::from_mins(3)).await;
    assert_eq!((gateway.writes(), rig.write_counts()), before, "the request is handled once");
    assert!(!handled(&rig, "two", RequestKind::Sync));
}

#[tokio::test(start_paused = true)]
async fn an_overwrite_request_replaces_files_that_the_agent_changed() {
    let (mut rig, gateway) = two_ready_agents().await;
    let id = rig.agent_id("one");
    let rendered = gateway.file(&id, "MEMORY.md").unwrap();
    gateway.edit_file(&id, "MEMORY.md", Some("my own notes"));
    gateway.edit_file(&id, "BOOTSTRAP.md", Some(""));
    rig.request::<Agent>("one", RequestKind::Overwrite);
    rig.until("the request to be handled", |rig| handled(rig, "one", RequestKind::Overwrite)).await;
    assert_eq!(gateway.file(&id, "MEMORY.md"), Some(rendered));
    assert!(gateway.file(&id, "BOOTSTRAP.md").is_some_and(|text| !text.is_empty()));
}

#[tokio::test(start_paused = true)]
async fn a_bootstrap_request_writes_only_bootstrap_md() {
    let (mut rig, gateway) = two_ready_agents().await;
    let id = rig.agent_id("one");
    gateway.edit_file(&id, "MEMORY.md", Some("my own notes"));
    gateway.edit_file(&id, "BOOTSTRAP.md", None);
    let before = gateway.calls().len();
    rig.request::<Agent>("one", RequestKind::Bootstrap);
    rig.until("the request to be handled", |rig| handled(rig, "one", RequestKind::Bootstrap)).await;
    assert_eq!(written_since(&gateway, before), [("BOOTSTRAP.md".to_owned(), 1)].into());
    assert_eq!(gateway.file(&id, "MEMORY.md").as_deref(), Some("my own notes"));
}

#[tokio::test(start_paused = true)]
async fn a_reset_request_resets_the_session_once_and_keeps_its_label() {
    let (mut rig, gateway) = two_ready_agents().await;
    let key = format!("agent:{}:main", rig.agent_id("one"));
    rig.request::<Agent>("one", RequestKind::ResetSession);
    rig.until("the reset", |rig| handled(rig, "one", RequestKind::ResetSession)).await;
    assert_eq!(resets(&gateway), 1);
    let session = gateway.sessions()[&key].clone();
    assert_eq!(session.label.as_deref(), Some("one"));
    assert!(session.messages.iter().all(|(role, _)| role == "system"), "{:?}", session.messages);
    rig.run_for(Duration::from_mins(3)).await;
    assert_eq!((resets(&gateway), gateway.chats().len()), (1, 2), "a reset wakes no agent");
}

#[tokio::test(start_paused = true)]
async fn a_changed_spec_resets_the_session_only_with_reset_on_update() {
    for (reset, times) in [(true, 1), (false, 0)] {
        let (mut rig, gateway) = two_ready_agents().await;
        let spec =
            |name| json!({ "boardRef": { "name": "ops" }, "displayName": name, "session": { "resetOnUpdate": reset } });
        rig.agent("one", spec("A"));
        rig.until_ready().await;
        rig.run_for(Duration::from_secs(30)).await;
        assert_eq!(resets(&gateway), times, "resetOnUpdate: {reset}");
        rig.agent("one", spec("B"));
        rig.until_ready().await;
        rig.run_for(Duration::from_secs(30)).await;
        assert_eq!(resets(&gateway), 2 * times, "resetOnUpdate: {reset}");
        let key = format!("agent:{}:main", rig.agent_id("one"));
        assert_eq!(gateway.sessions()[&key].label.as_deref(), Some("B"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_on_a_board_reaches_its_agents_and_reports_their_progress() {
    let (mut rig, gateway) = two_ready_agents().await;
    rig.agent("broken", json!({ "boardRef": { "name": "ops" }, "templates": { "configMapRef": { "name": "none" } } }));
    rig.run_for(Duration::from_secs(5)).await;
    let old = gateway.writes();
    rig.request::<Board>("ops", RequestKind::Sync);
    rig.until("two of three agents to be updated", |rig| {
        let state = &rig.cluster;
        let sync = state.boards()[&ObjectKey::new(NS, "ops")].status.as_ref().and_then(|s| s.last_sync.clone());
        sync.is_some_and(|s| (s.updated, s.pending) == (2, 1) && s.errors[0].agent == "fleet/broken")
    })
    .await;
    assert!(gateway.writes() > old);
    let message = rig.cluster.boards()[&ObjectKey::new(NS, "ops")].status.clone().unwrap().last_sync.unwrap().errors;
    assert!(message[0].message.contains("none"), "{message:?}");
    rig.worker("late");
    rig.until("the later agent to be Ready", |rig| rig.condition("late", ConditionType::Ready).0 == "True").await;
    assert!(!handled(&rig, "late", RequestKind::Sync), "the agent was created after the request");
}

#[tokio::test(start_paused = true)]
async fn an_invalid_request_time_is_reported_once_and_ignored() {
    let (mut rig, gateway) = two_ready_agents().await;
    let before = gateway.writes();
    rig.cluster.annotate::<Agent>(&ObjectKey::new(NS, "one"), RequestKind::Rotate.annotation(), "now");
    rig.until("the message about the invalid request", |rig| !rig.status("one").invalid_requests.is_empty()).await;
    assert!(rig.status("one").invalid_requests[0].contains("rotate-requested-at"));
    rig.run_for(Duration::from_mins(2)).await;
    let state = &rig.cluster;
    assert_eq!(state.events().iter().filter(|(_, event)| event.reason == "InvalidRequest").count(), 1);
    assert_eq!(gateway.writes(), before);
}

fn request_all(rig: &Rig) {
    for kind in RequestKind::ALL {
        rig.request::<Board>("ops", kind);
    }
}

fn all_handled(rig: &Rig) -> bool {
    ["one", "two"].iter().all(|name| RequestKind::ALL.iter().all(|kind| handled(rig, name, *kind)))
}

fn assert_handled_once(rig: &Rig, gateway: &Simulator, context: &str) {
    assert_eq!(resets(gateway), 2, "{context}: each session was reset once");
    for name in ["one", "two"] {
        assert_eq!(rig.status(name).token.unwrap().revision, 2, "{context}: the token of {name} was replaced once");
        let file = gateway.file(&rig.agent_id(name), "AGENTS.md").unwrap();
        assert!(file.contains(&rig.token(name)), "{context}: {name} has its token");
    }
    assert_eq!(gateway.chats().iter().map(|c| c.runs).sum::<usize>(), 4, "{context}: each agent was woken once more");
}

#[tokio::test(start_paused = true)]
async fn concurrent_requests_are_each_handled_once_despite_a_crash_at_any_write() {
    let (mut rig, gateway) = two_ready_agents().await;
    let before = rig.faults.state().writes;
    request_all(&rig);
    rig.until("all", all_handled).await;
    assert_handled_once(&rig, &gateway, "without a crash");
    let writes = rig.faults.state().writes - before;
    assert!(writes >= 10, "{writes} writes");
    for crash_at in 1..=writes {
        let (mut rig, gateway) = two_ready_agents().await;
        let before = rig.faults.state().writes;
        rig.faults.state().crash_at = [before + crash_at].into();
        request_all(&rig);
        let crashed = rig.faults.crashed.clone();
        tokio::select! {
            biased;
            () = crashed.notified() => rig.start(),
            () = rig.until("the crash or the end", all_handled) => {}
        }
        rig.until("all", all_handled).await;
        assert_handled_once(&rig, &gateway, &format!("crash after write {crash_at}"));
    }
}

#[tokio::test(start_paused = true)]
async fn concurrent_requests_are_each_handled_once_despite_any_lost_reply() {
    let (mut rig, gateway) = two_ready_agents().await;
    let before = gateway.writes();
    request_all(&rig);
    rig.until("all", all_handled).await;
    for nth in 1..=gateway.writes() - before {
        for (how, fault) in [
            ("reply lost", Fault::on_any_write().nth(nth).lose_reply()),
            ("connection lost after", Fault::on_any_write().nth(nth).drop_connection_after()),
            ("connection lost before", Fault::on_any_write().nth(nth).drop_connection_before()),
        ] {
            let (mut rig, gateway) = two_ready_agents().await;
            gateway.inject(fault);
            request_all(&rig);
            rig.until("all", all_handled).await;
            assert_eq!(gateway.faults_left(), 0, "{how}, write {nth}: the fault did not occur");
            assert_handled_once(&rig, &gateway, &format!("{how}, write {nth}"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeated_request_is_handled_again() {
    let (mut rig, gateway) = two_ready_agents().await;
    let id = rig.agent_id("one");
    let memory = gateway.file(&id, "MEMORY.md").unwrap();
    for times in 1..=3 {
        gateway.edit_file(&id, "MEMORY.md", Some("mine"));
        tokio::time::advance(Duration::from_secs(2)).await;
        rig.request::<Agent>("one", RequestKind::ResetSession);
        rig.request::<Agent>("one", RequestKind::Overwrite);
        let now = rig.cluster.now();
        let done = |rig: &Rig, kind| {
            rig.status("one")
                .requests
                .iter()
                .any(|r| r.kind == kind && r.requested_at.0 == now && r.handled_at.is_some())
        };
        rig.until("the reset", |rig| done(rig, RequestKind::ResetSession) && done(rig, RequestKind::Overwrite)).await;
        assert_eq!(resets(&gateway), times);
        assert_eq!(gateway.file(&id, "MEMORY.md").as_ref(), Some(&memory), "{times}");
    }
}

#[tokio::test(start_paused = true)]
async fn any_new_value_requests_a_look_that_the_status_answers_and_that_changes_nothing() {
    async fn look<K: Kind>(rig: &mut Rig, name: &str, handled: impl Fn(&K) -> Option<String>) {
        let key = ObjectKey::new(NS, name);
        for value in ["2026-01-01T00:00:00Z", "again, please", "2026-01-01T00:00:00Z"] {
            rig.cluster.annotate::<K>(&key, "muster.dev/reconcile-requested-at", value);
            rig.until(value, |rig| handled(&rig.cluster.get::<K>(&key).unwrap()).as_deref() == Some(value)).await;
        }
        let long = "x".repeat(1_000);
        rig.cluster.annotate::<K>(&key, "muster.dev/reconcile-requested-at", &long);
        rig.until("a long one", |rig| handled(&rig.cluster.get::<K>(&key).unwrap()).is_some_and(|v| v == long[..253]))
            .await;
    }
    let (mut rig, gateway) = two_ready_agents().await;
    let before = (gateway.writes(), rig.cluster.events().len());
    look::<Agent>(&mut rig, "one", |agent| agent.status.clone()?.last_handled_reconcile_at).await;
    look::<Board>(&mut rig, "ops", |board| board.status.clone()?.last_handled_reconcile_at).await;
    look::<AgentGateway>(&mut rig, "gw", |gateway| gateway.status.clone()?.last_handled_reconcile_at).await;
    assert_eq!((gateway.writes(), rig.cluster.events().len()), before);
}
