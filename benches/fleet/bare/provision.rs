//! Sets up agents.

use std::sync::Arc;
use std::time::Instant;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use muster_harness::Failure;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{ApiServer, Figures, MAX_IN_FLIGHT, MAX_REQUESTS, in_turns};
use crate::fleet;
use crate::measure::Stopwatch;
use crate::plan::{AgentPlan, GatewayPlan};
use crate::raw::RawClient;

/// The maximum of entries in one config write, as the operator has.
const MAX_ENTRIES: usize = 64;

/// An Agent with its first status, and its number on its gateway.
type Claimed = (usize, DynamicObject);

/// Sets up all agents at once: the Agents in turns over the gateways; for each gateway, a batch as soon as its Agents are there.
pub(super) async fn all(api: &ApiServer, gateways: &Arc<Vec<GatewayPlan>>) -> Result<Figures, Failure> {
    let mut connected = Vec::new();
    for gateway in gateways.iter() {
        connected.push(Gateway::connect(gateway).await?);
    }
    let stopwatch = Stopwatch::start(std::process::id())?;
    let (mut queues, mut batches) = (Vec::new(), Vec::new());
    for (number, gateway) in connected.into_iter().enumerate() {
        let (queue, claimed) = unbounded_channel();
        queues.push(queue);
        batches.push(tokio::spawn(finish_in_batches(api.clone(), gateway, Arc::clone(gateways), number, claimed)));
    }
    stream::iter(in_turns(gateways))
        .map(async |(gateway, number, agent)| {
            // A closed queue means that its gateway failed; the error comes from there.
            let _ = queues[gateway].send((number, claim(api, agent).await?));
            Ok::<_, Failure>(())
        })
        .buffer_unordered(MAX_REQUESTS)
        .try_collect::<()>()
        .await?;
    drop(queues);
    let mut ready = Instant::now();
    for batch in batches {
        ready = ready.max(batch.await??);
    }
    let (seconds, all_seconds, cpu) = (stopwatch.seconds_to(ready), stopwatch.seconds(), stopwatch.cpu()?);
    Ok(Figures { seconds, all_seconds, cpu, ..Figures::default() })
}

/// Sets up one agent after another, gateway by gateway.
pub(super) async fn one_by_one(api: &ApiServer, gateways: &[GatewayPlan]) -> Result<Figures, Failure> {
    let mut times = Vec::new();
    for plan in gateways {
        let mut gateway = Gateway::connect(plan).await?;
        for agent in &plan.agents {
            let began = Instant::now();
            let claimed = claim(api, agent).await?;
            let ready = gateway.finish(api, vec![(agent, claimed)]).await?;
            times.push(ready.saturating_duration_since(began).as_secs_f64());
        }
    }
    Ok(Figures { times, ..Figures::default() })
}

/// Creates the Agent, claims it, creates its Secret and writes its first status.
async fn claim(api: &ApiServer, agent: &AgentPlan) -> Result<DynamicObject, Failure> {
    let agents = fleet::agents(&api.client, &agent.namespace);
    let manifest = serde_json::from_value(agent.manifest.clone())?;
    let created = api.send(agents.create(&PostParams::default(), &manifest)).await?;
    let claim = Patch::Merge(&agent.claim);
    let mut claimed = api.send(agents.patch(&agent.name, &PatchParams::default(), &claim)).await?;
    let mut secret = agent.secret.clone();
    // The garbage collector removes the Secret of an owner that does not exist.
    for owner in secret.metadata.owner_references.iter_mut().flatten() {
        owner.uid = created.metadata.uid.clone().unwrap_or_default();
    }
    let secrets = Api::<Secret>::namespaced(api.client.clone(), &agent.namespace);
    api.send(secrets.create(&PostParams::default(), &secret)).await?;
    claimed.data["status"] = agent.binding.clone();
    write_status(api, agent, &claimed).await
}

async fn write_status(api: &ApiServer, agent: &AgentPlan, object: &DynamicObject) -> Result<DynamicObject, Failure> {
    let agents = fleet::agents(&api.client, &agent.namespace);
    api.send(agents.replace_status(&agent.name, &PostParams::default(), object)).await
}

/// Takes the Agents of one gateway in batches, and finishes them. Returns when the last of them was Ready.
async fn finish_in_batches(
    api: ApiServer,
    mut gateway: Gateway,
    gateways: Arc<Vec<GatewayPlan>>,
    number: usize,
    mut claimed: UnboundedReceiver<Claimed>,
) -> Result<Instant, Failure> {
    let agents = &gateways[number].agents;
    let mut ready = Instant::now();
    let mut left = agents.len();
    while left > 0 {
        let mut batch = Vec::new();
        while batch.len() < left.min(MAX_ENTRIES) {
            let (number, object) = claimed.recv().await.ok_or("not all Agents of the gateway were created")?;
            batch.push((&agents[number], object));
        }
        left -= batch.len();
        ready = gateway.finish(&api, batch).await?;
    }
    Ok(ready)
}

/// A connection to a gateway, and the hash of its config.
struct Gateway {
    client: RawClient,
    config_hash: Value,
}

impl Gateway {
    async fn connect(plan: &GatewayPlan) -> Result<Self, Failure> {
        let mut client = RawClient::connect_to(&plan.url, &plan.token).await?;
        let mut config = client.call("config.get", json!({})).await?;
        Ok(Self { client, config_hash: config["hash"].take() })
    }

    /// Writes the entries, the files, the status Ready, and the labels. Returns when the last Agent was Ready.
    async fn finish(&mut self, api: &ApiServer, batch: Vec<(&AgentPlan, DynamicObject)>) -> Result<Instant, Failure> {
        let entries: Map<_, _> = batch.iter().map(|(agent, _)| (agent.id.clone(), agent.entry.clone())).collect();
        let patch = json!({ "agents": { "ownership": "explicit", "entries": entries } });
        let params = json!({ "raw": patch.to_string(), "baseHash": self.config_hash });
        self.config_hash = self.client.call("config.patch", params).await?["hash"].take();
        let files = batch.iter().flat_map(|(agent, _)| agent.files.iter().cloned()).collect();
        self.client.call_all(files, MAX_IN_FLIGHT).await?;
        let messages = batch.iter().flat_map(|(agent, _)| agent.messages.iter().cloned()).collect();
        let write_ready = async |(agent, mut object): (&AgentPlan, DynamicObject)| {
            object.data["status"] = agent.ready.clone();
            write_status(api, agent, &object).await
        };
        stream::iter(batch).map(write_ready).buffer_unordered(MAX_REQUESTS).try_collect::<Vec<_>>().await?;
        let ready = Instant::now();
        self.client.call_all(messages, MAX_IN_FLIGHT).await?;
        Ok(ready)
    }
}
