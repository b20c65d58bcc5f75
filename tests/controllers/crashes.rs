//! A crash, or a lost reply, after every single write: the final state is the same.

use std::time::Duration;

use muster::api::{Agent, AgentGateway};
use muster_simulator::{Fault, Simulator};
use serde_json::json;

use crate::rig::{Rig, woken};
use crate::views::explores_all;

const NAMES: [&str; 3] = ["lead", "one", "bot"];

/// A board with a lead, a worker, and a worker whose chosen id was in use before.
pub(crate) fn three_agents() -> (Rig, Simulator) {
    let (rig, gateway) = Rig::new();
    rig.board("ops");
    gateway.close_id("ops-bot");
    apply_all(&rig, "");
    (rig, gateway)
}

/// Applies the three agents, with a prefix before their display names.
fn apply_all(rig: &Rig, prefix: &str) {
    for (name, mut spec) in
        [("lead", json!({ "role": "Lead" })), ("one", json!({})), ("bot", json!({ "agentId": "ops-bot" }))]
    {
        spec["boardRef"] = json!({ "name": "ops" });
        spec["displayName"] = json!(format!("{prefix}{name}"));
        rig.agent(name, spec);
    }
}

pub(crate) fn assert_final_state(rig: &Rig, gateway: &Simulator, context: &str) {
    assert_state(rig, gateway, "", 1, context);
}

fn assert_state(rig: &Rig, gateway: &Simulator, prefix: &str, wakes: usize, context: &str) {
    let mut ids: Vec<_> = gateway.agents().into_keys().collect();
    ids.retain(|id| id != "main");
    let mut wanted = NAMES.map(|name| rig.agent_id(name));
    wanted.sort();
    assert_eq!(ids, wanted, "{context}: exactly these agents");
    let orphans = gateway.orphans();
    assert!(orphans.is_empty(), "{context}: {orphans:?}");
    for name in NAMES {
        let id = rig.agent_id(name);
        assert!(gateway.file(&id, "AGENTS.md").unwrap().contains(&rig.token(name)), "{context}: {name} has its token");
        let session = format!("agent:{id}:main");
        let runs: usize = gateway.chats().iter().filter(|c| c.session_key == session).map(|c| c.runs).sum();
        assert_eq!(runs, wakes, "{context}: the number of wakes of {name}");
        let label = gateway.sessions()[&session].label.clone();
        assert_eq!(label, Some(format!("{prefix}{name}")), "{context}: the session of {name}");
        assert_eq!(gateway.agents()[&id]["name"], format!("{prefix}{name}"), "{context}: {name}");
    }
}

pub(crate) fn assert_empty(rig: &Rig, gateway: &Simulator, context: &str) {
    let ids: Vec<_> = gateway.agents().into_keys().filter(|id| id != "main").collect();
    assert!(ids.is_empty(), "{context}: {ids:?} left on the gateway");
    let orphans = gateway.orphans();
    assert!(orphans.is_empty(), "{context}: {orphans:?}; {:#?}", last_calls(gateway));
    let state = &rig.cluster;
    assert!(state.agents().is_empty() && state.gateways().is_empty(), "{context}: objects left");
    let secrets: Vec<_> = state.secrets().into_keys().filter(|k| k.name != "gw-auth").collect();
    assert!(secrets.is_empty(), "{context}: {secrets:?} left");
}

/// The last requests, for the message of a failure.
fn last_calls(gateway: &Simulator) -> Vec<String> {
    let calls = gateway.calls();
    let shown = calls.iter().rev().take(25).map(|c| format!("{} {} {:?}", c.method, short(&c.params), c.outcome));
    shown.collect()
}

fn short(params: &serde_json::Value) -> String {
    params.to_string().chars().take(120).collect()
}

pub(crate) fn delete_all(rig: &Rig) {
    rig.delete::<AgentGateway>("gw");
    for name in NAMES {
        rig.delete::<Agent>(name);
    }
}

pub(crate) fn all_gone(rig: &Rig) -> bool {
    let state = &rig.cluster;
    state.agents().is_empty() && state.gateways().is_empty()
}

/// Runs until the crash, or until `done` holds.
pub(crate) async fn until_crash(rig: &mut Rig, done: fn(&Rig) -> bool) {
    let crashed = rig.faults.crashed.clone();
    tokio::select! {
        biased;
        () = crashed.notified() => rig.start(),
        () = rig.until("the crash or the end", done) => {}
    }
}

pub(crate) fn all_woken(rig: &Rig) -> bool {
    rig.cluster.agents().values().all(woken)
}

#[tokio::test(start_paused = true)]
async fn a_crash_after_any_kubernetes_write_converges_to_the_same_state() {
    let (mut rig, _) = three_agents();
    rig.until_ready().await;
    let writes = rig.faults.state().writes;
    assert!(writes > 8, "a create makes {writes} writes");
    for crash_at in 1..=writes {
        let (mut rig, gateway) = three_agents();
        rig.faults.state().crash_at = [crash_at].into();
        until_crash(&mut rig, all_woken).await;
        rig.until_ready().await;
        assert_final_state(&rig, &gateway, &format!("crash after write {crash_at}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_after_any_write_of_a_deletion_leaves_nothing() {
    for crash_at in 1..=24 {
        let (mut rig, gateway) = three_agents();
        rig.until_ready().await;
        delete_all(&rig);
        let before = rig.faults.state().writes;
        rig.faults.state().crash_at = [before + crash_at].into();
        until_crash(&mut rig, all_gone).await;
        rig.until("the deletion to finish", all_gone).await;
        assert_empty(&rig, &gateway, &format!("crash after write {crash_at} of the deletion"));
    }
}

/// The ways in which the answer to a write is lost: the write is done, and then one of the other two in turn; all with `MUSTER_LONG`.
fn losses_of(nth: usize) -> Vec<(&'static str, Fault)> {
    let write = || Fault::on_any_write().nth(nth);
    let mut losses = vec![
        ("reply lost", write().lose_reply()),
        ("connection lost after", write().drop_connection_after()),
        ("connection lost before", write().drop_connection_before()),
    ];
    if !explores_all() {
        losses.remove(2 - nth % 2);
    }
    losses
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_to_any_gateway_write_duplicates_nothing() {
    let (mut rig, gateway) = three_agents();
    rig.until_ready().await;
    let writes = gateway.writes();
    assert!(writes > 10, "a create makes {writes} writes on the gateway");
    for nth in 1..=writes {
        for (how, fault) in losses_of(nth) {
            let (mut rig, gateway) = three_agents();
            gateway.inject(fault);
            rig.until_ready().await;
            assert_eq!(gateway.faults_left(), 0, "{how}, write {nth}: the fault did not occur");
            assert_final_state(&rig, &gateway, &format!("{how}, write {nth}"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_operator_crash_right_after_any_gateway_write_duplicates_nothing() {
    let (mut rig, gateway) = three_agents();
    rig.until_ready().await;
    let writes = gateway.writes();
    for nth in 1..=writes {
        let (mut rig, gateway) = three_agents();
        gateway.inject(Fault::on_any_write().nth(nth).lose_reply());
        let struck = {
            let gateway = gateway.clone();
            async move {
                while gateway.faults_left() > 0 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        };
        tokio::select! {
            biased;
            () = struck => rig.start(),
            () = rig.until("the crash", |_| false) => {}
        }
        rig.until_ready().await;
        assert_final_state(&rig, &gateway, &format!("crash at write {nth}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_to_any_write_of_a_deletion_leaves_nothing() {
    for nth in 1..=3 {
        for (how, fault) in [
            ("reply lost", Fault::on("agents.delete").nth(nth).lose_reply()),
            ("connection lost after", Fault::on("agents.delete").nth(nth).drop_connection_after()),
            ("connection lost before", Fault::on("agents.delete").nth(nth).drop_connection_before()),
        ] {
            let (mut rig, gateway) = three_agents();
            rig.until_ready().await;
            gateway.inject(fault);
            delete_all(&rig);
            rig.until("the deletion to finish", all_gone).await;
            assert_empty(&rig, &gateway, &format!("{how}, deletion {nth}"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_gateway_killed_during_setup_ends_with_each_agent_once() {
    let (mut rig, gateway) = three_agents();
    gateway.inject(Fault::on("config.patch").nth(1).kill_after());
    rig.run_for(Duration::from_secs(1)).await;
    let restart = {
        let gateway = gateway.clone();
        async move {
            while gateway.faults_left() > 0 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            tokio::time::sleep(Duration::from_secs(20)).await;
            gateway.start();
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = restart => {}
        () = rig.until_ready() => {}
    }
    assert_final_state(&rig, &gateway, "gateway killed in a config write");
}

#[tokio::test(start_paused = true)]
async fn agents_wait_for_a_gateway_that_answers_ok_and_applies_nothing() {
    let (mut rig, gateway) = three_agents();
    gateway.leave_unsettled(Duration::from_mins(5));
    rig.until_ready().await;
    assert_final_state(&rig, &gateway, "unsettled for 300 s");
    assert!(gateway.count("config.patch") <= 4, "{} config writes", gateway.count("config.patch"));
}

#[tokio::test(start_paused = true)]
async fn a_crash_after_any_write_of_an_update_converges_to_the_new_state() {
    let (mut rig, _) = three_agents();
    rig.until_ready().await;
    let before = rig.faults.state().writes;
    apply_all(&rig, "new ");
    rig.until_ready().await;
    let writes = rig.faults.state().writes - before;
    assert!(writes >= 3, "an update makes {writes} writes");
    for crash_at in 1..=writes {
        let (mut rig, gateway) = three_agents();
        rig.until_ready().await;
        let before = rig.faults.state().writes;
        apply_all(&rig, "new ");
        rig.faults.state().crash_at = [before + crash_at].into();
        until_crash(&mut rig, |_| false).await;
        rig.until_ready().await;
        rig.run_for(Duration::from_secs(10)).await;
        assert_state(&rig, &gateway, "new ", 2, &format!("crash after write {crash_at} of the update"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_to_any_write_of_an_update_duplicates_nothing() {
    let (mut rig, gateway) = three_agents();
    rig.until_ready().await;
    let before = gateway.writes();
    apply_all(&rig, "new ");
    rig.until_ready().await;
    let writes = gateway.writes() - before;
    for nth in 1..=writes {
        for (how, fault) in losses_of(nth) {
            let (mut rig, gateway) = three_agents();
            rig.until_ready().await;
            apply_all(&rig, "new ");
            gateway.inject(fault);
            rig.until_ready().await;
            assert_eq!(gateway.faults_left(), 0, "{how}, write {nth} of the update: the fault did not occur");
            assert_state(&rig, &gateway, "new ", 2, &format!("{how}, write {nth} of the update"));
        }
    }
}
