//! Gateways that send more than Muster accepts, beside a gateway that works.

use std::time::Duration;

use muster::api::{AgentGateway, Board, ConditionType};
use muster_simulator::{Fault, Simulator};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::rig::{Rig, gateway_manifest};

const MIB: usize = 1024 * 1024;

/// What a gateway does, and a word of the bound that it exceeds.
type Misbehaviour = (&'static str, fn(&Simulator), &'static str);

fn event(name: &str, payload: &Value) -> String {
    json!({ "type": "event", "event": name, "payload": payload }).to_string()
}

fn session_event(agent: &str) -> String {
    event("sessions.changed", &json!({ "sessionKey": format!("agent:{agent}:main"), "reason": "reset", "ts": 1 }))
}

/// A config with this value in the entry of an agent, and with this hash.
fn config(value: &Value, hash: &str) -> Value {
    let agents = json!({ "entries": { "a": { "x": value } } });
    json!({ "config": { "agents": agents }, "hash": hash, "appliedConfigHash": "h", "configRevisionHash": "h" })
}

const MISBEHAVIOURS: [Misbehaviour; 9] = [
    ("tiny frames without end", |gw| gw.send_text(&event("x", &json!({})), 61_000), "60000 messages"),
    (
        "events of made-up agents",
        |gw| (0..10_001).for_each(|n| gw.send_text(&session_event(&format!("a{n}")), 1)),
        "10000 agents",
    ),
    ("an id of a megabyte", |gw| gw.send_text(&session_event(&"x".repeat(MIB)), 1), "more than 16384 bytes"),
    ("a long message", |gw| gw.send_text(&event("x", &json!("x".repeat(17 * MIB))), 1), "at most 16777216 bytes"),
    ("a wait of a century", |gw| gw.inject(century(Fault::on("agents.files.list"))), "at most 24 h"),
    ("a label of a megabyte", |gw| gw.inject(Fault::on("sessions.patch").answer(long_label())), "more than 4096 bytes"),
    ("a roster of a million", |gw| gw.inject(Fault::on("agents.list").answer(long_roster())), "10000 items"),
    ("a tree of objects", |gw| gw.inject(Fault::on("config.get").answer(config(&tree(), "h"))), "32 MiB of memory"),
    (
        "a hash of a megabyte",
        |gw| gw.inject(Fault::on("config.get").answer(config(&json!({}), &"h".repeat(MIB)))),
        "more than 256 bytes",
    ),
];

fn century(fault: Fault) -> Fault {
    fault.error("UNAVAILABLE", "wait", true).retry_after(Duration::from_hours(876_600))
}

fn long_label() -> Value {
    json!({ "entry": { "sessionId": "s", "label": "x".repeat(MIB) } })
}

fn long_roster() -> Value {
    json!({ "agents": vec![json!({}); 1_000_000 / 10] })
}

fn tree() -> Value {
    json!(vec![json!({}); 60_000])
}

/// An agent `one` on the gateway `gw`, and an agent `two` on the gateway `bad`.
async fn two_gateways() -> (Rig, Simulator) {
    let (mut rig, _) = Rig::new();
    let bad = rig.gateway("bad");
    rig.board("ops");
    rig.apply::<Board>(json!({ "metadata": { "name": "on-bad" }, "spec": { "gatewayRef": { "name": "bad" } } }));
    rig.worker("one");
    rig.until_ready().await;
    (rig, bad)
}

fn reason(rig: &Rig, gateway: &str) -> (String, String, String) {
    rig.gateway_condition(gateway, ConditionType::Ready)
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_exceeds_a_bound_misbehaves_and_recovers_and_no_other_gateway_notices() {
    for (what, misbehave, word) in MISBEHAVIOURS {
        let (mut rig, bad) = two_gateways().await;
        misbehave(&bad);
        rig.agent("two", json!({ "boardRef": { "name": "on-bad" } }));
        bad.send_event("config.changed", &json!({}));
        rig.until(what, |rig| reason(rig, "bad").1 == "GatewayMisbehaves").await;
        let (status, _, message) = reason(&rig, "bad");
        assert_eq!(status, "False", "{what}");
        assert!(message.contains(word) && message.len() < 1024, "{what}: {message}");
        assert_eq!(reason(&rig, "gw").0, "True", "{what}");
        assert_eq!(rig.condition("one", ConditionType::Ready).0, "True", "{what}");
        rig.until_ready().await;
        rig.until("the gateway to be dialed again", |rig| reason(rig, "bad").0 == "True").await;
    }
}

/// The time until a new agent on the gateway `gw` is Ready.
async fn time_until_ready(rig: &mut Rig, name: &str) -> Duration {
    let started = Instant::now();
    rig.worker(name);
    rig.until("the new agent", |rig| rig.condition(name, ConditionType::Ready).0 == "True").await;
    started.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_misbehaving_gateway_does_not_delay_the_agents_of_another() {
    let (mut rig, bad) = two_gateways().await;
    rig.agent("two", json!({ "boardRef": { "name": "on-bad" } }));
    rig.until_ready().await;
    let alone = time_until_ready(&mut rig, "before").await;
    bad.inject(century(Fault::on_any()).lasting(Duration::from_hours(1)));
    bad.send_text(&event("x", &json!({})), 61_000);
    let beside = time_until_ready(&mut rig, "beside").await;
    assert!(beside <= alone + Duration::from_secs(2), "{beside:?} beside the flood, {alone:?} before");
    let dials = |rig: &Rig| rig.dials().iter().filter(|(host, _)| host == "bad").count();
    let before = dials(&rig);
    rig.run_for(Duration::from_mins(30)).await;
    let dials = dials(&rig) - before;
    assert!((5..=13).contains(&dials), "{dials} dials in 30 minutes");
    assert_eq!(reason(&rig, "bad").1, "GatewayMisbehaves");
    assert_eq!(rig.condition("beside", ConditionType::Ready).0, "True");
    assert_eq!(rig.condition("two", ConditionType::Ready).1, "GatewayNotReady");
}

#[tokio::test(start_paused = true)]
async fn lost_events_without_end_cause_a_bounded_number_of_reads() {
    let (mut rig, bad) = two_gateways().await;
    rig.run_for(Duration::from_secs(30)).await;
    let before = bad.count("config.get");
    for _ in 0..2_000 {
        bad.send_event("config.changed", &json!({}));
        bad.lose_events(1);
        bad.send_event("config.changed", &json!({}));
    }
    rig.run_for(Duration::from_secs(20)).await;
    let reads = bad.count("config.get") - before;
    assert!(reads <= 60, "{reads} reads of the config in 20 s");
    assert_eq!(reason(&rig, "bad").0, "True");
}

#[tokio::test(start_paused = true)]
async fn a_credential_that_a_gateway_says_back_reaches_no_condition() {
    let (mut rig, _) = Rig::new();
    let bad = rig.gateway("bad");
    let refusal = |method: &str| Fault::on(method).error("INVALID_REQUEST", "no: secret-token", false);
    bad.inject(refusal("connect").lasting(Duration::from_mins(5)));
    rig.until("the refusal", |rig| reason(rig, "bad").1 == "Refused").await;
    assert!(reason(&rig, "bad").2.contains("no: [credential]"), "{:?}", reason(&rig, "bad"));
    bad.inject(refusal("config.get").lasting(Duration::from_mins(5)));
    rig.until("the failed read", |rig| reason(rig, "bad").1 == "RosterUnreadable").await;
    assert!(reason(&rig, "bad").2.contains("no: [credential]"), "{:?}", reason(&rig, "bad"));
    bad.close_connections(1008, "secret-token");
    let mut manifest = gateway_manifest("bad");
    manifest["spec"]["resyncInterval"] = json!("10m");
    rig.apply::<AgentGateway>(manifest);
    rig.run_for(Duration::from_secs(20)).await;
    let statuses = format!("{:?}", rig.cluster.gateways().values().map(|gateway| &gateway.status).collect::<Vec<_>>());
    assert!(!statuses.contains("secret-token"), "{statuses}");
}

#[tokio::test(start_paused = true)]
async fn a_very_long_file_of_the_default_agent_does_not_end_the_connection() {
    let (mut rig, gateway) = Rig::new();
    gateway.edit_file("main", "MEMORY.md", Some(&"\u{1}".repeat(5 * MIB)));
    assert!(gateway.file("main", "MEMORY.md").is_some());
    rig.until("the gateway", |rig| reason(rig, "gw").0 == "True").await;
    let state = &rig.cluster;
    let gateway = state.gateways().into_values().next().and_then(|gateway| gateway.status).unwrap();
    assert!(gateway.capabilities.as_ref().unwrap().accepted_files.iter().any(|name| name == "MEMORY.md"));
}
