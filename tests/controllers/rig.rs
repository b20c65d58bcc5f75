//! An operator over the in-memory API and simulated gateways, under a paused clock.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Secret;
use muster::api::agent::{Agent, AgentStatus};
use muster::api::conditions::find;
use muster::api::object_key::ObjectKey;
use muster::api::requests::RequestKind;
use muster::api::{AgentGateway, Board, ConditionType};
use muster::controllers::gateway_handle::GatewayHandle;
use muster::controllers::gateway_pool::GatewayPool;
use muster::controllers::{Context, agent, board, gateway};
use muster::core::gateway::transport::ServedApi;
use muster::core::objects::{Coverage, Objects};
use muster::openclaw::{Dial, DialError, DialedStream, Trust};
use muster::souls::directories::SoulDirectories;
use muster::state::State;
use muster::state::changes::{ChangeScope, GatewayChange};
use muster::state::store::Store;
use muster_simulator::{Origin, Profile, Simulator};
use serde_json::{Value, json};
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::time::Instant;
use url::Url;

use crate::memory::{InMemory, MemoryStore};
use crate::memory_directory::MemorySoulDirectory;

/// The namespace of all objects, unless a test names another.
pub(crate) const NS: &str = "fleet";
/// How long, by the paused clock, a condition may take to hold.
const CONDITION_TIMEOUT: Duration = Duration::from_mins(20);

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

/// One run of the operator. Dropping it is a crash.
struct Operator {
    ctx: Context<MemoryStore>,
    changes: UnboundedReceiver<GatewayChange>,
}

pub(crate) struct Rig {
    pub store: MemoryStore,
    dialer: Dialer,
    pub directory: MemorySoulDirectory,
    /// The flag `--api-url`. A change counts from the next start.
    pub default_api_url: Option<String>,
    operator: Option<Operator>,
}

impl Rig {
    /// An operator, and an empty gateway `gw` at the host `gw`.
    pub(crate) fn new() -> (Self, Simulator) {
        let mut rig = Self {
            store: MemoryStore::new(),
            dialer: Dialer::default(),
            directory: MemorySoulDirectory::default(),
            default_api_url: None,
            operator: None,
        };
        let simulator = rig.gateway("gw");
        rig.start();
        (rig, simulator)
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
        let data = data.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        self.store.state().config_maps.entry(ObjectKey::new(NS, name)).or_default().data = data;
    }

    /// Adds a key to `binaryData` of a ConfigMap.
    pub(crate) fn binary_key(&self, name: &str, key: &str) {
        self.store.state().config_maps.entry(ObjectKey::new(NS, name)).or_default().binary.insert(key.to_owned());
    }

    /// Applies a manifest in the namespace [`NS`], unless the manifest names another.
    pub(crate) fn apply<K: InMemory + serde::de::DeserializeOwned>(&self, mut manifest: Value) {
        let kind = K::kind(&());
        manifest["kind"] = json!(kind);
        manifest["apiVersion"] = json!(K::api_version(&()));
        if manifest["metadata"].get("namespace").is_none() {
            manifest["metadata"]["namespace"] = json!(NS);
        }
        self.store.apply::<K>(serde_json::from_value(manifest).unwrap());
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
    pub(crate) fn request<K: InMemory>(&self, name: &str, kind: RequestKind) {
        let now = self.ctx().state.store.now().to_string();
        self.store.annotate::<K>(&ObjectKey::new(NS, name), kind.annotation(), &now);
    }

    pub(crate) fn delete<K: InMemory>(&self, name: &str) {
        self.store.delete::<K>(&ObjectKey::new(NS, name));
    }

    /// Starts the operator, or restarts it.
    pub(crate) fn start(&mut self) {
        let (sender, changes) = mpsc::unbounded_channel();
        let state = Arc::new(State::new(self.store.clone()));
        let inventories = state.inventories.clone();
        let gateways = GatewayPool::new(Arc::new(self.dialer.clone()), Arc::new(()), sender.clone(), inventories);
        let souls = SoulDirectories::new(Arc::new(self.directory.clone()), sender);
        let served_api = ServedApi { default_url: self.default_api_url.clone(), ..ServedApi::default() };
        let ctx = Context { state, gateways, souls, served_api };
        self.operator = Some(Operator { ctx, changes });
    }

    /// Stops the operator.
    pub(crate) fn stop(&mut self) {
        self.operator = None;
    }

    /// A second operator on the same cluster.
    pub(crate) fn second_operator(&self) -> Self {
        let mut other = Self {
            store: self.store.clone(),
            dialer: self.dialer.clone(),
            directory: self.directory.clone(),
            default_api_url: None,
            operator: None,
        };
        other.start();
        other
    }

    pub(crate) fn ctx(&self) -> &Context<MemoryStore> {
        &self.operator.as_ref().unwrap().ctx
    }

    /// The connection to a gateway.
    pub(crate) fn link(&self, gateway: &str) -> Arc<GatewayHandle> {
        self.ctx().gateways.handle(&ObjectKey { namespace: NS.into(), name: gateway.into() }).unwrap()
    }

    /// Reconciles every object once. The AgentGateways of a namespace that the operator does not know are in no cache.
    pub(crate) async fn reconcile_all(&self) {
        let ctx = self.ctx();
        let gateways: Vec<_> =
            self.store.state().gateways.iter().map(|(key, object)| (key.clone(), object.clone())).collect();
        for (key, object) in gateways {
            if self.store.coverage(&key.namespace) == Coverage::Complete {
                gateway::reconcile(ctx, &object).await;
            }
        }
        let boards: Vec<_> = self.store.state().boards.values().cloned().collect();
        for object in boards {
            board::reconcile(ctx, &object).await;
        }
        let agents: Vec<_> = self.store.state().agents.values().cloned().map(Arc::new).collect();
        futures::future::join_all(agents.iter().map(|object| agent::reconcile(ctx, object))).await;
    }

    /// Reconciles every object, again and again, until `condition` holds.
    pub(crate) async fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let end = Instant::now() + CONDITION_TIMEOUT;
        while !condition(self) {
            assert!(Instant::now() < end, "{what}: not within {CONDITION_TIMEOUT:?}; {}", self.summary());
            self.reconcile_all().await;
            self.wait_for_change(Duration::from_secs(1)).await;
        }
    }

    /// Waits for a change at a gateway, at most for `limit`. Agents that were woken for a permit are reconciled meanwhile, and no others:
    /// those would wait for the same permits, and so on without end.
    pub(crate) async fn wait_for_change(&mut self, limit: Duration) {
        let end = Instant::now() + limit;
        let operator = self.operator.as_mut().unwrap();
        while let Ok(Some(change)) = tokio::time::timeout_at(end, operator.changes.recv()).await {
            let ChangeScope::Agent(key) = change.scope else {
                while operator.changes.try_recv().is_ok() {}
                return;
            };
            let woken = self.store.state().agents.get(&key).cloned().map(Arc::new);
            if let Some(agent) = woken {
                agent::reconcile(&operator.ctx, &agent).await;
            }
        }
    }

    /// Reconciles only Agents that were queued for a released permit, as long as there are any.
    pub(crate) async fn reconcile_queued_agents(&mut self) {
        let operator = self.operator.as_mut().unwrap();
        while let Ok(Some(change)) = tokio::time::timeout(Duration::from_secs(20), operator.changes.recv()).await {
            let ChangeScope::Agent(key) = change.scope else { continue };
            let object = Arc::new(self.store.state().agents[&key].clone());
            agent::reconcile(&operator.ctx, &object).await;
        }
    }

    /// The Agents that were queued for a released permit so far.
    pub(crate) fn queued_agents(&mut self) -> Vec<String> {
        let changes = &mut self.operator.as_mut().unwrap().changes;
        let received = std::iter::from_fn(|| changes.try_recv().ok());
        received
            .filter_map(|change| if let ChangeScope::Agent(key) = change.scope { Some(key.name) } else { None })
            .collect()
    }

    /// Reconciles until all Agents are Ready and woken.
    pub(crate) async fn until_ready(&mut self) {
        self.until("all agents to be Ready and woken", |rig| rig.store.state().agents.values().all(woken)).await;
    }

    /// Reconciles again and again for this time.
    pub(crate) async fn run_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.reconcile_all().await;
            self.wait_for_change(Duration::from_secs(5)).await;
        }
    }

    pub(crate) fn status(&self, name: &str) -> AgentStatus {
        self.store.state().agents.get(&ObjectKey::new(NS, name)).and_then(|a| a.status.clone()).unwrap_or_default()
    }

    /// The keys of the Agents.
    pub(crate) fn agent_keys(&self) -> Vec<ObjectKey> {
        self.store.state().agents.keys().cloned().collect()
    }

    /// Status, reason and message of an Agent's condition.
    pub(crate) fn condition(&self, name: &str, kind: ConditionType) -> (String, String, String) {
        let status = self.status(name);
        let found = find(&status.conditions, kind);
        found.map(|c| (c.status.clone(), c.reason.clone(), c.message.clone())).unwrap_or_default()
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
        let state = self.store.state();
        let secret = &state.secrets[&ObjectKey::new(NS, format!("{name}-token"))];
        String::from_utf8(secret.data.as_ref().unwrap()["token"].0.clone()).unwrap()
    }

    /// The numbers of writes and events.
    pub(crate) fn write_counts(&self) -> (usize, usize) {
        let state = self.store.state();
        (state.writes, state.events.len())
    }

    /// Status, reason and message of a gateway's condition.
    pub(crate) fn gateway_condition(&self, name: &str, kind: ConditionType) -> (String, String, String) {
        let state = self.store.state();
        let status = state.gateways.get(&ObjectKey::new(NS, name)).and_then(|g| g.status.as_ref());
        let found = status.and_then(|s| find(&s.conditions, kind));
        found.map(|c| (c.status.clone(), c.reason.clone(), c.message.clone())).unwrap_or_default()
    }

    pub(crate) fn summary(&self) -> String {
        let state = self.store.state();
        let agents = state.agents.values().map(|a| {
            let status = a.status.clone().unwrap_or_default();
            let ready = find(&status.conditions, ConditionType::Ready).map(|c| (c.reason.clone(), c.message.clone()));
            format!("{:?} {:?} {ready:?}", a.metadata.name, status.phase)
        });
        let gateways = state.gateways.values().map(|g| {
            let status = g.status.clone().unwrap_or_default();
            format!(
                "{:?} {:?}",
                g.metadata.name,
                find(&status.conditions, ConditionType::Ready).map(|c| c.message.clone())
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
