//! Taking over an agent that a gateway has already.

use std::sync::Arc;

use crate::api::Reason;
use crate::api::agent::{AdoptionPolicy, Agent};
use crate::controllers::gateway_handle::GatewayHandle;
use crate::core::agent::binding::{AgentIdentity, Binding};
use crate::core::agent::references::References;
use crate::core::error::ReconcileError;
use crate::openclaw::model::Inventory;

/// What the gateway has. It is read anew before a chosen id is bound, since what was read before may not show an agent that
/// somebody has just made, which would then be taken for our own.
///
/// # Errors
/// Why the gateway cannot be asked.
pub(crate) async fn inventory(link: &GatewayHandle, agent: &Agent) -> Result<Arc<Inventory>, ReconcileError> {
    if agent.spec.agent_id.is_some() && Binding::of(agent).is_none() && link.inventory().is_ok() {
        let read = link.client().resync().await;
        let again =
            || ReconcileError::transient(Reason::GatewayNotReady, "the gateway's roster could not be read just now");
        return link.inventory().and_then(|inventory| if read { Ok(inventory) } else { Err(again()) });
    }
    link.inventory()
}

/// Takes the agent that the gateway has under the chosen id for the one that is meant, when the Agent asks for that and
/// stands for nothing yet.
///
/// # Errors
/// Why the gateway cannot be asked.
pub(super) async fn settle(
    references: References,
    agent: &Agent,
    known: Option<(&Arc<GatewayHandle>, &Arc<Inventory>)>,
) -> Result<References, ReconcileError> {
    let Some((gateway, inventory)) = known else { return Ok(references) };
    let asks = agent.spec.adoption_policy == AdoptionPolicy::IfExists && agent.spec.agent_id.is_some();
    let id = references.identity.agent_id.as_str();
    let row = inventory.agents.get(id).filter(|row| asks && row.entry.is_some() && Binding::of(agent).is_none());
    let Some(row) = row else { return Ok(references) };
    let workspace = if let Some(workspace) = &row.workspace {
        workspace.clone()
    } else {
        let workspace = gateway.client().workspace(id).await;
        workspace.map_err(|e| ReconcileError::gateway("for its workspace", &e))?
    };
    Ok(References { identity: AgentIdentity { workspace, ..references.identity }, adopted: true, ..references })
}
