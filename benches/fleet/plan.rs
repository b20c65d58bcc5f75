//! The writes of the bare client. They repeat the writes of the operator, and come from its Agents, Secrets and gateways.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams, ObjectMeta};
use muster_harness::Failure;
use muster_simulator::Simulator;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::fleet::{self, BARE, FLEET};
use crate::simulated::{self, Gateways};

/// The writes of the agents of one gateway.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GatewayPlan {
    /// The URL of the bare client's gateway.
    pub(crate) url: String,
    pub(crate) token: String,
    pub(crate) agents: Vec<AgentPlan>,
}

/// The writes of one agent, in this order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AgentPlan {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// The Agent.
    pub(crate) manifest: Value,
    /// The metadata that the operator added to the Agent.
    pub(crate) claim: Value,
    /// The token Secret.
    pub(crate) secret: Secret,
    /// The first status: the binding and the token.
    pub(crate) binding: Value,
    /// The agent's id on the gateway.
    pub(crate) id: String,
    /// The agent's entry in the config.
    pub(crate) entry: Value,
    /// The methods and the parameters of the file writes.
    pub(crate) files: Vec<(String, Value)>,
    /// The status of the Ready Agent.
    pub(crate) ready: Value,
    /// The methods and the parameters of the label and of the wake message.
    pub(crate) messages: Vec<(String, Value)>,
}

impl AgentPlan {
    /// The same writes for another agent.
    pub(crate) fn renamed(&self, name: &str) -> Result<Self, Failure> {
        let text = serde_json::to_string(self)?;
        Ok(serde_json::from_str(&text.replace(&self.name, name).replace(&self.id, &format!("mc-{name}")))?)
    }
}

/// The writes that the operator made for all Agents, by gateway. The bare client repeats them on these other gateways.
pub(crate) async fn read(client: &Client, made: &Gateways, bare: &Gateways) -> Result<Vec<GatewayPlan>, Failure> {
    let mut plans = Vec::new();
    for (number, (simulator, url)) in made.simulators().zip(bare.urls()).enumerate() {
        let namespace = fleet::namespace(FLEET, number);
        let board = ListParams::default().fields(&format!("spec.boardRef.name=board-{number}"));
        let agents = fleet::agents(client, &namespace).list(&board).await?.items;
        let secrets = Api::<Secret>::namespaced(client.clone(), &namespace).list(&ListParams::default()).await?.items;
        let mut records = Records {
            secrets,
            entries: simulator.agents(),
            calls: calls(simulator),
            namespace: fleet::namespace(BARE, number),
        };
        let agents = agents.iter().map(|agent| records.plan(agent)).collect::<Result<_, _>>()?;
        plans.push(GatewayPlan { url, token: simulated::token(), agents });
    }
    Ok(plans)
}

type Calls = BTreeMap<String, Vec<(String, Value)>>;

/// The writing calls by agent, without preconditions: those name content that a fresh gateway does not have.
fn calls(simulator: &Simulator) -> Calls {
    let mut calls = Calls::new();
    for mut call in simulated::successful(simulator) {
        let agent = match call.method.as_str() {
            "agents.files.set" => call.params["agentId"].as_str(),
            "sessions.patch" => call.params["key"].as_str().and_then(agent_of),
            "chat.send" => call.params["sessionKey"].as_str().and_then(agent_of),
            _ => None,
        };
        let Some(agent) = agent.map(str::to_owned) else { continue };
        if let Some(params) = call.params.as_object_mut() {
            params.remove("expectedHash");
        }
        calls.entry(agent).or_default().push((call.method, call.params));
    }
    calls
}

/// The agent of a session key, `agent:ID:main`.
fn agent_of(key: &str) -> Option<&str> {
    key.split(':').nth(1)
}

/// What the operator left for the agents of one gateway.
struct Records {
    secrets: Vec<Secret>,
    entries: BTreeMap<String, Value>,
    calls: Calls,
    /// The namespace in which the bare client works.
    namespace: String,
}

impl Records {
    fn plan(&mut self, agent: &DynamicObject) -> Result<AgentPlan, Failure> {
        let name = agent.metadata.name.clone().unwrap_or_default();
        let status = &agent.data["status"];
        let id = status["agentId"].as_str().ok_or_else(|| format!("Agent {name} has no id"))?.to_owned();
        let entry = self.entries.remove(&id).ok_or_else(|| format!("the gateway has no entry of Agent {name}"))?;
        let secret = self.secret(&name, status["token"]["secretName"].as_str())?;
        let manifest = json!({
            "apiVersion": "muster.dev/v1alpha1", "kind": "Agent", "spec": agent.data["spec"],
            "metadata": { "name": name, "namespace": self.namespace },
        });
        let calls = self.calls.remove(&id).unwrap_or_default();
        let (files, messages) = calls.into_iter().partition(|(method, _)| method == "agents.files.set");
        Ok(AgentPlan {
            namespace: self.namespace.clone(),
            manifest,
            claim: claim(&agent.metadata),
            secret,
            binding: only(status, &["observedGeneration", "binding", "token"]),
            entry,
            files,
            ready: status.clone(),
            messages,
            id,
            name,
        })
    }

    fn secret(&self, agent: &str, name: Option<&str>) -> Result<Secret, Failure> {
        let found = self.secrets.iter().find(|secret| name.is_some() && secret.metadata.name.as_deref() == name);
        let mut secret = found.ok_or_else(|| format!("Agent {agent} has no token Secret"))?.clone();
        let ObjectMeta { name, labels, annotations, finalizers, owner_references, .. } = secret.metadata;
        let namespace = Some(self.namespace.clone());
        secret.metadata =
            ObjectMeta { name, namespace, labels, annotations, finalizers, owner_references, ..ObjectMeta::default() };
        Ok(secret)
    }
}

/// The merge patch with the finalizers and the annotations.
fn claim(metadata: &ObjectMeta) -> Value {
    let mut claim = json!({ "finalizers": metadata.finalizers });
    if let Some(annotations) = &metadata.annotations {
        claim["annotations"] = json!(annotations);
    }
    json!({ "metadata": claim })
}

fn only(object: &Value, keys: &[&str]) -> Value {
    let kept = keys.iter().map(|key| ((*key).to_owned(), object[*key].clone())).filter(|(_, value)| !value.is_null());
    Value::Object(kept.collect::<Map<_, _>>())
}
