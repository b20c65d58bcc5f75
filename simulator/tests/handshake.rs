//! Authentication, pairing and scopes.

#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]

mod common;

use std::time::Duration;

use base64::Engine as _;
use common::{Client, End, SCOPES, hello, instant};
use ed25519_dalek::{Signer, SigningKey};
use muster_simulator::{Origin, Profile, Simulator};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn encoded(bytes: &[u8]) -> String {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

fn device_id(key: &SigningKey) -> String {
    use std::fmt::Write as _;
    Sha256::digest(key.verifying_key().as_bytes()).iter().fold(String::new(), |mut id, byte| {
        write!(id, "{byte:02x}").unwrap();
        id
    })
}

/// The parameters of a handshake, signed over the challenge with payload version 3.
fn signed(client: &Client, key: &SigningKey, auth: &Value, scopes: &[&str]) -> Value {
    let mut params = hello(auth);
    let token = auth["token"].as_str().or(auth["deviceToken"].as_str()).unwrap_or_default();
    let (nonce, at) = (client.challenge["nonce"].as_str().unwrap(), &client.challenge["ts"]);
    let (id, scopes_text) = (device_id(key), scopes.join(","));
    let payload = format!("v3|{id}|gateway-client|backend|operator|{scopes_text}|{at}|{token}|{nonce}|linux|");
    params["scopes"] = json!(scopes);
    params["device"] = json!({
        "id": id,
        "publicKey": encoded(key.verifying_key().as_bytes()),
        "signature": encoded(&key.sign(payload.as_bytes()).to_bytes()),
        "signedAt": at,
        "nonce": nonce,
    });
    params
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

async fn remote(simulator: &Simulator, auth: Value, scopes: &[&str]) -> (Client, Result<Value, Value>) {
    let mut client = Client::dial(simulator, Origin::Remote).await;
    let params = signed(&client, &key(), &auth, scopes);
    let reply = client.connect(&params).await;
    (client, reply)
}

#[tokio::test(start_paused = true)]
async fn a_remote_client_without_a_device_has_no_scopes() {
    let simulator = instant();
    let mut client = Client::dial(&simulator, Origin::Remote).await;
    let welcome = client.connect(&hello(&json!({"token": "t"}))).await.unwrap();
    assert_eq!(welcome["auth"]["scopes"], json!([]));
    client.call("health", json!({})).await.unwrap();
    let error = client.call("agents.list", json!({})).await.unwrap_err();
    assert_eq!(error["code"], "FORBIDDEN");
    assert_eq!(error["details"]["requiredScopes"], json!(["operator.read"]));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_device_gets_a_token_after_its_approval() {
    let simulator = instant();
    let (mut client, reply) = remote(&simulator, json!({"token": "t"}), &SCOPES).await;
    let error = reply.unwrap_err();
    assert_eq!((&error["code"], &error["details"]["reason"]), (&json!("NOT_PAIRED"), &json!("not-paired")));
    assert!(matches!(client.end().await, End::Closed(1008, _)));
    let (_, reply) = remote(&simulator, json!({"token": "t"}), &SCOPES).await;
    assert_eq!(reply.unwrap_err()["details"]["requestId"], error["details"]["requestId"]);

    let mut admin = Client::open(&simulator).await;
    let request = json!({"requestId": error["details"]["requestId"]});
    admin.call("device.pair.approve", request).await.unwrap();
    let (_, reply) = remote(&simulator, json!({"token": "t"}), &SCOPES).await;
    let token = reply.unwrap()["auth"]["deviceToken"].clone();
    assert_eq!(token.as_str().unwrap().len(), 43);
    let (_, reply) = remote(&simulator, json!({"deviceToken": token}), &SCOPES).await;
    assert_eq!(reply.unwrap()["auth"]["method"], "device-token");
}

#[tokio::test(start_paused = true)]
async fn wider_scopes_need_another_approval() {
    let simulator = instant();
    let (_, reply) = remote(&simulator, json!({"token": "t"}), &["operator.read"]).await;
    let request = reply.unwrap_err()["details"]["requestId"].as_str().unwrap().to_owned();
    assert!(simulator.approve_pairing(&request));
    let (_, reply) = remote(&simulator, json!({"token": "t"}), &["operator.read"]).await;
    let token = reply.unwrap()["auth"]["deviceToken"].clone();
    let (_, reply) = remote(&simulator, json!({"token": "t"}), &SCOPES).await;
    assert_eq!(reply.unwrap_err()["details"]["reason"], "scope-upgrade");
    let (_, reply) = remote(&simulator, json!({"deviceToken": token}), &SCOPES).await;
    assert_eq!(reply.unwrap_err()["details"]["code"], "AUTH_SCOPE_MISMATCH");
}

#[tokio::test(start_paused = true)]
async fn a_revoked_device_is_disconnected_and_must_pair_again() {
    let simulator = instant();
    let (_, reply) = remote(&simulator, json!({"token": "t"}), &SCOPES).await;
    let request = reply.unwrap_err()["details"]["requestId"].as_str().unwrap().to_owned();
    simulator.approve_pairing(&request);
    let (mut client, reply) = remote(&simulator, json!({"token": "t"}), &SCOPES).await;
    let token = reply.unwrap()["auth"]["deviceToken"].clone();
    assert!(simulator.revoke_device(&device_id(&key())));
    assert_eq!(client.end().await, End::Closed(4001, "device removed".into()));
    let (_, reply) = remote(&simulator, json!({"deviceToken": token}), &SCOPES).await;
    assert_eq!(reply.unwrap_err()["details"]["code"], "AUTH_DEVICE_TOKEN_MISMATCH");
    let (_, reply) = remote(&simulator, json!({"token": "t"}), &SCOPES).await;
    assert_eq!(reply.unwrap_err()["details"]["reason"], "role-upgrade");
}

#[tokio::test(start_paused = true)]
async fn ten_bad_tokens_lock_a_remote_address_out() {
    let simulator = instant();
    for _ in 0..10 {
        let (_, reply) = remote(&simulator, json!({"token": "wrong"}), &SCOPES).await;
        assert_eq!(reply.unwrap_err()["details"]["recommendedNextStep"], "retry_with_device_token");
    }
    let (_, reply) = remote(&simulator, json!({"token": "t"}), &SCOPES).await;
    let error = reply.unwrap_err();
    assert_eq!(error["details"]["code"], "AUTH_RATE_LIMITED");
    assert_eq!(error["retryAfterMs"], 300_000);
    Client::open(&simulator).await;
}

#[tokio::test(start_paused = true)]
async fn slow_bad_tokens_cause_no_lockout_and_a_lockout_ends() {
    let simulator = instant();
    for _ in 0..30 {
        let (_, reply) = remote(&simulator, json!({"token": "wrong"}), &SCOPES).await;
        assert_eq!(reply.unwrap_err()["details"]["code"], "AUTH_TOKEN_MISMATCH");
        tokio::time::sleep(Duration::from_secs(7)).await;
    }
    simulator.exhaust_auth_attempts();
    tokio::time::sleep(Duration::from_mins(5)).await;
    let (_, reply) = remote(&simulator, json!({"token": "t"}), &SCOPES).await;
    assert_eq!(reply.unwrap_err()["code"], "NOT_PAIRED", "the token is accepted");
}

#[tokio::test(start_paused = true)]
async fn a_device_token_is_accepted_while_the_shared_secret_is_locked_out() {
    let simulator = instant();
    let (_, reply) = remote(&simulator, json!({"token": "t"}), &SCOPES).await;
    assert!(simulator.approve_pairing(reply.unwrap_err()["details"]["requestId"].as_str().unwrap()));
    let (_, reply) = remote(&simulator, json!({"token": "t"}), &SCOPES).await;
    let token = reply.unwrap()["auth"]["deviceToken"].clone();
    simulator.exhaust_auth_attempts();
    let (_, reply) = remote(&simulator, json!({"token": "t"}), &SCOPES).await;
    let error = reply.unwrap_err();
    assert_eq!(error["details"]["code"], "AUTH_RATE_LIMITED");
    assert!(error.get("retryAfterMs").is_none(), "the device's own token was tried in vain, and that is answered");
    let (_, reply) = remote(&simulator, json!({"deviceToken": token}), &SCOPES).await;
    assert_eq!(reply.unwrap()["auth"]["method"], "device-token");
    let mut deviceless = Client::dial(&simulator, Origin::Remote).await;
    assert_eq!(deviceless.connect(&hello(&json!({"token": "t"}))).await.unwrap_err()["retryAfterMs"], 300_000);
}

/// The id of the device's pending pairing request.
async fn requested_pairing(simulator: &Simulator) -> String {
    let (_, reply) = remote(simulator, json!({"token": "t"}), &SCOPES).await;
    reply.unwrap_err()["details"]["requestId"].as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_pairing_request_lives_while_it_is_renewed_or_five_minutes() {
    for (profile, lives) in [(Profile::v2026_9_6(), true), (Profile::v2026_7_1(), true), (Profile::v2026_5_28(), false)]
    {
        let simulator = Simulator::new(profile.instant());
        let first = requested_pairing(&simulator).await;
        for _ in 0..6 {
            tokio::time::sleep(Duration::from_secs(61)).await;
            requested_pairing(&simulator).await;
        }
        assert_eq!(simulator.approve_pairing(&first), lives);
        assert_eq!(simulator.pairing_requests().len(), usize::from(!lives));
    }
}

#[tokio::test(start_paused = true)]
async fn a_pairing_request_without_a_retry_expires_after_five_minutes() {
    let simulator = instant();
    let first = requested_pairing(&simulator).await;
    tokio::time::sleep(Duration::from_secs(301)).await;
    assert!(!simulator.approve_pairing(&first));
    assert_ne!(requested_pairing(&simulator).await, first);
}

#[tokio::test(start_paused = true)]
async fn a_password_gateway_accepts_its_password() {
    let simulator = Simulator::new(Profile::v2026_9_6().instant().with_password("secret"));
    let mut client = Client::dial(&simulator, Origin::Loopback).await;
    let error = client.connect(&hello(&json!({"password": "wrong"}))).await.unwrap_err();
    assert_eq!(error["details"]["code"], "AUTH_PASSWORD_MISMATCH");
    let mut client = Client::dial(&simulator, Origin::Loopback).await;
    client.connect(&hello(&json!({"password": "secret"}))).await.unwrap();
    let (_, reply) = remote(&simulator, json!({"password": "secret"}), &SCOPES).await;
    assert_eq!(reply.unwrap_err()["details"]["reason"], "not-paired", "a password is no part of what a device signs");
}

#[tokio::test(start_paused = true)]
async fn the_first_request_must_be_connect() {
    let simulator = instant();
    let mut client = Client::dial(&simulator, Origin::Loopback).await;
    let error = client.call("agents.list", json!({})).await.unwrap_err();
    assert_eq!(error["message"], "invalid handshake: first request must be connect");
    assert!(matches!(client.end().await, End::Closed(1008, _)));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_client_id_is_refused() {
    let simulator = instant();
    let mut client = Client::dial(&simulator, Origin::Loopback).await;
    let mut params = hello(&json!({"token": "t"}));
    params["client"]["id"] = json!("my-operator");
    let error = client.connect(&params).await.unwrap_err();
    assert!(error["message"].as_str().unwrap().starts_with("invalid connect params: at /client/id"));
}

#[tokio::test(start_paused = true)]
async fn ten_calls_without_a_scope_end_the_connection() {
    let simulator = instant();
    let mut client = Client::dial(&simulator, Origin::Remote).await;
    client.connect(&hello(&json!({"token": "t"}))).await.unwrap();
    for _ in 0..10 {
        client.call("agents.list", json!({})).await.unwrap_err();
    }
    assert_eq!(client.end().await, End::Closed(1008, "repeated unauthorized calls".into()));
}

#[tokio::test(start_paused = true)]
async fn a_device_shares_its_budget_among_its_connections() {
    let simulator =
        Simulator::new(Profile::v2026_9_6().instant().with_patch_budget(1, std::time::Duration::from_mins(1)));
    let mut refusals = 0;
    for _ in 0..2 {
        let mut client = Client::dial(&simulator, Origin::Loopback).await;
        let params = signed(&client, &key(), &json!({"token": "t"}), &SCOPES);
        let welcome = client.connect(&params).await.unwrap();
        assert!(welcome["auth"].get("deviceToken").is_none());
        refusals += usize::from(client.call("config.patch", json!({"raw": "{}"})).await.is_err());
    }
    assert_eq!(refusals, 1);
}
