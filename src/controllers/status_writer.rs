//! Writes of an Agent's status, and what it means when Kubernetes refuses one.

use kube::api::ObjectMeta;
use tracing::{debug, warn};

use crate::api::Reason;
use crate::api::agent::{Agent, AgentStatus};
use crate::api::object_key::ObjectKey;
use crate::controllers::Context;
use crate::core::agent::binding::Binding;
use crate::core::agent::events::news;
use crate::core::error::ReconcileError;
use crate::state::store::{EventTarget, Store, StoreError};

/// What a failed request to Kubernetes means for the agent.
#[must_use]
pub(crate) fn kubernetes(error: &StoreError) -> ReconcileError {
    let text = format!("a request to Kubernetes: {error}");
    match error {
        StoreError::Refused(_) => ReconcileError::permanent(Reason::KubernetesError, text),
        StoreError::NotFound(_) | StoreError::Conflict(_) | StoreError::Terminating(_) | StoreError::Failed(_) => {
            ReconcileError::transient(Reason::KubernetesError, text)
        }
    }
}

/// Records in the status what may be on a gateway because of this Agent.
pub(crate) async fn write_binding<S: Store>(
    store: &S,
    agent: &Agent,
    binding: Option<&Binding>,
) -> Result<Agent, ReconcileError> {
    let mut status = agent.status.clone().unwrap_or_default();
    status.binding = binding.map(Binding::to_status);
    store.replace_agent_status(agent, &status).await.map_err(|e| kubernetes(&e))
}

/// Logs that a status could not be written. That it changed meanwhile, or is gone, is ordinary: it is read again.
pub(crate) fn status_not_written(kind: &str, meta: &ObjectMeta, error: &StoreError) {
    let object = ObjectKey::of(meta);
    match error {
        StoreError::Conflict(_) | StoreError::NotFound(_) => {
            debug!(kind, %object, %error, "status not written");
        }
        StoreError::Terminating(_) | StoreError::Refused(_) | StoreError::Failed(_) => {
            warn!(kind, %object, %error, "status not written");
        }
    }
}

/// Writes the status if it changed, and tells of a change of Ready. `None` when it could not be written.
pub(crate) async fn write_status<S: Store>(ctx: &Context<S>, agent: &Agent, new: &AgentStatus) -> Option<Agent> {
    let old = agent.status.clone().unwrap_or_default();
    if old == *new {
        return Some(agent.clone());
    }
    let written = match ctx.state.store.replace_agent_status(agent, new).await {
        Ok(written) => written,
        Err(error) => {
            status_not_written("Agent", &agent.metadata, &error);
            return None;
        }
    };
    if let Some(note) = news(&old, new) {
        ctx.state.store.publish(EventTarget::Agent(agent), &note).await;
    }
    Some(written)
}
