//! kstatus, by which Flux and others wait, understands every state of the three kinds.
//!
//! The program of `main.go` has the rule. The states come from the functions that write the status.
#![allow(clippy::unwrap_used, reason = "a helper of a test may panic")]

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use jiff::Timestamp;
use muster::api::agent::{Agent, AgentStatus};
use muster::api::conditions::{ConditionUpdate, set};
use muster::api::reason::Persistence;
use muster::api::{AgentGateway, AgentGatewayStatus, Board, ConditionType, Reason};
use muster::core::agent::blocked::Blocker;
use muster::core::agent::status_input::StatusInput;
use muster::core::error::ReconcileError;
use muster::core::gateway::census::Census;
use muster::core::gateway::status::{GatewayFacts, GatewayObservation};
use muster::core::gateway::transport::ServedApi;
use muster::core::{agent, board, gateway};
use muster_harness::Binaries;
use serde_json::{Value, json};

const GENERATION: i64 = 3;

fn now() -> Timestamp {
    Timestamp::UNIX_EPOCH
}

/// What kstatus computes for each object.
fn kstatus(objects: &[Value]) -> Vec<String> {
    static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| Binaries::kstatus().unwrap());
    let program = PROGRAM.as_path();
    let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let lines: Vec<_> = objects.iter().map(Value::to_string).collect();
    let input = lines.join("\n") + "\n";
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    let lines = String::from_utf8(output.stdout).unwrap();
    let word = |line: &str| serde_json::from_str::<Value>(line).unwrap()["status"].as_str().unwrap().to_owned();
    let words: Vec<_> = lines.lines().map(word).collect();
    assert_eq!(words.len(), objects.len());
    words
}

/// An object of a kind with this spec.
fn object<K: serde::de::DeserializeOwned>(kind: &str, spec: &Value) -> K {
    let metadata = json!({ "name": "one", "namespace": "fleet", "uid": "u", "generation": GENERATION });
    let value = json!({ "apiVersion": "muster.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec });
    serde_json::from_value(value).unwrap()
}

fn an_agent() -> Agent {
    object("Agent", &json!({ "boardRef": { "name": "ops" } }))
}

fn a_board() -> Board {
    object("Board", &json!({ "gatewayRef": { "name": "one" } }))
}

fn a_gateway(suspend: bool) -> AgentGateway {
    object(
        "AgentGateway",
        &json!({
            "url": "ws://gateway:18789", "auth": { "tokenSecretRef": { "name": "gateway", "key": "token" } },
            "workspaceRoot": "~/agents", "apiUrl": "http://muster:8080", "suspend": suspend,
        }),
    )
}

fn with_status<K: serde::Serialize>(object: &K, status: impl serde::Serialize) -> Value {
    let mut value = serde_json::to_value(object).unwrap();
    value["status"] = serde_json::to_value(status).unwrap();
    value
}

/// The status of an Agent with this blocker.
fn agent_status(old: &AgentStatus, blocker: Option<&Blocker>) -> AgentStatus {
    let fulfilled = BTreeSet::new();
    agent::status::status(&StatusInput {
        old,
        generation: GENERATION,
        desired: None,
        observed: None,
        token: None,
        blocker,
        heartbeat: None,
        woken: None,
        labelled: None,
        confirmed: None,
        fulfilled: &fulfilled,
        begins_reset: false,
        revocation: None,
        now: now(),
    })
}

fn gateway_status(gateway: &AgentGateway, seen: &GatewayObservation<'_>) -> AgentGatewayStatus {
    let facts = GatewayFacts {
        bound: &[],
        census: Census::default(),
        soul_directory: None,
        served_api: &ServedApi::default(),
        now: now(),
    };
    gateway::status::status(gateway, seen, facts)
}

/// An Agent with this error, a Board whose AgentGateway cannot be used for it, and an AgentGateway with it.
fn with_error(error: &ReconcileError) -> [Value; 3] {
    let (agent, board, gateway) = (an_agent(), a_board(), a_gateway(false));
    let of_agent = agent_status(&AgentStatus::default(), Some(&Blocker::Failed(error.clone())));
    [
        with_status(&agent, of_agent),
        with_status(&board, board::status::status(&board, &[], Err(error), now())),
        with_status(&gateway, gateway_status(&gateway, &GatewayObservation::Error(error))),
    ]
}

#[test]
fn every_reason_is_in_progress_or_failed_as_it_lasts() {
    let (mut objects, mut expected) = (Vec::new(), Vec::new());
    // Ready has this reason only while a suspension keeps it.
    for reason in Reason::ALL.iter().filter(|reason| **reason != Reason::Suspended) {
        for error in [ReconcileError::permanent(*reason, "x"), ReconcileError::transient(*reason, "x")] {
            let lasts = match reason.persistence() {
                Persistence::Lasting => true,
                Persistence::Passing => false,
                Persistence::OfTheError => !error.transient,
            };
            for (kind, object) in ["Agent", "Board", "AgentGateway"].into_iter().zip(with_error(&error)) {
                // A Board knows of the AgentGateway's error only by its reason.
                let lasts = lasts && (kind != "Board" || reason.persistence() == Persistence::Lasting);
                expected.push(format!("{kind} {reason}: {}", if lasts { "Failed" } else { "InProgress" }));
                objects.push((format!("{kind} {reason}"), object));
            }
        }
    }
    let values: Vec<_> = objects.iter().map(|(_, value)| value.clone()).collect();
    let found: Vec<_> =
        objects.iter().zip(kstatus(&values)).map(|((name, _), word)| format!("{name}: {word}")).collect();
    let wrong: Vec<_> = found.iter().zip(&expected).filter(|(found, expected)| found != expected).collect();
    assert!(wrong.is_empty(), "found, expected: {wrong:#?}");
    assert!(found.len() > 300, "{} states", found.len());
}

/// The conditions of an object that is Ready.
fn ready<T>(conditions: impl FnOnce(Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition>) -> T) -> T {
    let mut all = Vec::new();
    let ready = ConditionUpdate::new(ConditionType::Ready, true, Reason::Connected, "connected");
    set(&mut all, &ready, GENERATION - 1, now());
    conditions(all)
}

#[test]
fn an_object_is_current_once_it_is_ready_and_stays_so_while_its_gateway_is_suspended() {
    let (agent, board) = (an_agent(), a_board());
    let mut gateway = a_gateway(true);
    let before: AgentStatus = ready(|conditions| AgentStatus { conditions, ..AgentStatus::default() });
    gateway.status = Some(ready(|conditions| AgentGatewayStatus { conditions, ..AgentGatewayStatus::default() }));
    let suspended = agent::blocked::gateway_suspended(&gateway).unwrap();
    let kept = gateway_status(&gateway, &GatewayObservation::Suspended);
    gateway.status = Some(kept.clone());
    let objects = [
        with_status(&agent, AgentStatus { observed_generation: GENERATION, ..before.clone() }),
        with_status(&agent, agent_status(&before, Some(&Blocker::Failed(suspended)))),
        with_status(&board, board::status::status(&board, &[], Ok(&gateway), now())),
        with_status(&gateway, kept),
    ];
    assert_eq!(kstatus(&objects), ["Current"; 4], "{objects:#?}");
}

#[test]
fn an_object_that_was_never_ready_is_in_progress_while_its_gateway_is_suspended() {
    let (agent, board, gateway) = (an_agent(), a_board(), a_gateway(true));
    let suspended = agent::blocked::gateway_suspended(&gateway).unwrap();
    let first = gateway_status(&gateway, &GatewayObservation::Suspended);
    let objects = [
        with_status(&agent, agent_status(&AgentStatus::default(), Some(&Blocker::Failed(suspended)))),
        with_status(&board, board::status::status(&board, &[], Ok(&gateway), now())),
        with_status(&gateway, first),
    ];
    assert_eq!(kstatus(&objects), ["InProgress"; 3], "{objects:#?}");
}

#[test]
fn a_new_object_and_a_changed_spec_are_in_progress() {
    let never = json!({ "observedGeneration": -1 });
    let outdated: AgentStatus =
        ready(|conditions| AgentStatus { observed_generation: GENERATION - 1, conditions, ..AgentStatus::default() });
    let objects = [
        with_status(&an_agent(), &never),
        with_status(&a_board(), &never),
        with_status(&a_gateway(false), &never),
        with_status(&an_agent(), outdated),
    ];
    assert_eq!(kstatus(&objects), ["InProgress"; 4]);
}

#[test]
fn an_object_that_is_being_deleted_terminates_whatever_its_conditions_say() {
    let mut gateway = a_gateway(false);
    gateway.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    let mut agent = an_agent();
    agent.metadata.deletion_timestamp = gateway.metadata.deletion_timestamp.clone();
    let blocked = ReconcileError::permanent(Reason::DeletionBlocked, "x");
    let old = AgentStatus::default();
    let bound = GatewayObservation::Deleting { bound: 2, connection: None };
    let objects = [
        with_status(&agent, agent::status::terminating(&old, GENERATION, Some(&blocked), now())),
        with_status(&agent, agent::status::terminating(&old, GENERATION, None, now())),
        with_status(&gateway, gateway_status(&gateway, &bound)),
    ];
    assert_eq!(kstatus(&objects), ["Terminating"; 3]);
}

#[test]
fn every_object_has_all_conditions_of_its_kind_from_its_first_status_on() {
    let error = ReconcileError::permanent(Reason::InvalidSpec, "x");
    let types = |object: &Value| {
        let conditions = object["status"]["conditions"].as_array().unwrap().clone();
        let name = |condition: &Value| condition["type"].as_str().unwrap().to_owned();
        conditions.iter().map(name).filter(|name| name != "Stalled").collect::<BTreeSet<_>>()
    };
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let [agent, board, gateway] = with_error(&error);
    assert_eq!(
        types(&agent),
        set(&[
            "Ready",
            "TokenIssued",
            "Registered",
            "HeartbeatConfigured",
            "FilesSynced",
            "SessionReady",
            "CheckedIn",
            "Paused"
        ])
    );
    assert_eq!(types(&board), set(&["Ready", "GatewayReady", "LeadReady", "WithinQuota"]));
    assert_eq!(
        types(&gateway),
        set(&[
            "Ready",
            "Reachable",
            "Paired",
            "Authenticated",
            "Compatible",
            "Settled",
            "ConfigSynced",
            "HeartbeatsShared",
            "TransportSecure",
            "Suspended"
        ])
    );
}
