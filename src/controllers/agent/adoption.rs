//! The adoption of an agent that exists on its gateway.

use std::sync::Arc;

use crate::api::Reason;
use crate::api::agent::{AdoptionPolicy, Agent};
use crate::controllers::gateway_handle::GatewayHandle;
use crate::core::agent::binding::{AgentIdentity, Binding};
use crate::core::agent::references::References;
use crate::core::error::ReconcileError;
use crate::openclaw::model::Inventory;

/// The inventory of the gateway. Before an Agent with `spec.agentId` is bound, the inventory is read again: an older one may lack an
/// agent that another client has just created, which Muster would then take for its own.
///
/// # Errors
/// `GatewayNotReady`.
pub(crate) async fn inventory(
    gateway: &GatewayHandle,
    agent: &Agent,
    address: &str,
) -> Result<Arc<Inventory>, ReconcileError> {
    if agent.spec.agent_id.is_some() && !is_bound_at(agent, address) && gateway.inventory().is_ok() {
        let is_read = gateway.client().resync().await;
        let not_read =
            || ReconcileError::transient(Reason::GatewayNotReady, "the gateway's roster could not be read just now");
        return gateway.inventory().and_then(|inventory| if is_read { Ok(inventory) } else { Err(not_read()) });
    }
    gateway.inventory()
}

/// Whether an Agent is bound to an agent of the gateway at this address.
fn is_bound_at(agent: &Agent, address: &str) -> bool {
    Binding::of(agent).is_some_and(|binding| binding.is_at(address))
}

/// Replaces the derived identity with that of the existing agent of the id `spec.agentId`, if the adoption policy is `IfExists` and the
/// Agent is not bound.
///
/// # Errors
/// The request to the gateway that failed.
pub(super) async fn settle(
    references: References,
    agent: &Agent,
    known: Option<(&Arc<GatewayHandle>, &Arc<Inventory>)>,
) -> Result<References, ReconcileError> {
    let Some((gateway, inventory)) = known else { return Ok(references) };
    let may_adopt = agent.spec.adoption_policy == AdoptionPolicy::IfExists && agent.spec.agent_id.is_some();
    let id = references.identity.agent_id.as_str();
    let may_adopt = may_adopt && !is_bound_at(agent, &references.address);
    let row = inventory.agents.get(id).filter(|row| may_adopt && row.entry.is_some());
    let Some(row) = row else { return Ok(references) };
    let workspace = if let Some(workspace) = &row.workspace {
        workspace.clone()
    } else {
        let workspace = gateway.client().workspace(id).await;
        workspace.map_err(|e| ReconcileError::gateway("for its workspace", &e))?
    };
    Ok(References { identity: AgentIdentity { workspace, ..references.identity }, adopted: true, ..references })
}
