use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::api::ConditionType;
use crate::api::agent::AdoptionPolicy;
use crate::core::agent::memory_objects::{MemoryObjects, inventory};
use crate::core::agent::resolved_names::resolve;
use crate::core::gateway_ref::address;

/// An AgentGateway that is connected by its own credentials, or not.
fn gateway(namespace: &str, url: &str, root: &str, authenticated: bool) -> Arc<AgentGateway> {
    let condition = json!({ "type": "Authenticated", "status": if authenticated { "True" } else { "False" }, "reason": "x",
        "message": "", "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z" });
    let manifest = json!({
        "apiVersion": "muster.dev/v1alpha1", "kind": "AgentGateway",
        "metadata": { "name": "gw", "namespace": namespace, "uid": format!("uid-{namespace}"), "generation": 1 },
        "spec": { "url": url, "auth": {}, "workspaceRoot": root, "apiUrl": "http://m" },
        "status": { "conditions": [condition] }
    });
    Arc::new(serde_json::from_value(manifest).unwrap())
}

/// A main agent of the AgentGateway of its namespace, so that it has no Board. The role counts only where a test says so.
fn agent(namespace: &str, number: usize, spec: &Value) -> Agent {
    let uid = format!("{namespace}-{number}");
    let meta = json!({ "name": uid, "namespace": namespace, "uid": uid,
        "creationTimestamp": format!("2026-01-01T00:00:{number:02}Z") });
    let mut agent =
        json!({ "apiVersion": "muster.dev/v1alpha1", "kind": "Agent", "metadata": meta, "spec": spec.clone() });
    agent["spec"]["gatewayRef"] = json!({ "name": "gw" });
    serde_json::from_value(agent).unwrap()
}

impl MemoryObjects {
    /// Binds an Agent as a reconcile does, or says why not. Returns its workspace.
    fn bind(&self, agent: &Agent, rows: &Inventory) -> Result<String, ReconcileError> {
        let key = ObjectKey::new(agent.metadata.namespace.as_deref().unwrap(), "gw");
        let gateway = self.gateway(&key).unwrap();
        let address = address(&gateway.spec.url);
        let names = resolve(self, agent, None, &gateway)?;
        let (mut identity, mut adopted) = (names.identity, names.adopted);
        if let Some(row) = rows.agents.get(&identity.agent_id) {
            if agent.spec.adoption_policy == AdoptionPolicy::Never {
                return Err(ReconcileError::permanent(Reason::AgentIdTaken, "on the gateway"));
            }
            identity.workspace = row.workspace.clone().unwrap();
            adopted = true;
        }
        let wanted = WantedWorkspace { agent, gateway: &key, address: &address, identity: &identity, adopted };
        check(self, wanted, Some(rows))?;
        let workspace = identity.workspace.clone();
        let uid = agent.metadata.uid.clone().unwrap();
        let (taken_up, claimed_for, deletion_policy) = (false, None, None);
        let binding = Binding { uid, gateway: key, address, identity, adopted, deletion_policy, taken_up, claimed_for };
        let mut bound = agent.clone();
        bound.status.get_or_insert_default().binding = Some(binding.to_status());
        self.insert(bound);
        Ok(workspace)
    }
}

fn one_gateway() -> MemoryObjects {
    MemoryObjects { gateways: vec![gateway("a", "ws://gw", "/w", true)], ..MemoryObjects::default() }
}

fn reason(result: Result<String, ReconcileError>) -> Option<Reason> {
    result.err().map(|error| error.reason)
}

#[test]
fn a_chosen_id_does_not_give_the_folder_of_the_main_agent() {
    let cluster = one_gateway();
    let tenant = agent("a", 1, &json!({ "agentId": "gateway-uid-a" }));
    assert_eq!(reason(cluster.bind(&tenant, &inventory(&[]))), Some(Reason::AgentIdTaken), "the uid exists");
    let adopter = agent("a", 3, &json!({ "agentId": "nova", "adoptionPolicy": "IfExists" }));
    let rows = inventory(&[("nova", "/w/workspace-gateway-uid-a")]);
    assert_eq!(reason(cluster.bind(&adopter, &rows)), Some(Reason::WorkspaceTaken), "before there is one");
    let main = agent("a", 2, &json!({ "role": "Main" }));
    assert_eq!(cluster.bind(&main, &inventory(&[])).unwrap(), "/w/workspace-gateway-uid-a");
    assert_eq!(reason(cluster.bind(&adopter, &rows)), Some(Reason::WorkspaceTaken));
}

#[test]
fn no_workspace_is_within_around_or_equal_to_that_of_an_unmanaged_agent() {
    for folder in
        ["/w/workspace-nova", "/w//workspace-nova/.", "/w", "/w/workspace-nova/sub", "/", "~/../w/workspace-nova"]
    {
        let rows = inventory(&[("theirs", folder)]);
        let nova = agent("a", 1, &json!({ "agentId": "nova" }));
        assert_eq!(reason(one_gateway().bind(&nova, &rows)), Some(Reason::WorkspaceTaken), "{folder}");
    }
    let rows = inventory(&[("theirs", "/w/workspace-nov"), ("other", "/w/workspace-novae")]);
    assert_eq!(reason(one_gateway().bind(&agent("a", 1, &json!({ "agentId": "nova" })), &rows)), None);
}

#[test]
fn an_adopted_agent_keeps_its_folder_and_no_folder_of_ours_may_be_in_it() {
    let cluster = one_gateway();
    let adopt = |id: &str| json!({ "agentId": id, "adoptionPolicy": "IfExists" });
    let rows = inventory(&[("nova", "/w/workspace-a-3/sub")]);
    assert_eq!(cluster.bind(&agent("a", 1, &adopt("nova")), &rows).unwrap(), "/w/workspace-a-3/sub");
    let around = agent("a", 2, &json!({ "agentId": "a-3" }));
    assert_eq!(reason(cluster.bind(&around, &inventory(&[]))), Some(Reason::WorkspaceTaken));
    let rows = inventory(&[("all", "/w")]);
    assert_eq!(reason(cluster.bind(&agent("a", 4, &adopt("all")), &rows)), Some(Reason::WorkspaceTaken));
}

#[test]
fn a_claim_counts_only_where_its_gateway_object_is_connected_by_its_own_credentials() {
    for (url, authenticated, taken) in
        [("ws://gw:80/", true, true), ("ws://gw", false, false), ("ws://elsewhere", true, false)]
    {
        let gateways = vec![gateway("a", "ws://gw", "/w", true), gateway("b", url, "/w", authenticated)];
        let cluster = MemoryObjects { gateways, ..MemoryObjects::default() };
        cluster.bind(&agent("b", 1, &json!({ "agentId": "nova" })), &inventory(&[])).unwrap();
        let ours = cluster.bind(&agent("a", 2, &json!({ "agentId": "nova" })), &inventory(&[]));
        assert_eq!(reason(ours), taken.then_some(Reason::AgentIdTaken), "{url} {authenticated}");
    }
}

#[test]
fn a_binding_from_another_address_claims_nothing_after_a_change_of_the_url() {
    let made_elsewhere =
        MemoryObjects { gateways: vec![gateway("b", "ws://fake", "/w", true)], ..MemoryObjects::default() };
    made_elsewhere.bind(&agent("b", 1, &json!({ "agentId": "nova" })), &inventory(&[])).unwrap();
    let gateways = vec![gateway("a", "ws://gw", "/w", true), gateway("b", "ws://gw", "/w", true)];
    let cluster = MemoryObjects { gateways, agents: made_elsewhere.agents, ..MemoryObjects::default() };
    let ours = agent("a", 2, &json!({ "agentId": "nova" }));
    assert_eq!(reason(cluster.bind(&ours, &inventory(&[]))), None);
    let ready = ConditionType::Authenticated;
    assert!(crate::api::conditions::is_true(&cluster.gateways[1].status.as_ref().unwrap().conditions, ready));
}

/// An Agent: its namespace, its id or the role Main, and whether it adopts.
fn agents() -> impl Strategy<Value = Vec<(bool, Option<String>, bool)>> {
    let id =
        prop_oneof![Just(None), "nova|old|mc-a-1|mc-b-2|gateway-uid-a|gateway-uid-b|mc-gateway-uid-a".prop_map(Some),];
    prop::collection::vec((any::<bool>(), id, any::<bool>()), 1..12)
}

const ROOTS: &str = "/w|/w/|/w/./|/w/workspace-nova|/w/workspace-mc-a-1/sub|~/w|/home/o/w|/home/o";
const FOLDERS: &str =
    "/w|/srv/nova|/w/workspace-nova/in|/w/workspace-gateway-uid-b|~/w/workspace-old|/home/o/w|/x/../w";

proptest! {
    #[test]
    fn no_two_of_any_set_of_agents_share_an_id_or_a_folder_on_one_gateway(
        agents in agents(), roots in (ROOTS, ROOTS), rows in prop::collection::vec(("nova|old|theirs", FOLDERS), 0..3),
    ) {
        let gateways = vec![gateway("a", "ws://gw", &roots.0, true), gateway("b", "ws://GW:80/", &roots.1, true)];
        let cluster = MemoryObjects { gateways, ..MemoryObjects::default() };
        let rows: Vec<_> = rows.iter().map(|(id, folder)| (id.as_str(), folder.as_str())).collect();
        let inventory = inventory(&rows);
        for (number, (in_a, id, adopts)) in agents.iter().enumerate() {
            let policy = if *adopts && id.is_some() { "IfExists" } else { "Never" };
            let is_main = id.is_none() && *adopts;
            let spec = json!({ "role": if is_main { "Main" } else { "Worker" }, "agentId": id, "adoptionPolicy": policy });
            // A refusal is right too. Two bound Agents must not meet.
            let _ = cluster.bind(&agent(if *in_a { "a" } else { "b" }, number, &spec), &inventory);
        }
        let bound: Vec<_> = cluster.agents().iter().filter_map(|agent| Binding::of(agent)).collect();
        for (number, one) in bound.iter().enumerate() {
            for other in &bound[number + 1..] {
                prop_assert_ne!(&one.identity.agent_id, &other.identity.agent_id);
                let folders = [one, other].map(|binding| Folder::parse(&binding.identity.workspace));
                prop_assert!(!folders[0].meets(&folders[1]), "{:?}", folders);
            }
            let others = inventory.agents.values().filter(|row| row.id != one.identity.agent_id);
            let met = others.filter_map(|row| row.workspace.as_deref()).find(|folder| {
                Folder::parse(folder).meets(&Folder::parse(&one.identity.workspace))
            });
            prop_assert_eq!(met, None);
        }
    }
}
