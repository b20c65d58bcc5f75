//! The time for many agents that are applied at once, beside the time of the bare gateway for one config write and the same files,
//! and of a client that creates the agents one by one. All on real gateways. Prints figures and has no pass or fail.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot begin has nothing to print")]

mod raw;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt, TryStreamExt};
use kube::api::{Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Config};
use muster::api::conditions::is_true;
use muster::api::{Agent, ConditionType};
use muster_harness::{ControlPlane, Failure, OpenClaw, Operator, ScriptedModel};
use raw::RawClient;
use serde_json::{Map, Value, json};

const AGENTS: usize = 60;
/// The maximum of open requests: Muster's default, and the same for the bare client.
const MAX_IN_FLIGHT: usize = 16;
/// The clients take turns, so that other load on the machine affects all of them.
const ROUNDS: usize = 5;
const READY_TIMEOUT: Duration = Duration::from_mins(5);

/// The created objects: entries of the config, and files by agent and name.
struct Work {
    entries: Map<String, Value>,
    files: BTreeMap<String, BTreeMap<String, String>>,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let model = ScriptedModel::start().await?;
    let cluster = ControlPlane::start().await?;
    cluster.install("deploy").await?;
    let operator = Operator::start(Path::new(env!("CARGO_BIN_EXE_muster")), &cluster).await?;
    println!(
        "{AGENTS} agents on OpenClaw 2026.9.6, a fresh gateway each time, at most {MAX_IN_FLIGHT} requests open, seconds"
    );
    println!("{:<8} {:>8} {:>8} {:>8} {:>12}", "round", "bare", "muster", "ratio", "one by one");
    let (mut bare, mut muster) = (Vec::new(), Vec::new());
    let mut singly = None;
    for round in 1..=ROUNDS {
        let (time, work) = with_muster(&cluster, &operator, &model, round).await?;
        muster.push(time);
        eprintln!("round {round}: muster {:.2} s", time.as_secs_f64());
        bare.push(in_one_write(&model, &work).await?);
        if singly.is_none() {
            singly = Some(one_by_one(&model, &work).await?);
        }
        print(&round.to_string(), bare[round - 1], time, singly.filter(|_| round == 1));
    }
    print("median", median(bare), median(muster), None);
    Ok(())
}

fn print(what: &str, bare: Duration, muster: Duration, singly: Option<Duration>) {
    let ratio = muster.as_secs_f64() / bare.as_secs_f64();
    let singly = singly.map(|time| format!("{:.2}", time.as_secs_f64())).unwrap_or_default();
    println!("{what:<8} {:>8.2} {:>8.2} {ratio:>8.2} {singly:>12}", bare.as_secs_f64(), muster.as_secs_f64());
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn manifest(kind: &str, name: &str, spec: &Value) -> Value {
    json!({ "apiVersion": "muster.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec })
}

fn list(items: &[Value]) -> String {
    json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string()
}

/// The time from the first applied Agent to the last Ready one, and the created objects.
async fn with_muster(
    cluster: &ControlPlane,
    operator: &Operator,
    model: &ScriptedModel,
    round: usize,
) -> Result<(Duration, Work), Failure> {
    let gateway = OpenClaw::start(model.url()).await?;
    let namespace = format!("round-{round}");
    let kubectl = &cluster.kubectl;
    kubectl.run(&["create", "namespace", &namespace]).await?;
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "gw" }, "stringData": { "token": gateway.token() } });
    let spec = json!({
        "url": gateway.url(), "auth": { "tokenSecretRef": { "name": "gw", "key": "token" } }, "workspaceRoot": "~/workspaces",
        "apiUrl": operator.api_url(), "maxInFlight": MAX_IN_FLIGHT, "maxConcurrentReconciles": MAX_IN_FLIGHT,
    });
    let board = manifest("Board", "ops", &json!({ "gatewayRef": { "name": "gw" } }));
    apply(cluster, &namespace, &[secret, manifest("AgentGateway", "gw", &spec), board]).await?;
    kubectl
        .run(&["-n", &namespace, "wait", "--for=condition=Ready", "--timeout=120s", "agentgateway/gw", "board/ops"])
        .await?;
    // The benchmark measures the setup: no agent is woken or has a heartbeat meanwhile, because a run of an agent keeps a gateway
    // busy for seconds.
    let spec = json!({
        "boardRef": { "name": "ops" }, "deletionPolicy": "Orphan",
        "wake": { "enabled": false }, "heartbeat": { "interval": "24h" },
    });
    let agents = (0..AGENTS).map(|number| manifest("Agent", &format!("agent-{number}"), &spec));
    let api = agents_of(cluster, &namespace).await?;
    let seen = watcher(api.clone(), watcher::Config::default()).applied_objects();
    let began = Instant::now();
    let all_ready = tokio::time::timeout(READY_TIMEOUT, all_ready(seen));
    let (applied, all_ready) = tokio::join!(apply_at_once(&api, agents), all_ready);
    applied?;
    all_ready??;
    let time = began.elapsed();
    let work = made(&gateway)?;
    kubectl.run(&["delete", "namespace", &namespace, "--timeout=10m"]).await?;
    Ok((time, work))
}

async fn agents_of(cluster: &ControlPlane, namespace: &str) -> Result<Api<Agent>, Failure> {
    let file = Kubeconfig::read_from(cluster.kubectl.kubeconfig())?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    Ok(Api::namespaced(Client::try_from(config)?, namespace))
}

/// Applies Agents by server-side apply. `kubectl apply` sends them one by one with three requests each, and its own time would
/// count as Muster's.
async fn apply_at_once(api: &Api<Agent>, agents: impl Iterator<Item = Value>) -> Result<(), Failure> {
    let params = PatchParams::apply("bench");
    let apply = |agent: Value| {
        let (params, name) = (&params, agent["metadata"]["name"].as_str().unwrap_or_default().to_owned());
        async move { api.patch(&name, params, &Patch::Apply(agent)).await }
    };
    futures::stream::iter(agents.map(apply)).buffer_unordered(MAX_IN_FLIGHT).try_for_each(|_| async { Ok(()) }).await?;
    Ok(())
}

async fn all_ready(seen: impl Stream<Item = Result<Agent, watcher::Error>>) -> Result<(), Failure> {
    let mut seen = pin!(seen);
    let mut ready = BTreeSet::new();
    while ready.len() < AGENTS {
        let agent = seen.next().await.ok_or("the watch ended")??;
        let conditions = agent.status.map(|status| status.conditions).unwrap_or_default();
        if is_true(&conditions, ConditionType::Ready) {
            ready.insert(agent.metadata.name);
        }
    }
    Ok(())
}

async fn apply(cluster: &ControlPlane, namespace: &str, items: &[Value]) -> Result<(), Failure> {
    let output = cluster.kubectl.try_run(&["-n", namespace, "apply", "-f", "-"], &list(items)).await?;
    if output.ok { Ok(()) } else { Err(output.stderr.into()) }
}

/// The entries of the agents, and their files.
fn made(gateway: &OpenClaw) -> Result<Work, Failure> {
    let config = gateway.config()?;
    let mut entries = config["agents"]["entries"].as_object().cloned().unwrap_or_default();
    entries.remove("main");
    let mut files = BTreeMap::new();
    for (id, entry) in &entries {
        let workspace = entry["workspace"].as_str().unwrap_or_default();
        let workspace = workspace.replacen('~', &gateway.home().display().to_string(), 1);
        let mut texts = BTreeMap::new();
        for file in std::fs::read_dir(&workspace)? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                texts.insert(name, std::fs::read_to_string(&path)?);
            }
        }
        files.insert(id.clone(), texts);
    }
    Ok(Work { entries, files })
}

impl Work {
    fn writes(&self, id: &str) -> Vec<(String, Value)> {
        let set = |(name, text): (&String, &String)| {
            ("agents.files.set".to_owned(), json!({ "agentId": id, "name": name, "content": text }))
        };
        self.files[id].iter().map(set).collect()
    }
}

/// A client of a fresh gateway that has read the config and the roster, as Muster has when its AgentGateway is Ready: the first
/// read takes much longer than later reads. Returns the client and the hash of the config.
async fn warm(gateway: &OpenClaw) -> Result<(RawClient, Value), Failure> {
    let mut client = RawClient::connect(gateway).await?;
    client.call("agents.list", json!({})).await?;
    let mut config = client.call("config.get", json!({})).await?;
    Ok((client, config["hash"].take()))
}

/// One `config.patch` with every entry, then every file.
async fn in_one_write(model: &ScriptedModel, work: &Work) -> Result<Duration, Failure> {
    let gateway = OpenClaw::start(model.url()).await?;
    let (mut client, hash) = warm(&gateway).await?;
    let began = Instant::now();
    let patch = json!({ "agents": { "ownership": "explicit", "entries": work.entries } });
    client.call("config.patch", json!({ "raw": patch.to_string(), "baseHash": hash })).await?;
    let writes = work.entries.keys().flat_map(|id| work.writes(id)).collect();
    client.call_all(writes, MAX_IN_FLIGHT).await?;
    Ok(began.elapsed())
}

/// `agents.create`, then the files once the gateway knows the agent, one agent after another. Without heartbeats, each of which
/// would be a config write.
async fn one_by_one(model: &ScriptedModel, work: &Work) -> Result<Duration, Failure> {
    let gateway = OpenClaw::start(model.url()).await?;
    let (mut client, _) = warm(&gateway).await?;
    let began = Instant::now();
    for (id, entry) in &work.entries {
        client.call("agents.create", json!({ "name": id, "workspace": entry["workspace"] })).await?;
        client.until_known(id).await?;
        client.call_all(work.writes(id), MAX_IN_FLIGHT).await?;
    }
    Ok(began.elapsed())
}
