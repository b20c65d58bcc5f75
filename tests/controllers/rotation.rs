//! A token is replaced in two phases.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use muster::api::object_key::ObjectKey;
use muster::api::requests::RequestKind;
use muster::api::{Agent, AgentGateway, Board, ConditionType, keys};
use muster::hash::sha256_hex;
use muster_simulator::{Fault, Simulator};
use serde_json::json;

use crate::rig::{NS, Rig, ready};

/// A worker that has its first token and has used it.
async fn confirmed_agent() -> (Rig, Simulator) {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    confirm(&mut rig).await;
    (rig, gateway)
}

/// The agent calls with the token in its files.
async fn confirm(rig: &mut Rig) {
    use_token(rig).await;
    rig.until("the token to be confirmed", |rig| token_status(rig).is_some_and(|t| t.confirmed_at.is_some())).await;
}

async fn use_token(rig: &Rig) {
    assert_eq!(rig.check_in("one", &json!({})).await, 200);
}

fn token_status(rig: &Rig) -> Option<muster::api::agent::TokenStatus> {
    rig.status("one").token
}

/// The hashes of the tokens that the HTTP API accepts now.
fn accepted_hashes(rig: &Rig) -> Vec<String> {
    let Some(token) = token_status(rig) else { return Vec::new() };
    let now = rig.cluster.now();
    let previous = token.previous.filter(|p| p.valid_until.as_ref().is_none_or(|until| until.0 > now));
    std::iter::once(token.sha256).chain(previous.map(|p| p.sha256)).filter(|sha256| !sha256.is_empty()).collect()
}

/// Asserts that the token in the agent's files is known and accepted.
fn assert_usable(rig: &Rig, gateway: &Simulator, old: &str, context: &str) {
    let file = gateway.file(&rig.agent_id("one"), "AGENTS.md").unwrap_or_default();
    let held = [rig.token("one"), old.to_owned()].into_iter().find(|token| file.contains(token));
    assert!(held.is_some(), "{context}: no known token in the files");
    let held = held.unwrap_or_default();
    assert!(accepted_hashes(rig).contains(&sha256_hex(&held)), "{context}: the agent's token is accepted");
}

/// Asserts that one new token is in the Secret and in the files, and that no other is accepted.
fn assert_one_token(rig: &Rig, gateway: &Simulator, old: &str, revision: i64, context: &str) {
    let token = rig.token("one");
    assert_ne!(token, old, "{context}: the token is new");
    assert_eq!(accepted_hashes(rig), [sha256_hex(&token)], "{context}: only the new token is accepted");
    let file = gateway.file(&rig.agent_id("one"), "AGENTS.md").unwrap();
    assert!(file.contains(&token) && !file.contains(old), "{context}: the new token is in the files");
    let state = &rig.cluster;
    let data = state.secrets()[&ObjectKey::new(NS, "one-token")].data.clone().unwrap();
    assert!(!data.contains_key(keys::PREVIOUS_TOKEN_KEY), "{context}: the old token is gone from the Secret");
    assert_eq!(token_status(rig).unwrap().revision, revision, "{context}: the number of issued tokens");
}

/// Whether the files hold the token of the Secret, and the status accepts it.
fn is_delivered(rig: &Rig, gateway: &Simulator) -> bool {
    let file = gateway.file(&rig.agent_id("one"), "AGENTS.md").unwrap_or_default();
    file.contains(&rig.token("one")) && accepted_hashes(rig).contains(&sha256_hex(rig.token("one")))
}

/// Whether nothing is left of the previous token.
fn rotation_ended(rig: &Rig) -> bool {
    let state = &rig.cluster;
    let secret = &state.secrets()[&ObjectKey::new(NS, "one-token")];
    let kept = secret.data.as_ref().is_some_and(|data| data.contains_key(keys::PREVIOUS_TOKEN_KEY));
    !kept && token_status(rig).is_some_and(|t| t.previous.is_none() && t.confirmed_at.is_some())
}

/// Waits for the delivery of the new token, uses it, and waits for the end of the rotation.
async fn complete_rotation(rig: &mut Rig, gateway: &Simulator, old: &str) {
    rig.until("the new token to be delivered", |rig| rig.token("one") != *old && is_delivered(rig, gateway)).await;
    confirm(rig).await;
    rig.until("the end of the rotation", rotation_ended).await;
}

#[tokio::test(start_paused = true)]
async fn a_rotate_request_replaces_the_token_and_the_old_token_works_until_the_new_one_is_used() {
    let (mut rig, gateway) = confirmed_agent().await;
    let old = rig.token("one");
    rig.run_for(Duration::from_secs(2)).await;
    rig.request::<Agent>("one", RequestKind::Rotate);
    rig.until("the new token to be delivered", |rig| rig.token("one") != old && is_delivered(rig, &gateway)).await;
    rig.run_for(Duration::from_mins(1)).await;
    assert_eq!(accepted_hashes(&rig), [sha256_hex(rig.token("one")), sha256_hex(&old)]);
    assert!(rig.condition("one", ConditionType::TokenIssued).2.contains("the old one works until"));
    confirm(&mut rig).await;
    rig.until("the end of the rotation", rotation_ended).await;
    assert_one_token(&rig, &gateway, &old, 2, "after the check-in");
    let before = (gateway.writes(), rig.write_counts());
    rig.run_for(Duration::from_mins(1)).await;
    assert_eq!((gateway.writes(), rig.write_counts()), before, "a request is handled once");
}

#[tokio::test(start_paused = true)]
async fn an_unused_new_token_ends_the_old_token_after_the_grace_period() {
    let (mut rig, gateway) = confirmed_agent().await;
    let old = rig.token("one");
    let rotation = json!({ "boardRef": { "name": "ops" }, "wake": { "enabled": false },
        "token": { "rotation": { "gracePeriod": "10m" } } });
    rig.agent("one", rotation);
    rig.run_for(Duration::from_secs(2)).await;
    rig.request::<Agent>("one", RequestKind::Rotate);
    rig.until("the new token to be delivered", |rig| rig.token("one") != old && is_delivered(rig, &gateway)).await;
    rig.run_for(Duration::from_mins(8)).await;
    assert_eq!(accepted_hashes(&rig).len(), 2);
    rig.run_for(Duration::from_mins(3)).await;
    assert_one_token(&rig, &gateway, &old, 2, "after the grace period");
}

#[tokio::test(start_paused = true)]
async fn a_token_is_replaced_at_each_rotation_interval() {
    let (mut rig, gateway) = confirmed_agent().await;
    let rotation = json!({ "boardRef": { "name": "ops" }, "wake": { "enabled": false },
        "token": { "rotation": { "interval": "1h", "gracePeriod": "0s" } } });
    rig.agent("one", rotation);
    for revision in [2, 3] {
        let old = rig.token("one");
        rig.run_for(Duration::from_mins(62)).await;
        assert_one_token(&rig, &gateway, &old, revision, "after an hour");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rotate_request_on_a_board_or_gateway_rotates_each_agent_once() {
    let (mut rig, gateway) = confirmed_agent().await;
    rig.worker("two");
    rig.until_ready().await;
    let mut revision = 1;
    for on_gateway in [false, true] {
        let old = (rig.token("one"), rig.token("two"));
        rig.run_for(Duration::from_secs(2)).await;
        if on_gateway {
            rig.request::<AgentGateway>("gw", RequestKind::Rotate);
        } else {
            rig.request::<Board>("ops", RequestKind::Rotate);
        }
        rig.until("the second agent's new token", |rig| rig.token("two") != old.1).await;
        complete_rotation(&mut rig, &gateway, &old.0).await;
        revision += 1;
        assert_one_token(&rig, &gateway, &old.0, revision, "requested on a board or gateway");
        // The second agent never uses its token. The next rotation waits until the last one has ended.
        rig.run_for(Duration::from_mins(65)).await;
    }
    let synced = |sync: Option<muster::api::requests::SyncStatus>| sync.map(|s| (s.updated, s.pending, s.errors));
    let state = &rig.cluster;
    let board = state.boards()[&ObjectKey::new(NS, "ops")].status.clone().unwrap();
    let above = state.gateways()[&ObjectKey::new(NS, "gw")].status.clone().unwrap();
    assert_eq!(synced(board.last_sync), Some((2, 0, vec![])));
    assert_eq!(synced(above.last_sync), Some((2, 0, vec![])));
}

#[tokio::test(start_paused = true)]
async fn a_token_changed_or_deleted_in_its_secret_is_refused_and_replaced() {
    for deleted in [true, false] {
        let (mut rig, gateway) = confirmed_agent().await;
        let old = rig.token("one");
        if deleted {
            rig.delete::<Secret>("one-token");
        } else {
            rig.cluster.edit::<Secret>(&ObjectKey::new(NS, "one-token"), |secret| {
                let guessed = k8s_openapi::ByteString(b"guessed".to_vec());
                secret.data.as_mut().unwrap().insert(keys::TOKEN_KEY.into(), guessed);
            });
        }
        rig.until("a new token", |rig| rig.status("one").token.is_some_and(|t| t.revision == 2)).await;
        assert!(!accepted_hashes(&rig).contains(&sha256_hex(&old)), "the old token is refused at once");
        assert!(!accepted_hashes(&rig).contains(&sha256_hex("guessed")), "a foreign token is not accepted");
        rig.until("the new token to be delivered", |rig| is_delivered(rig, &gateway)).await;
        confirm(&mut rig).await;
        assert_one_token(&rig, &gateway, &old, 2, &format!("deleted: {deleted}"));
    }
}

#[tokio::test(start_paused = true)]
async fn secret_only_delivery_keeps_the_token_out_of_every_file() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.agent("one", json!({ "boardRef": { "name": "ops" }, "token": { "delivery": "SecretOnly" } }));
    rig.until_ready().await;
    let files = |rig: &Rig| gateway.workspace(&rig.status("one").workspace_path.unwrap());
    let old = rig.token("one");
    assert!(files(&rig).values().all(|text| !text.contains(&old)));
    assert!(files(&rig)["AGENTS.md"].contains("/var/run/secrets/muster/one-token/token"));
    let writes = gateway.count("agents.files.set");
    rig.run_for(Duration::from_secs(2)).await;
    rig.request::<Agent>("one", RequestKind::Rotate);
    rig.until("the new token", |rig| accepted_hashes(rig).len() == 2).await;
    confirm(&mut rig).await;
    rig.until("the end of the rotation", rotation_ended).await;
    assert!(files(&rig).values().all(|text| !text.contains(&rig.token("one"))));
    assert_eq!(gateway.count("agents.files.set"), writes, "no file changes");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_outage_during_a_rotation_keeps_the_old_token_valid() {
    let (mut rig, gateway) = confirmed_agent().await;
    let old = rig.token("one");
    rig.agent(
        "one",
        json!({ "boardRef": { "name": "ops" }, "wake": { "enabled": false },
        "token": { "rotation": { "gracePeriod": "1m" } } }),
    );
    rig.until_ready().await;
    rig.run_for(Duration::from_secs(2)).await;
    // The new token is in the Secret, and the gateway is killed before a file has it.
    gateway.inject(Fault::on("agents.files.set").kill_before());
    rig.request::<Agent>("one", RequestKind::Rotate);
    rig.until("the new token in the Secret", |rig| rig.token("one") != old && accepted_hashes(rig).len() == 2).await;
    rig.run_for(Duration::from_mins(30)).await;
    assert!(accepted_hashes(&rig).contains(&sha256_hex(&old)), "the agent has no other token");
    gateway.start();
    rig.until("the new token to be delivered", |rig| is_delivered(rig, &gateway)).await;
    confirm(&mut rig).await;
    rig.until("the end of the rotation", rotation_ended).await;
    assert_one_token(&rig, &gateway, &old, 2, "after the outage");
}

#[tokio::test(start_paused = true)]
async fn a_rotation_requested_during_an_outage_begins_after_it() {
    let (mut rig, gateway) = confirmed_agent().await;
    let old = rig.token("one");
    gateway.kill();
    rig.run_for(Duration::from_mins(2)).await;
    rig.request::<Agent>("one", RequestKind::Rotate);
    rig.run_for(Duration::from_mins(30)).await;
    assert_eq!((rig.token("one"), accepted_hashes(&rig)), (old.clone(), vec![sha256_hex(&old)]));
    gateway.start();
    complete_rotation(&mut rig, &gateway, &old).await;
    assert_one_token(&rig, &gateway, &old, 2, "after the outage");
}

/// Rotates with crashes after these writes, counted from the request. Returns the number of writes.
async fn rotate_with_crashes(crashes: &[usize]) -> usize {
    let (mut rig, gateway) = confirmed_agent().await;
    let old = rig.token("one");
    rig.run_for(Duration::from_secs(2)).await;
    rig.request::<Agent>("one", RequestKind::Rotate);
    let before = rig.faults.state().writes;
    rig.faults.state().crash_at = crashes.iter().map(|n| before + n).collect();
    let context = format!("crashes after writes {crashes:?}");
    for _ in 0..=crashes.len() {
        let crash = rig.faults.crashed.clone();
        tokio::select! {
            biased;
            () = crash.notified() => {
                assert_usable(&rig, &gateway, &old, &context);
                rig.start();
            }
            () = complete_rotation(&mut rig, &gateway, &old) => break,
        }
    }
    assert_one_token(&rig, &gateway, &old, 2, &context);
    assert!(rig.cluster.agents().values().all(ready), "{context}");
    rig.faults.state().writes - before
}

#[tokio::test(start_paused = true)]
async fn any_two_crashes_of_the_operator_leave_exactly_one_token() {
    let writes = rotate_with_crashes(&[]).await;
    assert!(writes >= 5, "a rotation makes {writes} writes");
    for first in 1..=writes {
        rotate_with_crashes(&[first]).await;
        for second in first + 1..=writes + 1 {
            rotate_with_crashes(&[first, second]).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn any_lost_gateway_reply_leaves_exactly_one_token() {
    for nth in 1..=2 {
        for (how, fault) in [
            ("reply lost", Fault::on("agents.files.set").nth(nth).lose_reply()),
            ("connection lost after", Fault::on("agents.files.set").nth(nth).drop_connection_after()),
            ("connection lost before", Fault::on("agents.files.set").nth(nth).drop_connection_before()),
            ("refused", Fault::on("agents.files.set").nth(nth).error("UNAVAILABLE", "busy", true)),
        ] {
            let (mut rig, gateway) = confirmed_agent().await;
            let old = rig.token("one");
            rig.run_for(Duration::from_secs(2)).await;
            gateway.inject(fault);
            rig.request::<Agent>("one", RequestKind::Rotate);
            complete_rotation(&mut rig, &gateway, &old).await;
            assert_one_token(&rig, &gateway, &old, 2, how);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_operators_that_rotate_concurrently_issue_one_token() {
    let (mut rig, gateway) = confirmed_agent().await;
    let old = rig.token("one");
    rig.run_for(Duration::from_secs(2)).await;
    let other = rig.second_operator();
    rig.request::<Agent>("one", RequestKind::Rotate);
    rig.run_for(Duration::from_secs(20)).await;
    drop(other);
    complete_rotation(&mut rig, &gateway, &old).await;
    assert_one_token(&rig, &gateway, &old, 2, "two operators");
}

#[tokio::test(start_paused = true)]
async fn an_agent_stays_ready_while_its_token_is_replaced() {
    let (mut rig, gateway) = confirmed_agent().await;
    rig.run_for(Duration::from_mins(1)).await;
    let ready_events =
        |rig: &Rig| rig.cluster.events().iter().filter(|(_, event)| event.reason == "Reconciled").count();
    let (before, old) = (ready_events(&rig), rig.token("one"));
    rig.request::<Agent>("one", RequestKind::Rotate);
    rig.until("the new token in the files", |rig| {
        let new = rig.token("one");
        let file = gateway.file(&rig.agent_id("one"), "AGENTS.md").unwrap_or_default();
        new != old && file.contains(&new)
    })
    .await;
    rig.run_for(Duration::from_secs(20)).await;
    assert_eq!(ready_events(&rig), before, "no second event Reconciled");
}
