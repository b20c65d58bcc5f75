//! Takes an agent away whose AgentGateway in another namespace no longer admits the namespace of the Agent.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::work::Work;
use super::{cleanup, dereference};
use crate::api::Reason;
use crate::api::agent::{Agent, DeletionPolicy, RevocationStatus};
use crate::api::object_key::ObjectKey;
use crate::controllers::Context;
use crate::core::agent::binding::Binding;
use crate::core::agent::conclude::PassEnd;
use crate::core::agent::deletion_policy::of_removal;
use crate::core::agent::revocation;
use crate::core::error::ReconcileError;
use crate::core::gateway_ref::resolved_gateway;
use crate::core::objects::{AgentIndex, Objects};
use crate::state::store::EventTarget;

/// The admission that an AgentGateway took back, as it is known in a pass.
#[derive(Debug, Default)]
pub(super) struct Revocation {
    /// The record for the status.
    pub(super) status: Option<RevocationStatus>,
    /// The time until the agent is removed.
    pub(super) ends_in: Option<Duration>,
}

impl Revocation {
    /// The recorded revocation of an Agent.
    pub(super) fn recorded(agent: &Agent) -> Self {
        Self { status: agent.status.as_ref().and_then(|status| status.revocation.as_deref().cloned()), ends_in: None }
    }

    /// Ends the revocation of an Agent that an AgentGateway admits, unless the Agent is still bound to the AgentGateway that does not.
    pub(super) fn end_if_admitted(&mut self, agent: &Agent) {
        let bound = Binding::of(agent).map(|binding| binding.gateway);
        self.status.take_if(|revocation| bound.as_ref() != Some(&revocation.gateway));
    }
}

fn namespace(agent: &Agent) -> &str {
    agent.metadata.namespace.as_deref().unwrap_or_default()
}

/// Records that the AgentGateway of the binding does not admit the Agent, and releases the agent after the grace period. It depends on
/// the binding alone: no change of the Agent or its Board keeps the agent there.
///
/// # Errors
/// The pass ends, unless the Agent is admitted or on its way to another AgentGateway.
pub(super) async fn settle(ctx: &Context, work: &mut Work, revoked: &mut Revocation) -> Result<(), PassEnd> {
    work.admitted_by = None;
    let Some(binding) = Binding::of(&work.agent) else { return Ok(()) };
    let Some(gateway) = ctx.state.store.gateway(&binding.gateway) else { return Ok(()) };
    let admitted = dereference::admits(&ctx.state.store, &gateway, &binding.gateway, namespace(&work.agent)).await;
    if admitted.map_err(ReconcileError::from)? {
        work.admitted_by = Some(binding.gateway);
        revoked.status = None;
        return Ok(());
    }
    stop_writes(ctx, &work.agent);
    let (now, grace_period) = (ctx.state.store.now(), gateway.spec.revocation_grace_period());
    let mut record = revocation::record(revoked.status.as_ref(), &binding.gateway, now);
    revoked.ends_in = revocation::remaining(&record, grace_period, now);
    revoked.status = Some(record.clone());
    let moves = resolved_gateway(&ctx.state.store, &work.agent).is_some_and(|key| key != binding.gateway);
    if revoked.ends_in.is_none() {
        work.agent = Box::pin(cleanup::release(ctx, &work.agent, &binding)).await?;
        work.token = None;
        record.removed_at = Some(Time(now));
        revoked.status = Some(record.clone());
    }
    match moves {
        true if revoked.ends_in.is_none() => Err(PassEnd::Released),
        true => Ok(()),
        false => {
            let policy = of_removal(&work.agent, Some(&gateway), &binding);
            Err(PassEnd::Failed(revocation::error(&record, namespace(&work.agent), grace_period, policy)))
        }
    }
}

/// The error of an Agent whose references do not hold. Without a binding, an Agent whose admission was revoked was released: the error
/// says so.
pub(super) fn refused(ctx: &Context, agent: &Agent, revoked: &mut Revocation, error: ReconcileError) -> ReconcileError {
    if matches!(error.reason, Reason::NotAdmitted | Reason::NotPermitted | Reason::NamespaceFull) {
        stop_writes(ctx, agent);
    }
    let released = revoked.status.as_mut().filter(|_| Binding::of(agent).is_none());
    let Some(record) = released.filter(|_| error.reason == Reason::NotAdmitted) else { return error };
    record.removed_at.get_or_insert_with(|| Time(ctx.state.store.now()));
    // The agent was released, so that its policy is no longer of interest.
    revocation::error(record, namespace(agent), Duration::ZERO, DeletionPolicy::default())
}

/// Withdraws the queued entry of the bound agent, so that it is not written.
pub(super) fn stop_writes(ctx: &Context, agent: &Agent) {
    if let Some(binding) = Binding::of(agent)
        && let Some(handle) = ctx.gateways.handle(&binding.gateway)
    {
        handle.client().withdraw(&binding.identity.agent_id);
    }
}

/// Whether an Agent is the first one of its namespace that is bound to an AgentGateway. An Agent that is being deleted is not reconciled
/// for a revocation.
fn speaks(ctx: &Context, gateway: &ObjectKey, agent: &Agent) -> bool {
    let peers = ctx.state.store.agents_by(&AgentIndex::BoundFrom(gateway.clone(), namespace(agent).to_owned()));
    let first = peers.iter().find(|peer| peer.metadata.deletion_timestamp.is_none());
    first.is_none_or(|first| first.metadata.uid == agent.metadata.uid)
}

/// Publishes the event of the AgentGateway that follows from a written status.
pub(super) async fn publish(ctx: &Context, before: &Agent, now: &Agent) {
    let record = |agent: &Agent| agent.status.as_ref().and_then(|status| status.revocation.as_deref().cloned());
    let (old, new) = (record(before), record(now));
    let Some(key) = new.as_ref().or(old.as_ref()).map(|record| &record.gateway) else { return };
    let stays = new.is_some() || Binding::of(now).is_some_and(|binding| binding.gateway == *key);
    let Some(gateway) = ctx.state.store.gateway(key).filter(|_| stays) else { return };
    let grace_period = gateway.spec.revocation_grace_period();
    let event = revocation::event(old.as_ref(), new.as_ref(), namespace(now), grace_period);
    // The admission is a matter of the namespace: one of its Agents says so. A release is one of a single agent.
    if let Some(event) = event.filter(|event| event.reason == revocation::RELEASED || speaks(ctx, key, now)) {
        ctx.state.store.publish(EventTarget::Gateway(&gateway), &event).await;
    }
}
