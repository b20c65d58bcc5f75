//! Removes agents.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use muster_harness::Failure;
use serde_json::json;
use tokio::task::JoinSet;

use super::{ApiServer, Figures, MAX_IN_FLIGHT};
use crate::fleet;
use crate::measure::Stopwatch;
use crate::plan::{AgentPlan, GatewayPlan};
use crate::raw::RawClient;

/// Removes all agents: all gateways in parallel, and one agent at a time from each.
pub(super) async fn all(api: &ApiServer, gateways: &Arc<Vec<GatewayPlan>>) -> Result<Figures, Failure> {
    let mut clients = Vec::new();
    for gateway in gateways.iter() {
        clients.push(RawClient::connect_to(&gateway.url, &gateway.token).await?);
    }
    let stopwatch = Stopwatch::start(std::process::id())?;
    let mut removals = JoinSet::new();
    for (number, client) in clients.into_iter().enumerate() {
        removals.spawn(from_gateway(api.clone(), client, Arc::clone(gateways), number));
    }
    while let Some(removed) = removals.join_next().await {
        removed??;
    }
    let seconds = stopwatch.seconds();
    Ok(Figures { seconds, all_seconds: seconds, cpu: stopwatch.cpu()?, ..Figures::default() })
}

async fn from_gateway(
    api: ApiServer,
    mut client: RawClient,
    gateways: Arc<Vec<GatewayPlan>>,
    number: usize,
) -> Result<(), Failure> {
    let agents = &gateways[number].agents;
    let mut deleted =
        stream::iter(0..agents.len()).map(|agent| delete(&api, agents, agent)).buffer_unordered(MAX_IN_FLIGHT);
    let mut releases = JoinSet::new();
    while let Some(agent) = deleted.try_next().await? {
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
async fn delete<'a>(api: &ApiServer, agents: &'a [AgentPlan], number: usize) -> Result<&'a AgentPlan, Failure> {
    let agent = &agents[number];
    let api_agents = fleet::agents(&api.client, &agent.namespace);
    api.send(api_agents.delete(&agent.name, &DeleteParams::default())).await?;
    Ok(agent)
}

/// Deletes the Secret and removes the finalizer.
async fn release(api: &ApiServer, namespace: &str, name: &str, secret: &str) -> Result<(), Failure> {
    let secrets = Api::<Secret>::namespaced(api.client.clone(), namespace);
    api.send(secrets.delete(secret, &DeleteParams::default())).await?;
    let none = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    api.send(fleet::agents(&api.client, namespace).patch(name, &PatchParams::default(), &none)).await?;
    Ok(())
}
