//! The pass of an Agent with `spec.managementPolicy: Observe`: dereference, observe. Nothing is written to the gateway.

use super::dereference::AgentParents;
use super::gateway_access::{GatewayAccess, held_permit, requeue_when_settled, try_permit};
use super::revocation::{self, Revocation};
use super::work::Work;
use super::{cleanup, lost_gateway, observe};
use crate::api::agent::Agent;
use crate::controllers::Context;
use crate::core::agent::binding::Binding;
use crate::core::agent::blocked::gateway_suspended;
use crate::core::agent::conclude::PassEnd;
use crate::core::agent::heartbeat::paused;
use crate::core::agent::observer::{self, ObserverInput, ObserverTarget, SeenAgent};
use crate::core::agent::status::is_observed;
use crate::core::gateway_ref::address;

/// The results of a pass so far.
#[derive(Default)]
pub(super) struct ObserverFacts {
    target: Option<ObserverTarget>,
    seen: Option<SeenAgent>,
}

impl ObserverFacts {
    /// The part of the input of the status that an Agent has which only observes.
    pub(super) fn input(&self, agent: &Agent) -> Option<ObserverInput<'_>> {
        let is_bound = Binding::of(agent).is_some();
        let input = || ObserverInput { is_bound, target: self.target.as_ref(), seen: self.seen.as_ref() };
        agent.is_observer().then(input)
    }
}

/// One pass. The first step that fails ends the pass.
pub(super) async fn pass(
    ctx: &Context,
    work: &mut Work,
    revocation: &mut Revocation,
    facts: &mut ObserverFacts,
) -> Result<PassEnd, PassEnd> {
    // The entry of an Agent that was managed until now may wait for the next config write.
    revocation::stop_writes(ctx, &work.agent);
    lost_gateway::release(ctx, work).await?; // I/O
    revocation::settle(ctx, work, revocation).await?; // I/O
    let early_permit = try_permit(ctx, &work.agent)?; // pure
    let parents = AgentParents::of(ctx, work).await; // I/O
    let parents = parents.map_err(|error| revocation::refused(ctx, &work.agent, revocation, error))?;
    revocation.end_if_admitted(&work.agent);
    leave_earlier_gateway(ctx, work, &parents).await?; // I/O
    let store = &ctx.state.store;
    let target = facts.target.insert(ObserverTarget {
        identity: observer::identity(store, &work.agent, &parents.gateway)?, // pure
        gateway: parents.gateway_key.clone(),
        requests: parents.requests(&work.agent, store.now()),
        is_suspended: paused(&work.agent, parents.board.as_deref()).is_some(),
        resync_interval: parents.gateway.spec.resync_interval(),
    });
    if let Some(suspended) = gateway_suspended(&parents.gateway) {
        return Err(suspended.into());
    }
    let access = GatewayAccess::of(ctx, &target.gateway, &address(&parents.gateway.spec.url), &work.agent).await;
    if access.is_settling && is_observed(&work.agent) && !access.is_ready() {
        return Err(requeue_when_settled());
    }
    let (gateway, inventory) = access.ready(&target.gateway)?;
    let _permit = held_permit(&gateway, early_permit, &work.agent)?;
    facts.seen = Some(observe::seen(&gateway, &inventory, target, store.now()).await?); // I/O
    Ok(PassEnd::Observed)
}

/// Releases the binding to another AgentGateway than that of the references. The agent stays there.
async fn leave_earlier_gateway(ctx: &Context, work: &mut Work, parents: &AgentParents) -> Result<(), PassEnd> {
    let earlier = Binding::of(&work.agent).filter(|binding| binding.gateway != parents.gateway_key);
    let Some(binding) = earlier else { return Ok(()) };
    work.agent = Box::pin(cleanup::release(ctx, &work.agent, &binding)).await?;
    work.token = None;
    Err(PassEnd::Released)
}
