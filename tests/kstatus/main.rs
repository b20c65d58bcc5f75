//! kstatus, by which Flux and others wait, understands every state of the three kinds.
//!
//! The program of `main.go` has the rule. The states come from the functions that write the status.
#![allow(clippy::unwrap_used, reason = "a helper of a test may panic")]

mod states;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use muster::api::Reason;
use muster::core::error::ReconcileError;
use muster_harness::Binaries;
use serde_json::Value;

use states::with_error;

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

#[test]
fn kstatus_knows_every_state() {
    let states = states::all();
    let objects: Vec<_> = states.iter().map(|state| state.object.clone()).collect();
    let found = kstatus(&objects).into_iter();
    let wrong: Vec<_> = states
        .iter()
        .zip(found)
        .filter(|(state, found)| format!("{:?}", state.progress) != *found)
        .map(|(state, found)| format!("{}: {found} and not {:?}", state.name, state.progress))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
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
