//! A connection's conversation, frame by frame, without a socket and without a runtime.
//!
//! `frames/` holds the handshakes that were recorded from real gateways of four versions: challenges, and the answers to
//! `connect` with the request's id replaced.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic, outside of #[test] functions too")]

mod bounds;
mod handshake;
mod misbehaviour;
mod network;
mod order;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use muster::openclaw::model::CallError;
use muster::openclaw::{Auth, ConnectionSettings, DeviceKey, Output, Session, Trust};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::Instant;

/// The deadline of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

fn settings() -> ConnectionSettings {
    ConnectionSettings {
        url: "ws://gw:18789".parse().unwrap(),
        auth: Auth::Token("the-shared-token".into()),
        device_key: Arc::new(DeviceKey::from_seed(&[7; 32])),
        device_token: None,
        previous: None,
        trust: Trust::Platform,
        max_in_flight: 8,
        resync: Duration::from_mins(10),
    }
}

fn outputs(session: &mut Session) -> Vec<Output> {
    std::iter::from_fn(|| session.output()).collect()
}

/// The sent frames, as JSON.
fn sent_frames(outputs: &[Output]) -> Vec<Value> {
    let text = |output: &Output| match output {
        Output::Send(text) => Some(serde_json::from_str(text).unwrap()),
        _ => None,
    };
    outputs.iter().filter_map(text).collect()
}

/// The finished requests with their results.
fn finished(outputs: &[Output]) -> Vec<(u64, Result<Box<RawValue>, CallError>)> {
    let end = |output: &Output| match output {
        Output::Done { ticket, result } => Some((*ticket, result.clone())),
        _ => None,
    };
    outputs.iter().filter_map(end).collect()
}

/// A session after a successful handshake.
fn connected_session(now: Instant) -> Session {
    let mut session = Session::new(settings(), now);
    let challenge = json!({ "nonce": "n", "ts": 1 });
    session.receive(&json!({ "type": "event", "event": "connect.challenge", "payload": challenge }).to_string(), now);
    let hello = json!({
        "type": "hello-ok", "protocol": 4, "server": { "version": "2026.9.6" },
        "auth": { "scopes": ["operator.admin"] },
        "policy": { "maxPayload": 1000, "tickIntervalMs": 30000 },
    });
    session.receive(&json!({ "type": "res", "id": "connect", "ok": true, "payload": hello }).to_string(), now);
    assert!(outputs(&mut session).iter().any(|o| matches!(o, Output::Up(_))));
    session
}

fn response(id: &str, payload: &Value) -> String {
    json!({ "type": "res", "id": id, "ok": true, "payload": payload }).to_string()
}

fn event(seq: u64, name: &str) -> String {
    json!({ "type": "event", "event": name, "seq": seq, "payload": {} }).to_string()
}
