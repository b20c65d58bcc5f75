//! Sequences of requests that a property test makes up.

use muster_harness::Failure;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::Apis;
use crate::scenario::{Step, compare, delete, delete_with, get, json_patch, merge, post, put};

pub(crate) const NAME: &str = "made_up_sequences_have_the_same_answers";
/// The number of sequences, if [`CASES_VARIABLE`] names no other one.
const CASES: u32 = 200;
/// `make test-long` sets this variable.
const CASES_VARIABLE: &str = "MUSTER_SEQUENCES";

/// One request about one of two objects.
#[derive(Clone, Debug)]
enum Request {
    Create { finalizers: Vec<&'static str>, spec: Value },
    Replace { version: Version, spec: Value },
    Patch(Value),
    PatchStatus(Value),
    JsonPatch(Value),
    Delete { policy: Option<&'static str> },
    Get,
}

/// The version that a replacement names.
#[derive(Clone, Copy, Debug)]
enum Version {
    None,
    Read,
    First,
}

const BOARDS: &str = "/apis/muster.dev/v1alpha1/namespaces/{ns}/boards";

fn spec() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({ "gatewayRef": { "name": "gw" } })),
        Just(json!({ "gatewayRef": { "name": "other" }, "description": "text" })),
        Just(json!({ "gatewayRef": { "name": "gw" }, "unknown": [1, { "a": null }] })),
        Just(json!({ "gatewayRef": {} })),
        Just(json!({ "gatewayRef": { "name": "gw" }, "description": 5 })),
        Just(json!({ "gatewayRef": { "name": "gw" }, "maxAgents": 3 })),
        Just(json!({ "gatewayRef": { "name": "gw" }, "maxAgents": null, "description": null })),
        Just(json!({ "gatewayRef": { "name": "gw" }, "rules": {}, "type": null })),
        Just(json!({ "gatewayRef": { "name": "gw" }, "rules": { "requireApprovalForDone": "yes" }, "type": "other" })),
        Just(json!({ "gatewayRef": null })),
        Just(json!(null)),
    ]
}

fn patch() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({ "metadata": { "labels": { "a": "b" } } })),
        Just(json!({ "metadata": { "labels": null } })),
        Just(json!({ "metadata": { "annotations": { "x": "1" }, "generation": 12 } })),
        Just(json!({ "metadata": { "finalizers": ["muster.dev/x"] } })),
        Just(json!({ "metadata": { "finalizers": [] } })),
        Just(json!({ "metadata": { "finalizers": null } })),
        Just(json!({ "metadata": { "deletionTimestamp": null, "creationTimestamp": "2020-01-01T00:00:00Z" } })),
        Just(json!({ "metadata": null })),
        Just(json!({ "metadata": { "labels": { "a b": "c" }, "finalizers": ["no slash"] } })),
        Just(json!({ "metadata": { "annotations": { "A": "b" }, "labels": { "x": null }, "resourceVersion": "1" } })),
        Just(json!({ "metadata": { "finalizers": ["muster.dev/y", "muster.dev/x"], "resourceVersion": "" } })),
        Just(json!({ "metadata": { "ownerReferences": [{ "name": "x" }] } })),
        Just(json!({ "metadata": { "namespace": "other" } })),
        Just(json!({ "status": { "conditions": [{ "type": "Ready" }] } })),
        Just(json!({ "status": { "agents": 1, "unknown": { "a": [] } } })),
        Just(json!({ "status": { "agents": 2 } })),
        Just(json!({ "status": null })),
        spec().prop_map(|spec| json!({ "spec": spec })),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    let finalizers = prop_oneof![Just(vec![]), Just(vec!["muster.dev/x"]), Just(vec!["muster.dev/x", "muster.dev/y"])];
    let version = prop_oneof![Just(Version::None), Just(Version::Read), Just(Version::First)];
    let policy = prop_oneof![Just(None), Just(Some("Background")), Just(Some("Foreground")), Just(Some("Orphan"))];
    prop_oneof![
        3 => (finalizers, spec()).prop_map(|(finalizers, spec)| Request::Create { finalizers, spec }),
        2 => (version, spec()).prop_map(|(version, spec)| Request::Replace { version, spec }),
        4 => patch().prop_map(Request::Patch),
        2 => patch().prop_map(Request::PatchStatus),
        1 => Just(Request::JsonPatch(json!([{ "op": "add", "path": "/metadata/labels", "value": { "c": "d" } }]))),
        2 => policy.prop_map(|policy| Request::Delete { policy }),
        1 => Just(Request::Get),
    ]
}

fn steps(requests: &[(bool, Request)]) -> Vec<Step> {
    let step = |(is_first, request): &(bool, Request)| {
        let name = if *is_first { "one" } else { "two" };
        let object = |metadata: Value, spec: &Value| {
            let mut object = json!({ "apiVersion": "muster.dev/v1alpha1", "kind": "Board", "metadata": metadata });
            if !spec.is_null() {
                object["spec"] = spec.clone();
            }
            object
        };
        let at = format!("{BOARDS}/{name}");
        match request {
            Request::Create { finalizers, spec } => {
                vec![post(BOARDS, object(json!({ "name": name, "finalizers": finalizers }), spec))]
            }
            Request::Replace { version: Version::None, spec } => vec![put(&at, object(json!({ "name": name }), spec))],
            Request::Replace { version: Version::First, spec } => {
                vec![put(&at, object(json!({ "name": name, "resourceVersion": "1" }), spec))]
            }
            Request::Replace { version: Version::Read, spec } => {
                let read = get(&at).keep_if_there(version_name(*is_first), "/metadata/resourceVersion");
                let version = format!("{{{}}}", version_name(*is_first));
                vec![read, put(&at, object(json!({ "name": name, "resourceVersion": version }), spec))]
            }
            Request::Patch(patch) => vec![merge(&at, patch.clone())],
            Request::PatchStatus(patch) => vec![merge(&format!("{at}/status"), patch.clone())],
            Request::JsonPatch(patch) => vec![json_patch(&at, patch.clone())],
            // The garbage collector of the real cluster takes a while with the other two, and what is seen meanwhile is no difference.
            Request::Delete { policy: Some("Foreground" | "Orphan") | None } => {
                vec![delete(&at)]
            }
            Request::Delete { policy } => vec![delete_with(&at, json!({ "propagationPolicy": policy }))],
            Request::Get => vec![get(&at)],
        }
    };
    requests.iter().flat_map(step).collect()
}

fn version_name(is_first: bool) -> &'static str {
    if is_first { "one-version" } else { "two-version" }
}

/// Sends the sequences.
///
/// # Errors
/// The shortest sequence whose answers differ.
pub(crate) fn run(runtime: &Runtime, apis: &Apis) -> Result<(), Failure> {
    let cases = std::env::var(CASES_VARIABLE).map_or(Ok(CASES), |cases| cases.parse())?;
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let number = std::cell::Cell::new(0);
    let sequences = prop::collection::vec((any::<bool>(), request()), 1..16);
    let outcome = runner.run(&sequences, |requests| {
        number.set(number.get() + 1);
        let namespace = format!("sequence-{}", number.get());
        let compared = runtime.block_on(async {
            let mut sides = apis.sides(&namespace).await?;
            for side in &mut sides {
                side.keep("one-version", "7");
                side.keep("two-version", "7");
            }
            compare(&steps(&requests), &mut sides).await
        });
        compared.map_err(|failure| TestCaseError::fail(failure.to_string()))
    });
    println!("compared {} sequences", number.get());
    outcome.map_err(|error| error.to_string().into())
}
