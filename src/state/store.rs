//! The arguments, the answers and the errors of the reads and writes of Kubernetes (`kube_store`).

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;
use kube::api::ObjectMeta;
use serde_json::{Value, json};

use crate::api::agent::Agent;
use crate::api::{AgentGateway, Board, Reason, keys};
use crate::core::error::{CONFLICT, ReconcileError};

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
    /// Kubernetes denied a valid request.
    #[error("{}: {message}; {}", denial.what(), denial.advice())]
    Denied {
        /// What denied the request.
        denial: Denial,
        /// The answer of Kubernetes. It names the quota, the right or the policy.
        message: String,
    },
    /// Kubernetes refused the request, which is not valid.
    #[error("refused: {0}")]
    Refused(String),
    /// The request failed for another reason. A retry may succeed.
    #[error("failed: {0}")]
    Failed(String),
}

impl StoreError {
    /// The error of an answer with this HTTP status and message.
    #[must_use]
    pub fn of_answer(status: u16, message: &str) -> Self {
        let text = message.to_owned();
        match (status, Denial::of_answer(status, message)) {
            (403, _) if message.contains("because it is being terminated") => Self::Terminating(text),
            (_, Some(denial)) => Self::Denied { denial, message: text },
            (404, None) => Self::NotFound(text),
            (409, None) => Self::Conflict(text),
            (400 | 405 | 422, None) => Self::Refused(text),
            // Also 401: the client reads a renewed token of its ServiceAccount again.
            (_, None) => Self::Failed(text),
        }
    }
}

impl From<kube::Error> for StoreError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_answer(status.code, &status.message),
            other => Self::Failed(other.to_string()),
        }
    }
}

/// The words of kube-apiserver when a `ResourceQuota` denies a request.
const QUOTA_WORDS: [&str; 4] =
    ["exceeded quota: ", "failed quota: ", "status unknown for quota: ", "insufficient quota "];

/// What denied a valid request. None of these changes triggers a reconcile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// A `ResourceQuota` of the namespace.
    Quota,
    /// A missing right of Muster's ServiceAccount.
    Rights,
    /// An admission webhook or an admission policy.
    Policy,
}

impl Denial {
    /// The denial in an answer. The API server has one status for all three, so that the text decides.
    fn of_answer(status: u16, message: &str) -> Option<Self> {
        let has = |words: &[&str]| words.iter().any(|words| message.contains(words));
        match status {
            403 if has(&QUOTA_WORDS) => Some(Self::Quota),
            400 | 403 | 422 if has(&["denied the request", "denied request"]) => Some(Self::Policy),
            403 => Some(Self::Rights),
            _ => None,
        }
    }

    fn what(self) -> &'static str {
        match self {
            Self::Quota => "denied by a ResourceQuota",
            Self::Rights => "denied for a missing right",
            Self::Policy => "denied by an admission policy",
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::Quota => "raise the quota, or delete objects that it counts",
            Self::Rights => "grant the right to Muster's ServiceAccount",
            Self::Policy => "change the policy, or exempt Muster's ServiceAccount",
        }
    }
}

impl From<StoreError> for ReconcileError {
    fn from(error: StoreError) -> Self {
        let text = format!("a request to Kubernetes: {error}");
        match error {
            StoreError::Refused(_) | StoreError::Denied { denial: Denial::Rights | Denial::Policy, .. } => {
                Self::permanent(Reason::KubernetesError, text)
            }
            StoreError::Conflict(_) => Self::transient(Reason::KubernetesError, text).with_code(CONFLICT),
            StoreError::NotFound(_)
            | StoreError::Terminating(_)
            | StoreError::Denied { denial: Denial::Quota, .. }
            | StoreError::Failed(_) => Self::transient(Reason::KubernetesError, text),
        }
    }
}

/// A change of an object's finalizers, and of the annotation with the agent's id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataChange {
    /// The finalizer to add.
    pub add_finalizer: Option<&'static str>,
    /// The finalizer to remove.
    pub remove_finalizer: Option<&'static str>,
    /// The change of the annotation.
    pub agent_id: Option<AgentIdChange>,
}

/// A change of the annotation with the agent's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentIdChange {
    /// The annotation has this id.
    Set(String),
    /// There is no annotation.
    Remove,
}

impl MetadataChange {
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
        let mut patch = json!({ "resourceVersion": meta.resource_version, "finalizers": finalizers });
        match &self.agent_id {
            Some(AgentIdChange::Set(id)) => patch["annotations"] = json!({ keys::AGENT_ID: id }),
            Some(AgentIdChange::Remove) => patch["annotations"] = json!({ keys::AGENT_ID: null }),
            None => {}
        }
        json!({ "metadata": patch })
    }
}

/// The Agents that are bound to an AgentGateway, by the API server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BoundAgents {
    /// Their number, without the refused namespaces.
    pub count: usize,
    /// The namespaces of `--namespaces` whose Agents the API server does not show to the operator.
    pub refused: Vec<String>,
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
    /// An object of a kind that cannot be read.
    Unreadable {
        /// The kind.
        kind: &'static str,
        /// The metadata of the object.
        metadata: &'a ObjectMeta,
    },
}

impl EventTarget<'_> {
    fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Agent(agent) => &agent.metadata,
            Self::Board(board) => &board.metadata,
            Self::Gateway(gateway) => &gateway.metadata,
            Self::Unreadable { metadata, .. } => metadata,
        }
    }

    pub(super) fn is_being_deleted(&self) -> bool {
        self.metadata().deletion_timestamp.is_some()
    }

    /// The reference in an event.
    pub(super) fn reference(&self) -> ObjectReference {
        match self {
            Self::Agent(agent) => agent.object_ref(&()),
            Self::Board(board) => board.object_ref(&()),
            Self::Gateway(gateway) => gateway.object_ref(&()),
            Self::Unreadable { kind, metadata } => ObjectReference {
                api_version: Some(Agent::api_version(&()).into()),
                kind: Some((*kind).into()),
                name: metadata.name.clone(),
                namespace: metadata.namespace.clone(),
                uid: metadata.uid.clone(),
                ..ObjectReference::default()
            },
        }
    }
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
        let add = MetadataChange { add_finalizer: Some("muster.dev/agent"), ..MetadataChange::default() };
        assert_eq!(
            add.patch(&meta),
            json!({"metadata": {"resourceVersion": "7", "finalizers": ["a/b", "muster.dev/agent"]}})
        );
        let remove = MetadataChange { remove_finalizer: Some("muster.dev/agent"), ..MetadataChange::default() };
        assert_eq!(remove.patch(&meta), json!({"metadata": {"resourceVersion": "7", "finalizers": ["a/b"]}}));
    }

    #[test]
    fn the_id_of_the_agent_is_written_with_the_finalizer_and_no_other_annotation_is_touched() {
        let patch = |agent_id| {
            let add_finalizer = Some(keys::AGENT_FINALIZER);
            MetadataChange { add_finalizer, agent_id, ..MetadataChange::default() }.patch(&ObjectMeta::default())
        };
        let set = patch(Some(AgentIdChange::Set("mc-1".into())));
        assert_eq!(set["metadata"]["annotations"], json!({ "muster.dev/agent-id": "mc-1" }));
        assert_eq!(set["metadata"]["finalizers"], json!(["muster.dev/agent"]));
        let removed = patch(Some(AgentIdChange::Remove));
        assert_eq!(removed["metadata"]["annotations"], json!({ "muster.dev/agent-id": null }));
        assert_eq!(patch(None)["metadata"].get("annotations"), None);
    }

    /// Answers of kube-apiserver.
    const QUOTA: &str = r#"secrets "one-token" is forbidden: exceeded quota: small, requested: secrets=1, used: secrets=2, limited: secrets=2"#;
    const RIGHTS: &str = r#"secrets is forbidden: User "system:serviceaccount:muster:muster" cannot create resource "secrets" in API group "" in the namespace "fleet""#;
    const WEBHOOK: &str = r#"admission webhook "policy.example.com" denied the request: no Secrets here"#;
    const POLICY: &str = r#"secrets "one-token" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: failed expression: false"#;

    fn denial(status: u16, message: &str) -> Option<Denial> {
        match StoreError::of_answer(status, message) {
            StoreError::Denied { denial, .. } => Some(denial),
            StoreError::NotFound(_)
            | StoreError::Conflict(_)
            | StoreError::Terminating(_)
            | StoreError::Refused(_)
            | StoreError::Failed(_) => None,
        }
    }

    #[test]
    fn a_quota_a_missing_right_and_a_policy_are_told_apart() {
        assert_eq!(denial(403, QUOTA), Some(Denial::Quota));
        assert_eq!(denial(403, RIGHTS), Some(Denial::Rights));
        assert_eq!((denial(400, WEBHOOK), denial(403, WEBHOOK)), (Some(Denial::Policy), Some(Denial::Policy)));
        assert_eq!(denial(422, POLICY), Some(Denial::Policy));
        assert_eq!((denial(422, "spec.x: Invalid value"), denial(401, "Unauthorized")), (None, None));
        let terminating = "unable to create new content in namespace fleet because it is being terminated";
        assert!(matches!(StoreError::of_answer(403, terminating), StoreError::Terminating(_)));
    }

    #[test]
    fn a_denial_is_retried_and_its_message_names_the_quota_or_the_right() {
        let error = |message| ReconcileError::from(StoreError::of_answer(403, message));
        let (quota, rights) = (error(QUOTA), error(RIGHTS));
        assert!(quota.is_retried() && quota.transient && quota.message.contains("exceeded quota: small"), "{quota}");
        assert!(rights.is_retried() && !rights.transient, "a person has to act, and nothing reports the change");
        assert!(rights.message.contains(r#"cannot create resource "secrets""#), "{rights}");
    }
}
