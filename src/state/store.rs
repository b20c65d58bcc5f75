//! The reads and writes of Kubernetes that the reconcilers use.

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

/// Why a request to Kubernetes failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The object does not exist.
    #[error("not found: {0}")]
    NotFound(String),
    /// The object changed since it was read, or already exists.
    #[error("changed since it was read: {0}")]
    Conflict(String),
    /// The namespace is being deleted and accepts no new objects.
    #[error("the namespace is being deleted: {0}")]
    Terminating(String),
    /// Kubernetes refused the request.
    #[error("refused: {0}")]
    Refused(String),
    /// The request failed for another reason. A retry may succeed.
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
    /// The finalizer to add.
    pub add_finalizer: Option<&'static str>,
    /// The finalizer to remove.
    pub remove_finalizer: Option<&'static str>,
}

impl FinalizerChange {
    /// The JSON merge patch of this change. It applies only to the resource version that was read.
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

/// The object of an event.
#[derive(Clone, Copy, Debug)]
pub enum EventTarget<'a> {
    /// An Agent.
    Agent(&'a Agent),
    /// A Board.
    Board(&'a Board),
    /// An AgentGateway.
    Gateway(&'a AgentGateway),
}

/// The Kubernetes access of the reconcilers.
///
/// # Guarantees
/// Reads of Agents, Boards and AgentGateways come from a cache, except [`Store::fresh_agent`] and
/// [`Store::count_bound_agents`]. Reads of Secrets, ConfigMaps and namespaces by name come from the API server. A Secret or a
/// ConfigMap with an invalid name counts as absent, so that no name becomes part of another API path. A write applies only to
/// the resource version that was read, and returns the written object.
pub trait Store: Objects + Send + Sync + 'static {
    /// The current time.
    fn now(&self) -> Timestamp;

    /// The namespaces with a readable Agent, Board or AgentGateway.
    fn namespaces(&self) -> BTreeSet<String>;

    /// An Agent from the API server, not from the cache.
    fn fresh_agent(&self, key: &ObjectKey) -> impl Future<Output = Result<Option<Agent>, StoreError>> + Send;
    /// A Secret by name.
    fn secret(&self, key: &ObjectKey) -> impl Future<Output = Result<Option<Secret>, StoreError>> + Send;
    /// The content of a ConfigMap by name.
    fn config_map(&self, key: &ObjectKey) -> impl Future<Output = Result<Option<ConfigMapContent>, StoreError>> + Send;
    /// The labels of a namespace.
    fn namespace_labels(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<Option<BTreeMap<String, String>>, StoreError>> + Send;
    /// The number of Agents with a binding to this gateway, from the API server and not from the cache.
    fn count_bound_agents(&self, gateway: &ObjectKey) -> impl Future<Output = Result<usize, StoreError>> + Send;

    /// Creates a Secret.
    fn create_secret(&self, secret: &Secret) -> impl Future<Output = Result<Secret, StoreError>> + Send;
    /// Replaces the version of a Secret that was read.
    fn replace_secret(&self, secret: &Secret) -> impl Future<Output = Result<Secret, StoreError>> + Send;
    /// Deletes a Secret. A Secret that does not exist is no error.
    fn delete_secret(&self, key: &ObjectKey) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Changes the finalizers of an Agent.
    fn patch_agent_finalizers(
        &self,
        agent: &Agent,
        change: &FinalizerChange,
    ) -> impl Future<Output = Result<Agent, StoreError>> + Send;
    /// Changes the finalizers of an AgentGateway.
    fn patch_gateway_finalizers(
        &self,
        gateway: &AgentGateway,
        change: &FinalizerChange,
    ) -> impl Future<Output = Result<AgentGateway, StoreError>> + Send;

    /// Replaces the status of an Agent.
    fn replace_agent_status(
        &self,
        agent: &Agent,
        status: &AgentStatus,
    ) -> impl Future<Output = Result<Agent, StoreError>> + Send;
    /// Replaces the status of a Board.
    fn replace_board_status(
        &self,
        board: &Board,
        status: &BoardStatus,
    ) -> impl Future<Output = Result<Board, StoreError>> + Send;
    /// Replaces the status of an AgentGateway.
    fn replace_gateway_status(
        &self,
        gateway: &AgentGateway,
        status: &AgentGatewayStatus,
    ) -> impl Future<Output = Result<AgentGateway, StoreError>> + Send;

    /// Publishes an event, which `kubectl describe` shows. Best effort: a refused event is no error.
    fn publish(&self, target: EventTarget<'_>, event: &Event) -> impl Future<Output = ()> + Send;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finalizer_change_keeps_other_finalizers_and_requires_the_read_version() {
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
