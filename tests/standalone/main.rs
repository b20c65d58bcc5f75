//! The operator without a cluster, as a process: `muster run --embedded DIR` with a simulated gateway on a port.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers outside of test functions fail a test by a panic too")]

mod picture;
mod process;

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use muster::api::conditions::find;
use muster::api::{Agent, AgentGateway, Board, ConditionType};
use muster_harness::{OpenClaw, ScriptedModel};
use muster_simulator::{Profile, Simulator};
use serde_json::{Value, json};

use crate::process::Standalone;

/// How long a state may take on a busy machine.
const LIMIT: Duration = Duration::from_mins(2);

fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

async fn create<K>(client: &kube::Client, value: Value)
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    K: serde::de::DeserializeOwned + serde::Serialize + Clone + std::fmt::Debug,
{
    Api::<K>::namespaced(client.clone(), "default").create(&PostParams::default(), &object(value)).await.unwrap();
}

/// A gateway on a port, a board and an agent.
async fn apply(client: &kube::Client, gateway: &str) {
    create::<Secret>(client, json!({ "metadata": { "name": "gw-auth" }, "stringData": { "token": "secret-token" } }))
        .await;
    let spec = json!({ "url": format!("ws://{gateway}"), "auth": { "tokenSecretRef": { "name": "gw-auth", "key": "token" } }, "workspaceRoot": "~/agents" });
    create::<AgentGateway>(client, resource("AgentGateway", "gw", &spec)).await;
    create::<Board>(client, resource("Board", "ops", &json!({ "gatewayRef": { "name": "gw" } }))).await;
    create::<Agent>(client, resource("Agent", "one", &json!({ "boardRef": { "name": "ops" } }))).await;
}

fn resource(kind: &str, name: &str, spec: &Value) -> Value {
    json!({ "apiVersion": "muster.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec })
}

/// Waits until the Agent is Ready. Returns the id of its agent.
async fn ready_agent(client: &kube::Client) -> String {
    let agents: Api<Agent> = Api::namespaced(client.clone(), "default");
    let is_ready = |agent: Option<&Agent>| {
        let status = agent.and_then(|agent| agent.status.as_ref());
        status.and_then(|status| find(&status.conditions, ConditionType::Ready)).is_some_and(|c| c.status == "True")
    };
    let waited = tokio::time::timeout(LIMIT, await_condition(agents.clone(), "one", is_ready)).await;
    let Ok(agent) = waited else { panic!("the Agent is not Ready: {:#?}", agents.get("one").await.unwrap().status) };
    let agent = agent.unwrap().unwrap();
    agent.status.unwrap().agent_id.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_set_up_survives_a_kill_of_the_operator_and_is_removed() {
    let gateway = Simulator::new(Profile::v2026_9_6().with_token("secret-token"));
    let listener = gateway.listen(([127, 0, 0, 1], 0).into()).await.unwrap();
    let mut operator = Standalone::start().await;
    let client = operator.client().await;
    apply(&client, &listener.addr().to_string()).await;
    let id = ready_agent(&client).await;
    let uid = Api::<Agent>::namespaced(client.clone(), "default").get("one").await.unwrap().metadata.uid;

    operator.kill();
    operator.start_again().await;
    let client = operator.client().await;
    assert_eq!(ready_agent(&client).await, id);
    let agents: Api<Agent> = Api::namespaced(client.clone(), "default");
    let agent = agents.get("one").await.unwrap();
    assert_eq!(agent.metadata.uid, uid);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "default");
    assert!(secrets.get_opt("one-token").await.unwrap().is_some());

    agents.delete("one", &DeleteParams::default()).await.unwrap();
    let uid = uid.unwrap();
    let gone = await_condition(agents, "one", conditions::is_deleted(&uid));
    tokio::time::timeout(LIMIT, gone).await.unwrap().unwrap();
    assert!(secrets.get_opt("one-token").await.unwrap().is_none(), "the token goes with the Agent");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_of_a_real_gateway_checks_in() {
    let model = ScriptedModel::start().await.unwrap();
    let gateway = OpenClaw::start_with(model.url(), "secret-token").await.unwrap();
    let operator = Standalone::start().await;
    let client = operator.client().await;
    let address = gateway.url();
    apply(&client, address.trim_start_matches("ws://")).await;
    ready_agent(&client).await;
    let agents: Api<Agent> = Api::namespaced(client, "default");
    let has_checked_in = |agent: Option<&Agent>| {
        let status = agent.and_then(|agent| agent.status.as_ref());
        status.and_then(|status| find(&status.conditions, ConditionType::CheckedIn)).is_some_and(|c| c.status == "True")
    };
    let waited = tokio::time::timeout(LIMIT, await_condition(agents.clone(), "one", has_checked_in)).await;
    assert!(waited.is_ok(), "{:#?}", agents.get("one").await.unwrap().status);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_is_its_owners_and_has_one_operator() {
    let operator = Standalone::start().await;
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(operator.dir()), 0o700);
    for file in std::fs::read_dir(operator.dir()).unwrap() {
        let file = file.unwrap().path();
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    let second = operator.run_second().await;
    let named = format!("is in use by another muster (process {})", operator.id());
    assert!(second.contains(&named), "{second}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_for_people_takes_the_token_of_the_directory() {
    let operator = Standalone::start().await;
    let token = std::fs::read_to_string(operator.dir().join("token")).unwrap();
    assert_eq!(operator.people_status(&token).await, 200);
    assert_eq!(operator.people_status("another").await, 401);
}

/// An operator that was killed after its last start wrote a snapshot with a Board.
async fn ended_with_a_snapshot() -> Standalone {
    let mut operator = Standalone::start().await;
    let client = operator.client().await;
    create::<Board>(&client, resource("Board", "ops", &json!({ "gatewayRef": { "name": "gw" } }))).await;
    operator.kill();
    operator.start_again().await;
    operator.kill();
    operator
}

async fn has_board(operator: &Standalone) -> bool {
    Api::<Board>::namespaced(operator.client().await, "default").get_opt("ops").await.unwrap().is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_database_is_kept_and_the_last_snapshot_is_offered() {
    let mut operator = ended_with_a_snapshot().await;
    std::fs::write(operator.dir().join("objects.redb"), "damaged").unwrap();
    let refused = operator.run_to_its_end(&[]).await;
    assert!(refused.contains("objects.redb: it is damaged") && refused.contains("--embedded-restore"), "{refused}");

    operator.start_with(&["--embedded-restore"]).await;
    assert!(has_board(&operator).await);
    let names: Vec<_> = std::fs::read_dir(operator.dir()).unwrap().map(|file| file.unwrap().file_name()).collect();
    let is_kept = |name: &std::ffi::OsString| name.to_string_lossy().starts_with("objects.redb.damaged-");
    assert!(names.iter().any(is_kept), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_database_beside_a_snapshot_begins_nothing_new() {
    let mut operator = ended_with_a_snapshot().await;
    let database = operator.dir().join("objects.redb");
    for empty in [true, false] {
        if empty {
            std::fs::write(&database, "").unwrap();
        } else {
            std::fs::remove_file(&database).unwrap();
        }
        let refused = operator.run_to_its_end(&[]).await;
        assert!(refused.contains("is missing or empty") && refused.contains("--embedded-restore"), "{refused}");
    }
    operator.start_with(&["--embedded-restore"]).await;
    assert!(has_board(&operator).await);
}

/// Runs `muster` with these arguments. Returns the exit status, and what it wrote to standard output and standard error.
async fn muster(args: &[&str]) -> (bool, String, String) {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_muster")).args(args).output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_names_a_namespace_that_does_not_exist_or_is_empty() {
    let operator = Standalone::start().await;
    let kubeconfig = operator.dir().join("kubeconfig");
    let export =
        async |namespace| muster(&["export", "--kubeconfig", kubeconfig.to_str().unwrap(), "-n", namespace]).await;
    let (succeeded, _, said) = export("nowhere").await;
    assert!(!succeeded && said.contains("namespace nowhere does not exist"), "{said}");
    let (succeeded, manifests, said) = export("default").await;
    assert!(succeeded && said.contains("namespace default has no AgentGateway, no Board and no Agent"), "{said}");
    assert!(manifests.starts_with("# 0 AgentGateways"), "{manifests}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_help_has_the_addresses_with_and_without_a_cluster() {
    let (succeeded, help, _) = muster(&["run", "--help"]).await;
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for port in [8080, 8081, 8082] {
        let words = format!("Default: 0.0.0.0:{port}, with --embedded 127.0.0.1:{port}");
        assert!(succeeded && help.contains(&words), "{words}: {help}");
    }
    assert!(!help.contains("[default: 0.0.0.0"), "{help}");
}

#[test]
fn the_binary_has_the_settings_of_its_allocator() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_muster"));
    let output = command.arg("--version").env("_RJEM_MALLOC_CONF", "confirm_conf:true").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("narenas:2,dirty_decay_ms:0,muzzy_decay_ms:0\""), "{said}");
}
