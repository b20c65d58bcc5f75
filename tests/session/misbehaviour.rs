//! Gateways that send what nobody asked for, ask for absurd waits, or say the credential back.

use std::time::Duration;

use muster::openclaw::model::CallError;
use muster::openclaw::{Auth, Output, Session};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{REQUEST_TIMEOUT, connected_session, event, finished, outputs, response, settings};

/// The bound that the gateway exceeded.
fn bound(outputs: &[Output]) -> Option<&str> {
    outputs.iter().find_map(|output| match output {
        Output::Misbehaves(bound) => Some(bound.as_str()),
        _ => None,
    })
}

fn challenged(now: Instant) -> Session {
    let mut session = Session::new(settings(), now);
    let challenge = json!({ "nonce": "n", "ts": 1 });
    session.receive(&json!({ "type": "event", "event": "connect.challenge", "payload": challenge }).to_string(), now);
    session
}

/// The outputs after the gateway answered `connect` with this error.
fn refused(error: &Value) -> Vec<Output> {
    let now = Instant::now();
    let mut session = challenged(now);
    session.receive(&json!({ "type": "res", "id": "connect", "ok": false, "error": error }).to_string(), now);
    outputs(&mut session)
}

#[test]
fn tiny_events_without_end_are_a_misbehaviour() {
    let now = Instant::now();
    let mut session = connected_session(now);
    let mut sent = 0;
    let bound = loop {
        sent += 1;
        session.receive(&event(sent, "x"), now);
        if let Some(bound) = bound(&outputs(&mut session)) {
            break bound.to_owned();
        }
    };
    assert!(bound.contains("more than 60000 messages"), "{bound}");
    assert_eq!(sent, 60_001);
    session.receive(&event(sent + 1, "x"), now);
    assert!(outputs(&mut session).is_empty(), "the session is closed");
}

#[test]
fn late_answers_pings_and_unknown_frames_count_like_events() {
    let now = Instant::now();
    for send in [
        (|session, now| session.receive(&response("no-request", &json!({})), now)) as fn(&mut Session, Instant),
        |session, now| session.receive(r#"{"type":"other"}"#, now),
        Session::receive_other,
    ] {
        let mut session = connected_session(now);
        (0..60_001).for_each(|_| send(&mut session, now));
        assert!(bound(&outputs(&mut session)).is_some());
    }
}

#[test]
fn long_events_without_end_are_a_misbehaviour() {
    let now = Instant::now();
    let mut session = connected_session(now);
    let long = format!(r#"{{"type":"event","event":"x","payload":"{}"}}"#, "x".repeat(8 << 20));
    let sent = (1..100).find(|_| {
        session.receive(&long, now);
        bound(&outputs(&mut session)).is_some_and(|bound| bound.contains("more than 256 MiB"))
    });
    assert_eq!(sent, Some(32));
}

#[test]
fn the_answers_to_requests_and_the_events_of_a_busy_gateway_are_no_misbehaviour() {
    let mut now = Instant::now();
    let mut session = connected_session(now);
    for n in 1..=70_000 {
        session.request(n, "x", &json!({}), REQUEST_TIMEOUT, now);
        session.receive(&response(&n.to_string(), &json!({})), now);
        outputs(&mut session);
    }
    for second in 0..100 {
        now += Duration::from_secs(1);
        for n in 0..1_500 {
            session.receive(&event(second * 1_500 + n + 1, "x"), now);
        }
        assert_eq!(bound(&outputs(&mut session)), None, "1,500 events a second");
    }
}

#[test]
fn many_messages_before_the_login_are_a_misbehaviour() {
    let now = Instant::now();
    let mut session = challenged(now);
    (0..64).for_each(|n| session.receive(&event(n, "x"), now));
    let outputs = outputs(&mut session);
    assert!(bound(&outputs).is_some_and(|bound| bound.contains("64 messages before the login")), "{outputs:?}");
}

#[test]
fn a_wait_of_a_century_is_a_misbehaviour_and_a_wait_of_minutes_is_not() {
    let century = json!({ "code": "UNAVAILABLE", "message": "m", "retryAfterMs": 3_155_760_000_000_u64 });
    assert!(bound(&refused(&century)).unwrap().contains("waits for at most 24 h"));
    let details = json!({ "code": "AUTH_RATE_LIMITED", "retryAfterMs": u64::MAX });
    assert!(bound(&refused(&json!({ "code": "X", "message": "m", "details": details }))).is_some());
    let minutes =
        json!({ "code": "X", "message": "m", "details": { "code": "AUTH_RATE_LIMITED", "retryAfterMs": 300_000 } });
    assert_eq!(bound(&refused(&minutes)), None);
    let now = Instant::now();
    let mut session = connected_session(now);
    session.request(1, "config.patch", &json!({}), REQUEST_TIMEOUT, now);
    session.receive(&json!({ "type": "res", "id": "1", "ok": false, "error": century }).to_string(), now);
    assert!(bound(&outputs(&mut session)).is_some());
}

#[test]
fn a_credential_in_the_refusal_of_a_gateway_is_redacted() {
    let echo = json!({ "token": "the-shared-token" });
    let outputs =
        refused(&json!({ "code": "INVALID_REQUEST", "message": format!("no: {echo}"), "details": { "code": "X" } }));
    assert!(
        matches!(&outputs[..], [Output::Send(_), Output::Refused(refusal)] if refusal.message.contains("[credential]"))
    );
    assert!(!format!("{:?}", &outputs[1..]).contains("the-shared-token"));
    let unavailable = refused(&json!({ "code": "UNAVAILABLE", "message": "the-shared-token" }));
    assert!(!format!("{:?}", &unavailable[1..]).contains("the-shared-token"), "{unavailable:?}");
    let coded = refused(&json!({ "code": "the-shared-token", "message": "m" }));
    assert!(!format!("{:?}", &coded[1..]).contains("the-shared-token"), "{coded:?}");
}

#[test]
fn each_credential_is_redacted_from_the_error_of_a_request_and_from_the_hello() {
    let now = Instant::now();
    let settings = || muster::openclaw::ConnectionSettings {
        device_token: Some("device-token-1".into()),
        previous: Some(Auth::Password("former-password".into())),
        ..settings()
    };
    let mut session = Session::new(settings(), now);
    session.receive(
        &json!({ "type": "event", "event": "connect.challenge", "payload": { "nonce": "n", "ts": 1 } }).to_string(),
        now,
    );
    let hello = json!({ "type": "hello-ok", "protocol": 4, "server": { "version": "the-shared-token" },
        "auth": { "scopes": ["operator.admin", "former-password"], "deviceToken": "issued-token" } });
    session.receive(&json!({ "type": "res", "id": "connect", "ok": true, "payload": hello }).to_string(), now);
    session.request(1, "x", &json!({}), REQUEST_TIMEOUT, now);
    let error = json!({ "code": "X", "message": "device-token-1, former-password, the-shared-token, issued-token" });
    session.receive(&json!({ "type": "res", "id": "1", "ok": false, "error": error }).to_string(), now);
    let outputs = outputs(&mut session);
    let Some(Output::Up(hello)) = outputs.iter().find(|output| matches!(output, Output::Up(_))) else {
        unreachable!("{outputs:?}")
    };
    assert_eq!((hello.server_version.as_str(), hello.scopes.len()), ("[credential]", 1));
    let [(1, Err(CallError::Gateway(error)))] = &finished(&outputs)[..] else { unreachable!("{outputs:?}") };
    assert_eq!(error.message, "[credential], [credential], [credential], [credential]");
}
