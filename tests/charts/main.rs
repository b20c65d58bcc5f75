//! The ways to install Muster: the charts, `deploy/install.yaml` and the kustomizations in `deploy`.
//!
//! The tests with Helm run in `make test-long`: `cargo test --test charts -- --ignored`. `scripts/charts --check` finds a stale README and
//! a stale copy of a resource definition.
#![allow(clippy::unwrap_used, reason = "helpers outside of test functions fail a test by a panic too")]

mod objects;
mod releases;
mod rendering;
mod values;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use muster_harness::Binaries;

/// The namespace in the kustomizations.
const NAMESPACE: &str = "muster-system";
/// The chart of the operator.
const OPERATOR: &str = "deploy/charts/muster";
/// The chart of the resource definitions.
const DEFINITIONS: &str = "deploy/charts/muster-crds";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Folders with a kustomization, and the values with which the chart renders the same objects.
const CASES: [&str; 8] = ["default", "egress", "monitoring", "namespaced", "priority-class", "single", "tls", "zones"];

fn case(name: &str) -> PathBuf {
    root().join("tests/charts/cases").join(name)
}

fn run(program: PathBuf, args: &[&str]) -> Output {
    Command::new(program).args(args).current_dir(root()).output().unwrap()
}

/// The output of a command that has to succeed.
fn output_of(program: PathBuf, args: &[&str]) -> String {
    let output = run(program, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn kustomize(folder: &str) -> String {
    output_of(Binaries::control_plane().unwrap().kubernetes("kubectl"), &["kustomize", folder])
}

fn helm(args: &[&str]) -> String {
    output_of(Binaries::helm().unwrap(), args)
}

#[test]
fn install_yaml_has_the_definitions_and_then_the_operator() {
    let found = fs::read_to_string(root().join("deploy/install.yaml")).unwrap();
    let rendered = format!("{}---\n{}", kustomize("crds"), kustomize("deploy"));
    let is_current = found.split_once('\n').is_some_and(|(_, objects)| objects == rendered);
    assert!(is_current, "deploy/install.yaml is not what crds/ and deploy/ render to: run scripts/install-yaml");
}

#[test]
fn every_case_has_a_folder_and_every_folder_is_a_case() {
    let mut found: Vec<_> =
        fs::read_dir(case("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    found.sort();
    assert_eq!(found, CASES);
}
