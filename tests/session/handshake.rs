//! Accepted and refused handshakes of gateways of four versions.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, Verifier, VerifyingKey};
use muster::openclaw::model::{Hello, PairingRequest, Refusal, RefusalKind};
use muster::openclaw::{Output, Session};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{outputs, sent_frames, settings};

const RECORDINGS: [(&str, &str); 6] = [
    ("2026.3.2", include_str!("frames/2026.3.2.jsonl")),
    ("2026.5.28", include_str!("frames/2026.5.28.jsonl")),
    ("2026.7.1", include_str!("frames/2026.7.1.jsonl")),
    ("2026.9.6", include_str!("frames/2026.9.6.jsonl")),
    ("2026.5.28 remote", include_str!("frames/2026.5.28-pairing.jsonl")),
    ("2026.9.6 remote", include_str!("frames/2026.9.6-pairing.jsonl")),
];

/// How a handshake ended.
#[derive(Debug)]
enum HandshakeOutcome {
    Up(Box<Hello>),
    Refused(Refusal),
}

/// Plays every handshake of a recorded scene.
fn play(recording: &str, scene: &str) -> Vec<HandshakeOutcome> {
    let frames = recording.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut session = None;
    let mut outcomes = Vec::new();
    for frame in frames.filter(|line| line["scene"] == scene) {
        let now = Instant::now();
        if frame["frame"]["event"] == "connect.challenge" {
            session = Some(Session::new(settings(), now));
        }
        let session: &mut Session = session.as_mut().unwrap();
        session.receive(&frame["frame"].to_string(), now);
        for output in outputs(session) {
            match output {
                Output::Up(hello) => outcomes.push(HandshakeOutcome::Up(hello)),
                Output::Refused(refusal) => outcomes.push(HandshakeOutcome::Refused(refusal)),
                Output::Send(_) => {}
                other => panic!("{scene}: {other:?}"),
            }
        }
    }
    outcomes
}

fn recorded(version: &str) -> &'static str {
    RECORDINGS.iter().find(|(name, _)| *name == version).unwrap().1
}

#[test]
fn every_version_accepts_a_client_with_the_scopes() {
    for (version, protocol) in [("2026.3.2", 3), ("2026.5.28", 4), ("2026.7.1", 4), ("2026.9.6", 4)] {
        let outcomes = play(recorded(version), "hello");
        let [HandshakeOutcome::Up(hello)] = &outcomes[..] else { panic!("{version}: {outcomes:?}") };
        assert_eq!(hello.protocol, protocol, "{version}");
        let said = if version == "2026.3.2" { "dev" } else { version };
        assert_eq!(hello.server_version, said);
        assert!(hello.methods.contains("agents.files.set") && hello.max_payload > 100_000, "{version}");
    }
}

#[test]
fn a_wrong_token_is_recognized_in_every_version() {
    for version in ["2026.3.2", "2026.5.28", "2026.7.1", "2026.9.6"] {
        let outcomes = play(recorded(version), "wrong token");
        let [HandshakeOutcome::Refused(refusal)] = &outcomes[..] else { panic!("{version}: {outcomes:?}") };
        assert_eq!((&refusal.kind, refusal.code.as_str()), (&RefusalKind::BadCredentials, "AUTH_TOKEN_MISMATCH"));
    }
}

#[test]
fn missing_methods_refuse_the_gateway_by_their_names() {
    let hello = recorded("2026.9.6").lines().find(|line| line.contains("hello-ok")).unwrap();
    let mut frame: Value = serde_json::from_str::<Value>(hello).unwrap()["frame"].take();
    frame["payload"]["auth"]["scopes"] = serde_json::json!(["operator.admin"]);
    let methods = frame["payload"]["features"]["methods"].as_array_mut().unwrap();
    methods.retain(|method| method != "config.patch" && method != "chat.send" && method != "sessions.subscribe");
    let now = Instant::now();
    let mut session = Session::new(settings(), now);
    let challenge =
        serde_json::json!({ "type": "event", "event": "connect.challenge", "payload": { "nonce": "n", "ts": 1 } });
    session.receive(&challenge.to_string(), now);
    frame["id"] = sent_frames(&outputs(&mut session))[0]["id"].clone();
    session.receive(&frame.to_string(), now);
    let refused = outputs(&mut session).into_iter().find_map(|output| match output {
        Output::Refused(refusal) => Some(refusal.kind),
        _ => None,
    });
    let missing = ["chat.send", "config.patch"].map(str::to_owned).into();
    assert_eq!(refused, Some(RefusalKind::MethodsMissing { missing }));
}

#[test]
fn a_protocol_mismatch_is_recognized_in_every_version() {
    for version in ["2026.3.2", "2026.5.28", "2026.7.1", "2026.9.6"] {
        let outcomes = play(recorded(version), "protocol mismatch");
        assert!(
            matches!(&outcomes[..], [HandshakeOutcome::Refused(Refusal { kind: RefusalKind::Protocol { .. }, .. })]),
            "{version}: {outcomes:?}"
        );
    }
}

#[test]
fn a_handshake_without_the_scopes_is_a_refusal() {
    for version in ["2026.5.28 remote", "2026.9.6 remote"] {
        let outcomes = play(recorded(version), "remote without device");
        let [HandshakeOutcome::Refused(refusal)] = &outcomes[..] else { panic!("{version}: {outcomes:?}") };
        assert!(matches!(&refusal.kind, RefusalKind::ScopesMissing { .. }), "{version}: {refusal:?}");
        assert!(refusal.message.contains("operator.admin"), "{}", refusal.message);
    }
}

#[test]
fn an_unknown_device_gets_its_pairing_request() {
    for version in ["2026.5.28 remote", "2026.9.6 remote"] {
        let outcomes = play(recorded(version), "remote, unknown device");
        let [HandshakeOutcome::Refused(Refusal { kind: RefusalKind::PairingRequired(request), .. })] = &outcomes[..]
        else {
            panic!("{version}: {outcomes:?}")
        };
        assert_eq!(
            (request.id.as_ref().map(|id| id.to_string().len()), request.reason.as_str()),
            (Some(36), "not-paired"),
            "{version}"
        );
        let outcomes = play(recorded(version), "remote, approved device");
        let [HandshakeOutcome::Up(hello)] = &outcomes[..] else { panic!("{version}: {outcomes:?}") };
        assert!(hello.device_token.is_some() && hello.scopes.contains("operator.admin"), "{version}");
    }
}

#[test]
fn gateway_messages_are_stripped_of_control_characters_and_limited() {
    let now = Instant::now();
    let refused = |error: &Value| {
        let mut session = Session::new(settings(), now);
        let challenge = json!({ "type": "event", "event": "connect.challenge", "payload": { "nonce": "n", "ts": 1 } });
        session.receive(&challenge.to_string(), now);
        session.receive(&json!({ "type": "res", "id": "connect", "ok": false, "error": error }).to_string(), now);
        let refused = outputs(&mut session).into_iter().find_map(|output| match output {
            Output::Refused(refusal) => Some(refusal),
            _ => None,
        });
        refused.unwrap()
    };
    let long = "x".repeat(600);
    let refusal =
        refused(&json!({ "code": "A\u{1b}[1mB", "message": format!("no:\n\u{202e}{long}"), "details": {"": [{}]} }));
    assert_eq!((refusal.code.as_str(), refusal.message.chars().count()), ("A[1mB", 512));
    assert!(refusal.message.starts_with("no: xxx"), "{}", refusal.message);
    let details = json!({ "code": "PAIRING_REQUIRED", "requestId": "3f0c; touch pwned #", "reason": "a\u{7}b" });
    let refusal = refused(&json!({ "code": "NOT_PAIRED", "message": "pairing required", "details": details }));
    let request = PairingRequest { id: None, reason: "ab".into() };
    assert_eq!(refusal.kind, RefusalKind::PairingRequired(request));
}

#[test]
fn a_revoked_device_is_rejected_and_requests_approval_again() {
    for version in ["2026.5.28 remote", "2026.9.6 remote"] {
        let outcomes = play(recorded(version), "after the revoke");
        let kinds: Vec<_> = outcomes
            .iter()
            .map(|end| match end {
                HandshakeOutcome::Refused(refusal) => &refusal.kind,
                HandshakeOutcome::Up(hello) => panic!("{version}: {hello:?}"),
            })
            .collect();
        assert!(
            matches!(&kinds[..], [RefusalKind::DeviceRejected, RefusalKind::PairingRequired(_)]),
            "{version}: {kinds:?}"
        );
    }
}

#[test]
fn the_device_signs_the_payload_that_the_gateway_verifies() {
    let mut session = Session::new(settings(), Instant::now());
    let frame = recorded("2026.9.6").lines().next().unwrap();
    let frame: Value = serde_json::from_str(frame).unwrap();
    session.receive(&frame["frame"].to_string(), Instant::now());
    let frames = sent_frames(&outputs(&mut session));
    let [request] = &frames[..] else { panic!("{frames:?}") };
    let params = &request["params"];
    assert_eq!((&params["minProtocol"], &params["maxProtocol"]), (&3.into(), &4.into()));
    let (device, client) = (&params["device"], &params["client"]);
    let text = |at: &Value| at.as_str().unwrap().to_owned();
    let scopes: Vec<_> = params["scopes"].as_array().unwrap().iter().map(text).collect();
    let payload = format!(
        "v3|{}|{}|{}|{}|{}|{}|the-shared-token|{}|{}|",
        text(&device["id"]),
        text(&client["id"]),
        text(&client["mode"]),
        text(&params["role"]),
        scopes.join(","),
        frame["frame"]["payload"]["ts"],
        text(&frame["frame"]["payload"]["nonce"]),
        text(&client["platform"]),
    );
    let bytes = |at: &Value| URL_SAFE_NO_PAD.decode(text(at)).unwrap();
    let key = VerifyingKey::from_bytes(&bytes(&device["publicKey"]).try_into().unwrap()).unwrap();
    let signature = Signature::from_slice(&bytes(&device["signature"])).unwrap();
    key.verify(payload.as_bytes(), &signature).unwrap();
}
