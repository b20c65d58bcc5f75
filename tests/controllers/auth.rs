//! Authentication and pairing at a gateway that sees Muster as remote, and changes of credentials.

use std::time::Duration;

use muster::api::gateway::{AgentGatewayStatus, Pairing};
use muster::api::object_key::ObjectKey;
use muster::api::{AgentGateway, ConditionType};
use muster_simulator::{Call, Fault, Outcome, Profile, Simulator};
use serde_json::json;

use crate::rig::{NS, Rig, gateway_manifest};

/// The new credential: a word that occurs nowhere else.
const NEW_CREDENTIAL: &str = "quokka-4711";

fn status(rig: &Rig) -> AgentGatewayStatus {
    rig.cluster.gateways()[&ObjectKey::new(NS, "gw")].status.clone().unwrap_or_default()
}

async fn until_ready(rig: &mut Rig) {
    rig.until("the gateway to be Ready", |rig| rig.gateway_condition("gw", ConditionType::Ready).0 == "True").await;
}

async fn until_pairing(rig: &mut Rig) -> Pairing {
    rig.until("the request for approval", |rig| {
        rig.gateway_condition("gw", ConditionType::Paired).1 == "PairingRequired"
    })
    .await;
    status(rig).pairing.unwrap()
}

/// The value of a key in the device Secret.
fn device_secret_value(rig: &Rig, key: &str) -> Option<String> {
    let state = &rig.cluster;
    let value = state.secrets()[&ObjectKey::new(NS, "gw-device")].data.as_ref()?.get(key)?.0.clone();
    Some(String::from_utf8(value).unwrap())
}

async fn paired() -> (Rig, Simulator) {
    let (mut rig, gateway) = Rig::remote();
    let pairing = until_pairing(&mut rig).await;
    assert!(gateway.approve_pairing(&pairing.request_id));
    until_ready(&mut rig).await;
    (rig, gateway)
}

#[tokio::test(start_paused = true)]
async fn an_unapproved_device_reports_the_approval_command_and_its_expiry_and_connects_after_approval() {
    let (mut rig, gateway) = Rig::remote();
    let before = rig.cluster.now();
    let pairing = until_pairing(&mut rig).await;
    assert_eq!(gateway.pairing_requests(), std::slice::from_ref(&pairing.request_id));
    assert_eq!(pairing.command, format!("openclaw devices approve {}", pairing.request_id));
    let until = pairing.expires_at.clone().unwrap().0;
    let minutes = until.duration_since(before).as_secs().div_euclid(60);
    assert_eq!(minutes, 5, "{until}");
    let (paired, _, message) = rig.gateway_condition("gw", ConditionType::Paired);
    assert_eq!(paired, "False");
    assert!(message.contains(&pairing.command) && message.contains(&until.to_string()), "{message}");
    let events = rig.cluster.events().clone();
    let (_, event) = events.iter().find(|(_, event)| event.reason == "PairingRequired").unwrap();
    assert!(
        !event.message.contains(&pairing.request_id),
        "later requests are counted on this event: {}",
        event.message
    );
    rig.run_for(Duration::from_mins(1)).await;
    assert_eq!(status(&rig).pairing, Some(pairing.clone()), "the expiry of the same request is unchanged");
    assert!(gateway.approve_pairing(&pairing.request_id));
    until_ready(&mut rig).await;
    assert_eq!((status(&rig).pairing, rig.gateway_condition("gw", ConditionType::Paired).0.as_str()), (None, "True"));
    assert!(device_secret_value(&rig, "device-token").is_some(), "the issued device token is stored");
}

#[tokio::test(start_paused = true)]
async fn an_unsafe_pairing_request_id_is_never_part_of_a_command() {
    let (mut rig, gateway) = Rig::new();
    for id in ["3f0c9d1e; touch pwned #", "--latest", "", "a\u{202e}b"] {
        let details = json!({ "code": "PAIRING_REQUIRED", "requestId": id, "reason": "not-paired" });
        let required =
            Fault::on("connect").error("NOT_PAIRED", "pairing\u{1b}[2J required\u{202e}", false).details(details);
        gateway.inject(required.lasting(Duration::from_mins(2)));
        gateway.drop_connections();
        rig.until("the pairing request", |rig| {
            rig.gateway_condition("gw", ConditionType::Paired).1 == "PairingRequired"
        })
        .await;
        let (_, _, message) = rig.gateway_condition("gw", ConditionType::Paired);
        assert_eq!(status(&rig).pairing, None);
        for part in
            ["openclaw devices list", &status(&rig).device_id.unwrap(), "pairing[2J required (PAIRING_REQUIRED)"]
        {
            assert!(message.contains(part), "{message}");
        }
        assert!(!message.contains("pwned") && !message.contains("--latest"), "{message}");
        until_ready(&mut rig).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_unsafe_command_in_the_status_is_removed_after_a_restart() {
    let (mut rig, gateway) = Rig::remote();
    until_pairing(&mut rig).await;
    let key = ObjectKey::new(NS, "gw");
    let hostile =
        Pairing { request_id: "a; b".into(), command: "openclaw devices approve a; b".into(), expires_at: None };
    rig.cluster.edit::<AgentGateway>(&key, |gateway| gateway.status.as_mut().unwrap().pairing = Some(hostile));
    gateway.lose_host();
    rig.start();
    rig.run_for(Duration::from_mins(2)).await;
    assert_eq!(
        (status(&rig).pairing, rig.gateway_condition("gw", ConditionType::Reachable).0.as_str()),
        (None, "False")
    );
}

#[tokio::test(start_paused = true)]
async fn the_device_identity_survives_a_restart_without_another_pairing_request() {
    let (mut rig, gateway) = paired().await;
    let id = status(&rig).device_id;
    rig.start();
    rig.run_for(Duration::from_mins(1)).await;
    until_ready(&mut rig).await;
    assert_eq!((status(&rig).device_id, gateway.pairing_requests().len()), (id, 0));
}

#[tokio::test(start_paused = true)]
async fn a_device_with_a_rotated_token_reconnects_and_stores_the_new_token() {
    let (mut rig, gateway) = paired().await;
    let old = device_secret_value(&rig, "device-token");
    assert!(gateway.rotate_device(&status(&rig).device_id.unwrap()));
    rig.until("the new token", |rig| device_secret_value(rig, "device-token") != old).await;
    until_ready(&mut rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_revoked_device_requests_approval_again_and_recovers_after_it() {
    let (mut rig, gateway) = paired().await;
    assert!(gateway.revoke_device(&status(&rig).device_id.unwrap()));
    let pairing = until_pairing(&mut rig).await;
    assert_eq!(rig.gateway_condition("gw", ConditionType::Ready).0, "False");
    assert!(gateway.approve_pairing(&pairing.request_id));
    until_ready(&mut rig).await;
}

#[tokio::test(start_paused = true)]
async fn authenticated_reports_a_changed_credential_while_the_device_token_still_works() {
    let (mut rig, gateway) = paired().await;
    gateway.change_token(NEW_CREDENTIAL);
    gateway.restart();
    let authenticated = |rig: &Rig| rig.gateway_condition("gw", ConditionType::Authenticated);
    rig.until("the report of the changed credential", |rig| authenticated(rig).2.contains("token of its own device"))
        .await;
    assert_eq!(
        (authenticated(&rig).0.as_str(), rig.gateway_condition("gw", ConditionType::Ready).0.as_str()),
        ("True", "True")
    );
    assert!(authenticated(&rig).2.contains("spec.auth"), "{}", authenticated(&rig).2);
    assert_eq!(
        device_secret_value(&rig, "last-good-credential").as_deref(),
        Some("secret-token"),
        "a refused credential is not stored"
    );
    rig.secret("gw-auth", "token", NEW_CREDENTIAL);
    rig.until("the use of the shared credential", |rig| authenticated(rig).2.starts_with("the gateway granted")).await;
    rig.until("the new credential to be stored", |rig| {
        device_secret_value(rig, "last-good-credential").as_deref() == Some(NEW_CREDENTIAL)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_credential_rotated_in_its_secret_is_used_without_a_restart() {
    let (mut rig, gateway) = Rig::new();
    until_ready(&mut rig).await;
    rig.run_for(Duration::from_secs(10)).await;
    assert_eq!(device_secret_value(&rig, "last-good-credential").as_deref(), Some("secret-token"));
    rig.secret("gw-auth", "token", NEW_CREDENTIAL);
    gateway.change_token(NEW_CREDENTIAL);
    rig.run_for(Duration::from_mins(11)).await;
    assert_eq!(
        device_secret_value(&rig, "last-good-credential").as_deref(),
        Some(NEW_CREDENTIAL),
        "the new credential is read before a refusal"
    );
    gateway.drop_connections();
    rig.run_for(Duration::from_secs(30)).await;
    until_ready(&mut rig).await;
    let refused = |call: &Call| call.method == "connect" && call.outcome != Outcome::Ok;
    assert!(
        !gateway.calls().iter().any(refused),
        "the Secret is read before the gateway refuses the former credential"
    );
}

#[tokio::test(start_paused = true)]
async fn a_credential_changed_at_the_gateway_first_fails_until_the_secret_is_updated() {
    let (mut rig, gateway) = Rig::new();
    until_ready(&mut rig).await;
    gateway.change_token(NEW_CREDENTIAL);
    gateway.restart();
    rig.until("BadCredentials", |rig| rig.gateway_condition("gw", ConditionType::Authenticated).1 == "BadCredentials")
        .await;
    rig.secret("gw-auth", "token", NEW_CREDENTIAL);
    until_ready(&mut rig).await;
}

#[tokio::test(start_paused = true)]
async fn no_credential_appears_in_the_status_or_in_an_event() {
    let (mut rig, gateway) = paired().await;
    gateway.change_token(NEW_CREDENTIAL);
    gateway.restart();
    rig.secret("gw-auth", "token", "wombat-0815");
    rig.run_for(Duration::from_mins(2)).await;
    let device = device_secret_value(&rig, "device-token").unwrap();
    let state = &rig.cluster;
    let seen = format!("{:?} {:?}", state.gateways().values().collect::<Vec<&AgentGateway>>(), state.events());
    for secret in ["secret-token", NEW_CREDENTIAL, "wombat-0815", &device] {
        assert!(!seen.contains(secret), "{secret} in {seen}");
    }
}

/// A gateway that requires a password, and a Secret with `secret` as the password.
fn with_password((rig, _): (Rig, Simulator), secret: &str) -> (Rig, Simulator) {
    let gateway = Simulator::new(Profile::v2026_9_6().with_password(NEW_CREDENTIAL));
    rig.host("gw", &gateway);
    rig.secret("gw-auth", "password", secret);
    let mut manifest = gateway_manifest("gw");
    manifest["spec"]["auth"] = json!({ "passwordSecretRef": { "name": "gw-auth", "key": "password" } });
    rig.apply::<AgentGateway>(manifest);
    (rig, gateway)
}

#[tokio::test(start_paused = true)]
async fn a_password_authenticates_on_loopback() {
    let (mut rig, gateway) = with_password(Rig::new(), NEW_CREDENTIAL);
    until_ready(&mut rig).await;
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    assert!(gateway.agents().contains_key(&rig.agent_id("one")));
    let kind = device_secret_value(&rig, "last-good-kind");
    assert_eq!(
        (kind.as_deref(), device_secret_value(&rig, "last-good-credential").as_deref()),
        (Some("password"), Some(NEW_CREDENTIAL))
    );
}

#[tokio::test(start_paused = true)]
async fn a_password_authenticates_to_a_remote_gateway_once_the_device_is_approved() {
    let (mut rig, gateway) = with_password(Rig::remote(), NEW_CREDENTIAL);
    let pairing = until_pairing(&mut rig).await;
    assert!(gateway.approve_pairing(&pairing.request_id));
    until_ready(&mut rig).await;
    assert!(device_secret_value(&rig, "device-token").is_some());
    gateway.restart();
    rig.run_for(Duration::from_secs(30)).await;
    until_ready(&mut rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_wrong_password_is_reported_and_a_corrected_secret_recovers() {
    for (remote, rig) in [(false, Rig::new()), (true, Rig::remote())] {
        let (mut rig, gateway) = with_password(rig, "wombat-0815");
        let authenticated = |rig: &Rig| rig.gateway_condition("gw", ConditionType::Authenticated);
        rig.until("BadCredentials", |rig| authenticated(rig).1 == "BadCredentials").await;
        assert_eq!(
            (authenticated(&rig).0.as_str(), rig.gateway_condition("gw", ConditionType::Ready).0.as_str()),
            ("False", "False")
        );
        assert!(authenticated(&rig).2.contains("spec.auth"), "{}", authenticated(&rig).2);
        assert!(gateway.pairing_requests().is_empty(), "a wrong password makes no pairing request");
        rig.secret("gw-auth", "password", NEW_CREDENTIAL);
        if remote {
            assert!(gateway.approve_pairing(&until_pairing(&mut rig).await.request_id));
        }
        until_ready(&mut rig).await;
        assert_eq!(authenticated(&rig).0, "True");
        let state = &rig.cluster;
        let seen = format!("{:?} {:?}", state.gateways().values().collect::<Vec<_>>(), state.events());
        assert!(!seen.contains(NEW_CREDENTIAL) && !seen.contains("wombat-0815"), "{seen}");
    }
}

/// Leaves a pairing request unanswered for `time`; the status never shows a request that expired long ago.
async fn leave_pairing_unanswered(rig: &mut Rig, time: Duration) {
    let end = tokio::time::Instant::now() + time;
    while tokio::time::Instant::now() < end {
        rig.run_for(Duration::from_secs(5)).await;
        let pairing = status(rig).pairing.unwrap();
        let over = rig.cluster.now().duration_since(pairing.expires_at.unwrap().0);
        assert!(over.as_secs() <= 40, "{} expired {over:?} ago", pairing.request_id);
    }
}

#[tokio::test(start_paused = true)]
async fn an_expired_pairing_request_is_replaced_by_the_next_request() {
    let (mut rig, _) = Rig::remote();
    let gateway = Simulator::new(Profile::v2026_5_28().with_token("secret-token"));
    rig.host("gw", &gateway);
    let first = until_pairing(&mut rig).await;
    leave_pairing_unanswered(&mut rig, Duration::from_mins(6)).await;
    let next = status(&rig).pairing.unwrap();
    assert_ne!(next.request_id, first.request_id);
    assert_eq!(gateway.pairing_requests(), std::slice::from_ref(&next.request_id));
    assert!(next.expires_at.unwrap().0 > rig.cluster.now());
    assert!(next.command.contains(&next.request_id), "{}", next.command);
    assert!(!gateway.approve_pairing(&first.request_id));
    assert!(gateway.approve_pairing(&next.request_id));
    until_ready(&mut rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_renewed_pairing_request_keeps_its_id_and_gets_a_later_expiry() {
    for profile in [Profile::v2026_9_6(), Profile::v2026_7_1(), Profile::v2026_3_2()] {
        let (mut rig, _) = Rig::remote();
        let gateway = Simulator::new(profile.with_token("secret-token"));
        rig.host("gw", &gateway);
        let first = until_pairing(&mut rig).await;
        leave_pairing_unanswered(&mut rig, Duration::from_mins(6)).await;
        let now = status(&rig).pairing.unwrap();
        assert_eq!((&now.request_id, &now.command), (&first.request_id, &first.command));
        assert_eq!(gateway.pairing_requests(), [first.request_id]);
        assert!(now.expires_at.clone().unwrap().0 > rig.cluster.now());
        let message = rig.gateway_condition("gw", ConditionType::Paired).2;
        assert!(message.contains(&now.expires_at.unwrap().0.to_string()), "{message}");
        leave_pairing_unanswered(&mut rig, Duration::from_mins(20)).await;
        assert!(gateway.approve_pairing(&now.request_id));
        until_ready(&mut rig).await;
    }
}

#[tokio::test(start_paused = true)]
async fn no_connection_is_attempted_before_the_gateways_auth_retry_time() {
    const RETRY_AFTER: Duration = Duration::from_mins(5);
    let (mut rig, gateway) = Rig::new();
    let limited =
        Fault::on("connect").error("INVALID_REQUEST", "unauthorized: too many failed authentication attempts", true);
    let details = json!({ "code": "AUTH_RATE_LIMITED", "authReason": "rate_limited" });
    gateway.inject(limited.retry_after(RETRY_AFTER).details(details).lasting(Duration::from_mins(20)));
    rig.run_for(Duration::from_mins(10)).await;
    let dials: Vec<_> = rig.dials().into_iter().map(|(_, at)| at).collect();
    assert!((2..=3).contains(&dials.len()), "{} connections in ten minutes", dials.len());
    for pair in dials.windows(2) {
        assert!(pair[1] - pair[0] >= RETRY_AFTER, "the next connection came after {:?}", pair[1] - pair[0]);
    }
    let (authenticated, reason, _) = rig.gateway_condition("gw", ConditionType::Authenticated);
    assert_eq!((authenticated.as_str(), reason.as_str()), ("False", "RateLimited"));
    rig.run_for(Duration::from_mins(20)).await;
    until_ready(&mut rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_device_token_authenticates_while_the_shared_credential_is_locked_out() {
    let (mut rig, gateway) = paired().await;
    gateway.exhaust_auth_attempts();
    gateway.drop_connections();
    rig.run_for(Duration::from_mins(1)).await;
    assert_eq!(gateway.connections(), 1);
    let (authenticated, _, message) = rig.gateway_condition("gw", ConditionType::Authenticated);
    assert_eq!(
        (authenticated.as_str(), rig.gateway_condition("gw", ConditionType::Ready).0.as_str()),
        ("True", "True"),
        "{message}"
    );
    assert!(message.contains("token of its own device"), "{message}");
}
