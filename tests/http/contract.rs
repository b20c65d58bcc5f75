//! The API matches `openapi.json`.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use muster::http::people;
use serde_json::{Value, json};

use crate::rig::{ADMIN, Rig, answer};

/// The routes of the API for agents.
const AGENT_ROUTES: [&str; 3] = ["/api/v1/agents/{id}/heartbeat", "/api/v1/agent/heartbeat", "/api/v1/agent/healthz"];

fn document() -> Value {
    serde_json::from_str(people::OPENAPI).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_openapi_document_lists_exactly_the_served_routes_and_methods() {
    let rig = Rig::new().await;
    let document = document();
    let described: BTreeSet<_> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    let routed: BTreeSet<_> = people::paths().into_iter().chain(AGENT_ROUTES).collect();
    assert_eq!(described, routed);
    for path in described {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let request = Request::builder().method(method).uri(path.replace("{id}", "x"));
            let status = rig.send(request.body(Body::empty()).unwrap()).await.status();
            let described_method = document["paths"][path].get(method.to_lowercase()).is_some();
            assert_eq!(status != StatusCode::METHOD_NOT_ALLOWED, described_method, "{method} {path}: {status}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_openapi_document_is_served_without_authentication() {
    let rig = Rig::new().await;
    let served = answer(rig.send(Request::get("/openapi.json").body(Body::empty()).unwrap()).await).await;
    assert_eq!(
        (served.status, &served.headers["content-type"]),
        (StatusCode::OK, &"application/json".parse().unwrap())
    );
    assert_eq!(served.json, document());
}

#[tokio::test(start_paused = true)]
async fn each_object_has_the_required_fields_of_its_schema() {
    let rig = Rig::new().await;
    rig.worker("fleet", "a");
    let fields = |schema: &str| {
        let found = document()["components"]["schemas"][schema]["required"].clone();
        serde_json::from_value::<BTreeSet<String>>(found).unwrap()
    };
    let of = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let list = rig.get(ADMIN, "/api/v1/agents").await;
    assert_eq!(of(&list.json["items"][0]), fields("Agent"));
    let id = list.json["items"][0]["id"].as_str().unwrap();
    assert_eq!(of(&rig.get(ADMIN, &format!("/api/v1/agents/{id}")).await.json), fields("AgentDetail"));
    assert_eq!(of(&rig.get(ADMIN, "/api/v1/boards").await.json["items"][0]), fields("Board"));
    assert_eq!(of(&rig.get(ADMIN, "/api/v1/gateways").await.json["items"][0]), fields("Gateway"));
}

#[tokio::test(start_paused = true)]
async fn every_error_response_is_json() {
    let rig = Rig::new().await;
    for (method, path, status) in [
        ("GET", "/nothing", 404),
        ("PUT", "/api/v1/agents", 405),
        ("DELETE", "/api/v1/agent/healthz", 405),
        ("GET", "/api/v1/agents/%ff", 400),
        ("POST", "/api/v1/agents", 400),
    ] {
        let found = rig.call(ADMIN, method, path, None).await;
        assert_eq!(found.status.as_u16(), status, "{method} {path}");
        assert!(found.json["code"].is_string() && found.json["message"].is_string(), "{}", found.json);
        assert_eq!(found.headers.contains_key("allow"), status == 405);
    }
    let long = rig.call(ADMIN, "POST", "/api/v1/agents", Some(json!({ "name": "x".repeat(300_000) }))).await;
    assert_eq!(long.status, StatusCode::PAYLOAD_TOO_LARGE);
}
