use serde_json::{Value, json};

use super::*;
use crate::core::agent::memory_objects::MemoryObjects;

fn gateway(permissions: &Value, heartbeat: &Value) -> AgentGateway {
    let spec = json!({
        "url": "ws://gw", "auth": {}, "workspaceRoot": "~/w", "apiUrl": "http://muster", "heartbeat": heartbeat,
        "allowedNamespaces": { "from": "All", "permissions": permissions },
    });
    AgentGateway::new("gw", serde_json::from_value(spec).unwrap())
}

fn refused(spec: &Value, permissions: &Value, heartbeat: &Value) -> Option<String> {
    let mut agent = Agent::new("one", serde_json::from_value(spec.clone()).unwrap());
    agent.metadata.namespace = Some("team".into());
    let key = |namespace: &str| ObjectKey::new(namespace, "gw");
    let gateway = gateway(permissions, heartbeat);
    assert_eq!(
        check(&MemoryObjects::default(), &agent, &gateway, &key("team")),
        Ok(()),
        "its own namespace is not restricted"
    );
    let error = check(&MemoryObjects::default(), &agent, &gateway, &key("shared")).err()?;
    assert_eq!(error.reason, Reason::NotPermitted);
    Some(error.message)
}

#[test]
fn by_default_other_namespaces_have_workers_and_leads_and_nothing_else() {
    let defaults = |spec: &Value| refused(spec, &json!({}), &Value::Null);
    for spec in [json!({}), json!({ "role": "Lead" }), json!({ "heartbeat": { "target": "none", "interval": "5m" } })] {
        assert_eq!(defaults(&spec), None);
    }
    for (spec, field, setting) in [
        (json!({ "role": "Main" }), "spec.role Main", "roles"),
        (json!({ "agentId": "nova" }), "spec.agentId \"nova\"", "chosenIds"),
        (json!({ "adoptionPolicy": "IfExists" }), "spec.adoptionPolicy IfExists", "adoption"),
        (json!({ "modelFallbacks": ["acme/large"] }), "spec.modelFallbacks \"acme/large\"", "models"),
        (json!({ "config": { "tools": {} } }), "spec.config.tools", "config"),
        (json!({ "model": "acme/large" }), "spec.model \"acme/large\"", "models"),
        (json!({ "heartbeat": { "model": "acme/large" } }), "spec.heartbeat.model \"acme/large\"", "models"),
        (json!({ "heartbeat": { "target": "last" } }), "spec.heartbeat.target \"last\"", "heartbeatTargets"),
        (json!({ "heartbeat": { "interval": "4m" } }), "spec.heartbeat.interval 4m", "shortestInterval"),
    ] {
        let message = defaults(&spec).unwrap();
        let setting = format!("spec.allowedNamespaces.permissions.{setting} of AgentGateway shared/gw");
        assert!(message.contains(field) && message.contains(&setting), "{message}");
    }
}

#[test]
fn what_the_owner_permits_is_permitted() {
    let permissions = json!({
        "roles": ["Main"], "chosenIds": true, "adoption": true, "config": true, "models": ["acme/*", "other/one"],
        "heartbeatTargets": ["team-channel"], "shortestInterval": "1m",
    });
    for spec in [
        json!({ "role": "Main", "agentId": "nova", "adoptionPolicy": "IfExists", "model": "acme/large", "config": { "tools": {} } }),
        json!({ "role": "Main", "model": "other/one", "heartbeat": { "model": "acme/", "target": "team-channel" } }),
        json!({ "role": "Main", "heartbeat": { "interval": "1m" } }),
    ] {
        assert_eq!(refused(&spec, &permissions, &Value::Null), None);
    }
    for spec in
        [json!({}), json!({ "role": "Main", "model": "other/one-more" }), json!({ "role": "Main", "model": "acm" })]
    {
        assert!(refused(&spec, &permissions, &Value::Null).is_some(), "{spec}");
    }
}

#[test]
fn an_observer_needs_the_permissions_of_an_adoption_and_no_other() {
    let observer =
        json!({ "agentId": "nova", "managementPolicy": "Observe", "model": "acme/large", "config": { "tools": {} } });
    let message = refused(&observer, &json!({}), &Value::Null).unwrap();
    assert!(message.contains("spec.agentId \"nova\"") && message.contains("permissions.chosenIds"), "{message}");
    let message = refused(&observer, &json!({ "chosenIds": true }), &Value::Null).unwrap();
    assert!(message.contains("spec.managementPolicy Observe") && message.contains("permissions.adoption"), "{message}");
    assert_eq!(refused(&observer, &json!({ "chosenIds": true, "adoption": true }), &Value::Null), None);
}

#[test]
fn settings_of_the_gateway_itself_are_permitted_to_those_who_inherit_them() {
    let heartbeat = json!({ "interval": "1m", "target": "last", "model": "acme/small" });
    assert_eq!(refused(&json!({}), &json!({ "shortestInterval": "10m" }), &heartbeat), None);
    assert_eq!(refused(&json!({ "heartbeat": { "interval": "1m" } }), &json!({}), &heartbeat), None);
    let slower = json!({ "shortestInterval": "10m" });
    assert!(refused(&json!({}), &slower, &Value::Null).unwrap().contains("spec.heartbeat.interval 5m"));
    let off = json!({ "heartbeat": { "enabled": false } });
    assert_eq!(refused(&off, &slower, &Value::Null), None);
}

/// Agents of namespace `team` on a Board of `shared/gw`; the marked ones are bound.
fn guests(bound: &[bool]) -> (MemoryObjects, Vec<Agent>) {
    let board = json!({ "apiVersion": "muster.dev/v1alpha1", "kind": "Board",
        "metadata": { "name": "ops", "namespace": "team" },
        "spec": { "gatewayRef": { "name": "gw", "namespace": "shared" } } });
    let agent = |(number, is_bound): (usize, &bool)| {
        let uid = format!("uid-{number}");
        let meta = json!({ "name": format!("a{number}"), "namespace": "team", "uid": uid,
            "creationTimestamp": format!("2026-01-01T00:00:{number:02}Z") });
        let binding = json!({ "uid": uid, "gateway": { "namespace": "shared", "name": "gw" }, "agentId": uid,
            "sessionKey": "", "workspace": "/w" });
        let status = if *is_bound { json!({ "binding": binding }) } else { json!({}) };
        let agent = json!({ "apiVersion": "muster.dev/v1alpha1", "kind": "Agent", "metadata": meta,
            "spec": { "boardRef": { "name": "ops" } }, "status": status });
        serde_json::from_value::<Agent>(agent).unwrap()
    };
    let agents: Vec<_> = bound.iter().enumerate().map(agent).collect();
    let objects =
        MemoryObjects { boards: vec![serde_json::from_value(board).map(Arc::new).unwrap()], ..Default::default() };
    for agent in &agents {
        objects.insert(agent.clone());
    }
    (objects, agents)
}

#[test]
fn bound_agents_keep_their_places_and_the_others_follow_in_the_order_of_creation() {
    let gateway = gateway(&json!({ "maxAgentsPerNamespace": 2 }), &Value::Null);
    let admitted = |bound: &[bool]| {
        let (objects, agents) = guests(bound);
        let check = |agent| check(&objects, agent, &gateway, &ObjectKey::new("shared", "gw"));
        let results: Vec<_> = agents.iter().map(check).collect();
        assert!(results.iter().filter_map(|r| r.as_ref().err()).all(|e| e.reason == Reason::NamespaceFull));
        results.iter().map(Result::is_ok).collect::<Vec<_>>()
    };
    assert_eq!(admitted(&[false, false, false]), [true, true, false]);
    assert_eq!(admitted(&[false, true, true]), [false, true, true], "an older one displaces none");
    assert_eq!(admitted(&[true, true, true]), [true, true, false], "the limit was lowered");
}

#[test]
fn a_full_namespace_names_the_agents_that_hold_its_places() {
    let text = |limit: usize, bound: &[bool]| {
        let gateway = gateway(&json!({ "maxAgentsPerNamespace": limit }), &Value::Null);
        let (objects, agents) = guests(bound);
        let last = agents.last().unwrap();
        check(&objects, last, &gateway, &ObjectKey::new("shared", "gw")).unwrap_err().message
    };
    let one = text(1, &[false, false]);
    for words in ["at most 1 Agent ", "team/a0 (waits)", "An Agent that waits", "delete"] {
        assert!(one.contains(words), "{one}");
    }
    let many = text(7, &[true, false, true, true, true, true, true, false]);
    assert!(many.contains("at most 7 Agents ") && many.contains("team/a0, team/a1 (waits), team/a2"), "{many}");
    assert!(many.contains("and 2 more"), "{many}");
    let none = text(0, &[false]);
    assert!(none.contains("no Agent ") && !none.contains("delete"), "{none}");
}
