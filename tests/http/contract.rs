//! The API matches its `OpenAPI` document.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};

use crate::described::document;
use crate::rig::{ADMIN, Rig, answer};

#[tokio::test(start_paused = true)]
async fn a_described_route_has_the_described_methods_and_no_others() {
    let rig = Rig::new().await;
    let document = document();
    for (path, described) in document["paths"].as_object().unwrap() {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let request = Request::builder().method(method).uri(path.replace("{id}", "x"));
            let status = rig.send(request.body(Body::empty()).unwrap()).await.status();
            let is_described = described.get(method.to_lowercase()).is_some();
            assert_eq!(status != StatusCode::METHOD_NOT_ALLOWED, is_described, "{method} {path}: {status}");
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
    assert_eq!(served.json, *document());
}

#[test]
fn every_parameter_every_field_and_every_answer_is_described() {
    let document = document();
    let mut missing = Vec::new();
    find_undescribed(&document["paths"], "paths", &mut missing);
    find_undescribed(&document["components"], "components", &mut missing);
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// Collects the parameters, the responses and the fields of schemas below a value that have no description.
fn find_undescribed(value: &Value, place: &str, missing: &mut Vec<String>) {
    let is_undescribed =
        |value: &Value| value["$ref"].is_null() && value["description"].as_str().is_none_or(str::is_empty);
    for (name, below) in value.as_object().into_iter().flatten() {
        let place = format!("{place}.{name}");
        let parts: Vec<&Value> = match (name.as_str(), below) {
            ("parameters", Value::Array(items)) => items.iter().collect(),
            ("properties" | "responses", Value::Object(fields)) => fields.values().collect(),
            _ => Vec::new(),
        };
        // The part of an error that names its codes has a description in the schema of all errors.
        let own = |part: &&Value| !(part["enum"].is_array() && part["type"].is_null());
        missing
            .extend(parts.into_iter().filter(own).filter(|part| is_undescribed(part)).map(|p| format!("{place}: {p}")));
        find_undescribed(below, &place, missing);
    }
    for (number, below) in value.as_array().into_iter().flatten().enumerate() {
        find_undescribed(below, &format!("{place}[{number}]"), missing);
    }
}

#[test]
fn a_reference_of_the_document_has_its_object_and_an_operation_its_own_name() {
    let document = document();
    let text = document.to_string();
    let mut references = 0;
    for (_, rest) in text.match_indices("\"$ref\":\"#").map(|(at, mark)| text.split_at(at + mark.len())) {
        let path = rest.split('"').next().unwrap();
        assert!(document.pointer(path).is_some(), "{path}");
        references += 1;
    }
    assert!(references > 100, "{references} references");
    let operations =
        document["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap().values());
    let names: Vec<_> = operations.filter_map(|operation| operation["operationId"].as_str()).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
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
