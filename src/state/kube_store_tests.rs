use std::convert::Infallible;
use std::sync::Mutex;

use http::{Method, Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;
use crate::state::cache::cache;

/// The method, the path and the body of each request.
type Requests = Arc<Mutex<Vec<(Method, String, Value)>>>;

/// A store over an API server that gives these answers.
fn store(
    namespaces: &[&str],
    answer: impl Fn(&Method, &str, &Value) -> (u16, Value) + Clone + Send + 'static,
) -> (KubeStore, LateEvents, Requests) {
    let requests = Requests::default();
    let seen = Arc::clone(&requests);
    let service = tower::service_fn(move |request: Request<Body>| {
        let (seen, answer) = (Arc::clone(&seen), answer.clone());
        async move {
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            let bytes = request.into_body().collect_bytes().await.unwrap();
            let body = serde_json::from_slice(&bytes).unwrap_or_default();
            let (status, answered) = answer(&method, &path, &body);
            seen.lock().unwrap().push((method, path, body));
            // Another request may begin before the answer.
            tokio::task::yield_now().await;
            let response = Response::builder().status(status).body(Body::from(answered.to_string().into_bytes()));
            Ok::<_, Infallible>(response.unwrap())
        }
    });
    let namespaces = WatchedNamespaces::Only(namespaces.iter().map(|name| (*name).to_owned()).collect());
    let caches = Caches { agents: cache(&namespaces).0, boards: cache(&namespaces).0, gateways: cache(&namespaces).0 };
    let (store, events) = KubeStore::new(Client::new(service, "default"), caches, namespaces, Arc::new(Timestamp::now));
    (store, events, requests)
}

#[tokio::test]
async fn a_namespace_that_the_api_server_refuses_is_named_and_the_others_are_counted() {
    let (store, ..) = store(&["team-c", "team-z"], |_, path, _| {
        if path.contains("/team-z/") {
            let message = r#"agents.muster.dev is forbidden: User "muster" cannot list resource "agents" in API group "muster.dev" in the namespace "team-z""#;
            let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": message, "reason": "Forbidden", "code": 403 });
            return (403, status);
        }
        let binding = json!({ "uid": "u", "gateway": { "namespace": "team-c", "name": "gw" }, "agentId": "mc-u",
            "sessionKey": "agent:mc-u:main", "workspace": "/w" });
        let agent = json!({ "apiVersion": "muster.dev/v1alpha1", "kind": "Agent",
            "metadata": { "name": "one", "namespace": "team-c", "uid": "u" }, "spec": {}, "status": { "binding": binding } });
        let list =
            json!({ "apiVersion": "muster.dev/v1alpha1", "kind": "AgentList", "metadata": {}, "items": [agent] });
        (200, list)
    });
    let bound = store.bound_agents(&ObjectKey::new("team-c", "gw")).await.unwrap();
    assert_eq!(bound, BoundAgents { count: 1, refused: vec!["team-z".into()] });
}

/// Events with these messages and one reason.
fn events(messages: &[&str]) -> Vec<ObjectEvent> {
    let regarding = ObjectReference { name: Some("gw".into()), namespace: Some("team".into()), ..Default::default() };
    let event = |message: &&str| ObjectEvent {
        regarding: regarding.clone(),
        event: event::Event {
            warning: true,
            reason: "NotAdmitted".into(),
            action: "Admit",
            message: (*message).to_owned(),
        },
        at: Timestamp::now(),
    };
    messages.iter().map(event).collect()
}

/// A store over an API server that accepts each event.
fn store_of_events() -> (KubeStore, LateEvents, Requests) {
    store(&["team"], |_, _, body| {
        let mut event = json!({ "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": { "name": "gw.1" } });
        if let Some(name) = body.pointer("/metadata/name") {
            event["metadata"]["name"] = name.clone();
        }
        (201, event)
    })
}

fn methods(requests: &Requests) -> Vec<Method> {
    requests.lock().unwrap().iter().map(|(method, ..)| method.clone()).collect()
}

#[tokio::test]
async fn no_reconcile_waits_for_an_event_and_the_last_event_of_an_agent_is_written_at_once() {
    let (store, late, requests) = store_of_events();
    let mut agent = Agent::default();
    agent.metadata.name = Some("one".into());
    agent.metadata.namespace = Some("team".into());
    let event = |message| events(&[message]).remove(0).event;
    store.publish(EventTarget::Agent(&agent), &event("first")).await;
    store.publish(EventTarget::Agent(&agent), &event("second")).await;
    assert!(requests.lock().unwrap().is_empty());
    let end = CancellationToken::new();
    end.cancel();
    late.write(&end).await;
    assert_eq!(methods(&requests), [Method::POST; 2], "those that wait at the end are written");
    agent.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    store.publish(EventTarget::Agent(&agent), &event("last")).await;
    assert_eq!(methods(&requests), [Method::POST; 3]);
}

#[tokio::test]
async fn events_are_written_while_the_operator_runs() {
    let (store, late, requests) = store_of_events();
    for event in ["first", "second"] {
        store.publish(EventTarget::Agent(&Agent::default()), &events(&[event]).remove(0).event).await;
    }
    let running = tokio::spawn(async move { late.write(&CancellationToken::new()).await });
    while methods(&requests).len() < 2 {
        tokio::task::yield_now().await;
    }
    running.abort();
}

#[tokio::test]
async fn a_new_message_of_a_known_reason_is_an_event_of_its_own_and_a_repeated_one_is_counted() {
    let (store, _, requests) = store_of_events();
    for event in events(&["does not admit", "no longer admits", "does not admit"]) {
        store.events.now(event).await;
    }
    assert_eq!(methods(&requests), [Method::POST, Method::POST, Method::PATCH]);
}

#[tokio::test]
async fn one_message_that_two_reconciles_publish_at_the_same_time_is_one_event() {
    let (store, _, requests) = store_of_events();
    futures::future::join_all(events(&["revoked", "revoked"]).into_iter().map(|event| store.events.now(event))).await;
    assert_eq!(methods(&requests), [Method::POST, Method::PATCH]);
}

#[test]
fn a_status_that_answers_a_person_or_has_another_token_is_not_late() {
    let ready = json!({ "type": "Ready", "status": "True", "reason": "Reconciled", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z" });
    let status = |change: &Value| -> AgentStatus {
        let mut status = json!({ "observedGeneration": 1, "phase": "Ready", "conditions": [ready] });
        status.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        serde_json::from_value(status).unwrap()
    };
    let agent = Agent { status: Some(status(&json!({}))), ..Agent::default() };
    assert!(is_late(&agent, &status(&json!({ "phase": "Active" }))));
    for change in [
        json!({ "observedGeneration": 2 }),
        json!({ "lastHandledReconcileAt": "now" }),
        json!({ "token": { "secretName": "one-token" } }),
        json!({ "conditions": [] }),
    ] {
        assert!(!is_late(&agent, &status(&change)), "{change}");
    }
    assert!(!is_late(&Agent::default(), &status(&json!({}))), "it was not Ready");
}
