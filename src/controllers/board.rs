//! The reconcile of a Board: the state of its gateway and of its Agents.

use std::sync::Arc;
use std::time::Duration;

use super::agent::dereference::gateway;
use super::status_writer::{Written, write_board};
use crate::api::agent::Agent;
use crate::api::{Board, Reason};
use crate::controllers::Context;
use crate::core::agent::admission::creation_order;
use crate::core::board::status::status;
use crate::core::gateway_ref::agents_of_board;
use crate::core::objects::Objects;
use crate::core::requeue::Requeue;

/// The longest time until a Board is reconciled again. Changes of its Agents and of its AgentGateway trigger it.
const RESYNC: Duration = Duration::from_mins(10);

/// Writes the status of a Board if it changed.
pub async fn reconcile(ctx: &Context, board: &Board) -> Requeue {
    if board.metadata.deletion_timestamp.is_some() {
        return Requeue::on_change();
    }
    let store = &ctx.state.store;
    let namespace = board.metadata.namespace.clone().unwrap_or_default();
    let gateway = gateway(store, &board.spec.gateway_ref, &namespace, None).await; // I/O
    if gateway.as_ref().is_err_and(|error| error.reason == Reason::KubernetesError) {
        return Requeue::retry();
    }
    let agents = agents(store, board);
    let new = status(board, &agents, gateway.as_ref().map(AsRef::as_ref), store.now()); // pure
    match write_board(ctx, board, &new).await {
        Written::Unchanged | Written::Now(_) => Requeue::after(RESYNC),
        Written::Outdated => Requeue::soon(),
        Written::Failed => Requeue::retry(),
    }
}

/// The Agents of a Board, the oldest first.
fn agents<O: Objects>(objects: &O, board: &Board) -> Vec<Arc<Agent>> {
    let mut agents = agents_of_board(objects, board);
    agents.sort_by(|one, other| creation_order(one).cmp(&creation_order(other)));
    agents
}
