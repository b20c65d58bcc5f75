//! Removes agents.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use muster_harness::Failure;
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;

use super::{ApiServer, Figures, MAX_REQUESTS, in_turns};
use crate::fleet;
use crate::measure::Stopwatch;
use crate::plan::{AgentPlan, GatewayPlan};
use crate::raw::RawClient;

/// Removes all agents: the Agents in turns over the gateways; all gateways in parallel, and one agent at a time from each.
pub(super) async fn all(api: &ApiServer, gateways: &Arc<Vec<GatewayPlan>>) -> Result<Figures, Failure> {
    let mut clients = Vec::new();
    for gateway in gateways.iter() {
        clients.push(RawClient::connect_to(&gateway.url, &gateway.token).await?);
    }
    let stopwatch = Stopwatch::start(std::process::id())?;
    let (mut queues, mut removals) = (Vec::new(), JoinSet::new());
    for (number, client) in clients.into_iter().enumerate() {
        let (queue, deleted) = unbounded_channel();
        queues.push(queue);
        removals.spawn(from_gateway(api.clone(), client, Arc::clone(gateways), number, deleted));
    }
    stream::iter(in_turns(gateways))
        .map(async |(gateway, number, agent)| {
            delete(api, agent).await?;
            // A closed queue means that its gateway failed; the error comes from there.
            let _ = queues[gateway].send(number);
            Ok::<_, Failure>(())
        })
        .buffer_unordered(MAX_REQUESTS)
        .try_collect::<()>()
        .await?;
    drop(queues);
    while let Some(removed) = removals.join_next().await {
        removed??;
    }
    let seconds = stopwatch.seconds();
    Ok(Figures { seconds, all_seconds: seconds, cpu: stopwatch.cpu()?, ..Figures::default() })
}

/// Removes agents from a gateway, one at a time, as their Agents are deleted.
async fn from_gateway(
    api: ApiServer,
    mut client: RawClient,
    gateways: Arc<Vec<GatewayPlan>>,
    number: usize,
    mut deleted: UnboundedReceiver<usize>,
) -> Result<(), Failure> {
    let agents = &gateways[number].agents;
    let mut releases = JoinSet::new();
    while let Some(number) = deleted.recv().await {
        let agent = &agents[number];
        client.call("agents.delete", json!({ "agentId": agent.id, "deleteFiles": true })).await?;
        let (api, namespace, name) = (api.clone(), agent.namespace.clone(), agent.name.clone());
        let secret = agent.secret.metadata.name.clone().unwrap_or_default();
        releases.spawn(async move { release(&api, &namespace, &name, &secret).await });
    }
    while let Some(released) = releases.join_next().await {
        released??;
    }
    Ok(())
}

/// Deletes the Agent, which stays until its finalizer is removed.
async fn delete(api: &ApiServer, agent: &AgentPlan) -> Result<(), Failure> {
    let agents = fleet::agents(&api.client, &agent.namespace);
    api.send(agents.delete(&agent.name, &DeleteParams::default())).await?;
    Ok(())
}

/// Deletes the Secret and removes the finalizer.
async fn release(api: &ApiServer, namespace: &str, name: &str, secret: &str) -> Result<(), Failure> {
    let secrets = Api::<Secret>::namespaced(api.client.clone(), namespace);
    api.send(secrets.delete(secret, &DeleteParams::default())).await?;
    let none = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    api.send(fleet::agents(&api.client, namespace).patch(name, &PatchParams::default(), &none)).await?;
    Ok(())
}
