//! Responses to agents and to unauthenticated callers.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::http::{Method, header};
use muster::api::Agent;
use muster::api::object_key::ObjectKey;
use serde_json::{Value, json};

use crate::rig::{Answer, Call, NS, Rig, heartbeat};

fn post_to<'a>(path: &'a str, token: Option<&'a str>) -> Call<'a> {
    Call { method: Method::POST, path, token, body: String::new() }
}

fn deleting(agent: &mut Value) {
    agent["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    agent["metadata"]["finalizers"] = json!(["muster.dev/agent"]);
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_response_names_the_agent() {
    let rig = Rig::new().await;
    rig.agent("a", |_| {});
    for path in ["/api/v1/agents/uid-a/heartbeat", "/api/v1/agents/mc-a/heartbeat", "/api/v1/agent/heartbeat"] {
        let answer = rig.call(post_to(path, Some("a-token"))).await;
        assert_eq!(answer.body, json!({ "ok": true, "agent_id": "uid-a", "name": "a", "paused": false }), "{path}");
    }
    let call = Call { method: Method::GET, ..post_to("/api/v1/agent/healthz", Some("a-token")) };
    assert_eq!(rig.call(call).await.body["ok"], true);
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_response_shows_a_suspended_agent_as_paused() {
    let rig = Rig::new().await;
    rig.agent("a", |agent| agent["spec"]["suspend"] = json!(true));
    let answer = rig.call(heartbeat("a-token")).await;
    assert_eq!((answer.status.as_u16(), &answer.body["paused"]), (200, &json!(true)));
}

#[tokio::test(start_paused = true)]
async fn the_token_of_an_agent_that_its_gateway_no_longer_admits_is_refused() {
    let rig = Rig::new().await;
    let revocation = json!({ "gateway": { "namespace": "shared", "name": "gw" }, "since": "2026-01-01T00:00:00Z" });
    rig.agent("a", |_| {});
    rig.agent("b", |agent| agent["status"]["revocation"] = revocation);
    assert_eq!(rig.checks_in("a-token").await, 200);
    assert_eq!(rig.call(heartbeat("b-token")).await.code(), (401, "unauthorized"));
}

#[tokio::test(start_paused = true)]
async fn the_token_of_a_deleted_agent_is_refused() {
    let rig = Rig::new().await;
    rig.agent("a", |_| {});
    assert_eq!(rig.checks_in("a-token").await, 200);
    rig.cluster.delete::<Agent>(&ObjectKey::new(NS, "a"));
    assert_eq!(rig.call(heartbeat("a-token")).await.code(), (401, "unauthorized"));
}

#[tokio::test(start_paused = true)]
async fn of_two_agents_with_one_token_the_one_that_accepts_it_and_stays_is_the_caller() {
    let expired = |agent: &mut Value| {
        let token = &mut agent["status"]["token"];
        token["previous"] = json!({ "sha256": token["sha256"], "validUntil": "2025-12-31T00:00:00Z" });
        token["sha256"] = json!("another");
    };
    for other in [expired, deleting] {
        let rig = Rig::new().await;
        let copied = |agent: &mut Value| {
            agent["status"]["token"]["sha256"] = json!(muster::hash::sha256_hex("m-token"));
            other(agent);
        };
        for name in ["a", "z"] {
            rig.agent(name, copied);
        }
        rig.agent("m", |_| {});
        let answer = rig.call(heartbeat("m-token")).await;
        assert_eq!((answer.status.as_u16(), &answer.body["agent_id"]), (200, &json!("uid-m")));
    }
}

#[tokio::test(start_paused = true)]
async fn each_refusal_has_a_status_a_code_and_a_message() {
    let rig = Rig::new().await;
    rig.agent("a", |_| {});
    rig.agent("b", |_| {});
    rig.agent("gone", deleting);
    let own = |body: String| Call { body, ..heartbeat("a-token") };
    let cases = [
        (post_to("/api/v1/agent/heartbeat", None), (401, "unauthorized"), "X-Agent-Token"),
        (heartbeat("nonsense"), (401, "unauthorized"), "read them again"),
        (post_to("/api/v1/agents/uid-b/heartbeat", Some("a-token")), (403, "wrong_agent"), "another agent"),
        (post_to("/api/v1/agents/mc-b/heartbeat", Some("a-token")), (403, "wrong_agent"), "another agent"),
        (post_to("/api/v1/agents/uid-c/heartbeat", Some("a-token")), (403, "wrong_agent"), "another agent"),
        (post_to("/api/v1/agents/%FF/heartbeat", Some("a-token")), (403, "wrong_agent"), "another agent"),
        (post_to("/api/v1/tasks", Some("a-token")), (404, "not_found"), "routes"),
        (post_to("/api/v1/agent/healthz", Some("a-token")), (405, "method_not_allowed"), "GET"),
        (heartbeat("gone-token"), (409, "deleting"), "stop working"),
        (own("x".repeat(16 * 1024 + 1)), (413, "too_large"), "16384 bytes"),
        (own("{".into()), (400, "bad_request"), "JSON"),
        (own(json!({ "status": "flying" }).to_string()), (400, "bad_request"), "flying"),
        (own(json!({ "current_task_id": "T".repeat(257) }).to_string()), (400, "bad_request"), "256 characters"),
    ];
    for (call, expected, says) in cases {
        let answer = rig.call(call).await;
        assert_eq!(answer.code(), expected, "{answer:?}");
        assert!(answer.body["message"].as_str().is_some_and(|m| m.contains(says)), "{says:?} is not in {answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unauthenticated_response_is_equal_for_known_and_unknown_agents() {
    let rig = Rig::new().await;
    rig.agent("a", |_| {});
    rig.agent("gone", deleting);
    let mut answers: Vec<Answer> = Vec::new();
    for id in ["uid-a", "mc-a", "uid-gone", "uid-nobody"] {
        let path = format!("/api/v1/agents/{id}/heartbeat");
        answers.push(rig.call(post_to(&path, Some("nonsense"))).await);
        let body = "x".repeat(64 * 1024);
        answers.push(rig.call(Call { body, ..post_to(&path, Some("nonsense")) }).await);
    }
    assert_eq!(answers[0].status, 401);
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
}

#[tokio::test(start_paused = true)]
async fn an_agent_cannot_find_out_whether_another_id_exists() {
    let rig = Rig::new().await;
    rig.agent("a", |_| {});
    rig.agent("b", |_| {});
    let mut answers = Vec::new();
    for id in ["uid-b", "mc-b", "uid-nobody"] {
        answers.push(rig.call(post_to(&format!("/api/v1/agents/{id}/heartbeat"), Some("a-token"))).await);
    }
    assert_eq!(answers[0].code(), (403, "wrong_agent"));
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
}

#[tokio::test(start_paused = true)]
async fn a_rate_limited_agent_gets_retry_after() {
    let rig = Rig::new().await;
    rig.agent("a", |_| {});
    rig.agent("b", |_| {});
    for _ in 0..20 {
        assert_eq!(rig.checks_in("a-token").await, 200);
    }
    let answer = rig.call(heartbeat("a-token")).await;
    assert_eq!(answer.code(), (429, "too_many_requests"));
    assert_eq!(answer.headers[header::RETRY_AFTER], "1");
    assert_eq!(rig.checks_in("b-token").await, 200, "each agent has its own limit");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(rig.checks_in("a-token").await, 200);
}

#[tokio::test(start_paused = true)]
async fn token_guessing_is_rate_limited_and_a_valid_token_is_not() {
    let rig = Rig::new().await;
    rig.agent("a", |_| {});
    let mut statuses = Vec::new();
    for n in 0..61 {
        statuses.push(rig.checks_in(&format!("guess-{n}")).await);
    }
    assert_eq!((statuses[59], statuses[60]), (401, 429));
    assert_eq!(rig.checks_in("a-token").await, 200);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_token_gets_503_while_the_operator_starts() {
    let rig = Rig::new().await;
    rig.agent("a", |_| {});
    rig.probes.synced.store(false, Ordering::Relaxed);
    let early = rig.call(heartbeat("b-token")).await;
    assert_eq!(early.code(), (503, "starting"));
    assert!(early.headers.contains_key("retry-after"));
    assert_eq!(rig.checks_in("a-token").await, 200, "a known token is accepted");
    rig.probes.synced.store(true, Ordering::Relaxed);
    assert_eq!(rig.checks_in("b-token").await, 401);
}
