//! How Muster gets into a gateway that sees it as remote, and again when something of that changes.

use std::time::Duration;

use muster::api::conditions::find;
use muster::api::gateway::{AgentGatewayStatus, Pairing};
use muster::api::{AgentGateway, ConditionType};
use muster::reconcile::Key;
use muster::reconcile::ports::Store;
use muster_simulator::Simulator;

use crate::rig::{NS, Rig};

fn status(rig: &Rig) -> AgentGatewayStatus {
    rig.store.state().gateways[&Key::new(NS, "gw")].status.clone().unwrap_or_default()
}

/// Status, reason and message of a condition of the gateway.
fn condition(rig: &Rig, kind: ConditionType) -> (String, String, String) {
    let conditions = status(rig).conditions;
    find(&conditions, kind).map(|c| (c.status.clone(), c.reason.clone(), c.message.clone())).unwrap_or_default()
}

async fn until_ready(rig: &mut Rig) {
    rig.until("the gateway to be Ready", |rig| condition(rig, ConditionType::Ready).0 == "True").await;
}

async fn until_pairing(rig: &mut Rig) -> Pairing {
    rig.until("the request for approval", |rig| condition(rig, ConditionType::Paired).1 == "PairingRequired").await;
    status(rig).pairing.unwrap()
}

/// What the device Secret holds under a key.
fn kept(rig: &Rig, key: &str) -> Option<String> {
    let state = rig.store.state();
    let value = state.secrets[&Key::new(NS, "gw-device")].data.as_ref()?.get(key)?.0.clone();
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
async fn a_device_that_is_not_approved_says_how_to_approve_it_until_when_and_goes_on_by_itself() {
    let (mut rig, gateway) = Rig::remote();
    let before = rig.world().store.now();
    let pairing = until_pairing(&mut rig).await;
    assert_eq!(gateway.pairing_requests(), std::slice::from_ref(&pairing.request_id));
    assert_eq!(pairing.command, format!("openclaw devices approve {}", pairing.request_id));
    let until = pairing.expires_at.clone().unwrap().0;
    let minutes = until.duration_since(before).as_secs().div_euclid(60);
    assert_eq!(minutes, 5, "{until}");
    let (paired, _, message) = condition(&rig, ConditionType::Paired);
    assert_eq!(paired, "False");
    assert!(message.contains(&pairing.command) && message.contains(&until.to_string()), "{message}");
    rig.rest(Duration::from_mins(1)).await;
    assert_eq!(status(&rig).pairing, Some(pairing.clone()), "the same request has the same end");
    assert!(gateway.approve_pairing(&pairing.request_id));
    until_ready(&mut rig).await;
    assert_eq!((status(&rig).pairing, condition(&rig, ConditionType::Paired).0.as_str()), (None, "True"));
    assert!(kept(&rig, "device-token").is_some(), "what the gateway issued is kept");
}

#[tokio::test(start_paused = true)]
async fn the_identity_survives_a_restart_and_is_not_asked_about_again() {
    let (mut rig, gateway) = paired().await;
    let id = status(&rig).device_id;
    rig.start();
    rig.rest(Duration::from_mins(1)).await;
    until_ready(&mut rig).await;
    assert_eq!((status(&rig).device_id, gateway.pairing_requests().len()), (id, 0));
}

#[tokio::test(start_paused = true)]
async fn a_device_whose_token_is_rotated_comes_back_by_itself_and_keeps_the_new_one() {
    let (mut rig, gateway) = paired().await;
    let old = kept(&rig, "device-token");
    assert!(gateway.rotate_device(&status(&rig).device_id.unwrap()));
    rig.until("the new token", |rig| kept(rig, "device-token") != old).await;
    until_ready(&mut rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_device_that_is_revoked_asks_for_approval_again_and_heals_with_it() {
    let (mut rig, gateway) = paired().await;
    assert!(gateway.revoke_device(&status(&rig).device_id.unwrap()));
    let pairing = until_pairing(&mut rig).await;
    assert_eq!(condition(&rig, ConditionType::Ready).0, "False");
    assert!(gateway.approve_pairing(&pairing.request_id));
    until_ready(&mut rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_changed_credential_is_told_while_the_devices_own_token_opens_the_door() {
    let (mut rig, gateway) = paired().await;
    gateway.change_token("another");
    gateway.restart();
    let told = |rig: &Rig| condition(rig, ConditionType::Authenticated);
    rig.until("the news", |rig| told(rig).2.contains("token of its own device")).await;
    assert_eq!((told(&rig).0.as_str(), condition(&rig, ConditionType::Ready).0.as_str()), ("True", "True"));
    assert!(told(&rig).2.contains("spec.auth"), "{}", told(&rig).2);
    assert_eq!(kept(&rig, "last-good-credential").as_deref(), Some("secret-token"), "what did not work is not kept");
    rig.secret("gw-auth", "token", "another");
    rig.until("the shared credential", |rig| told(rig).2.starts_with("the gateway granted")).await;
    rig.until("it to be kept", |rig| kept(rig, "last-good-credential").as_deref() == Some("another")).await;
}

#[tokio::test(start_paused = true)]
async fn a_credential_that_is_rotated_in_its_secret_is_taken_up_without_a_restart() {
    let (mut rig, gateway) = Rig::new();
    until_ready(&mut rig).await;
    rig.secret("gw-auth", "token", "another");
    gateway.change_token("another");
    rig.rest(Duration::from_mins(11)).await;
    until_ready(&mut rig).await;
    gateway.drop_connections();
    rig.rest(Duration::from_secs(30)).await;
    until_ready(&mut rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_was_given_another_credential_first_is_refused_until_the_secret_follows() {
    let (mut rig, gateway) = Rig::new();
    until_ready(&mut rig).await;
    gateway.change_token("another");
    gateway.restart();
    rig.until("the refusal", |rig| condition(rig, ConditionType::Authenticated).1 == "BadCredentials").await;
    rig.secret("gw-auth", "token", "another");
    until_ready(&mut rig).await;
}

#[tokio::test(start_paused = true)]
async fn no_credential_stands_in_the_status_or_in_an_event() {
    let (mut rig, gateway) = paired().await;
    gateway.change_token("another");
    gateway.restart();
    rig.rest(Duration::from_mins(2)).await;
    let device = kept(&rig, "device-token").unwrap();
    let state = rig.store.state();
    let seen = format!("{:?} {:?}", state.gateways.values().collect::<Vec<&AgentGateway>>(), state.notes);
    assert!(!seen.contains("secret-token") && !seen.contains("another\"") && !seen.contains(&device), "{seen}");
}
