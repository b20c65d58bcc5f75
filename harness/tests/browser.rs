//! Tests of the harness's browser.

use std::time::Duration;

use axum::Router;
use axum::response::Html;
use axum::routing::get;
use muster_harness::Browser;
use serde_json::json;

const PAGE: &str = "<meta name=viewport content=width=device-width><title>A page</title><body>Hello<script>console.error('so', 1); later()</script>";

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_shows_a_page_and_reports_its_errors() {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async { axum::serve(listener, Router::new().route("/", get(Html(PAGE)))).await });
    let mut browser = Browser::start().await.unwrap();
    browser.resize(360, 740).await.unwrap();
    browser.navigate(&url).await.unwrap();
    browser.until("document.body.innerText === 'Hello'", Duration::from_secs(10)).await.unwrap();
    assert_eq!(
        browser.evaluate("Promise.resolve([innerWidth, document.title])").await.unwrap(),
        json!([360, "A page"])
    );
    let thrown = browser.evaluate("nothing.at.all").await.unwrap_err().to_string();
    assert!(thrown.contains("ReferenceError"), "{thrown}");
    let seen = browser.errors().join("\n");
    assert!(seen.contains("\"so\"") && seen.contains("later is not defined"), "{seen}");

    let dir = tempfile::tempdir().unwrap();
    let picture = dir.path().join("page.png");
    browser.screenshot(&picture).await.unwrap();
    assert!(std::fs::read(&picture).unwrap().starts_with(b"\x89PNG"));

    let refused = browser.navigate("http://127.0.0.1:1/").await.unwrap_err().to_string();
    assert!(refused.contains("ERR_"), "{refused}");
    server.abort();
}
