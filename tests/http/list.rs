//! Visibility and filters of the lists.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use futures::future::BoxFuture;
use muster::api::object_key::ObjectKey;
use muster::api::watched_namespaces::WatchedNamespaces;
use muster::api::{Agent, AgentGateway, Board};
use muster::controllers::gateway_pool::GatewayPool;
use muster::core::event::Event;
use muster::http::confidential::HttpTokens;
use muster::http::people;
use muster::openclaw::{Auth, ConnectionSettings, DeviceKey, Dial, DialError, DialedStream, Trust};
use muster::state::State;
use muster::state::authz::{AccessError, ResourceKind, Verb};
use muster::state::store::EventTarget;
use muster_simulator::{Profile, Simulator};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use url::Url;

use crate::rig::{self, ADMIN, Rig, STRANGER, VIEWER, answer};

#[tokio::test(start_paused = true)]
async fn a_missing_or_unknown_token_gets_401() {
    let rig = Rig::new().await;
    for path in ["/api/v1/agents", "/api/v1/agents/stream", "/api/v1/agents/x", "/api/v1/boards", "/api/v1/gateways"] {
        let bare = answer(rig.send(Request::get(path).body(Body::empty()).unwrap()).await).await;
        assert_eq!((bare.status, &bare.json["code"]), (StatusCode::UNAUTHORIZED, &json!("unauthorized")), "{path}");
        assert_eq!(bare.headers["www-authenticate"], "Bearer");
        let unknown = rig.get("nobodys-token", path).await;
        assert_eq!(unknown.status, StatusCode::UNAUTHORIZED, "{path}");
        for refusal in [&bare, &unknown] {
            let message = refusal.json["message"].as_str().unwrap();
            for words in ["kubectl create token", "muster run --embedded DIR", "DIR/token"] {
                assert!(message.contains(words), "{words}: {message}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_forbidden_request_names_the_missing_permission() {
    let rig = Rig::new().await;
    rig.worker("fleet", "a");
    let all = rig.get(STRANGER, "/api/v1/agents").await;
    assert_eq!((all.status, &all.json["code"]), (StatusCode::FORBIDDEN, &json!("forbidden")));
    assert!(all.message().contains("stranger may not list agents.muster.dev"), "{}", all.message());
    let one = rig.get(VIEWER, "/api/v1/agents?namespace=other").await;
    assert_eq!(one.status, StatusCode::FORBIDDEN);
    assert!(one.message().contains("list agents.muster.dev in namespace other"), "{}", one.message());
    let id = rig.uid::<muster::api::Agent>("fleet", "a");
    for id in [id.as_str(), "unknown"] {
        let read = rig.get(STRANGER, &format!("/api/v1/agents/{id}")).await;
        assert_eq!(read.status, StatusCode::FORBIDDEN);
        assert!(read.message().contains("get agents.muster.dev in any namespace"), "{}", read.message());
    }
    rig.worker("other", "theirs");
    for id in [rig.uid::<muster::api::Agent>("other", "theirs").as_str(), "unknown"] {
        let read = rig.get(VIEWER, &format!("/api/v1/agents/{id}")).await;
        let same = format!("there is no agent with the id {id:?}; GET /api/v1/agents lists them");
        assert_eq!((read.status, read.message()), (StatusCode::NOT_FOUND, same.as_str()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_kubernetes_api_gets_503_in_time() {
    let rig = Rig::new().await;
    *rig.rbac.silent.lock().unwrap() = true;
    let late = rig.get(ADMIN, "/api/v1/agents").await;
    assert_eq!((late.status, &late.json["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("kubernetes_unavailable")));
}

#[tokio::test(start_paused = true)]
async fn a_list_shows_only_namespaces_that_the_user_may_list() {
    let rig = Rig::new().await;
    rig.worker("fleet", "mine");
    rig.worker("other", "theirs");
    assert_eq!(rig.get(ADMIN, "/api/v1/agents").await.names(), ["mine", "theirs"]);
    assert_eq!(rig.get(VIEWER, "/api/v1/agents").await.names(), ["mine"]);
    assert_eq!(rig.get(ADMIN, "/api/v1/agents?namespace=other").await.names(), ["theirs"]);
    assert_eq!(rig.get(VIEWER, "/api/v1/boards").await.names(), ["ops", "web"]);
    assert_eq!(rig.get(ADMIN, "/api/v1/boards").await.names().len(), 3);
    assert_eq!(rig.get(VIEWER, "/api/v1/gateways").await.json["items"].as_array().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_filter_accepts_uid_name_and_namespaced_name() {
    let rig = Rig::new().await;
    rig.worker("fleet", "on-ops");
    rig.worker("other", "elsewhere");
    rig.agent("fleet", "on-web", json!({ "boardRef": { "name": "web" } }));
    rig.agent("fleet", "main", json!({ "role": "Main", "gatewayRef": { "name": "gw" } }));
    let (board, gateway) = (rig.uid::<Board>("fleet", "ops"), rig.uid::<AgentGateway>("fleet", "gw"));
    for (query, expected) in [
        (format!("board_id={board}"), &["on-ops"][..]),
        ("board_id=fleet/ops".into(), &["on-ops"]),
        ("board_id=ops".into(), &["on-ops", "elsewhere"]),
        (format!("gateway_id={gateway}"), &["on-ops", "on-web", "main"]),
        (format!("gateway_id={gateway}&board_id=web"), &["on-web"]),
        ("board_id=nothing".into(), &[]),
        ("board_id=&is_mc_agent=true".into(), &["on-ops", "elsewhere", "on-web", "main"]),
    ] {
        assert_eq!(rig.get(ADMIN, &format!("/api/v1/agents?{query}")).await.names(), expected, "{query}");
    }
}

#[tokio::test(start_paused = true)]
async fn pages_follow_each_other_without_a_gap() {
    let rig = Rig::new().await;
    for n in 0..7 {
        rig.worker("fleet", &format!("a{n}"));
    }
    let mut seen = Vec::new();
    for offset in [0, 3, 6] {
        let page = rig.get(VIEWER, &format!("/api/v1/agents?limit=3&offset={offset}")).await;
        assert_eq!(
            (&page.json["total"], &page.json["limit"], &page.json["offset"]),
            (&json!(7), &json!(3), &json!(offset))
        );
        seen.extend(page.names().into_iter().map(str::to_owned));
    }
    assert_eq!(seen, ["a0", "a1", "a2", "a3", "a4", "a5", "a6"]);
    assert_eq!(rig.get(VIEWER, "/api/v1/agents").await.json["limit"], 50);
    for bad in ["limit=0", "limit=201", "limit=x", "offset=-1", "is_mc_agent=yes", "bord_id=x"] {
        let answer = rig.get(VIEWER, &format!("/api/v1/agents?{bad}")).await;
        let name = bad.split('=').next().unwrap();
        assert!(answer.status == StatusCode::BAD_REQUEST && answer.message().contains(name), "{}", answer.message());
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_is_shown_with_every_field_and_no_secret() {
    let rig = Rig::new().await;
    let profile = json!({ "role": "SRE", "communicationStyle": "brief", "extra": { "team": "infra" } });
    let spec = json!({ "boardRef": { "name": "ops" }, "role": "Lead", "displayName": "Lead Agent",
        "identityProfile": profile, "heartbeat": { "interval": "10m" } });
    rig.agent("fleet", "lead", spec);
    let condition = |kind: &str, at: &str| json!({ "type": kind, "status": "True", "reason": "Reconciled", "message": "fine", "lastTransitionTime": at });
    rig.status(
        "fleet",
        "lead",
        json!({
            "phase": "Active", "agentId": "lead-1", "sessionKey": "agent:lead-1:main", "workspacePath": "~/w/lead-1",
            "heartbeat": { "lastSeen": "2026-03-05T12:00:00Z", "status": "Active", "currentTask": "T-1" },
            "token": { "secretName": "lead-token", "sha256": "c0ffee", "revision": 2 },
            "files": [{ "name": "SOUL.md", "state": "Folded", "into": "AGENTS.md", "sha256": "beef" }],
            "requests": [{ "kind": "Rotate", "requestedAt": "2026-03-01T00:00:00Z" }],
            "conditions": [condition("Ready", "2026-03-04T00:00:00Z")],
        }),
    );
    let list = rig.get(VIEWER, "/api/v1/agents").await;
    let item = list.json["items"][0].clone();
    for (field, expected) in [
        ("name", json!("Lead Agent")),
        ("role", json!("Lead")),
        ("status", json!("active")),
        ("board_id", json!(rig.uid::<Board>("fleet", "ops"))),
        ("board_name", json!("ops")),
        ("gateway_id", json!(rig.uid::<AgentGateway>("fleet", "gw"))),
        ("gateway_name", json!("gw")),
        ("is_board_lead", json!(true)),
        ("is_mc_agent", json!(true)),
        ("openclaw_session_id", json!("agent:lead-1:main")),
        ("ready", json!(true)),
        ("last_seen_at", json!("2026-03-05T12:00:00Z")),
        ("updated_at", json!("2026-03-05T12:00:00Z")),
        ("current_task_id", json!("T-1")),
    ] {
        assert_eq!(item[field], expected, "{field}");
    }
    for id in [item["id"].as_str().unwrap(), "lead-1"] {
        let detail = rig.get(VIEWER, &format!("/api/v1/agents/{id}")).await;
        assert_eq!(detail.json["identity_profile"]["team"], "infra");
        assert_eq!(detail.json["heartbeat_config"], json!({ "enabled": true, "intervalSeconds": 600 }));
        assert_eq!(
            detail.json["files"][0],
            json!({ "name": "SOUL.md", "state": "Folded", "into": "AGENTS.md", "size": null })
        );
        assert_eq!(detail.json["token"]["revision"], 2);
        let text = detail.json.to_string();
        assert!(!text.contains("c0ffee") && !text.contains("beef"), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_heartbeat_of_a_suspended_agent_is_off_and_of_an_adopted_agent_is_the_gateways_own() {
    let rig = Rig::new().await;
    let spec = |more: Value| {
        let mut spec = json!({ "boardRef": { "name": "ops" } });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    rig.agent("fleet", "paused", spec(json!({ "suspend": true })));
    rig.agent("fleet", "theirs", spec(json!({ "agentId": "theirs", "adoptionPolicy": "IfExists" })));
    let binding = json!({
        "uid": rig.uid::<Agent>("fleet", "theirs"), "gateway": { "namespace": "fleet", "name": "gw" },
        "agentId": "theirs", "sessionKey": "agent:theirs:main", "workspace": "/home/theirs", "adopted": true,
    });
    rig.status("fleet", "theirs", json!({ "binding": binding }));
    let config = async |name: &str| {
        let id = rig.uid::<Agent>("fleet", name);
        rig.get(VIEWER, &format!("/api/v1/agents/{id}")).await.json["heartbeat_config"].clone()
    };
    assert_eq!(config("paused").await, json!({ "enabled": false, "intervalSeconds": 300 }));
    assert_eq!(config("theirs").await, Value::Null);
}

#[tokio::test(start_paused = true)]
async fn an_observed_agent_is_marked_and_its_heartbeat_is_not_musters() {
    let rig = Rig::new().await;
    let spec = json!({
        "boardRef": { "name": "ops" }, "agentId": "theirs", "managementPolicy": "Observe", "heartbeat": { "interval": "5m" },
    });
    rig.agent("fleet", "theirs", spec);
    let gateway = json!({ "namespace": "fleet", "name": "gw" });
    rig.status("fleet", "theirs", json!({ "agentId": "theirs", "gateway": gateway, "phase": "Active" }));
    rig.worker("fleet", "ours");
    let listed = rig.get(VIEWER, "/api/v1/agents").await;
    let marks: Vec<_> = listed.json["items"].as_array().unwrap().iter().map(|item| &item["is_observed"]).collect();
    assert_eq!(marks, [&json!(true), &json!(false)], "{}", listed.json);
    let detail = rig.get(VIEWER, "/api/v1/agents/theirs").await.json;
    assert_eq!((&detail["is_observed"], &detail["status"]), (&json!(true), &json!("active")));
    assert_eq!(detail["heartbeat_config"], Value::Null);
}

#[tokio::test(start_paused = true)]
async fn an_id_means_the_agent_that_manages_the_agent_and_not_its_observers() {
    let rig = Rig::new().await;
    let agent = |name: &str, policy: &str| {
        let spec = json!({ "boardRef": { "name": "ops" }, "agentId": "nova", "managementPolicy": policy });
        rig.agent("fleet", name, spec);
        rig.status("fleet", name, json!({ "agentId": "nova" }));
    };
    let found = async || rig.get(VIEWER, "/api/v1/agents/nova").await;
    agent("first", "Observe");
    agent("second", "Observe");
    assert_eq!(found().await.status, StatusCode::CONFLICT);
    agent("keeper", "Manage");
    let keeper = found().await;
    assert_eq!((keeper.status, keeper.json["name"].as_str()), (StatusCode::OK, Some("keeper")));
    agent("rival", "Manage");
    assert_eq!(found().await.status, StatusCode::CONFLICT);
}

#[tokio::test(start_paused = true)]
async fn reviews_are_cached_for_ten_seconds_and_failures_are_not_cached() {
    let rig = Rig::new().await;
    for _ in 0..5 {
        assert_eq!(rig.get(ADMIN, "/api/v1/agents").await.status, StatusCode::OK);
    }
    assert_eq!(*rig.rbac.review_counts.lock().unwrap(), (1, 1));
    rig.rbac.users.lock().unwrap().remove(ADMIN);
    tokio::time::advance(Duration::from_secs(10)).await;
    *rig.rbac.failure.lock().unwrap() = Some(AccessError::Failed("away".into()));
    let down = rig.get(ADMIN, "/api/v1/agents").await;
    assert_eq!((down.status, &down.headers["retry-after"]), (StatusCode::SERVICE_UNAVAILABLE, &"5".parse().unwrap()));
    *rig.rbac.failure.lock().unwrap() = None;
    assert_eq!(rig.get(ADMIN, "/api/v1/agents").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test(start_paused = true)]
async fn no_partial_list_is_served_before_the_caches_are_synced() {
    let rig = Rig::new().await;
    rig.set_synced(false);
    let answer = rig.get(ADMIN, "/api/v1/agents").await;
    assert_eq!((answer.status, &answer.json["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("starting")));
}

#[tokio::test(start_paused = true)]
async fn without_the_right_to_review_the_answer_names_the_missing_rights() {
    let rig = Rig::new().await;
    let message = "tokenreviews.authentication.k8s.io is forbidden".into();
    *rig.rbac.failure.lock().unwrap() = Some(AccessError::Refused { code: 403, message });
    let answer = rig.get(ADMIN, "/api/v1/agents").await;
    assert_eq!(
        (answer.status, &answer.json["code"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("reviews_not_permitted"))
    );
    let message = answer.json["message"].as_str().unwrap();
    assert!(message.contains("tokenreviews and subjectaccessreviews") && message.contains("people"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_is_not_watched_is_named_to_those_who_may_read_it() {
    let namespaces = WatchedNamespaces::Only(["fleet".to_owned(), "other".to_owned()].into());
    let rig = Rig::with(HttpTokens::LocalOnly, &namespaces).await;
    for path in ["agents", "boards", "gateways", "agents?is_mc_agent=false"] {
        let separator = if path.contains('?') { '&' } else { '?' };
        let path = format!("/api/v1/{path}{separator}namespace=third");
        let answer = rig.get(ADMIN, &path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}: {}", answer.json);
        assert!(answer.json["message"].as_str().unwrap().contains("--namespaces"), "{}", answer.json);
        assert_eq!(rig.get(VIEWER, &path).await.status, StatusCode::FORBIDDEN, "{path}");
    }
    let body = json!({ "gateway_id": "fleet/gw", "name": "a", "namespace": "third" });
    let answer = rig.call(ADMIN, "POST", "/api/v1/agents", Some(body)).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND, "{}", answer.json);
    assert!(rig.cluster.agents().is_empty());
}

#[tokio::test(start_paused = true)]
async fn events_are_read_with_the_users_own_token() {
    let rig = Rig::new().await;
    rig.worker("fleet", "a");
    let event = Event { warning: false, reason: "Woken".into(), action: "Wake", message: "the agent was woken".into() };
    rig.watched.store.publish(EventTarget::Agent(&rig.stored("fleet", "a")), &event).await;
    // It is written later.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let path = format!("/api/v1/agents/{}/events", rig.uid::<muster::api::Agent>("fleet", "a"));
    let events = rig.get(ADMIN, &path).await;
    assert_eq!((events.status, &events.json["items"][0]["reason"]), (StatusCode::OK, &json!("Woken")));
    assert_eq!(rig.get(VIEWER, &path).await.status, StatusCode::FORBIDDEN);
}

struct SingleGateway(Simulator);

impl Dial for SingleGateway {
    fn dial<'a>(&'a self, _: &'a Url, _: &'a Trust) -> BoxFuture<'a, Result<DialedStream, DialError>> {
        let simulator = self.0.clone();
        Box::pin(async move { Ok(DialedStream::new(simulator.connect()?)) })
    }
}

#[tokio::test(start_paused = true)]
async fn unmanaged_agents_are_listed_for_users_with_access_to_their_gateway() {
    let rig = Rig::new().await;
    let simulator = Simulator::new(Profile::v2026_9_6().with_token("secret"));
    let state = State::new(rig.watched.store.clone());
    let inventories = state.inventories.clone();
    let gateways =
        GatewayPool::new(Arc::new(SingleGateway(simulator)), Arc::new(()), mpsc::unbounded_channel().0, inventories);
    let key = ObjectKey { namespace: "fleet".into(), name: "gw".into() };
    let link = gateways.ensure(&key, "x", 4, || ConnectionSettings {
        url: "ws://gw:18789".parse().unwrap(),
        auth: Auth::Token("secret".into()),
        device_key: Arc::new(DeviceKey::generate().unwrap()),
        device_token: None,
        previous: None,
        trust: Trust::Platform,
        max_in_flight: 4,
        resync: Duration::from_mins(10),
    });
    link.client().inventory().wait_for(Option::is_some).await.unwrap();
    let router = people::router(Arc::new(rig::people(Arc::new(state), &rig.rbac, &rig.watched, &rig.probes)));
    let rig = Rig { router, ..rig };
    let found = rig.get(VIEWER, "/api/v1/agents?is_mc_agent=false").await;
    assert_eq!((found.status, found.json["total"].as_u64()), (StatusCode::OK, Some(1)), "{}", found.json);
    let item = &found.json["items"][0];
    assert_eq!((&item["id"], &item["is_mc_agent"], &item["status"]), (&json!("main"), &json!(false), &Value::Null));
    assert_eq!(item["gateway_id"], json!(rig.uid::<AgentGateway>("fleet", "gw")));
    assert_eq!(rig.get(VIEWER, "/api/v1/agents/main").await.json["is_mc_agent"], false);
    rig.rbac.allow("stranger", &[Verb::List], &[ResourceKind::Agent], "fleet");
    let refused = rig.get(STRANGER, "/api/v1/agents?is_mc_agent=false").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(refused.message().contains("get agentgateways.muster.dev in any namespace"), "{}", refused.message());
}

#[tokio::test(start_paused = true)]
async fn a_known_user_is_rate_limited_over_all_tokens_and_other_users_are_not() {
    let rig = Rig::new().await;
    rig.rbac.users.lock().unwrap().extend([("second-token", "admin")]);
    let mut answered = 0;
    for n in 0..600 {
        let token = if n % 2 == 0 { ADMIN } else { "second-token" };
        answered += usize::from(rig.get(token, "/api/v1/agents").await.status == StatusCode::OK);
    }
    assert_eq!(answered, 500);
    let limited = rig.get(ADMIN, "/api/v1/agents").await;
    assert_eq!((limited.status, &limited.json["code"]), (StatusCode::TOO_MANY_REQUESTS, &json!("too_many_requests")));
    assert_eq!(rig.get(VIEWER, "/api/v1/agents").await.status, StatusCode::OK);
    tokio::time::advance(Duration::from_secs(11)).await;
    let reviews = rig.rbac.review_counts.lock().unwrap().0;
    for _ in 0..600 {
        rig.get(ADMIN, "/api/v1/agents").await;
    }
    assert_eq!(rig.rbac.review_counts.lock().unwrap().0, reviews + 1, "a limited user costs no review");
}

#[tokio::test(start_paused = true)]
async fn names_that_cannot_exist_are_neither_reviewed_nor_kept() {
    let rig = Rig::new().await;
    rig.get(VIEWER, "/api/v1/agents?namespace=fleet").await;
    let before = rig.rbac.review_counts.lock().unwrap().1;
    let answer = rig.get(VIEWER, &format!("/api/v1/agents?namespace={}", "n".repeat(64))).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert_eq!(rig.rbac.review_counts.lock().unwrap().1, before);
}

#[tokio::test(start_paused = true)]
async fn unknown_tokens_are_rate_limited_before_a_token_review() {
    let rig = Rig::new().await;
    assert_eq!(rig.get(ADMIN, "/api/v1/agents").await.status, StatusCode::OK);
    let mut last = StatusCode::OK;
    for n in 0..200 {
        last = rig.get(&format!("made-up-{n}"), "/api/v1/agents").await.status;
    }
    assert_eq!(last, StatusCode::TOO_MANY_REQUESTS);
    let asked = rig.rbac.review_counts.lock().unwrap().0;
    assert!(asked <= 62, "{asked}");
    assert_eq!(rig.get(ADMIN, "/api/v1/agents").await.status, StatusCode::OK, "a known user is not limited");
    let early = rig.get(VIEWER, "/api/v1/agents").await;
    assert_eq!((early.status, &early.headers["retry-after"]), (StatusCode::TOO_MANY_REQUESTS, &"1".parse().unwrap()));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(rig.get(VIEWER, "/api/v1/agents").await.status, StatusCode::OK);
}
