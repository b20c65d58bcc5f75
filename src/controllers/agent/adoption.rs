//! The adoption of an agent that exists on its gateway.

use std::sync::Arc;

use super::take_up;
use crate::api::Reason;
use crate::api::agent::{AdoptionPolicy, Agent};
use crate::controllers::gateway_handle::GatewayHandle;
use crate::core::agent::binding::Binding;
use crate::core::agent::references::References;
use crate::core::error::ReconcileError;
use crate::openclaw::model::Inventory;

/// The inventory of the gateway. Before an Agent with `spec.agentId` is bound, the inventory is read again: an older one may lack an
/// agent that another client has just created, which Muster would then take for its own. No other client creates an agent of a claimed id.
/// An Agent that only observes takes nothing for its own.
///
/// # Errors
/// `GatewayNotReady`.
pub(crate) async fn inventory(
    gateway: &GatewayHandle,
    agent: &Agent,
    address: &str,
) -> Result<Arc<Inventory>, ReconcileError> {
    let may_bind = agent.spec.agent_id.is_some() && !agent.is_observer() && !is_bound_at(agent, address);
    if may_bind && gateway.inventory().is_ok() {
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

/// Settles the names of an Agent that is not bound, by the agents of the gateway: a claim is taken up or refused, and an existing agent of the id
/// `spec.agentId` is adopted if the adoption policy is `IfExists`.
///
/// # Errors
/// The claim is refused, or a request to the gateway failed.
pub(crate) async fn settle(
    references: References,
    agent: &Agent,
    known: Option<(&Arc<GatewayHandle>, &Arc<Inventory>)>,
) -> Result<References, ReconcileError> {
    let Some((gateway, inventory)) = known else { return Ok(references) };
    let references = if references.names.is_claim {
        take_up::settle(references, agent, gateway, inventory).await?
    } else {
        references
    };
    if references.names.adopted || references.names.taken_up {
        return Ok(references);
    }
    let may_adopt = agent.spec.adoption_policy == AdoptionPolicy::IfExists && agent.spec.agent_id.is_some();
    let id = references.names.identity.agent_id.as_str();
    let may_adopt = may_adopt && !is_bound_at(agent, &references.address);
    let row = inventory.agents.get(id).filter(|row| may_adopt && row.entry.is_some());
    let Some(row) = row else { return Ok(references) };
    Ok(references.adopting(gateway.workspace_path(row).await?))
}
