//! Writes a changed status, and publishes the events of the change. No other code writes a status, except for the time of a heartbeat.

use std::fmt::Debug;
use std::sync::Arc;

use kube::api::ObjectMeta;
use tracing::{debug, warn};

use crate::api::agent::{Agent, AgentStatus};
use crate::api::object_key::ObjectKey;
use crate::api::{AgentGateway, AgentGatewayStatus, Board, BoardStatus};
use crate::controllers::Context;
use crate::core::error::ReconcileError;
use crate::core::requests::handled_reconcile;
use crate::core::{agent, board, gateway};
use crate::state::kube_store::KubeStore;
use crate::state::store::{EventTarget, StoreError};

/// The result of a status write.
#[derive(Debug)]
pub(crate) enum Written<K> {
    /// The status is unchanged.
    Unchanged,
    /// The status was written. The value is the written object.
    Now(Arc<K>),
    /// The object changed since it was read, or was deleted.
    Outdated,
    /// The write failed and was logged.
    Failed,
}

impl<K: Debug> Written<K> {
    fn of(kind: &str, meta: &ObjectMeta, result: Result<Arc<K>, StoreError>) -> Self {
        match result {
            Ok(object) => Self::Now(object),
            Err(error) => {
                log_failed(kind, meta, &error);
                match error {
                    StoreError::Conflict(_) | StoreError::NotFound(_) => Self::Outdated,
                    StoreError::Terminating(_)
                    | StoreError::Denied { .. }
                    | StoreError::Refused(_)
                    | StoreError::Failed(_) => Self::Failed,
                }
            }
        }
    }
}

/// Writes the status of an Agent, with the answer to a requested reconcile.
pub(crate) async fn write_agent(ctx: &Context, agent: &Agent, new: &AgentStatus) -> Written<Agent> {
    let (store, old) = (&ctx.state.store, agent.status.clone().unwrap_or_default());
    let handled = handled_reconcile(&agent.metadata, old.last_handled_reconcile_at.as_ref());
    let new = Box::new(AgentStatus { last_handled_reconcile_at: handled, ..new.clone() });
    if old == *new {
        return Written::Unchanged;
    }
    let written = Written::of("Agent", &agent.metadata, store.replace_agent_status(agent, &new).await);
    if let (Written::Now(_), Some(event)) = (&written, agent::events::of_change(&old, &new)) {
        store.publish(EventTarget::Agent(agent), &event).await;
    }
    written
}

/// Writes the status of a Board, and publishes the event of its change.
pub(crate) async fn write_board(ctx: &Context, board: &Board, new: &BoardStatus) -> Written<Board> {
    if board.status.as_ref() == Some(new) {
        return Written::Unchanged;
    }
    let (store, old) = (&ctx.state.store, board.status.clone().unwrap_or_default());
    let written = Written::of("Board", &board.metadata, store.replace_board_status(board, new).await);
    if let (Written::Now(_), Some(event)) = (&written, board::events::of_change(&old, new)) {
        store.publish(EventTarget::Board(board), &event).await;
    }
    written
}

/// Writes the status of an AgentGateway. [`publish_gateway_events`] publishes its events.
pub(crate) async fn write_gateway(
    ctx: &Context,
    gateway: &AgentGateway,
    new: &AgentGatewayStatus,
) -> Written<AgentGateway> {
    if gateway.status.as_ref() == Some(new) {
        return Written::Unchanged;
    }
    Written::of("AgentGateway", &gateway.metadata, ctx.state.store.replace_gateway_status(gateway, new).await)
}

/// Publishes the events of a changed AgentGateway status.
pub(crate) async fn publish_gateway_events(ctx: &Context, gateway: &AgentGateway, new: &AgentGatewayStatus) {
    let old = gateway.status.clone().unwrap_or_default();
    for event in gateway::events::of_change(&old, new) {
        ctx.state.store.publish(EventTarget::Gateway(gateway), &event).await;
    }
}

/// Removes the binding: no agent exists on a gateway because of this Agent any more.
///
/// # Errors
/// The request to Kubernetes that failed.
pub(crate) async fn remove_binding(store: &KubeStore, agent: &Agent) -> Result<Arc<Agent>, ReconcileError> {
    let status = AgentStatus { binding: None, ..agent.status.clone().unwrap_or_default() };
    Ok(store.replace_agent_status(agent, &status).await?)
}

/// Logs a failed status write. A conflict, and a deleted object, are normal and logged at level debug.
pub(crate) fn log_failed(kind: &str, meta: &ObjectMeta, error: &StoreError) {
    let object = ObjectKey::of(meta);
    match error {
        StoreError::Conflict(_) | StoreError::NotFound(_) => {
            debug!(kind, %object, %error, "status not written");
        }
        StoreError::Terminating(_) | StoreError::Denied { .. } | StoreError::Refused(_) | StoreError::Failed(_) => {
            warn!(kind, %object, %error, "status not written");
        }
    }
}
