//! The functions that take hostile input, each with the properties that hold for every input.
//!
//! `tests/fuzz` runs them on the corpus and on fixed mutations of it; `fuzz/` runs them under libFuzzer. A function panics when a property does
//! not hold.

#![allow(unreachable_pub, reason = "public for the programs in fuzz/")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use muster::api::agent::Role;
use muster::api::{Agent, AgentGateway, Board};
use muster::hash::sha256_hex;
use muster::openclaw::{Auth, ConnectionSettings, DeviceKey, Output, Session, Trust};
use muster::templates::{Budget, FileName, MAX_OUTPUT_BYTES, Template, Variables, render};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cluster::Kind;
use crate::described;
use crate::rig::{ADMIN, Rig, answer};

/// A function that takes hostile input.
pub type Target = fn(&[u8]);

/// All functions, each with the name of its folder in the corpus.
pub const TARGETS: [(&str, Target); 6] = [
    ("frames", frames),
    ("session", session),
    ("templates", templates),
    ("manifests", manifests),
    ("http_bodies", http_bodies),
    ("file_names", file_names),
];

/// The credential that no text of a session may contain.
const CREDENTIAL: &str = "the-shared-token";
/// The token of the agent whose heartbeats are sent.
const AGENT_TOKEN: &str = "the-agents-token";

fn new_session(now: Instant) -> Session {
    let settings = ConnectionSettings {
        url: "ws://gw:18789".parse().unwrap(),
        auth: Auth::Token(CREDENTIAL.into()),
        device_key: Arc::new(DeviceKey::from_seed(&[7; 32])),
        device_token: None,
        previous: None,
        trust: Trust::Platform,
        max_in_flight: 8,
        resync: Duration::from_mins(10),
    };
    Session::new(settings, now)
}

fn challenge() -> String {
    json!({ "type": "event", "event": "connect.challenge", "payload": { "nonce": "n", "ts": 1 } }).to_string()
}

fn hello() -> String {
    let hello = json!({
        "type": "hello-ok", "protocol": 4, "server": { "version": "2026.9.6" },
        "auth": { "scopes": ["operator.admin"] },
        "policy": { "maxPayload": 1000, "tickIntervalMs": 30000 },
    });
    json!({ "type": "res", "id": "connect", "ok": true, "payload": hello }).to_string()
}

/// Takes all outputs. Returns the tickets of the requests that ended.
fn drain(session: &mut Session) -> Vec<u64> {
    let mut ended = Vec::new();
    while let Some(output) = session.output() {
        match output {
            Output::Done { ticket, result } => {
                if let Err(error) = result {
                    assert!(!error.to_string().contains(CREDENTIAL), "the credential is in an error");
                }
                ended.push(ticket);
            }
            Output::Close(text) | Output::Misbehaves(text) => {
                assert!(!text.contains(CREDENTIAL), "the credential is in a cause");
            }
            Output::Refused(refusal) => {
                assert!(!format!("{refusal:?}").contains(CREDENTIAL), "the credential is in a refusal");
            }
            Output::Send(_) | Output::Up(_) | Output::Event { .. } | Output::Gap => {}
        }
    }
    ended
}

/// One message, at each stage of a connection.
pub fn frames(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let now = Instant::now();
    let stages: [&[String]; 3] = [&[], &[challenge()], &[challenge(), hello()]];
    for before in stages {
        let mut session = new_session(now);
        for message in before {
            session.receive(message, now);
        }
        session.request(1, "config.get", &json!({}), Duration::from_secs(10), now);
        session.receive(&text, now);
        drain(&mut session);
    }
}

/// A conversation: each line is a message, a request (`>` and the method), a lapse of time (`+` and the seconds) or a message without text (`~`).
/// Each request ends exactly once.
pub fn session(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut now = Instant::now();
    let mut session = new_session(now);
    let (mut ticket, mut ended) = (0, Vec::new());
    for line in text.lines() {
        if let Some(method) = line.strip_prefix('>') {
            ticket += 1;
            session.request(ticket, method, &json!({}), Duration::from_secs(10), now);
        } else if let Some(seconds) = line.strip_prefix('+') {
            now += Duration::from_secs(seconds.parse::<u16>().unwrap_or(1).into());
            session.tick(now);
        } else if line.starts_with('~') {
            session.receive_other(now);
        } else {
            session.receive(line, now);
        }
        ended.extend(drain(&mut session));
    }
    session.lost();
    ended.extend(drain(&mut session));
    let once: BTreeSet<_> = ended.iter().copied().collect();
    assert_eq!(once.len(), ended.len(), "a request ended twice");
    assert_eq!(once, (1..=ticket).collect(), "a request did not end");
}

/// A template of a user: an end with an output or with an error, both bounded.
pub fn templates(data: &[u8]) {
    let source = String::from_utf8_lossy(data);
    let mut variables = Variables::new(Role::Worker).with_token(&AGENT_TOKEN.into());
    variables.set("agent_name", "{{ auth_token }}\n# x");
    match render(&Template::given("a fuzzed template", &source), &variables, &mut Budget::default()) {
        Ok(text) => assert!(text.len() <= MAX_OUTPUT_BYTES, "{} bytes", text.len()),
        Err(error) => assert!(!error.to_string().contains(AGENT_TOKEN), "the token is in an error"),
    }
}

/// A manifest as YAML or JSON. An object that can be read is written back the same, and does not break the API for people.
pub fn manifests(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Ok(mut manifest) = serde_saphyr::from_str::<Value>(&text) else { return };
    if !manifest.is_object() {
        return;
    }
    manifest["metadata"] = json!({ "name": "fuzzed", "namespace": "fleet" });
    run(apply_and_list(manifest));
}

async fn apply_and_list(manifest: Value) {
    let rig = Rig::new().await;
    let any =
        [apply::<Agent>(&rig, &manifest), apply::<Board>(&rig, &manifest), apply::<AgentGateway>(&rig, &manifest)]
            .contains(&true);
    if !any {
        return;
    }
    for path in ["/api/v1/agents", "/api/v1/boards", "/api/v1/gateways"] {
        let answer = rig.get(ADMIN, path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.json);
    }
}

fn apply<K: Kind>(rig: &Rig, manifest: &Value) -> bool {
    let Ok(object) = serde_json::from_value::<K>(manifest.clone()) else { return false };
    let written = serde_json::to_value(&object).unwrap();
    let again: K = serde_json::from_value(written.clone()).unwrap();
    assert_eq!(serde_json::to_value(&again).unwrap(), written, "the manifest changes when it is written");
    rig.cluster.put(&object);
    true
}

/// A body of each request that has one. No body is an error of the server, and the `OpenAPI` document has each answer.
pub fn http_bodies(data: &[u8]) {
    run(send_everywhere(data));
}

async fn send_everywhere(data: &[u8]) {
    let rig = Rig::new().await;
    rig.worker("fleet", "one");
    rig.status(
        "fleet",
        "one",
        json!({ "token": { "secretName": "one-token", "sha256": sha256_hex(AGENT_TOKEN.as_bytes()), "issuedAt": "2026-01-01T00:00:00Z" } }),
    );
    let id = rig.uid::<Agent>("fleet", "one");
    for (method, path) in [
        ("POST", "/api/v1/agents".to_owned()),
        ("PATCH", format!("/api/v1/agents/{id}")),
        ("POST", format!("/api/v1/agents/{id}/heartbeat")),
        ("POST", "/api/v1/agent/heartbeat".to_owned()),
    ] {
        let request = Request::builder().method(method).uri(&path).header("content-type", "application/json");
        let request = request.header("authorization", format!("Bearer {ADMIN}")).header("x-agent-token", AGENT_TOKEN);
        let request = request.body(Body::from(data.to_vec())).unwrap();
        let answer = answer(rig.send(request).await).await;
        assert!(!answer.status.is_server_error(), "{method} {path}: {}", answer.json);
        described::check(method, &path, answer.status, &answer.json);
    }
}

/// The name of a workspace file: an accepted name is one plain component of a path.
pub fn file_names(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match FileName::parse(&text) {
        Ok(name) => {
            assert_eq!(name.as_str(), text);
            let path = std::path::Path::new(name.as_str());
            assert_eq!(path.file_name().and_then(|n| n.to_str()), Some(name.as_str()), "one component");
            assert_eq!(path.extension().and_then(|e| e.to_str()), Some("md"), "{name}");
            assert!(name.as_str().len() <= FileName::MAX_BYTES && !name.as_str().starts_with(['.', '-']), "{name}");
        }
        Err(error) => assert!(error.to_string().len() < 1024, "a short error"),
    }
}

/// Runs a future to its end, without other tasks and with a clock that stands.
fn run<T>(future: impl Future<Output = T>) -> T {
    let builder = &mut tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap().block_on(future)
}
