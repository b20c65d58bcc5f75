//! Credentials that change in the Secret or at the gateway first.

use std::time::Duration;

use muster::api::object_key::ObjectKey;
use muster::api::{AgentGateway, ConditionType};
use muster_simulator::{Profile, Simulator};

use crate::rig::{NS, Rig, gateway_manifest};

/// Longer than the resync interval of ten minutes; each resync reads the Secret again.
const RESYNC: Duration = Duration::from_mins(12);

fn device_secret_value(rig: &Rig, key: &str) -> String {
    let state = &rig.cluster;
    String::from_utf8(state.secrets()[&ObjectKey::new(NS, "gw-device")].data.as_ref().unwrap()[key].0.clone()).unwrap()
}

async fn connected_with_one_agent() -> (Rig, Simulator) {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    rig.until("the credential to be stored", |rig| rig.gateway_condition("gw", ConditionType::Ready).0 == "True").await;
    rig.run_for(Duration::from_secs(5)).await;
    (rig, gateway)
}

#[tokio::test(start_paused = true)]
async fn a_secret_changed_before_the_gateway_loses_no_connection() {
    let (mut rig, gateway) = connected_with_one_agent().await;
    rig.secret("gw-auth", "token", "token-of-tomorrow");
    let authenticated = |rig: &Rig| rig.gateway_condition("gw", ConditionType::Authenticated);
    rig.until("the use of the former credential to be reported", |rig| {
        authenticated(rig).2.contains("the credential before it")
    })
    .await;
    rig.run_for(RESYNC).await;
    assert_eq!(authenticated(&rig).0, "True");
    assert_eq!(rig.condition("one", ConditionType::Ready).0, "True");
    assert_eq!(device_secret_value(&rig, "last-good-credential"), "secret-token");
    gateway.change_token("token-of-tomorrow");
    gateway.drop_connections();
    rig.until("the new credential to be stored", |rig| {
        device_secret_value(rig, "last-good-credential") == "token-of-tomorrow"
    })
    .await;
    rig.until("the use of the new credential to be reported", |rig| authenticated(rig).2.contains("granted")).await;
    assert!(!rig.summary().contains("token-of-tomorrow"));
}

#[tokio::test(start_paused = true)]
async fn a_changed_secret_is_noticed_within_thirty_seconds() {
    let (mut rig, gateway) = connected_with_one_agent().await;
    gateway.change_token("token-of-tomorrow");
    rig.run_for(Duration::from_mins(1)).await;
    let dials = rig.dials().len();
    rig.secret("gw-auth", "token", "token-of-tomorrow");
    let began = tokio::time::Instant::now();
    rig.until("the new credential to be used", |rig| rig.dials().len() > dials).await;
    assert!(began.elapsed() <= Duration::from_secs(30), "{:?}", began.elapsed());
    rig.until("the new credential to be accepted", |rig| {
        rig.gateway_condition("gw", ConditionType::Authenticated).2.contains("granted")
    })
    .await;
    rig.run_for(Duration::from_mins(5)).await;
    assert_eq!(rig.dials().len(), dials + 1, "an unchanged Secret opens no connection");
}

#[tokio::test(start_paused = true)]
async fn a_credential_from_a_file_with_a_byte_order_mark_and_line_ends_is_accepted() {
    let (mut rig, _gateway) = Rig::new();
    rig.secret("gw-auth", "token", "\u{feff}secret-token\r\n");
    rig.until("the login", |rig| rig.gateway_condition("gw", ConditionType::Authenticated).0 == "True").await;
}

#[tokio::test(start_paused = true)]
async fn a_url_that_an_older_schema_accepted_is_refused_and_no_credential_is_sent() {
    let (mut rig, _gateway) = Rig::new();
    let mut manifest = gateway_manifest("gw");
    manifest["spec"]["url"] = serde_json::json!("ws://gw:18789/?token=t0k");
    rig.unchecked::<AgentGateway>(manifest);
    rig.until("the refusal", |rig| rig.gateway_condition("gw", ConditionType::Ready).1 == "InvalidSpec").await;
    let message = rig.gateway_condition("gw", ConditionType::Ready).2;
    assert!(message.contains("spec.auth") && !message.contains("t0k"), "{message}");
    assert!(rig.dials().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_accepted_credential_is_never_sent_to_another_gateway() {
    let (mut rig, _) = connected_with_one_agent().await;
    let other = Simulator::new(Profile::v2026_9_6().with_token("secret-token"));
    rig.host("other", &other);
    rig.secret("gw-auth", "token", "token-of-the-other");
    let mut manifest = gateway_manifest("gw");
    manifest["spec"]["url"] = serde_json::json!("ws://other:18789");
    rig.apply::<AgentGateway>(manifest);
    rig.until("BadCredentials", |rig| rig.gateway_condition("gw", ConditionType::Authenticated).1 == "BadCredentials")
        .await;
    rig.run_for(RESYNC).await;
    assert_eq!(rig.gateway_condition("gw", ConditionType::Authenticated).1, "BadCredentials");
    assert_eq!(other.count("config.get"), 0);
}

/// The credentials that a gateway was given, as text.
fn given(gateway: &Simulator) -> String {
    let connects = gateway.calls().into_iter().filter(|call| call.method == "connect");
    connects.map(|call| call.params["auth"].to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn stored_credentials_go_only_to_the_address_at_which_they_were_good() {
    let (mut rig, gateway) = Rig::remote();
    rig.until("the request for approval", |rig| {
        rig.gateway_condition("gw", ConditionType::Paired).1 == "PairingRequired"
    })
    .await;
    assert!(gateway.approve_pairing(&gateway.pairing_requests()[0]));
    rig.until("a connection", |rig| rig.gateway_condition("gw", ConditionType::Ready).0 == "True").await;
    rig.run_for(Duration::from_secs(5)).await;
    let device_token = device_secret_value(&rig, "device-token");
    assert_eq!(device_secret_value(&rig, "device-token-url"), "ws://gw:18789");
    let other = Simulator::new(Profile::v2026_9_6().with_token("token-of-the-other"));
    rig.host("other", &other);
    rig.secret("gw-auth", "token", "new-token");
    let move_to = |rig: &Rig, url: &str| {
        let mut manifest = gateway_manifest("gw");
        manifest["spec"]["url"] = serde_json::json!(url);
        rig.apply::<AgentGateway>(manifest);
    };
    for url in ["ws://other:18789", "ws://other:18789/", "ws://other:80", "wss://other:18789"] {
        move_to(&rig, url);
        rig.run_for(Duration::from_mins(2)).await;
    }
    let seen = given(&other);
    assert!(seen.contains("new-token"), "the credential in the user's Secret is given: {seen}");
    assert!(!seen.contains("secret-token") && !seen.contains(&device_token), "{seen}");
    // A path is no other address.
    move_to(&rig, "ws://gw:18789/");
    rig.until("the stored credential", |rig| {
        rig.gateway_condition("gw", ConditionType::Authenticated).2.contains("the token of its own device")
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_cleanup_gives_the_stored_credential_to_no_other_address() {
    let (mut rig, _) = connected_with_one_agent().await;
    let other = Simulator::new(Profile::v2026_9_6().with_token("secret-token"));
    rig.host("other", &other);
    rig.stop();
    let mut manifest = gateway_manifest("gw");
    manifest["spec"]["url"] = serde_json::json!("ws://other:18789");
    rig.apply::<AgentGateway>(manifest);
    rig.delete::<AgentGateway>("gw");
    rig.delete::<k8s_openapi::api::core::v1::Secret>("gw-auth");
    rig.start();
    rig.run_for(Duration::from_mins(1)).await;
    assert_eq!(given(&other), "");
}
