//! Requests of people without TLS, and the headers of answers.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use muster::api::watched_namespaces::WatchedNamespaces;
use muster::http::confidential::HttpTokens;
use muster::http::origin::RequestOrigin;
use serde_json::json;
use tower::ServiceExt;

use crate::rig::{ADMIN, Rig, answer};

async fn in_clear_text(rig: &Rig, path: &str) -> Response {
    let mut request = Request::get(path)
        .header("host", "muster.example:8080")
        .header("authorization", format!("Bearer {ADMIN}"))
        .body(Body::empty())
        .unwrap();
    let origin = RequestOrigin { network: [192, 0, 2, 1].into(), confidential: false };
    request.extensions_mut().insert(origin);
    rig.router.clone().oneshot(request).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_token_without_tls_is_refused_before_its_review_and_the_refusal_names_the_flag() {
    let rig = Rig::new().await;
    for path in ["/api/v1/agents", "/api/v1/agents/stream", "/api/v1/boards", "/api/v1/agents/x"] {
        let refused = answer(in_clear_text(&rig, path).await).await;
        assert_eq!((refused.status, &refused.json["code"]), (StatusCode::FORBIDDEN, &json!("tls_required")), "{path}");
        for words in ["https://", "--allow-http-tokens", "replace a token"] {
            assert!(refused.message().contains(words), "{}", refused.message());
        }
    }
    assert_eq!(*rig.rbac.review_counts.lock().unwrap(), (0, 0));
    let unknown_origin = Request::get("/api/v1/agents").header("authorization", format!("Bearer {ADMIN}"));
    let refused = rig.router.clone().oneshot(unknown_origin.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(refused.status(), StatusCode::FORBIDDEN, "a request of unknown origin is not trusted");
    let allowed = Rig::with(HttpTokens::Accepted, &WatchedNamespaces::All).await;
    assert_eq!(in_clear_text(&allowed, "/api/v1/agents").await.status(), StatusCode::OK);
    assert_eq!(in_clear_text(&allowed, "/").await.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn the_page_without_tls_leads_to_tls_before_a_person_types_a_token() {
    let rig = Rig::new().await;
    for path in ["/", "/fleet/fleet.js"] {
        let response = in_clear_text(&rig, path).await;
        assert_eq!(response.status(), StatusCode::TEMPORARY_REDIRECT);
        assert_eq!(response.headers()["location"], format!("https://muster.example:8080{path}"));
    }
    assert_eq!(rig.get_raw("/").await.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn the_agents_api_works_without_tls() {
    let rig = Rig::new().await;
    let refused = answer(in_clear_text(&rig, "/api/v1/agent/healthz").await).await;
    assert_eq!((refused.status, &refused.json["code"]), (StatusCode::UNAUTHORIZED, &json!("unauthorized")));
}

#[tokio::test(start_paused = true)]
async fn no_cache_keeps_an_answer_and_no_browser_guesses_its_type() {
    let rig = Rig::new().await;
    for (path, cache) in [
        ("/api/v1/agents", "no-store"),
        ("/api/v1/agents/unknown", "no-store"),
        ("/api/v1/agents/stream", "no-store"),
        ("/api/v1/agent/healthz", "no-store"),
        ("/nothing", "no-store"),
        ("/openapi.json", "no-store"),
        ("/", "no-cache"),
    ] {
        let response = rig.get_raw(path).await;
        assert_eq!(response.headers()["cache-control"], cache, "{path}");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff", "{path}");
    }
}
