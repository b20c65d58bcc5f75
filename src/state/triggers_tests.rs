use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;

use kube::runtime::watcher::Event;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::mpsc::{self, UnboundedReceiver};

use super::*;
use crate::core::agent::admission::{check_agent_id, check_role_and_quota, is_shared};
use crate::core::agent::permissions;
use crate::core::agent::workspaces::{self, WantedWorkspace};
use crate::core::gateway::census::bound;
use crate::core::gateway::shared_heartbeats::claims;
use crate::core::index::Indexed;
use crate::state::Caches;
use crate::state::cache::{Cache, cache_of_all};
use crate::state::guarded::Guarded;

fn board(uid: &str, generation: i64, annotation: Option<(&str, &str)>) -> Board {
    let mut board = Board::default();
    board.metadata.name = Some("a".into());
    board.metadata.uid = Some(uid.into());
    board.metadata.generation = Some(generation);
    board.metadata.annotations = annotation.map(|(key, value)| [(key.to_owned(), value.to_owned())].into());
    board
}

#[test]
fn a_one_shot_request_is_a_change_of_the_spec_and_another_annotation_is_not() {
    let rotate = |value| board("u", 1, Some((RequestKind::Rotate.annotation(), value)));
    let other = |value| board("u", 1, Some(("other", value)));
    assert!(spec_changed(Some(&board("u", 1, None)), &rotate("1")));
    assert!(spec_changed(Some(&rotate("1")), &rotate("2")));
    assert!(spec_changed(Some(&rotate("2")), &other("3")));
    assert!(!spec_changed(Some(&other("3")), &other("4")));
}

#[test]
fn a_new_generation_or_a_new_object_with_the_same_name_is_a_change_of_the_spec() {
    assert!(spec_changed(None, &board("u", 1, None)));
    assert!(!spec_changed(Some(&board("u", 1, None)), &board("u", 1, None)));
    assert!(spec_changed(Some(&board("u", 1, None)), &board("u", 2, None)));
    assert!(spec_changed(Some(&board("u", 2, None)), &board("v", 2, None)));
}

/// The real caches. Counts the objects that its readers get.
struct CountingCaches {
    caches: Caches,
    touched: Cell<usize>,
}

impl CountingCaches {
    fn count<T: IntoIterator>(&self, objects: T) -> T
    where
        for<'a> &'a T: IntoIterator,
    {
        self.touched.set(self.touched.get() + (&objects).into_iter().count());
        objects
    }
}

impl Objects for &CountingCaches {
    fn agent(&self, key: &ObjectKey) -> Option<Arc<Agent>> {
        self.count(self.caches.agents.get(key))
    }
    fn board(&self, key: &ObjectKey) -> Option<Arc<Board>> {
        self.count(self.caches.boards.get(key))
    }
    fn gateway(&self, key: &ObjectKey) -> Option<Arc<AgentGateway>> {
        self.count(self.caches.gateways.get(key))
    }
    fn agents_by(&self, index: &AgentIndex) -> Vec<Arc<Agent>> {
        self.count(self.caches.agents.by(index))
    }
    fn boards_by(&self, index: &BoardIndex) -> Vec<Arc<Board>> {
        self.count(self.caches.boards.by(index))
    }
    fn gateways_by(&self, index: &GatewayIndex) -> Vec<Arc<AgentGateway>> {
        self.count(self.caches.gateways.by(index))
    }
    fn agents(&self) -> Vec<Arc<Agent>> {
        self.count(self.caches.agents.all())
    }
    fn boards(&self) -> Vec<Arc<Board>> {
        self.count(self.caches.boards.all())
    }
    fn gateways(&self) -> Vec<Arc<AgentGateway>> {
        self.count(self.caches.gateways.all())
    }
    fn unreadable_agents(&self) -> Vec<ObjectMeta> {
        self.count(self.caches.agents.unreadable())
    }
    fn unreadable_gateways(&self) -> Vec<ObjectMeta> {
        self.count(self.caches.gateways.unreadable())
    }
}

fn filled<K: Indexed + DeserializeOwned>(manifests: impl IntoIterator<Item = Value>) -> Cache<K> {
    let (cache, mut writer) = cache_of_all();
    for mut manifest in manifests {
        manifest["apiVersion"] = json!("muster.dev/v1alpha1");
        manifest["kind"] = json!(K::kind(&()));
        writer.apply(Event::Apply(Guarded(Ok(serde_json::from_value(manifest).unwrap()))));
    }
    cache
}

fn gateway(name: &str) -> Value {
    json!({ "metadata": { "name": name, "namespace": "fleet", "uid": format!("uid-{name}") }, "spec": {
        "url": format!("ws://{name}:18789"), "auth": { "tokenSecretRef": { "name": name, "key": "token" } },
        "workspaceRoot": "~/agents", "apiUrl": "http://muster:8080", "templates": { "configMapRef": { "name": name } },
    } })
}

fn board_on(name: &str, gateway: &str) -> Value {
    let spec =
        json!({ "gatewayRef": { "name": gateway }, "maxAgents": 5, "templates": { "configMapRef": { "name": name } } });
    json!({ "metadata": { "name": name, "namespace": "fleet", "uid": format!("uid-{name}") }, "spec": spec })
}

/// An Agent that is bound to an agent of its own name.
fn agent_on(name: &str, board: &str, gateway: &str) -> Value {
    let uid = format!("uid-{name}");
    let binding = json!({
        "uid": uid, "gateway": { "namespace": "fleet", "name": gateway }, "agentId": name,
        "sessionKey": format!("agent:{name}:main"), "workspace": format!("~/agents/{name}"), "adopted": false,
    });
    json!({
        "metadata": { "name": name, "namespace": "fleet", "uid": uid },
        "spec": { "boardRef": { "name": board }, "agentId": name },
        "status": { "binding": binding, "agentId": name },
    })
}

/// Five agents on the Board `ops` of the AgentGateway `gw`, and `others` on other Boards of other AgentGateways.
fn fleet(others: usize) -> CountingCaches {
    let groups = || (0..others / 5).map(|group| (format!("board-{group}"), format!("gw-{group}")));
    let members = |(board, gateway): (String, String)| {
        (0..5).map(move |member| agent_on(&format!("{board}-{member}"), &board, &gateway))
    };
    let ours = ("ops".to_owned(), "gw".to_owned());
    let caches = Caches {
        agents: filled(groups().chain([ours.clone()]).flat_map(members)),
        boards: filled(groups().chain([ours.clone()]).map(|(board, gateway)| board_on(&board, &gateway))),
        gateways: filled(groups().chain([ours]).map(|(_, name)| gateway(&name))),
    };
    CountingCaches { caches, touched: Cell::new(0) }
}

/// The receivers of the queues.
struct Queued {
    agents: UnboundedReceiver<Trigger>,
    boards: UnboundedReceiver<Trigger>,
    gateways: UnboundedReceiver<Trigger>,
}

impl Queued {
    /// The different keys in the three queues.
    fn names(&mut self) -> [BTreeSet<String>; 3] {
        [&mut self.agents, &mut self.boards, &mut self.gateways]
            .map(|queue| std::iter::from_fn(|| queue.try_recv().ok()).map(|trigger| trigger.key.name).collect())
    }
}

fn triggers<O>(objects: O) -> (Triggers<O>, Queued) {
    let (agents, agents_rx) = mpsc::unbounded_channel();
    let (boards, boards_rx) = mpsc::unbounded_channel();
    let (gateways, gateways_rx) = mpsc::unbounded_channel();
    let queued = Queued { agents: agents_rx, boards: boards_rx, gateways: gateways_rx };
    (Triggers { objects, queues: Queues { agents, boards, gateways } }, queued)
}

#[test]
fn the_agent_gateway_that_counts_an_observer_is_reconciled_when_the_observer_leaves_it() {
    let observer = |gateway: Option<&str>| -> Agent {
        let shown = gateway.map(|name| json!({ "namespace": "fleet", "name": name }));
        serde_json::from_value(json!({
            "apiVersion": "muster.dev/v1alpha1", "kind": "Agent",
            "metadata": { "name": "nova", "namespace": "fleet", "uid": "uid-nova" },
            "spec": { "boardRef": { "name": "of-no-board" }, "agentId": "nova", "managementPolicy": "Observe" },
            "status": { "agentId": "nova", "gateway": shown },
        }))
        .unwrap()
    };
    let gateways = |event: &dyn Fn(&Triggers<&CountingCaches>)| {
        let objects = fleet(0);
        let (triggers, mut queued) = triggers(&objects);
        event(&triggers);
        let [_, _, gateways] = queued.names();
        gateways.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(gateways(&|triggers| triggers.agent(Some(&observer(Some("gw"))), &observer(None))), ["gw"]);
    assert_eq!(gateways(&|triggers| triggers.agent(Some(&observer(Some("gw"))), &observer(Some("b")))), ["b", "gw"]);
    assert_eq!(gateways(&|triggers| triggers.agent_deleted(&observer(Some("gw")))), ["gw"]);
}

#[test]
fn a_ready_worker_only_counts_for_its_board_and_gateway_and_a_binding_or_a_lead_is_a_change() {
    let causes = |role: Role, was_bound: bool| {
        let objects = fleet(0);
        let (triggers, mut queued) = triggers(&objects);
        let mut now = Arc::unwrap_or_clone((&objects).agent(&ObjectKey::new("fleet", "ops-0")).unwrap());
        now.spec.role = role;
        let mut before = now.clone();
        if !was_bound {
            before.status = None;
        }
        triggers.agent(Some(&before), &now);
        [&mut queued.boards, &mut queued.gateways].map(|queue| queue.try_recv().unwrap().cause)
    };
    assert_eq!(causes(Role::Worker, true), [Cause::Count; 2]);
    assert_eq!(causes(Role::Worker, false), [Cause::Change; 2]);
    assert_eq!(causes(Role::Lead, true), [Cause::Change; 2]);
}

/// The number of objects that each event, and each question of a reconcile, touches.
fn touched(others: usize) -> Vec<(&'static str, usize)> {
    let counting = fleet(others);
    let objects = &counting;
    let (triggers, _queued) = triggers(objects);
    let key = |name: &str| ObjectKey::new("fleet", name);
    let [agent, gone] = ["ops-1", "ops-2"].map(|name| counting.caches.agents.get(&key(name)).unwrap());
    let board = counting.caches.boards.get(&key("ops")).unwrap();
    let gateway = counting.caches.gateways.get(&key("gw")).unwrap();
    let binding = Binding::of(&agent).unwrap();
    let change = |scope| GatewayChange { gateway: key("gw"), scope };
    let mut counts = Vec::new();
    let mut count = |name, event: &dyn Fn()| {
        counting.touched.set(0);
        event();
        counts.push((name, counting.touched.get()));
    };
    count("a new Agent", &|| triggers.agent(None, &agent));
    count("a changed Agent", &|| triggers.agent(Some(&agent), &agent));
    count("a deleted Agent", &|| triggers.agent_deleted(&gone));
    count("a new Board", &|| triggers.board(None, &board));
    count("a changed AgentGateway", &|| triggers.gateway(None, &gateway));
    count("a ConfigMap of a Board", &|| triggers.config_map(&key("ops")));
    count("a ConfigMap of an AgentGateway", &|| triggers.config_map(&key("gw")));
    count("a change of all agents", &|| triggers.gateway_change(&change(ChangeScope::AllAgents)));
    count("a change of an agent", &|| triggers.gateway_change(&change(ChangeScope::AgentId("ops-1".into()))));
    count("role and quota", &|| check_role_and_quota(&objects, &agent, Some(&board), &key("gw")).unwrap());
    count("the id", &|| check_agent_id(&objects, &agent, &key("gw"), "ops-1").unwrap());
    let (place, identity) = (key("gw"), &binding.identity);
    let wanted = WantedWorkspace { agent: &agent, gateway: &place, address: "ws://gw:18789", identity, adopted: false };
    count("the workspace", &|| workspaces::check(&objects, wanted, None).unwrap());
    let another =
        Agent { metadata: ObjectMeta { namespace: Some("team".into()), ..ObjectMeta::default() }, ..Agent::default() };
    count("the permissions", &|| permissions::check(&objects, &another, &gateway, &key("gw")).unwrap());
    count("a shared agent", &|| assert!(!is_shared(&objects, &agent, &binding)));
    count("the bound agents", &|| assert_eq!(bound(&objects, &key("gw")).len(), 5));
    count("the heartbeats", &|| assert_eq!(claims(&objects, &gateway, &key("gw")).made.len(), 5));
    counts
}

#[test]
fn an_event_touches_as_many_objects_with_ten_as_with_ten_thousand_agents_elsewhere() {
    let few = touched(10);
    assert_eq!(few, touched(10_000));
    assert!(few.iter().all(|(_, count)| *count <= 30), "{few:?}");
}

fn agent(manifest: Value) -> Agent {
    serde_json::from_value(manifest).unwrap()
}

fn named(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn an_agent_that_moves_to_another_board_enqueues_both_boards() {
    let counting = fleet(10);
    let (triggers, mut queued) = triggers(&counting);
    let mut before = agent(agent_on("ops-1", "ops", "gw"));
    before.metadata.generation = Some(1);
    let mut now = agent(agent_on("ops-1", "board-0", "gw"));
    now.metadata.generation = Some(2);
    triggers.agent(Some(&before), &now);
    assert_eq!(queued.names(), [named(&["ops-1"]), named(&["board-0", "ops"]), named(&["gw", "gw-0"])]);
}

#[test]
fn a_woken_agent_enqueues_no_gateway_and_a_change_of_an_agent_on_the_gateway_does() {
    let counting = fleet(10);
    let (triggers, mut queued) = triggers(&counting);
    let change = |scope| GatewayChange { gateway: ObjectKey::new("fleet", "gw"), scope };
    triggers.gateway_change(&change(ChangeScope::Agent(ObjectKey::new("fleet", "ops-1"))));
    assert_eq!(queued.names(), [named(&["ops-1"]), named(&[]), named(&[])]);
    triggers.gateway_change(&change(ChangeScope::AgentId("ops-1".into())));
    assert_eq!(queued.names(), [named(&["ops-1"]), named(&[]), named(&["gw"])]);
}

#[test]
fn a_place_that_becomes_free_wakes_the_agents_that_wait_for_it_and_no_others() {
    let waiting = |reason: &str| {
        let mut waiting = agent_on("late", "ops", "gw");
        waiting["status"] = json!({ "conditions": [{
            "type": "Ready", "status": "False", "reason": reason, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
        }] });
        waiting["spec"]["agentId"] = json!("ops-1");
        waiting
    };
    let gone = agent(agent_on("ops-1", "ops", "gw"));
    for (reason, wakes) in [
        ("BoardFull", true),
        ("RoleTaken", true),
        ("AgentIdTaken", true),
        ("NamespaceFull", true),
        ("GatewayError", false),
    ] {
        let caches = Caches { agents: filled([waiting(reason)]), ..fleet(0).caches };
        let counting = CountingCaches { caches, touched: Cell::new(0) };
        let (triggers, mut queued) = triggers(&counting);
        triggers.agent_deleted(&gone);
        let [agents, ..] = queued.names();
        assert_eq!(agents, named(if wakes { &["late"] } else { &[] }), "{reason}");
    }
}

#[test]
fn an_agent_that_begins_to_wait_looks_once_more_whether_its_place_is_free() {
    let counting = fleet(0);
    let (triggers, mut queued) = triggers(&counting);
    let mut full = agent_on("ops-1", "ops", "gw");
    full["status"]["conditions"] = json!([{
        "type": "Ready", "status": "False", "reason": "BoardFull", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
    }]);
    let (before, now) = (agent(agent_on("ops-1", "ops", "gw")), agent(full));
    triggers.agent(Some(&before), &now);
    assert_eq!(queued.names()[0], named(&["ops-1"]));
    triggers.agent(Some(&now), &now);
    assert_eq!(queued.names()[0], named(&[]));
}

#[test]
fn a_guest_that_leaves_its_gateway_wakes_the_agents_of_its_namespace_that_wait_for_its_place() {
    let mut waiting = agent_on("late", "ops", "gw");
    waiting["status"] = json!({ "conditions": [{
        "type": "Ready", "status": "False", "reason": "NamespaceFull", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
    }] });
    let mut guest = agent_on("ops-1", "ops", "gw");
    guest["status"]["binding"]["gateway"]["namespace"] = json!("shared");
    let mut released = guest.clone();
    released["status"]["binding"] = Value::Null;
    let caches = Caches { agents: filled([waiting]), ..fleet(0).caches };
    let counting = CountingCaches { caches, touched: Cell::new(0) };
    let (triggers, mut queued) = triggers(&counting);
    triggers.agent(Some(&agent(guest)), &agent(released));
    assert_eq!(queued.names()[0], named(&["late"]));
}

#[test]
fn an_agent_whose_protection_is_lifted_is_reconciled() {
    let counting = fleet(0);
    let (triggers, mut queued) = triggers(&counting);
    let mut now = agent(agent_on("ops-1", "ops", "gw"));
    let mut before = now.clone();
    before.metadata.annotations = Some([(crate::api::keys::PROTECTED.to_owned(), "true".to_owned())].into());
    now.metadata.annotations = Some([("example.com/other".to_owned(), "1".to_owned())].into());
    triggers.agent(Some(&before), &now);
    assert_eq!(queued.names()[0], named(&["ops-1"]));
    triggers.agent(Some(&now), &agent(agent_on("ops-1", "ops", "gw")));
    assert_eq!(queued.names()[0], named(&[]), "another annotation");
}
