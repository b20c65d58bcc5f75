//! Taking over an agent that a gateway has already.

use std::sync::Arc;

use super::link::{Link, trouble};
use super::ports::Store;
use super::references::{References, same_gateway};
use crate::api::Reason;
use crate::api::agent::{AdoptionPolicy, Agent};
use crate::gateway::Inventory;
use crate::plan::{Binding, Identity, Trouble};

/// What the gateway has. It is read anew before a chosen id is bound, since what was read before may not show an agent that
/// somebody has just made, which would then be taken for our own.
///
/// # Errors
/// Why the gateway cannot be asked.
pub async fn inventory(link: &Link, agent: &Agent) -> Result<Arc<Inventory>, Trouble> {
    if agent.spec.agent_id.is_some() && Binding::of(agent).is_none() && link.inventory().is_ok() {
        let read = link.client().resync().await;
        let again = || Trouble::transient(Reason::GatewayNotReady, "the gateway's roster could not be read just now");
        return link.inventory().and_then(|inventory| if read { Ok(inventory) } else { Err(again()) });
    }
    link.inventory()
}

/// Takes the agent that the gateway has under the chosen id for the one that is meant, when the Agent asks for that and
/// stands for nothing yet.
///
/// # Errors
/// Why the gateway cannot be asked.
pub async fn settle(
    references: References,
    agent: &Agent,
    (link, inventory): (&Link, &Inventory),
) -> Result<References, Trouble> {
    let asks = agent.spec.adoption_policy == AdoptionPolicy::IfExists && agent.spec.agent_id.is_some();
    let id = references.identity.agent_id.as_str();
    let row = inventory.agents.get(id).filter(|row| asks && row.entry.is_some() && Binding::of(agent).is_none());
    let Some(row) = row else { return Ok(references) };
    let workspace = match &row.workspace {
        Some(workspace) => workspace.clone(),
        None => link.client().workspace(id).await.map_err(|e| trouble("for its workspace", &e))?,
    };
    Ok(References { identity: Identity { workspace, ..references.identity }, adopted: true, ..references })
}

/// Whether another Agent stands for the same agent of the same gateway, and is to stay: two that ask for one id at the same
/// moment may both be bound to it before either sees the other.
#[must_use]
pub fn is_shared<S: Store>(store: &S, agent: &Agent, binding: &Binding) -> bool {
    let same = |b: Binding| {
        b.identity.agent_id == binding.identity.agent_id && same_gateway(store, &b.gateway, &binding.gateway)
    };
    store.agents().iter().any(|other| {
        other.metadata.uid != agent.metadata.uid
            && other.metadata.deletion_timestamp.is_none()
            && Binding::of(other).is_some_and(same)
    })
}
