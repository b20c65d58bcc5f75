//! The access of a reconcile to a gateway: the handle, the inventory, and a permit.

use std::sync::Arc;
use std::time::Duration;

use super::adoption;
use crate::api::Reason;
use crate::api::agent::Agent;
use crate::api::object_key::ObjectKey;
use crate::controllers::Context;
use crate::controllers::gateway_handle::{AgentPermit, GatewayHandle, SetUp};
use crate::core::agent::binding::Binding;
use crate::core::agent::conclude::PassEnd;
use crate::core::agent::plan::Plan;
use crate::core::agent::status::{is_observed, is_ready};
use crate::core::error::ReconcileError;
use crate::core::gateway_ref::resolved_gateway;
use crate::core::kstatus::Settled;
use crate::core::requeue::Requeue;
use crate::openclaw::model::Inventory;
use crate::state::changes::STARTUP_GRACE;

/// The access of an Agent's reconcile to its gateway.
pub(super) struct GatewayAccess {
    /// Whether the connection is opening, or was just lost. Meanwhile the recorded status stays.
    pub(super) is_settling: bool,
    gateway: Option<Arc<GatewayHandle>>,
    inventory: Option<Result<Arc<Inventory>, ReconcileError>>,
}

impl GatewayAccess {
    /// The access to this gateway at this address. A connection to its former address is none.
    pub(super) async fn of(ctx: &Context, key: &ObjectKey, address: &str, agent: &Agent) -> Self {
        // Read first: a connection that opens afterwards triggers another reconcile.
        let is_settling = ctx.gateways.is_settling(key);
        let gateway = ctx.gateways.handle_at(key, address);
        let is_settling = is_settling || gateway.is_none() && ctx.gateways.handle(key).is_some();
        let inventory = match &gateway {
            Some(gateway) => Some(adoption::inventory(gateway, agent, address).await),
            None => None,
        };
        Self { is_settling, gateway, inventory }
    }

    /// The handle and the inventory, if both are known.
    pub(super) fn known(&self) -> Option<(&Arc<GatewayHandle>, &Arc<Inventory>)> {
        self.gateway.as_ref().zip(self.inventory.as_ref()?.as_ref().ok())
    }

    /// The inventory, if it is known.
    pub(super) fn inventory(&self) -> Option<&Inventory> {
        self.known().map(|(_, inventory)| inventory.as_ref())
    }

    /// Whether both are known.
    pub(super) fn is_ready(&self) -> bool {
        self.known().is_some()
    }

    /// The handle and the inventory.
    ///
    /// # Errors
    /// `GatewayNotReady`.
    pub(super) fn ready(&self, key: &ObjectKey) -> Result<(Arc<GatewayHandle>, Arc<Inventory>), ReconcileError> {
        match (&self.gateway, &self.inventory) {
            (Some(gateway), Some(Ok(inventory))) => Ok((Arc::clone(gateway), Arc::clone(inventory))),
            (_, Some(Err(error))) => Err(error.clone()),
            (_, None) | (None, _) => {
                let message =
                    format!("there is no connection to gateway {key}; see the conditions of that AgentGateway");
                Err(ReconcileError::transient(Reason::GatewayNotReady, message))
            }
        }
    }
}

/// A permit for the gateway: the early permit if it is of this handle, or else a new one.
///
/// # Errors
/// The end of a pass without a permit.
pub(super) fn held_permit(
    gateway: &Arc<GatewayHandle>,
    early: Option<AgentPermit>,
    agent: &Agent,
) -> Result<AgentPermit, PassEnd> {
    early.filter(|permit| permit.is_of(gateway)).or_else(|| permit(gateway, agent)).ok_or_else(requeue_without_permit)
}

/// A permit of the agent's gateway, before anything is read: nothing is read for an agent that waits for a permit or for the connection.
/// A new spec is read at once, so that its errors are shown at once.
///
/// # Errors
/// The end of a pass without a permit.
pub(super) fn try_permit(ctx: &Context, agent: &Agent) -> Result<Option<AgentPermit>, PassEnd> {
    let key = resolved_gateway(&ctx.state.store, agent).filter(|_| is_observed(agent));
    let Some(key) = key else { return Ok(None) };
    match ctx.gateways.handle(&key).filter(|gateway| gateway.inventory().is_ok()) {
        Some(gateway) => permit(&gateway, agent).map(Some).ok_or_else(requeue_without_permit),
        None if ctx.gateways.is_settling(&key) => Err(requeue_when_settled()),
        None => Ok(None),
    }
}

fn permit(gateway: &Arc<GatewayHandle>, agent: &Agent) -> Option<AgentPermit> {
    let set_up = match Binding::of(agent) {
        // Nothing is set up, so that no peer waits for it.
        _ if agent.is_observer() => SetUp::Ready,
        None => SetUp::New,
        Some(binding) if agent.is_settled() && !gateway.cache.knows(&binding.identity.agent_id) => SetUp::Unseen,
        Some(_) if is_ready(agent) => SetUp::Ready,
        Some(_) => SetUp::Unready,
    };
    gateway.agent_permit(&ObjectKey::of(&agent.metadata), set_up)
}

/// The end of a pass while the connection is opening, or was just lost. The recorded status stays. The connection triggers a reconcile.
pub(super) fn requeue_when_settled() -> PassEnd {
    PassEnd::Postponed(Requeue::after(STARTUP_GRACE))
}

/// The end of a pass without a permit. The Agent is woken when a place is kept for it.
fn requeue_without_permit() -> PassEnd {
    PassEnd::Postponed(Requeue::on_change())
}

/// Leaves out of a plan what can wait until the peers on the gateway are set up. Returns the plan, and how much longer what is left out waits.
pub(super) fn defer_for_peers(
    plan: Plan,
    agent: &ObjectKey,
    gateway: &GatewayHandle,
    permit: &AgentPermit,
) -> (Plan, Option<Duration>) {
    if !plan.waits_for_peers() {
        return (plan, None);
    }
    permit.mark_ready();
    let wait = gateway.wait_for_peers(agent, permit);
    (if wait.is_some() { Plan::default() } else { plan }, wait)
}
