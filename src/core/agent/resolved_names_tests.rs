use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::core::agent::memory_objects::MemoryObjects;

const OLD: &str = "0b0e0c4e-5d5c-4d3b-9f0a-2f1f6f0f7a01";

fn object<K: serde::de::DeserializeOwned>(kind: &str, name: &str, uid: &str, spec: &Value) -> K {
    let meta = json!({ "name": name, "namespace": "fleet", "uid": uid, "generation": 1,
        "creationTimestamp": "2026-01-01T00:00:00Z" });
    let object = json!({ "apiVersion": "muster.dev/v1alpha1", "kind": kind, "metadata": meta, "spec": spec });
    serde_json::from_value(object).unwrap()
}

fn gateway() -> AgentGateway {
    let spec = json!({ "url": "ws://gw", "auth": {}, "workspaceRoot": "/w", "apiUrl": "http://m" });
    object("AgentGateway", "gw", "g1", &spec)
}

fn board(name: &str, uid: &str) -> Board {
    object("Board", name, uid, &json!({ "gatewayRef": { "name": "gw" } }))
}

fn cluster() -> MemoryObjects {
    let boards = vec![Arc::new(board("ops", "b1")), Arc::new(board("lab", "b2"))];
    MemoryObjects { boards, gateways: vec![Arc::new(gateway())], ..MemoryObjects::default() }
}

/// An Agent of Board `ops`, with this annotation.
fn agent(name: &str, spec: &Value, annotation: &str) -> Agent {
    let mut spec = spec.clone();
    if spec["role"] == "Main" {
        spec["gatewayRef"] = json!({ "name": "gw" });
    } else {
        spec["boardRef"] = json!({ "name": "ops" });
    }
    let mut agent: Agent = object("Agent", name, &format!("uid-{name}"), &spec);
    agent.metadata.annotations = Some([("muster.dev/agent-id".to_owned(), annotation.to_owned())].into());
    agent
}

fn resolved(cluster: &MemoryObjects, agent: &Agent) -> Result<ResolvedNames, ReconcileError> {
    let board = agent.spec.board_ref.as_ref().and_then(|r| cluster.board(&ObjectKey::new("fleet", &r.name)));
    resolve(cluster, agent, board.as_deref(), &gateway())
}

fn bind(agent: &Agent, names: &ResolvedNames) -> Agent {
    let mut bound = agent.clone();
    let binding = Binding {
        uid: agent.metadata.uid.clone().unwrap(),
        gateway: ObjectKey::new("fleet", "gw"),
        address: "ws://gw:80".into(),
        identity: names.identity.clone(),
        adopted: names.adopted,
        deletion_policy: None,
        taken_up: names.taken_up,
        claimed_for: names.claimed_for.clone(),
    };
    bound.status.get_or_insert_default().binding = Some(binding.to_status());
    bound
}

#[test]
fn a_claim_gives_the_names_of_the_former_uid_for_each_role() {
    for (role, id, workspace, anchor) in [
        ("Worker", format!("mc-{OLD}"), format!("/w/workspace-mc-{OLD}"), "uid-one"),
        ("Lead", format!("lead-{OLD}"), format!("/w/workspace-lead-{OLD}"), "b1"),
        ("Main", format!("mc-gateway-{OLD}"), format!("/w/workspace-gateway-{OLD}"), "g1"),
    ] {
        let names = resolved(&cluster(), &agent("one", &json!({ "role": role }), &id)).unwrap();
        assert_eq!((names.identity.agent_id.as_str(), names.identity.workspace.as_str()), (id.as_str(), &*workspace));
        assert_eq!(names.identity.session_key, format!("agent:{id}:main"));
        assert_eq!((names.is_claim, names.claimed_for.as_deref()), (true, Some(anchor)));
    }
}

#[test]
fn a_claim_does_not_count_while_another_object_stands_for_the_id() {
    let is_claim = |cluster: &MemoryObjects, agent: &Agent| resolved(cluster, agent).unwrap().is_claim;
    let copy = agent("copy", &json!({}), "mc-uid-one");
    assert!(is_claim(&cluster(), &copy), "the original is gone");
    let live = cluster();
    live.insert(agent("one", &json!({}), "mc-uid-one"));
    assert!(!is_claim(&live, &copy), "the original exists, bound or not");
    assert_eq!(resolved(&live, &copy).unwrap().identity.agent_id, "mc-uid-copy");

    let taken_up = cluster();
    let original = agent("two", &json!({}), &format!("mc-{OLD}"));
    taken_up.insert(bind(&original, &resolved(&taken_up, &original).unwrap()));
    assert!(!is_claim(&taken_up, &agent("copy", &json!({}), &format!("mc-{OLD}"))), "another Agent is bound to it");

    let lead = json!({ "role": "Lead" });
    assert!(!is_claim(&cluster(), &agent("lead", &lead, "lead-b2")), "the id is of the lead of the other Board");
    assert!(is_claim(&cluster(), &agent("lead", &lead, "lead-b1")), "its own Board gives the same id");
    assert!(!is_claim(&cluster(), &agent("main", &json!({ "role": "Worker" }), "mc-gateway-g1")));
}

#[test]
fn of_two_agents_with_one_claim_the_older_has_it() {
    let cluster = cluster();
    let (one, two) = (agent("one", &json!({}), &format!("mc-{OLD}")), agent("two", &json!({}), &format!("mc-{OLD}")));
    cluster.insert(one.clone());
    cluster.insert(two.clone());
    assert!(resolved(&cluster, &one).unwrap().is_claim);
    let other = resolved(&cluster, &two).unwrap();
    assert_eq!((other.is_claim, other.identity.agent_id.as_str()), (false, "mc-uid-two"));
}

#[test]
fn an_annotation_of_a_living_agent_takes_nothing_from_it() {
    let cluster = cluster();
    let mut hostile = agent("aaa", &json!({}), "mc-uid-one");
    hostile.metadata.creation_timestamp = None;
    cluster.insert(hostile);
    let one = agent("one", &json!({}), "");
    cluster.insert(one.clone());
    assert_eq!(resolved(&cluster, &one).unwrap().identity.agent_id, "mc-uid-one");
}

#[test]
fn a_claimed_id_stays_with_its_binding_whatever_the_annotation_says() {
    let claim = format!("lead-{OLD}");
    let lead = agent("lead", &json!({ "role": "Lead" }), &claim);
    let mut bound = bind(&lead, &resolved(&cluster(), &lead).unwrap());
    for annotation in [Some("lead-b2"), Some("no id!"), None] {
        let value = annotation.map(|text| ("muster.dev/agent-id".to_owned(), text.to_owned()));
        bound.metadata.annotations = Some(value.into_iter().collect());
        let names = resolved(&cluster(), &bound).unwrap();
        assert_eq!((names.identity.agent_id.as_str(), names.is_claim), (claim.as_str(), false), "{annotation:?}");
        assert_eq!(names.claimed_for.as_deref(), Some("b1"));
    }
    bound.spec.board_ref = Some(crate::api::shared::LocalRef { name: "lab".into() });
    assert_eq!(resolved(&cluster(), &bound).unwrap().identity.agent_id, "lead-b2", "the lead moved to another Board");
}

#[test]
fn a_bound_agent_keeps_its_workspace_at_its_address_and_gets_a_new_one_elsewhere() {
    let one = agent("one", &json!({}), &format!("mc-{OLD}"));
    let names = ResolvedNames { taken_up: true, ..resolved(&cluster(), &one).unwrap() };
    let bound = bind(&one, &names);
    let mut moved = gateway();
    moved.spec.workspace_root = "/new".into();
    let there = |agent: &Agent, names: &ResolvedNames, gateway: &AgentGateway| {
        resolve(&cluster(), &bind(agent, names), None, gateway).unwrap().identity.workspace
    };
    assert_eq!(there(&one, &names, &moved), format!("/w/workspace-mc-{OLD}"));
    let plain = agent("one", &json!({}), "");
    let derived = resolved(&cluster(), &plain).unwrap();
    assert_eq!(there(&plain, &derived, &moved), "/w/workspace-mc-uid-one");
    moved.spec.url = "ws://other".into();
    assert_eq!(there(&plain, &derived, &moved), "/new/workspace-mc-uid-one");
    let names = resolve(&cluster(), &bound, None, &moved).unwrap();
    assert_eq!(names.identity.workspace, format!("/new/workspace-mc-{OLD}"));
    assert!(names.taken_up && !names.is_claim);
    let adopted = bind(&one, &ResolvedNames { adopted: true, taken_up: false, ..names });
    assert!(
        !resolve(&cluster(), &adopted, None, &moved).unwrap().adopted,
        "at another address it may be another agent"
    );
    assert!(resolve(&cluster(), &adopted, None, &gateway()).unwrap().adopted);
}

fn reason(spec: &Value, annotation: &str) -> Option<Reason> {
    resolved(&cluster(), &agent("one", spec, annotation)).err().map(|error| error.reason)
}

#[test]
fn a_chosen_id_of_the_derived_form_is_only_for_adopting_and_taking_up() {
    for form in ["mc", "lead", "gateway", "mc-gateway"] {
        let id = format!("{form}-{OLD}");
        assert_eq!(reason(&json!({ "agentId": id }), ""), Some(Reason::InvalidSpec), "{id}");
        assert_eq!(reason(&json!({ "agentId": id, "adoptionPolicy": "IfExists" }), ""), None, "{id}");
        assert_eq!(reason(&json!({ "agentId": id }), &id), None, "{id} comes from a backup");
        for live in ["b1", "g1"] {
            let id = format!("{form}-{live}");
            let adopts = json!({ "agentId": id, "adoptionPolicy": "IfExists" });
            assert_eq!(reason(&adopts, &id), Some(Reason::AgentIdTaken), "{id}: the object exists");
        }
    }
    for id in ["mc-one", "lead-dev", "gateway-keeper", "nova"] {
        assert_eq!(reason(&json!({ "agentId": id }), ""), None, "{id}");
    }
    let lead = json!({ "role": "Lead", "agentId": "lead-b1" });
    assert_eq!(reason(&lead, ""), Some(Reason::InvalidSpec));
    let adopts = json!({ "role": "Lead", "agentId": "lead-b1", "adoptionPolicy": "IfExists" });
    assert_eq!(reason(&adopts, ""), None, "a lead that was left behind is adopted by its id");
}

#[test]
fn a_bound_agent_keeps_a_chosen_id_of_the_derived_form() {
    let id = format!("mc-{OLD}");
    let one = agent("one", &json!({ "agentId": id }), &id);
    let mut bound = bind(&one, &resolved(&cluster(), &one).unwrap());
    bound.metadata.annotations = None;
    assert_eq!(resolved(&cluster(), &bound).map(|names| names.identity.agent_id), Ok(id));
}
