//! What the reconcilers need of the Kubernetes side.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ObjectMeta;
use serde_json::{Value, json};

use crate::api::agent::{Agent, AgentStatus};
use crate::api::object_key::ObjectKey;
use crate::api::{AgentGateway, AgentGatewayStatus, Board, BoardStatus, Reason};
use crate::core::agent::templates::ConfigMapContent;
use crate::core::error::ReconcileError;
use crate::core::event::Event;
use crate::core::objects::Objects;

/// Why the Kubernetes side did not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such object.
    #[error("not found: {0}")]
    NotFound(String),
    /// The object changed since it was read, or exists already.
    #[error("changed since it was read: {0}")]
    Conflict(String),
    /// The namespace is being deleted and takes no new objects.
    #[error("the namespace is being deleted: {0}")]
    Terminating(String),
    /// The request was refused.
    #[error("refused: {0}")]
    Refused(String),
    /// The request failed in another way and may work later.
    #[error("failed: {0}")]
    Failed(String),
}

impl From<StoreError> for ReconcileError {
    fn from(error: StoreError) -> Self {
        let text = format!("a request to Kubernetes: {error}");
        match error {
            StoreError::Refused(_) => Self::permanent(Reason::KubernetesError, text),
            StoreError::NotFound(_) | StoreError::Conflict(_) | StoreError::Terminating(_) | StoreError::Failed(_) => {
                Self::transient(Reason::KubernetesError, text)
            }
        }
    }
}

/// A change of an object's finalizers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FinalizerChange {
    /// A finalizer to add.
    pub add_finalizer: Option<&'static str>,
    /// A finalizer to remove.
    pub remove_finalizer: Option<&'static str>,
}

impl FinalizerChange {
    /// The JSON merge patch of this change, which applies only to the object as it was read.
    #[must_use]
    pub fn patch(&self, meta: &ObjectMeta) -> Value {
        let mut finalizers = meta.finalizers.clone().unwrap_or_default();
        finalizers.retain(|f| Some(f.as_str()) != self.remove_finalizer);
        if let Some(add) = self.add_finalizer
            && !finalizers.iter().any(|f| f == add)
        {
            finalizers.push(add.to_owned());
        }
        json!({ "metadata": { "resourceVersion": meta.resource_version, "finalizers": finalizers } })
    }
}

/// An object that an event is about.
#[derive(Clone, Copy, Debug)]
pub enum EventTarget<'a> {
    /// An Agent.
    Agent(&'a Agent),
    /// A Board.
    Board(&'a Board),
    /// An AgentGateway.
    Gateway(&'a AgentGateway),
}

/// The Kubernetes side as the reconcilers see it.
///
/// # Guarantees
/// Reads of agents, boards and gateways come from a cache, except the fresh one; reads of Secrets, ConfigMaps and namespaces by name are live.
/// A Secret or a ConfigMap with an invalid name counts as absent: no name becomes part of another path of the API.
/// Writes apply only to the object as it was read (`resourceVersion`) and give it back as written.
pub trait Store: Objects + Send + Sync + 'static {
    /// The time.
    fn now(&self) -> Timestamp;

    /// The namespaces that have any readable Agent, Board or AgentGateway.
    fn namespaces(&self) -> BTreeSet<String>;

    /// An Agent as the API server has it now.
    fn fresh_agent(&self, key: &ObjectKey) -> impl Future<Output = Result<Option<Agent>, StoreError>> + Send;
    /// A Secret by name.
    fn secret(&self, key: &ObjectKey) -> impl Future<Output = Result<Option<Secret>, StoreError>> + Send;
    /// What a ConfigMap holds, by name.
    fn config_map(&self, key: &ObjectKey) -> impl Future<Output = Result<Option<ConfigMapContent>, StoreError>> + Send;
    /// The labels of a namespace.
    fn namespace_labels(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<Option<BTreeMap<String, String>>, StoreError>> + Send;
    /// How many Agents carry a binding to this gateway, asked of the API server and not of the cache.
    fn count_bound(&self, gateway: &ObjectKey) -> impl Future<Output = Result<usize, StoreError>> + Send;

    /// Makes a Secret.
    fn create_secret(&self, secret: &Secret) -> impl Future<Output = Result<Secret, StoreError>> + Send;
    /// Replaces a Secret as it was read.
    fn replace_secret(&self, secret: &Secret) -> impl Future<Output = Result<Secret, StoreError>> + Send;
    /// Deletes a Secret; one that does not exist is no error.
    fn delete_secret(&self, key: &ObjectKey) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Changes finalizers of an Agent.
    fn claim_agent(
        &self,
        agent: &Agent,
        claim: &FinalizerChange,
    ) -> impl Future<Output = Result<Agent, StoreError>> + Send;
    /// Changes finalizers of an AgentGateway.
    fn claim_gateway(
        &self,
        gateway: &AgentGateway,
        claim: &FinalizerChange,
    ) -> impl Future<Output = Result<AgentGateway, StoreError>> + Send;

    /// Writes the status of an Agent.
    fn agent_status(
        &self,
        agent: &Agent,
        status: &AgentStatus,
    ) -> impl Future<Output = Result<Agent, StoreError>> + Send;
    /// Writes the status of a Board.
    fn board_status(
        &self,
        board: &Board,
        status: &BoardStatus,
    ) -> impl Future<Output = Result<Board, StoreError>> + Send;
    /// Writes the status of an AgentGateway.
    fn gateway_status(
        &self,
        gateway: &AgentGateway,
        status: &AgentGatewayStatus,
    ) -> impl Future<Output = Result<AgentGateway, StoreError>> + Send;

    /// Tells something to whoever runs `kubectl describe`. Best effort: a refused event is no error.
    fn tell(&self, subject: EventTarget<'_>, note: &Event) -> impl Future<Output = ()> + Send;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_keeps_what_others_put_there_and_names_the_version_it_read() {
        let meta = ObjectMeta {
            resource_version: Some("7".into()),
            finalizers: Some(vec!["a/b".into(), "muster.dev/agent".into()]),
            ..ObjectMeta::default()
        };
        let add = FinalizerChange { add_finalizer: Some("muster.dev/agent"), ..FinalizerChange::default() };
        assert_eq!(
            add.patch(&meta),
            json!({"metadata": {"resourceVersion": "7", "finalizers": ["a/b", "muster.dev/agent"]}})
        );
        let remove = FinalizerChange { remove_finalizer: Some("muster.dev/agent"), ..FinalizerChange::default() };
        assert_eq!(remove.patch(&meta), json!({"metadata": {"resourceVersion": "7", "finalizers": ["a/b"]}}));
    }
}
