//! The whole operator over a cluster in memory and simulated gateways, under a paused clock.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use futures::future::BoxFuture;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use muster::api::agent::{Agent, AgentStatus};
use muster::api::conditions::find;
use muster::api::object_key::ObjectKey;
use muster::api::requests::RequestKind;
use muster::api::watched_namespaces::WatchedNamespaces;
use muster::api::{AgentGateway, Board, ConditionType};
use muster::app::election::RunningElection;
use muster::app::operator::{Operator, Surroundings};
use muster::controllers::Context;
use muster::controllers::gateway_handle::GatewayHandle;
use muster::core::gateway::transport::ServedApi;
use muster::http::confidential::HttpTokens;
use muster::http::forward::WayToLeader;
use muster::http::origin::RequestOrigin;
use muster::metrics::TextFormat;
use muster::openclaw::{Dial, DialError, DialedStream, Trust};
use muster::state::kube_authz::KubeAccess;
use muster_simulator::{Origin, Profile, Simulator};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::cluster::{Cluster, Kind};
use crate::memory_directory::MemorySoulDirectory;
use crate::replicas::{Replica, Replicas};
use crate::way::{self, Faults};

/// The namespace of all objects, unless a test names another.
pub(crate) const NS: &str = "fleet";
/// How long, by the paused clock, a condition may take to hold.
const CONDITION_TIMEOUT: Duration = Duration::from_mins(20);
/// How often a condition is looked at.
const STEP: Duration = Duration::from_millis(200);

/// Dials simulated gateways by host name.
#[derive(Clone, Default)]
struct Dialer {
    hosts: Arc<Mutex<BTreeMap<String, Simulator>>>,
    /// The dialled hosts and the times.
    dials: Arc<Mutex<Vec<(String, Instant)>>>,
    /// Whether gateways see the operator as remote.
    remote: Arc<AtomicBool>,
}

impl Dial for Dialer {
    fn dial<'a>(&'a self, url: &'a Url, _: &'a Trust) -> BoxFuture<'a, Result<DialedStream, DialError>> {
        let host = url.host_str().unwrap_or_default().to_owned();
        let simulator = self.hosts.lock().unwrap().get(&host).cloned();
        let from = if self.remote.load(Ordering::Relaxed) { Origin::Remote } else { Origin::Loopback };
        self.dials.lock().unwrap().push((host, Instant::now()));
        Box::pin(async move {
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            Ok(DialedStream::new(simulator.ok_or_else(refused)?.connect_from(from)?))
        })
    }
}

pub(crate) struct Rig {
    pub cluster: Cluster,
    /// The faults of the operator's way to the cluster.
    pub faults: Faults,
    dialer: Dialer,
    pub directory: MemorySoulDirectory,
    /// The flag `--api-url`. A change counts from the next start.
    pub default_api_url: Option<String>,
    /// The flag `--namespaces`. A change counts from the next start.
    pub namespaces: WatchedNamespaces,
    /// The replicas of the operator, if there are several.
    pub replicas: Option<Replicas>,
    /// Dropping it is a crash.
    operator: Option<Operator>,
    election: Option<RunningElection>,
    /// The address of the operator among the replicas.
    address: Option<SocketAddr>,
}

impl Rig {
    /// An operator, and an empty gateway `gw` at the host `gw`.
    pub(crate) fn new() -> (Self, Simulator) {
        let mut rig = Self::empty();
        let simulator = rig.gateway("gw");
        rig.start();
        (rig, simulator)
    }

    /// A cluster without objects, and no operator yet.
    pub(crate) fn empty() -> Self {
        Self::on(Cluster::new(), Dialer::default(), MemorySoulDirectory::default())
    }

    fn on(cluster: Cluster, dialer: Dialer, directory: MemorySoulDirectory) -> Self {
        let (faults, namespaces) = (Faults::default(), WatchedNamespaces::default());
        let (default_api_url, replicas, operator, election, address) = (None, None, None, None, None);
        Self { cluster, faults, dialer, directory, default_api_url, namespaces, replicas, operator, election, address }
    }

    /// The same with a gateway of this profile.
    pub(crate) fn with(profile: Profile) -> (Self, Simulator) {
        let (rig, _) = Self::new();
        let simulator = Simulator::new(profile.with_token("secret-token"));
        rig.host("gw", &simulator);
        (rig, simulator)
    }

    /// The same, and the gateway sees the operator as remote.
    pub(crate) fn remote() -> (Self, Simulator) {
        let (rig, simulator) = Self::new();
        rig.dialer.remote.store(true, Ordering::Relaxed);
        (rig, simulator)
    }

    /// Another gateway with its `AgentGateway` and its Secret.
    pub(crate) fn gateway(&mut self, name: &str) -> Simulator {
        let simulator = Simulator::new(Profile::v2026_9_6().with_token("secret-token"));
        self.host(name, &simulator);
        self.secret(&format!("{name}-auth"), "token", "secret-token");
        self.apply::<AgentGateway>(gateway_manifest(name));
        simulator
    }

    /// Routes a host name to a gateway.
    pub(crate) fn host(&self, name: &str, simulator: &Simulator) {
        self.dialer.hosts.lock().unwrap().insert(name.to_owned(), simulator.clone());
    }

    /// Connects to the simulated gateways.
    pub(crate) fn dial(&self) -> Arc<dyn Dial> {
        Arc::new(self.dialer.clone())
    }

    /// The dialled hosts and the times, in order.
    pub(crate) fn dials(&self) -> Vec<(String, Instant)> {
        self.dialer.dials.lock().unwrap().clone()
    }

    pub(crate) fn secret(&self, name: &str, key: &str, value: &str) {
        let data = json!({ key: base64(value) });
        self.apply::<Secret>(json!({ "metadata": { "name": name }, "data": data }));
    }

    pub(crate) fn config_map(&self, name: &str, data: &[(&str, &str)]) {
        let data: BTreeMap<_, _> = data.iter().copied().collect();
        self.apply::<ConfigMap>(json!({ "metadata": { "name": name }, "data": data }));
    }

    /// Adds a key to `binaryData` of a ConfigMap.
    pub(crate) fn binary_key(&self, name: &str, key: &str) {
        let key_of_map = ObjectKey::new(NS, name);
        let known = self.cluster.get::<ConfigMap>(&key_of_map).and_then(|map| map.data);
        let (data, binary) = (known.unwrap_or_default(), json!({ key: base64("bytes") }));
        self.apply::<ConfigMap>(json!({ "metadata": { "name": name }, "data": data, "binaryData": binary }));
    }

    /// Applies a manifest in the namespace [`NS`], unless the manifest names another.
    pub(crate) fn apply<K: Kind>(&self, mut manifest: Value) {
        if manifest["metadata"].get("namespace").is_none() {
            manifest["metadata"]["namespace"] = json!(NS);
        }
        self.cluster.apply::<K>(manifest);
    }

    /// Puts a manifest of [`NS`] in place that an older version accepted.
    pub(crate) fn unchecked<K: Kind>(&self, mut manifest: Value) {
        manifest["metadata"]["namespace"] = json!(NS);
        self.cluster.unchecked::<K>(manifest);
    }

    pub(crate) fn board(&self, name: &str) {
        self.apply::<Board>(json!({ "metadata": { "name": name }, "spec": { "gatewayRef": { "name": "gw" } } }));
    }

    /// An Agent on board `ops`.
    pub(crate) fn worker(&self, name: &str) {
        self.agent(name, json!({ "boardRef": { "name": "ops" } }));
    }

    pub(crate) fn agent(&self, name: &str, spec: Value) {
        self.apply::<Agent>(json!({ "metadata": { "name": name }, "spec": spec }));
    }

    /// Makes a one-shot request with the current time.
    pub(crate) fn request<K: Kind>(&self, name: &str, kind: RequestKind) {
        let now = self.cluster.now().to_string();
        self.cluster.annotate::<K>(&ObjectKey::new(NS, name), kind.annotation(), &now);
    }

    pub(crate) fn delete<K: Kind>(&self, name: &str) {
        self.cluster.delete::<K>(&ObjectKey::new(NS, name));
    }

    /// Starts the operator, or restarts it after a crash.
    pub(crate) fn start(&mut self) {
        self.stop();
        let client = way::client(&self.cluster.api, &self.faults);
        let replica = self.replicas.as_ref().map(|replicas| replicas.join(&client, self.cluster.clock()));
        let (candidate, leader) = match replica {
            Some(Replica { candidate, leader, address }) => {
                self.address = Some(address);
                (Some(candidate), leader)
            }
            None => (None, WayToLeader::alone()),
        };
        let surroundings = Surroundings {
            authz: KubeAccess::with(client.clone(), client.clone()),
            client,
            api_host: "embedded".to_owned(),
            clock: self.cluster.clock(),
            namespaces: self.namespaces.clone(),
            leader,
            dial: Arc::new(self.dialer.clone()),
            souls: Arc::new(self.directory.clone()),
            served_api: ServedApi { default_url: self.default_api_url.clone(), ..ServedApi::default() },
            http_tokens: HttpTokens::Accepted,
            run_id: "test".to_owned(),
        };
        let operator = Operator::start(surroundings, &CancellationToken::new());
        self.election = candidate.map(|candidate| RunningElection::start(candidate, operator.work.clone()));
        if let (Some(replicas), Some(address)) = (&self.replicas, self.address) {
            replicas.serve(address, operator.router.clone());
        }
        self.operator = Some(operator);
    }

    /// The part of the operator in the election, which a signal ends.
    pub(crate) fn take_election(&mut self) -> RunningElection {
        self.election.take().unwrap()
    }

    /// Waits until the operator has lost the Lease.
    pub(crate) async fn until_lost(&mut self) {
        self.election.as_mut().unwrap().until_ended().await;
    }

    /// Ends the operator as a crash does.
    pub(crate) fn stop(&mut self) {
        if let (Some(replicas), Some(address)) = (&self.replicas, self.address.take()) {
            replicas.leave(address);
        }
        (self.operator, self.election) = (None, None);
    }

    /// A second operator on the same cluster.
    pub(crate) fn second_operator(&self) -> Self {
        let mut other = Self::on(self.cluster.clone(), self.dialer.clone(), self.directory.clone());
        other.start();
        other
    }

    /// Another replica of the operator, which is not started yet.
    pub(crate) fn another_replica(&self) -> Self {
        let mut other = Self::on(self.cluster.clone(), self.dialer.clone(), self.directory.clone());
        other.replicas.clone_from(&self.replicas);
        other
    }

    fn operator(&self) -> &Operator {
        self.operator.as_ref().unwrap()
    }

    pub(crate) fn ctx(&self) -> &Context {
        &self.operator().ctx
    }

    /// The number of reconciles of a controller so far.
    pub(crate) fn reconciles(&self, controller: &str) -> u64 {
        let metrics = self.operator().probes.metrics.text(TextFormat::OpenMetrics).unwrap();
        let of = format!("controller_runtime_reconcile_total{{controller=\"{controller}\"");
        let counts = metrics.lines().filter(|line| line.starts_with(&of));
        counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// The connection to a gateway.
    pub(crate) fn link(&self, gateway: &str) -> Arc<GatewayHandle> {
        self.ctx().gateways.handle(&ObjectKey { namespace: NS.into(), name: gateway.into() }).unwrap()
    }

    /// An agent of [`NS`] checks in with the token of its Secret. Returns the status of the HTTP answer.
    pub(crate) async fn check_in(&self, name: &str, report: &Value) -> u16 {
        let token = self.token(name);
        self.check_in_with(&token, report).await
    }

    /// An agent checks in with this token. Returns the status of the HTTP answer. An operator that has just begun answers 503, and the agent
    /// calls again.
    pub(crate) async fn check_in_with(&self, token: &str, report: &Value) -> u16 {
        loop {
            match self.call_heartbeat(token, report).await {
                503 => tokio::time::sleep(STEP).await,
                status => return status,
            }
        }
    }

    pub(crate) async fn call_heartbeat(&self, token: &str, report: &Value) -> u16 {
        let request = Request::post("/api/v1/agent/heartbeat").header("x-agent-token", token);
        let mut request = request.body(Body::from(report.to_string())).unwrap();
        request.extensions_mut().insert(RequestOrigin { network: [10, 0, 0, 1].into(), confidential: false });
        let response = TowerToHyperService::new(self.operator().router.clone()).call(request).await.unwrap();
        response.status().as_u16()
    }

    /// Waits until `condition` holds.
    pub(crate) async fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let end = Instant::now() + CONDITION_TIMEOUT;
        while !condition(self) {
            assert!(Instant::now() < end, "{what}: not within {CONDITION_TIMEOUT:?}; {}", self.summary());
            tokio::time::sleep(STEP).await;
        }
    }

    /// Waits until all Agents are Ready and woken.
    pub(crate) async fn until_ready(&mut self) {
        self.until("all agents to be Ready and woken", |rig| rig.cluster.agents().values().all(woken)).await;
    }

    /// Lets time pass.
    pub(crate) async fn run_for(&mut self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    pub(crate) fn status(&self, name: &str) -> AgentStatus {
        self.cluster.get::<Agent>(&ObjectKey::new(NS, name)).and_then(|agent| agent.status).unwrap_or_default()
    }

    /// The keys of the Agents.
    pub(crate) fn agent_keys(&self) -> Vec<ObjectKey> {
        self.cluster.agents().into_keys().collect()
    }

    /// Status, reason and message of an Agent's condition.
    pub(crate) fn condition(&self, name: &str, kind: ConditionType) -> (String, String, String) {
        let status = self.status(name);
        let found = find(&status.conditions, kind);
        found.map(|c| (c.status.to_string(), c.reason.to_string(), c.message.to_string())).unwrap_or_default()
    }

    /// Reconciles until `Ready` of an Agent has this reason; returns its message.
    pub(crate) async fn until_reason(&mut self, name: &str, reason: &str) -> String {
        self.until(reason, |rig| rig.condition(name, ConditionType::Ready).1 == reason).await;
        self.condition(name, ConditionType::Ready).2
    }

    pub(crate) fn agent_id(&self, name: &str) -> String {
        self.status(name).agent_id.unwrap()
    }

    pub(crate) fn token(&self, name: &str) -> String {
        let secret = self.cluster.get::<Secret>(&ObjectKey::new(NS, format!("{name}-token"))).unwrap();
        String::from_utf8(secret.data.unwrap()["token"].0.clone()).unwrap()
    }

    /// The numbers of writes and events.
    pub(crate) fn write_counts(&self) -> (usize, usize) {
        (self.faults.state().writes, self.cluster.events().len())
    }

    /// Status, reason and message of a gateway's condition.
    pub(crate) fn gateway_condition(&self, name: &str, kind: ConditionType) -> (String, String, String) {
        let gateway = self.cluster.get::<AgentGateway>(&ObjectKey::new(NS, name));
        let status = gateway.and_then(|gateway| gateway.status);
        let found = status.as_ref().and_then(|s| find(&s.conditions, kind));
        found.map(|c| (c.status.to_string(), c.reason.to_string(), c.message.to_string())).unwrap_or_default()
    }

    pub(crate) fn summary(&self) -> String {
        let (agents, gateways) = (self.cluster.agents(), self.cluster.gateways());
        let agents = agents.values().map(|a| {
            let status = a.status.clone().unwrap_or_default();
            let ready =
                find(&status.conditions, ConditionType::Ready).map(|c| (c.reason.to_string(), c.message.to_string()));
            format!("{:?} {:?} {ready:?}", a.metadata.name, status.phase)
        });
        let gateways = gateways.values().map(|g| {
            let status = g.status.clone().unwrap_or_default();
            format!(
                "{:?} {:?}",
                g.metadata.name,
                find(&status.conditions, ConditionType::Ready).map(|c| c.message.to_string())
            )
        });
        agents.chain(gateways).collect::<Vec<_>>().join("\n")
    }
}

pub(crate) fn ready(agent: &Agent) -> bool {
    let status = agent.status.as_ref();
    status.is_some_and(|s| {
        s.observed_generation == agent.metadata.generation.unwrap_or_default()
            && find(&s.conditions, ConditionType::Ready).is_some_and(|c| c.status == "True")
    })
}

/// Whether the agent is Ready for its current spec, and woken for it if its spec enables wakes.
pub(crate) fn woken(agent: &Agent) -> bool {
    let status = agent.status.as_ref();
    let is_observed = status.map(|status| status.observed_generation) == agent.metadata.generation;
    let generation = status.and_then(|s| s.wake.as_ref()).map(|wake| wake.generation);
    ready(agent) && is_observed && (!agent.spec.wake.enabled || generation == agent.metadata.generation)
}

pub(crate) fn gateway_manifest(name: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": {
            "url": format!("ws://{name}:18789"),
            "auth": { "tokenSecretRef": { "name": format!("{name}-auth"), "key": "token" } },
            "workspaceRoot": "/home/openclaw/workspaces",
            "apiUrl": "http://muster.test:8080",
        }
    })
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}
