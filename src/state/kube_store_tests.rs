use std::convert::Infallible;
use std::sync::Mutex;

use http::{Method, Request, Response};
use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::state::cache::cache;

/// The method, the path and the body of each request.
type Requests = Arc<Mutex<Vec<(Method, String, Value)>>>;

/// A store over an API server that gives these answers.
fn store(
    namespaces: &[&str],
    answer: impl Fn(&Method, &str, &Value) -> (u16, Value) + Clone + Send + 'static,
) -> (KubeStore, Requests) {
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
    (KubeStore::new(Client::new(service, "default"), caches, namespaces, Arc::new(Timestamp::now)), requests)
}

#[tokio::test]
async fn a_namespace_that_the_api_server_refuses_is_named_and_the_others_are_counted() {
    let (store, _) = store(&["team-c", "team-z"], |_, path, _| {
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

/// Publishes these messages of one reason at the same time. Returns the methods of the requests.
async fn published(messages: &[&str], one_after_the_other: bool) -> Vec<Method> {
    let (store, requests) = store(&["team"], |_, _, body| {
        let mut event = json!({ "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": { "name": "gw.1" } });
        if let Some(name) = body.pointer("/metadata/name") {
            event["metadata"]["name"] = name.clone();
        }
        (201, event)
    });
    let mut gateway = Board::default();
    gateway.metadata.name = Some("gw".into());
    gateway.metadata.namespace = Some("team".into());
    let event = |message: &&str| event::Event {
        warning: true,
        reason: "NotAdmitted".into(),
        action: "Admit",
        message: (*message).to_owned(),
    };
    let events: Vec<_> = messages.iter().map(event).collect();
    let publish = |event| store.publish(EventTarget::Board(&gateway), event);
    if one_after_the_other {
        for event in &events {
            publish(event).await;
        }
    } else {
        futures::future::join_all(events.iter().map(publish)).await;
    }
    requests.lock().unwrap().iter().map(|(method, ..)| method.clone()).collect()
}

#[tokio::test]
async fn a_new_message_of_a_known_reason_is_an_event_of_its_own_and_a_repeated_one_is_counted() {
    let methods = published(&["does not admit", "no longer admits", "does not admit"], true).await;
    assert_eq!(methods, [Method::POST, Method::POST, Method::PATCH]);
}

#[tokio::test]
async fn one_message_that_two_reconciles_publish_at_the_same_time_is_one_event() {
    assert_eq!(published(&["revoked", "revoked"], false).await, [Method::POST, Method::PATCH]);
}
