//! Replays recordings: the simulator gets the requests of clients to real gateways at the recorded times, and must
//! reply as recorded.
//!
//! The fixtures hold, for each request, the part of the real reply that a client may rely on.

#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]

mod common;

use std::{collections::BTreeMap, time::Duration};

use common::{Client, End};
use muster_simulator::{Origin, Profile, Simulator};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

/// Replays a recording; returns the replies that differ.
async fn replay(recording: &str, profile: Profile) -> Vec<String> {
    let simulator = Simulator::new(profile);
    let start = Instant::now();
    let mut client = None;
    let mut hash = Value::Null;
    let mut differences = Vec::new();
    for line in recording.lines() {
        let step: Value = serde_json::from_str(line).unwrap();
        if let Some(close) = step.get("close") {
            let end = ended(client.take().unwrap(), close).await;
            differences.extend(end.map(|end| format!("{}: {end}", step["scene"])));
            continue;
        }
        sleep_until(start + Duration::from_millis(step["at"].as_u64().unwrap())).await;
        let method = step["method"].as_str().unwrap();
        if method == "connect" {
            client.take();
            client = Some(Client::dial(&simulator, Origin::Loopback).await);
        }
        let mut params = step["params"].clone();
        if params["baseHash"] == "$hash" {
            params["baseHash"] = hash.clone();
        }
        let reply = client.as_mut().unwrap().call(method, params).await;
        let found = match &reply {
            Ok(payload) => match step.get("payload") {
                Some(expected) => missing(expected, payload, "payload"),
                None => vec![format!("expected {}, got ok", step["error"])],
            },
            Err(error) => match step.get("error") {
                Some(expected) => missing(&comparable(expected), &comparable(error), "error"),
                None => vec![format!("expected ok, got {error}")],
            },
        };
        if let Ok(payload) = &reply
            && payload["hash"].is_string()
        {
            hash = payload["hash"].clone();
        }
        if let (Some(settled), Ok(payload)) = (step["settled"].as_bool(), &reply) {
            assert_eq!(payload["appliedConfigHash"] == payload["configRevisionHash"], settled);
        }
        let at = format!("{} at {}: {method}", step["scene"], step["at"]);
        differences.extend(found.into_iter().map(|found| format!("{at}: {found}")));
    }
    differences
}

/// The difference between the end of a connection and the recorded end.
async fn ended(mut client: Client, close: &Value) -> Option<String> {
    if close["code"] == 1000 {
        return None;
    }
    let code = u16::try_from(close["code"].as_u64().unwrap()).unwrap();
    let expected = End::Closed(code, close["reason"].as_str().unwrap().to_owned());
    let end = client.end().await;
    (end != expected).then(|| format!("expected {expected:?}, got {end:?}"))
}

/// An error without its time-dependent parts. The words of the message are sorted, because the gateway lists paths in
/// the order of the patch.
fn comparable(error: &Value) -> Value {
    let mut error = error.clone();
    if let Some(error) = error.as_object_mut() {
        error.remove("retryAfterMs");
    }
    let mut words: Vec<String> = error["message"].as_str().unwrap().split([' ', ',', ';']).map(str::to_owned).collect();
    if error["retryable"] == true {
        words.retain(|word| !word.ends_with('s') || word.parse::<f64>().is_ok());
    }
    words.sort();
    error["message"] = json!(words);
    error
}

/// The parts of `expected` that are missing in `actual`.
fn missing(expected: &Value, actual: &Value, path: &str) -> Vec<String> {
    match (expected, actual) {
        (Value::Object(expected), Value::Object(actual)) => expected
            .iter()
            .flat_map(|(key, value)| {
                let below = format!("{path}.{key}");
                match actual.get(key) {
                    Some(found) => missing(value, found, &below),
                    None => vec![format!("{below} is absent")],
                }
            })
            .collect(),
        (Value::Array(expected), Value::Array(actual)) if is_partial_list(path) => expected
            .iter()
            .filter(|wanted| actual.iter().all(|found| !missing(wanted, found, path).is_empty()))
            .map(|wanted| format!("{path} has no {wanted}"))
            .collect(),
        (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => {
            expected.iter().zip(actual).flat_map(|(wanted, found)| missing(wanted, found, path)).collect()
        }
        _ if expected == actual => Vec::new(),
        _ => vec![format!("{path}: expected {expected}, got {actual}")],
    }
}

/// Lists of which the recording holds a part, or whose order has no meaning.
fn is_partial_list(path: &str) -> bool {
    ["payload.jobs", "payload.messages", "payload.sessions", "payload.auth.scopes"].contains(&path)
}

fn no_differences() -> Vec<String> {
    Vec::new()
}

#[tokio::test(start_paused = true)]
async fn the_simulator_replays_a_recording_of_2026_9_6() {
    let recording = include_str!("fixtures/2026.9.6.jsonl");
    // The first create on a fresh gateway took longer than later ones.
    let profile = Profile::v2026_9_6().with_visibility_delay(Duration::from_secs(1));
    assert_eq!(replay(recording, profile).await, no_differences());
}

#[tokio::test(start_paused = true)]
async fn the_simulator_replays_a_recording_of_2026_7_1() {
    let recording = include_str!("fixtures/2026.7.1.jsonl");
    assert_eq!(replay(recording, Profile::v2026_7_1()).await, no_differences());
}

#[tokio::test(start_paused = true)]
async fn the_simulator_replays_a_recording_of_2026_5_28() {
    let recording = include_str!("fixtures/2026.5.28.jsonl");
    assert_eq!(replay(recording, Profile::v2026_5_28()).await, no_differences());
}

#[tokio::test(start_paused = true)]
async fn the_simulator_replays_a_recording_of_2026_3_2() {
    let recording = include_str!("fixtures/2026.3.2.jsonl");
    assert_eq!(replay(recording, Profile::v2026_3_2()).await, no_differences());
}

#[test]
fn a_difference_between_replies_is_reported() {
    let expected = BTreeMap::from([("a", json!([1, 2]))]);
    assert_eq!(missing(&json!(expected), &json!({"a": [1, 3]}), "p"), ["p.a: expected 2, got 3"]);
}
