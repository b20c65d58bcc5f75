//! Agents that Muster only observes: `managementPolicy: Observe`.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use muster::api::agent::{Agent, CheckIn, Phase};
use muster::api::conditions::find;
use muster::api::object_key::ObjectKey;
use muster::api::requests::RequestKind;
use muster::api::{AgentGateway, Board, ConditionType, keys};
use muster_simulator::{Profile, Simulator};
use serde_json::{Value, json};

use crate::rig::{NS, Rig, gateway_manifest, ready as is_ready};

const WORKSPACE: &str = "/srv/nova";
/// Longer than the resync interval of ten minutes.
const RESYNC: Duration = Duration::from_secs(700);
/// The namespace of guests on the AgentGateway.
const OTHER: &str = "other";

/// Somebody else makes the agent `nova` on the gateway.
fn make_nova(gateway: &Simulator) {
    gateway.edit_config(|config| {
        config["agents"]["ownership"] = json!("explicit");
        config["agents"]["entries"]["nova"] = json!({
            "name": "Nova", "workspace": WORKSPACE, "heartbeat": { "every": "45m" },
        });
    });
}

/// An operator, and a gateway with an agent `nova` that somebody else keeps.
async fn with_nova() -> (Rig, Simulator) {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.run_for(Duration::from_secs(5)).await;
    make_nova(&gateway);
    gateway.edit_file("nova", "AGENTS.md", Some("mine"));
    (rig, gateway)
}

/// The spec of an Agent for `nova` with this management policy.
fn nova_spec(policy: &str) -> Value {
    json!({ "boardRef": { "name": "ops" }, "agentId": "nova", "managementPolicy": policy })
}

/// A spec that adopts `nova`, without a wake.
fn adopting_spec(policy: &str) -> Value {
    let mut spec = nova_spec(policy);
    spec["adoptionPolicy"] = json!("IfExists");
    spec["wake"] = json!({ "enabled": false });
    spec
}

fn worker_spec(policy: &str) -> Value {
    json!({ "boardRef": { "name": "ops" }, "managementPolicy": policy })
}

async fn observed_nova() -> (Rig, Simulator) {
    let (mut rig, gateway) = with_nova().await;
    rig.agent("nova", nova_spec("Observe"));
    rig.until_reason("nova", "Observed").await;
    (rig, gateway)
}

/// A worker that Muster set up and that it only observes now.
async fn left_worker() -> (Rig, Simulator) {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    rig.run_for(Duration::from_mins(1)).await;
    rig.agent("one", worker_spec("Observe"));
    rig.until_reason("one", "Observed").await;
    (rig, gateway)
}

fn agent(rig: &Rig, namespace: &str, name: &str) -> Agent {
    rig.cluster.get(&ObjectKey::new(namespace, name)).unwrap()
}

fn phase(rig: &Rig) -> Option<Phase> {
    rig.status("nova").phase
}

/// The reason of Ready of an Agent in a namespace.
fn reason(rig: &Rig, namespace: &str, name: &str) -> String {
    let status = agent(rig, namespace, name).status.unwrap_or_default();
    find(&status.conditions, ConditionType::Ready).map(|ready| ready.reason.to_string()).unwrap_or_default()
}

/// The numbers of managed and of observed agents of an AgentGateway.
fn counts(rig: &Rig, name: &str) -> Option<(i32, i32)> {
    let gateway: AgentGateway = rig.cluster.get(&ObjectKey::new(NS, name))?;
    gateway.status?.agents.map(|agents| (agents.managed, agents.observed))
}

#[tokio::test(start_paused = true)]
async fn an_observed_agent_is_shown_and_nothing_is_made_for_it() {
    let (mut rig, gateway) = with_nova().await;
    let file_reads = || gateway.count("agents.files.list") + gateway.count("agents.files.get");
    let reads = file_reads();
    rig.agent("nova", nova_spec("Observe"));
    rig.until_reason("nova", "Observed").await;
    let nova = agent(&rig, NS, "nova");
    assert!(is_ready(&nova) && nova.metadata.finalizers.is_none() && nova.metadata.annotations.is_none(), "{nova:?}");
    let status = nova.status.unwrap();
    assert_eq!((status.agent_id.as_deref(), status.session_key.as_deref()), (Some("nova"), Some("agent:nova:main")));
    assert_eq!((status.workspace_path.as_deref(), status.phase), (Some(WORKSPACE), Some(Phase::Idle)));
    assert_eq!((&status.binding, &status.token, status.files.len(), &status.wake), (&None, &None, 0, &None));
    for (kind, expected) in [
        (ConditionType::Registered, ("True", "Observed")),
        (ConditionType::FilesSynced, ("Unknown", "NotManaged")),
        (ConditionType::TokenIssued, ("Unknown", "NotManaged")),
        (ConditionType::HeartbeatConfigured, ("Unknown", "NotManaged")),
        (ConditionType::SessionReady, ("Unknown", "NotManaged")),
        (ConditionType::CheckedIn, ("Unknown", "NotManaged")),
        (ConditionType::Paused, ("False", "Running")),
        (ConditionType::Stalled, ("", "")),
        (ConditionType::Reconciling, ("", "")),
    ] {
        let (status, reason, _) = rig.condition("nova", kind);
        assert_eq!((status.as_str(), reason.as_str()), expected, "{kind}");
    }
    assert!(!rig.cluster.secrets().contains_key(&ObjectKey::new(NS, "nova-token")));
    rig.run_for(Duration::from_mins(1)).await;
    let before = (rig.write_counts(), gateway.config());
    rig.run_for(2 * RESYNC).await;
    assert_eq!((rig.write_counts(), gateway.config()), before);
    assert_eq!((gateway.writes(), file_reads()), (0, reads));
}

#[tokio::test(start_paused = true)]
async fn the_status_of_an_observed_agent_follows_the_gateway() {
    let (mut rig, gateway) = observed_nova().await;
    gateway.begin_run("nova");
    rig.until("its run", |rig| phase(rig) == Some(Phase::Active)).await;
    rig.start();
    rig.run_for(Duration::from_mins(1)).await;
    assert_eq!(phase(&rig), Some(Phase::Active), "a run from before the start of the operator");
    gateway.end_run("nova");
    rig.until("the end of its run", |rig| phase(rig) == Some(Phase::Idle)).await;
    assert!(rig.status("nova").last_run.is_some_and(|run| run.ended_at.is_some()));
    rig.run_for(Duration::from_hours(3)).await;
    assert_eq!(phase(&rig), Some(Phase::Idle), "it never calls, and is not offline");

    gateway.remove_agent("nova");
    let message = rig.until_reason("nova", "AgentMissing").await;
    assert!(message.contains("\"nova\"") && message.contains("spec.managementPolicy"), "{message}");
    assert_eq!(rig.condition("nova", ConditionType::Registered).0, "False");
    assert_eq!((rig.condition("nova", ConditionType::Stalled).0.as_str(), phase(&rig)), ("True", Some(Phase::Failed)));
    make_nova(&gateway);
    rig.until_reason("nova", "Observed").await;
    assert_eq!((phase(&rig), gateway.writes()), (Some(Phase::Idle), 0));
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_is_away_keeps_what_was_seen_and_lets_the_observer_go_at_once() {
    let (mut rig, gateway) = observed_nova().await;
    let before = rig.status("nova").workspace_path;
    gateway.stop();
    rig.until_reason("nova", "GatewayNotReady").await;
    let (status, _, _) = rig.condition("nova", ConditionType::Registered);
    assert_eq!((rig.status("nova").workspace_path, status.as_str(), phase(&rig)), (before, "True", Some(Phase::Idle)));
    rig.delete::<Agent>("nova");
    assert!(rig.cluster.agents().is_empty());
    gateway.start();
    rig.run_for(RESYNC).await;
    assert!(gateway.agents().contains_key("nova"));
    assert_eq!((gateway.file("nova", "AGENTS.md").as_deref(), gateway.writes()), (Some("mine"), 0));
}

#[tokio::test(start_paused = true)]
async fn a_request_on_an_observed_agent_does_nothing_and_is_no_longer_due_afterwards() {
    let (mut rig, gateway) = observed_nova().await;
    rig.run_for(Duration::from_secs(2)).await;
    for kind in RequestKind::ALL {
        rig.request::<Agent>("nova", kind);
    }
    rig.until("the record", |rig| rig.status("nova").requests.len() == RequestKind::ALL.len()).await;
    let status = rig.status("nova");
    assert!(status.requests.iter().all(|request| request.handled_at.is_none()), "{:?}", status.requests);
    for (text, kind) in status.invalid_requests.iter().zip(RequestKind::ALL) {
        assert!(text.contains(kind.annotation()) && text.contains("only observes"), "{text}");
    }
    assert_eq!(status.invalid_requests.len(), RequestKind::ALL.len());
    assert!(rig.cluster.events().iter().any(|(name, event)| name == "nova" && event.reason == "InvalidRequest"));
    rig.run_for(Duration::from_secs(2)).await;
    rig.request::<Board>("ops", RequestKind::Sync);
    let counts = |rig: &Rig| {
        let board: Board = rig.cluster.get(&ObjectKey::new(NS, "ops")).unwrap();
        board.status?.last_sync.map(|sync| (sync.updated, sync.skipped, sync.pending))
    };
    rig.until("the Board", |rig| counts(rig) == Some((0, 1, 0))).await;
    assert_eq!(gateway.writes(), 0);

    rig.agent("nova", adopting_spec("Manage"));
    rig.until_reason("nova", "Reconciled").await;
    rig.run_for(Duration::from_mins(2)).await;
    assert_eq!(rig.status("nova").invalid_requests, Vec::<String>::new());
    assert_eq!((gateway.chats().len(), gateway.count("sessions.reset")), (0, 0), "the former requests are over");
}

#[tokio::test(start_paused = true)]
async fn an_observer_that_is_to_manage_adopts_the_agent_if_it_may() {
    let (mut rig, gateway) = observed_nova().await;
    rig.agent("nova", nova_spec("Manage"));
    let message = rig.until_reason("nova", "AgentIdTaken").await;
    assert!(message.contains("spec.adoptionPolicy"), "{message}");
    assert_eq!(gateway.writes(), 0);
    rig.agent("nova", adopting_spec("Manage"));
    rig.until_reason("nova", "Reconciled").await;
    let status = rig.status("nova");
    assert!(status.binding.is_some_and(|binding| binding.adopted && binding.workspace == WORKSPACE));
    assert!(gateway.file("nova", "AGENTS.md").is_some_and(|text| text != "mine"));
    assert!(status.conditions.iter().all(|condition| condition.reason != "NotManaged"), "{:?}", status.conditions);
}

#[tokio::test(start_paused = true)]
async fn muster_stops_its_writes_for_an_agent_that_it_only_observes_from_now_on() {
    let (mut rig, gateway) = left_worker().await;
    let (id, token, writes) = (rig.agent_id("one"), rig.token("one"), gateway.writes());
    gateway.edit_file(&id, "AGENTS.md", Some("theirs"));
    gateway.edit_config(|config| config["agents"]["entries"][&id]["name"] = json!("Theirs"));
    rig.agent("one", json!({ "boardRef": { "name": "ops" }, "managementPolicy": "Observe", "displayName": "Other" }));
    rig.run_for(3 * RESYNC).await;
    assert_eq!((gateway.writes(), rig.token("one")), (writes, token.clone()));
    assert_eq!(gateway.file(&id, "AGENTS.md").as_deref(), Some("theirs"));
    assert_eq!(rig.check_in("one", &json!({ "status": "Idle" })).await, 200, "its token works on");
    let status = rig.status("one");
    assert_eq!(status.phase, Some(Phase::Idle));
    assert_eq!(json!(status.binding.unwrap().deletion_policy), json!("Orphan"));

    rig.agent("one", worker_spec("Manage"));
    rig.until("the drift to be corrected", |_| gateway.file(&id, "AGENTS.md").is_some_and(|text| text != "theirs"))
        .await;
    rig.until_reason("one", "Reconciled").await;
    assert_eq!((rig.agent_id("one"), rig.token("one")), (id, token), "it is the same agent");
    assert_eq!(json!(rig.status("one").binding.unwrap().deletion_policy), json!("Delete"));
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_waits_is_not_written_after_the_change_to_observe() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    rig.run_for(Duration::from_mins(1)).await;
    let id = rig.agent_id("one");
    let writes = gateway.writes();
    gateway.leave_unsettled(Duration::from_mins(4));
    gateway.drop_connections();
    let settled = |rig: &Rig| rig.gateway_condition("gw", ConditionType::Settled).1;
    rig.until("the unsettled gateway", |rig| settled(rig) == "NotSettled").await;
    rig.agent("one", json!({ "boardRef": { "name": "ops" }, "displayName": "Renamed" }));
    rig.until_reason("one", "NotSettled").await;
    rig.agent("one", worker_spec("Observe"));
    rig.until_reason("one", "Observed").await;
    rig.run_for(RESYNC).await;
    assert_eq!((gateway.agents()[&id]["name"].as_str(), gateway.writes()), (Some("one"), writes));
}

#[tokio::test(start_paused = true)]
async fn the_deletion_of_an_agent_that_muster_set_up_and_then_observed_leaves_the_agent() {
    let (mut rig, gateway) = left_worker().await;
    let (id, writes) = (rig.agent_id("one"), gateway.writes());
    gateway.stop();
    rig.run_for(Duration::from_mins(1)).await;
    rig.delete::<Agent>("one");
    rig.until("the deletion to finish", |rig| rig.cluster.agents().is_empty()).await;
    let left = rig.cluster.events().into_iter().find(|(name, event)| name == "one" && event.message.contains("stays"));
    assert!(left.as_ref().is_some_and(|(_, event)| event.message.contains("managementPolicy Observe")), "{left:?}");
    assert!(!rig.cluster.secrets().contains_key(&ObjectKey::new(NS, "one-token")));
    gateway.start();
    rig.run_for(RESYNC).await;
    assert!(gateway.agents().contains_key(&id) && gateway.file(&id, "AGENTS.md").is_some());
    assert_eq!(gateway.writes(), writes);
}

#[tokio::test(start_paused = true)]
async fn the_deletion_of_an_agent_gateway_leaves_observed_agents_and_waits_for_none() {
    let (mut rig, gateway) = left_worker().await;
    make_nova(&gateway);
    rig.agent("nova", nova_spec("Observe"));
    rig.until_reason("nova", "Observed").await;
    let (id, writes) = (rig.agent_id("one"), gateway.writes());
    rig.delete::<AgentGateway>("gw");
    rig.until("the deletion to finish", |rig| rig.cluster.gateways().is_empty()).await;
    for name in ["one", "nova"] {
        rig.until(name, |rig| reason(rig, NS, name) == "GatewayNotFound").await;
    }
    assert_eq!((gateway.writes(), rig.status("one").binding), (writes, None));
    assert!([&id, "nova"].iter().all(|id| gateway.agents().contains_key(*id)));
}

#[tokio::test(start_paused = true)]
async fn an_older_observer_takes_no_agent_from_an_agent_that_manages_it() {
    let (mut rig, gateway) = observed_nova().await;
    rig.agent("keeper", adopting_spec("Manage"));
    rig.until_reason("keeper", "Reconciled").await;
    rig.run_for(RESYNC).await;
    assert_eq!(reason(&rig, NS, "nova"), "Observed");
    let counts = rig.cluster.gateways()[&ObjectKey::new(NS, "gw")].status.clone().unwrap().agents.unwrap();
    assert_eq!((counts.managed, counts.observed), (1, 0), "it is managed");
    let writes = gateway.writes();
    rig.delete::<Agent>("nova");
    rig.run_for(RESYNC).await;
    assert_eq!((gateway.writes(), reason(&rig, NS, "keeper").as_str()), (writes, "Reconciled"));
}

#[tokio::test(start_paused = true)]
async fn an_observed_agent_counts_as_observed_and_is_no_agent_without_a_resource() {
    let (mut rig, _gateway) = observed_nova().await;
    let gateway = |rig: &Rig| rig.cluster.gateways()[&ObjectKey::new(NS, "gw")].status.clone().unwrap();
    let counts = |rig: &Rig| gateway(rig).agents.map(|agents| (agents.managed, agents.observed));
    rig.until("the count", |rig| counts(rig) == Some((0, 1))).await;
    assert!(gateway(&rig).unmanaged.iter().all(|agent| agent.id != "nova"), "{:?}", gateway(&rig).unmanaged);
    let board: Board = rig.cluster.get(&ObjectKey::new(NS, "ops")).unwrap();
    assert_eq!(board.status.map(|board| (board.agents, board.ready_agents, board.lead)), Some((1, 1, None)));
    rig.delete::<Agent>("nova");
    rig.until("the list", |rig| gateway(rig).unmanaged.iter().any(|agent| agent.id == "nova")).await;
}

/// Opens the AgentGateway to all namespaces, with these permissions, and adds a Board in the namespace [`OTHER`].
fn admit_guests(rig: &Rig, permissions: &Value) {
    let mut open = gateway_manifest("gw");
    open["spec"]["allowedNamespaces"] = json!({ "from": "All", "permissions": permissions });
    rig.apply::<AgentGateway>(open);
    let (metadata, reference) =
        (json!({ "name": "ops", "namespace": OTHER }), json!({ "name": "gw", "namespace": NS }));
    rig.apply::<Board>(json!({ "metadata": metadata, "spec": { "gatewayRef": reference } }));
}

fn guest(rig: &Rig, spec: &Value) {
    rig.apply::<Agent>(json!({ "metadata": { "name": "nova", "namespace": OTHER }, "spec": spec }));
}

#[tokio::test(start_paused = true)]
async fn another_namespace_observes_what_it_may_adopt_and_no_agent_of_a_third_one() {
    let (mut rig, gateway) = with_nova().await;
    admit_guests(&rig, &json!({ "chosenIds": true }));
    let mut spec = nova_spec("Observe");
    spec["model"] = json!("acme/large");
    guest(&rig, &spec);
    rig.until("NotPermitted", |rig| reason(rig, OTHER, "nova") == "NotPermitted").await;
    let status = agent(&rig, OTHER, "nova").status.unwrap();
    assert_eq!((status.workspace_path, status.last_run), (None, None));
    admit_guests(&rig, &json!({ "chosenIds": true, "adoption": true }));
    rig.until("Observed", |rig| reason(rig, OTHER, "nova") == "Observed").await;
    assert_eq!(gateway.writes(), 0);

    rig.agent("keeper", adopting_spec("Manage"));
    rig.until_reason("keeper", "Reconciled").await;
    rig.cluster.delete::<Agent>(&ObjectKey::new(OTHER, "nova"));
    guest(&rig, &nova_spec("Observe"));
    rig.until("AgentIdTaken", |rig| reason(rig, OTHER, "nova") == "AgentIdTaken").await;
    assert_eq!(agent(&rig, OTHER, "nova").status.unwrap().workspace_path, None);
}

#[tokio::test(start_paused = true)]
async fn a_suspension_does_not_pause_an_observed_agent_and_a_suspended_gateway_keeps_its_status() {
    let (mut rig, gateway) = observed_nova().await;
    let mut spec = nova_spec("Observe");
    spec["suspend"] = json!(true);
    rig.agent("nova", spec);
    rig.until("the message", |rig| rig.condition("nova", ConditionType::Paused).2.contains("does not pause")).await;
    assert_eq!(phase(&rig), Some(Phase::Idle));
    let mut suspended = gateway_manifest("gw");
    suspended["spec"]["suspend"] = json!(true);
    rig.apply::<AgentGateway>(suspended);
    rig.until("the suspension", |rig| rig.condition("nova", ConditionType::Ready).2.contains("is suspended")).await;
    let (status, reason, _) = rig.condition("nova", ConditionType::Ready);
    assert_eq!((status.as_str(), reason.as_str(), phase(&rig)), ("True", "Observed", Some(Phase::Idle)));
    assert_eq!(gateway.writes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_new_observer_needs_the_id_of_a_worker() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    let lead =
        json!({ "boardRef": { "name": "ops" }, "agentId": "nova", "role": "Lead", "managementPolicy": "Observe" });
    for (name, spec) in [("one", worker_spec("Observe")), ("lead", lead)] {
        rig.agent(name, spec);
        let message = rig.until_reason(name, "InvalidSpec").await;
        assert!(message.contains("spec.agentId") && message.contains("Worker"), "{message}");
    }
    assert_eq!((gateway.writes(), rig.cluster.get::<Secret>(&ObjectKey::new(NS, "one-token"))), (0, None));
}

#[tokio::test(start_paused = true)]
async fn an_annotation_shows_another_namespace_no_agent_of_somebody_else() {
    let (mut rig, _gateway) = Rig::new();
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    admit_guests(&rig, &json!({ "chosenIds": true }));
    let annotations = json!({ (keys::AGENT_ID): rig.agent_id("one") });
    let metadata = json!({ "name": "nova", "namespace": OTHER, "annotations": annotations });
    rig.apply::<Agent>(json!({ "metadata": metadata, "spec": worker_spec("Observe") }));
    rig.until("NotPermitted", |rig| reason(rig, OTHER, "nova") == "NotPermitted").await;
    admit_guests(&rig, &json!({ "chosenIds": true, "adoption": true }));
    rig.until("AgentIdTaken", |rig| reason(rig, OTHER, "nova") == "AgentIdTaken").await;
    assert_eq!(agent(&rig, OTHER, "nova").status.unwrap().workspace_path, None);
}

#[tokio::test(start_paused = true)]
async fn the_workspace_of_an_observed_agent_is_the_one_that_the_gateway_names_now() {
    let (mut rig, gateway) = Rig::with(Profile::v2026_3_2());
    rig.board("ops");
    let edit = |nova: Value| {
        gateway.edit_config(|config| config["agents"]["list"] = json!([{ "id": "main" }, nova]));
    };
    edit(json!({ "id": "nova", "name": "Nova", "workspace": WORKSPACE }));
    rig.agent("nova", nova_spec("Observe"));
    let shown = |rig: &Rig| rig.status("nova").workspace_path.unwrap_or_default();
    rig.until("its workspace", |rig| shown(rig) == WORKSPACE).await;
    edit(json!({ "id": "nova", "name": "Nova" }));
    rig.until("its workspace by default", |rig| shown(rig).ends_with("/.openclaw/workspace-nova")).await;
    assert_eq!(gateway.writes(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_observer_of_another_namespace_takes_no_agent_at_another_address_for_its_own() {
    let (mut rig, _gateway) = Rig::new();
    admit_guests(&rig, &json!({ "chosenIds": true }));
    let mut spec = json!({ "boardRef": { "name": "ops" }, "agentId": "nova", "wake": { "enabled": false } });
    guest(&rig, &spec);
    rig.until("Reconciled", |rig| reason(rig, OTHER, "nova") == "Reconciled").await;
    spec["managementPolicy"] = json!("Observe");
    guest(&rig, &spec);
    rig.until("Observed", |rig| reason(rig, OTHER, "nova") == "Observed").await;

    let far = Simulator::new(Profile::v2026_9_6().with_token("secret-token"));
    rig.host("far", &far);
    make_nova(&far);
    let change = |rig: &Rig, spec: &Value| {
        rig.cluster.patch::<AgentGateway>(&ObjectKey::new(NS, "gw"), &json!({ "spec": spec }));
    };
    change(&rig, &json!({ "url": "ws://far:18789" }));
    rig.until("NotPermitted", |rig| reason(rig, OTHER, "nova") == "NotPermitted").await;
    rig.run_for(RESYNC).await;
    let shown = |rig: &Rig| agent(rig, OTHER, "nova").status.unwrap().workspace_path;
    assert_ne!(shown(&rig).as_deref(), Some(WORKSPACE));
    change(&rig, &json!({ "allowedNamespaces": { "permissions": { "adoption": true } } }));
    rig.until("Observed", |rig| reason(rig, OTHER, "nova") == "Observed").await;
    assert_eq!((shown(&rig).as_deref(), far.writes()), (Some(WORKSPACE), 0));
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_turns_to_observe_frees_the_id_that_it_asked_for_at_once() {
    let (mut rig, _gateway) = with_nova().await;
    rig.agent("older", nova_spec("Manage"));
    rig.until_reason("older", "AgentIdTaken").await;
    rig.agent("younger", adopting_spec("Manage"));
    let message = rig.until_reason("younger", "AgentIdTaken").await;
    assert!(message.contains("Agent fleet/older"), "{message}");
    rig.run_for(Duration::from_mins(1)).await;
    rig.agent("older", nova_spec("Observe"));
    rig.run_for(Duration::from_secs(30)).await;
    assert_eq!(["older", "younger"].map(|name| reason(&rig, NS, name)), ["Observed", "Reconciled"]);
}

#[tokio::test(start_paused = true)]
async fn an_observer_that_moves_or_loses_its_board_counts_there_no_longer() {
    let (mut rig, _gateway) = observed_nova().await;
    make_nova(&rig.gateway("far"));
    rig.until("the count", |rig| counts(rig, "gw") == Some((0, 1))).await;
    rig.run_for(Duration::from_mins(1)).await;
    let away = json!({ "metadata": { "name": "away" }, "spec": { "gatewayRef": { "name": "far" } } });
    rig.apply::<Board>(away);
    let mut spec = nova_spec("Observe");
    spec["boardRef"]["name"] = json!("away");
    rig.agent("nova", spec);
    rig.run_for(Duration::from_secs(30)).await;
    assert_eq!((counts(&rig, "gw"), counts(&rig, "far")), (Some((0, 0)), Some((0, 1))));
    rig.delete::<Board>("away");
    rig.run_for(Duration::from_secs(30)).await;
    assert_eq!((reason(&rig, NS, "nova").as_str(), counts(&rig, "far")), ("BoardNotFound", Some((0, 0))));
}

#[tokio::test(start_paused = true)]
async fn a_protected_observer_does_not_hold_up_the_deletion_of_its_agent_gateway() {
    let (mut rig, gateway) = left_worker().await;
    rig.cluster.annotate::<Agent>(&ObjectKey::new(NS, "one"), keys::PROTECTED, "true");
    let (id, writes) = (rig.agent_id("one"), gateway.writes());
    rig.delete::<AgentGateway>("gw");
    rig.until("the deletion to finish", |rig| rig.cluster.gateways().is_empty()).await;
    assert_eq!((rig.status("one").binding, gateway.writes()), (None, writes));
    assert!(gateway.agents().contains_key(&id));
}

#[tokio::test(start_paused = true)]
async fn a_refused_observer_counts_no_longer_and_hides_no_agent() {
    let (mut rig, _gateway) = with_nova().await;
    admit_guests(&rig, &json!({ "chosenIds": true, "adoption": true }));
    guest(&rig, &nova_spec("Observe"));
    rig.until("the count", |rig| counts(rig, "gw") == Some((0, 1))).await;
    admit_guests(&rig, &json!({ "chosenIds": true }));
    rig.until("NotPermitted", |rig| reason(rig, OTHER, "nova") == "NotPermitted").await;
    rig.until("the count", |rig| counts(rig, "gw") == Some((0, 0))).await;
    let unmanaged = rig.cluster.gateways()[&ObjectKey::new(NS, "gw")].status.clone().unwrap().unmanaged;
    assert!(unmanaged.iter().any(|agent| agent.id == "nova"), "{unmanaged:?}");
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_its_keeper_removes_is_no_loss_of_muster() {
    let (mut rig, gateway) = left_worker().await;
    let id = rig.agent_id("one");
    let entry = gateway.agents()[&id].clone();
    for _ in 0..3 {
        gateway.edit_config(|config| drop(config["agents"]["entries"].as_object_mut().unwrap().remove(&id)));
        rig.until_reason("one", "AgentMissing").await;
        gateway.edit_config(|config| config["agents"]["entries"][&id] = entry.clone());
        rig.until_reason("one", "Observed").await;
    }
    rig.run_for(RESYNC).await;
    assert_eq!(rig.gateway_condition("gw", ConditionType::ConfigSynced).1, "Reconciled");
}

#[tokio::test(start_paused = true)]
async fn a_call_of_an_agent_that_muster_only_observes_by_now_is_written_without_a_reconcile() {
    let (mut rig, _gateway) = left_worker().await;
    rig.run_for(Duration::from_mins(1)).await;
    let reconciles = rig.reconciles("agent");
    for (status, expected) in [("Idle", CheckIn::Idle), ("Active", CheckIn::Active)] {
        assert_eq!(rig.check_in("one", &json!({ "status": status })).await, 200);
        rig.run_for(Duration::from_secs(10)).await;
        assert_eq!(rig.status("one").heartbeat.and_then(|heartbeat| heartbeat.status), Some(expected));
    }
    assert_eq!((rig.reconciles("agent"), rig.status("one").phase), (reconciles, Some(Phase::Idle)));
}

#[tokio::test(start_paused = true)]
async fn the_deletion_of_an_observer_costs_the_keeper_of_its_agent_no_read() {
    let (mut rig, gateway) = observed_nova().await;
    rig.agent("keeper", adopting_spec("Manage"));
    rig.until_reason("keeper", "Reconciled").await;
    rig.run_for(Duration::from_secs(30)).await;
    let lists = gateway.count("agents.files.list");
    rig.delete::<Agent>("nova");
    rig.run_for(Duration::from_secs(1)).await;
    rig.cluster.annotate::<Agent>(&ObjectKey::new(NS, "keeper"), keys::RECONCILE_REQUESTED_AT, "now");
    let handled = |rig: &Rig| rig.status("keeper").last_handled_reconcile_at;
    rig.until("the reconcile", |rig| handled(rig).as_deref() == Some("now")).await;
    assert_eq!(gateway.count("agents.files.list"), lists);
}
