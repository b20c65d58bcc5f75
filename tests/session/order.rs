//! Requests, responses and events in every order.

use std::collections::BTreeMap;
use std::time::Duration;

use muster::openclaw::model::{CallError, CallOutcome};
use muster::openclaw::{Output, Session};
use proptest::prelude::*;
use serde_json::json;
use tokio::time::Instant;

use crate::{REQUEST_TIMEOUT, connected_session, event, finished, outputs, response, sent_frames, settings};

#[test]
fn responses_match_their_requests_in_any_order() {
    let now = Instant::now();
    let mut session = connected_session(now);
    for ticket in [10, 20, 30] {
        session.request(ticket, "agents.list", &json!({}), REQUEST_TIMEOUT, now);
    }
    let requests = sent_frames(&outputs(&mut session));
    for request in requests.iter().rev() {
        session.receive(&response(request["id"].as_str().unwrap(), &request["id"]), now);
    }
    let ends: Vec<_> = finished(&outputs(&mut session)).into_iter().map(|(ticket, r)| (ticket, r.is_ok())).collect();
    assert_eq!(ends, [(30, true), (20, true), (10, true)]);
}

#[test]
fn a_repeated_or_late_response_is_ignored() {
    let now = Instant::now();
    let mut session = connected_session(now);
    session.request(1, "agents.list", &json!({}), REQUEST_TIMEOUT, now);
    let requests = sent_frames(&outputs(&mut session));
    let id = requests[0]["id"].as_str().unwrap();
    session.tick(now + REQUEST_TIMEOUT);
    let ends = finished(&outputs(&mut session));
    assert!(matches!(&ends[..], [(1, Err(CallError::Deadline(_)))]), "{ends:?}");
    assert_eq!(ends[0].1.as_ref().unwrap_err().outcome(), CallOutcome::Unknown);
    for _ in 0..2 {
        session.receive(&response(id, &json!({})), now + REQUEST_TIMEOUT);
    }
    assert!(outputs(&mut session).is_empty());
}

#[test]
fn a_lost_connection_ends_every_request_with_an_unknown_outcome() {
    let now = Instant::now();
    let mut session = connected_session(now);
    for ticket in 0..3 {
        session.request(ticket, "agents.delete", &json!({}), REQUEST_TIMEOUT, now);
    }
    outputs(&mut session);
    session.lost();
    let ends = finished(&outputs(&mut session));
    assert_eq!(ends.len(), 3);
    assert!(ends.iter().all(|(_, r)| r.as_ref().unwrap_err().outcome() == CallOutcome::Unknown), "{ends:?}");
    session.request(9, "agents.list", &json!({}), REQUEST_TIMEOUT, now);
    assert!(matches!(&finished(&outputs(&mut session))[..], [(9, Err(CallError::NotConnected))]));
}

#[test]
fn a_request_over_the_gateways_limit_is_not_sent() {
    let now = Instant::now();
    let mut session = connected_session(now);
    session.request(1, "agents.files.set", &json!({ "content": "x".repeat(2000) }), REQUEST_TIMEOUT, now);
    let seen = outputs(&mut session);
    assert!(sent_frames(&seen).is_empty());
    let ends = finished(&seen);
    let [(1, Err(error @ CallError::TooLarge { limit: 1000, .. }))] = &ends[..] else { panic!("{ends:?}") };
    assert_eq!(error.outcome(), CallOutcome::NotApplied);
}

#[test]
fn an_event_gap_is_reported_and_a_repeated_event_is_not() {
    let now = Instant::now();
    let mut session = connected_session(now);
    for seq in [1, 2, 2, 5, 6] {
        session.receive(&event(seq, "config.changed"), now);
    }
    let kinds: Vec<_> = outputs(&mut session)
        .iter()
        .map(|o| match o {
            Output::Event { .. } => "event",
            Output::Gap => "gap",
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(kinds, ["event", "event", "gap", "event", "event"]);
}

#[test]
fn a_silent_gateway_is_disconnected() {
    let now = Instant::now();
    let mut session = connected_session(now);
    assert_eq!(session.wakeup(), now + Duration::from_mins(1));
    session.receive(&event(1, "tick"), now + Duration::from_secs(50));
    session.tick(now + Duration::from_mins(1));
    assert!(outputs(&mut session).iter().all(|o| !matches!(o, Output::Close(_))));
    session.tick(now + Duration::from_secs(110));
    assert!(outputs(&mut session).iter().any(|o| matches!(o, Output::Close(_))));
}

#[test]
fn a_gateway_without_a_challenge_is_disconnected_at_the_handshake_deadline() {
    let now = Instant::now();
    let mut session = Session::new(settings(), now);
    session.tick(session.wakeup());
    assert!(matches!(&outputs(&mut session)[..], [Output::Close(why)] if why.contains("handshake")));
}

#[test]
fn a_starting_gateway_is_no_refusal() {
    let now = Instant::now();
    let mut session = Session::new(settings(), now);
    let challenge = json!({ "type": "event", "event": "connect.challenge", "payload": { "nonce": "n", "ts": 1 } });
    session.receive(&challenge.to_string(), now);
    let error = json!({ "code": "UNAVAILABLE", "message": "gateway starting", "retryable": true });
    session.receive(&json!({ "type": "res", "id": "connect", "ok": false, "error": error }).to_string(), now);
    assert!(outputs(&mut session).iter().any(|o| matches!(o, Output::Close(why) if why.contains("starting"))));
}

/// An input of a session.
#[derive(Clone, Debug)]
enum SessionInput {
    Request,
    Response(u64),
    Refusal(u64),
    Event(u64),
    Garbage(String),
    Wait(u64),
    Lost,
}

fn session_input() -> impl Strategy<Value = SessionInput> {
    prop_oneof![
        4 => Just(SessionInput::Request),
        4 => (0..20_u64).prop_map(SessionInput::Response),
        2 => (0..20_u64).prop_map(SessionInput::Refusal),
        2 => (0..20_u64).prop_map(SessionInput::Event),
        1 => ".{0,40}".prop_map(SessionInput::Garbage),
        1 => (0..20_u64).prop_map(SessionInput::Wait),
        1 => Just(SessionInput::Lost),
    ]
}

proptest! {
    #[test]
    fn every_request_ends_exactly_once(inputs in proptest::collection::vec(session_input(), 0..60)) {
        let mut now = Instant::now();
        let mut session = connected_session(now);
        let mut ends: BTreeMap<u64, usize> = BTreeMap::new();
        let mut requested = 0;
        for input in inputs {
            match input {
                SessionInput::Request => {
                    session.request(requested, "agents.list", &json!({}), REQUEST_TIMEOUT, now);
                    requested += 1;
                }
                SessionInput::Response(id) => session.receive(&response(&id.to_string(), &json!({})), now),
                SessionInput::Refusal(id) => {
                    let error = json!({ "code": "INVALID_REQUEST", "message": "no" });
                    session.receive(&json!({ "type": "res", "id": id.to_string(), "ok": false, "error": error }).to_string(), now);
                }
                SessionInput::Event(seq) => session.receive(&event(seq, "config.changed"), now),
                SessionInput::Garbage(text) => session.receive(&text, now),
                SessionInput::Wait(seconds) => {
                    now += Duration::from_secs(seconds);
                    session.tick(now);
                }
                SessionInput::Lost => session.lost(),
            }
            for (ticket, _) in finished(&outputs(&mut session)) {
                *ends.entry(ticket).or_default() += 1;
            }
        }
        session.lost();
        for (ticket, _) in finished(&outputs(&mut session)) {
            *ends.entry(ticket).or_default() += 1;
        }
        prop_assert_eq!(ends.len() as u64, requested);
        prop_assert!(ends.values().all(|times| *times == 1), "{:?}", ends);
    }
}
