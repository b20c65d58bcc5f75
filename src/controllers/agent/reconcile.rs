//! The reconcile of an Agent.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::Instant;
use tracing::debug;

use super::gateway_access::{GatewayAccess, defer_for_peers, held_permit, requeue_when_settled, try_permit};
use super::observer::ObserverFacts;
use super::revocation::{self, Revocation};
use super::work::{StepContext, Work};
use super::{adoption, apply, cleanup, dereference, lost_gateway, observe, observer};
use crate::api::agent::{Agent, AgentStatus};
use crate::api::keys;
use crate::api::object_key::ObjectKey;
use crate::api::requests::RequestKind;
use crate::controllers::Context;
use crate::controllers::gateway_handle::GatewayHandle;
use crate::controllers::status_writer::{Written, write_agent};
use crate::core::agent::binding::Binding;
use crate::core::agent::blocked::gateway_suspended;
use crate::core::agent::build::build;
use crate::core::agent::claim::annotated_id;
use crate::core::agent::conclude::{AppliedPlan, Conclusion, NextPass, PassEnd, conclude};
use crate::core::agent::desired::Desired;
use crate::core::agent::observed::Observed;
use crate::core::agent::plan::{ClusterState, Plan, plan};
use crate::core::agent::session::{self, SessionChange};
use crate::core::agent::status::is_observed;
use crate::core::agent::status_input::StatusInput;
use crate::core::agent::token::rules::TokenState;
use crate::core::agent::workspaces::{self, WantedWorkspace};
use crate::core::ownership;
use crate::core::requeue::Requeue;
use crate::openclaw::model::AgentActivity;

/// The most passes of one reconcile. The next reconcile does the rest.
const MAX_PASSES: usize = 6;

/// Brings an Agent closer to its desired state.
///
/// # Guarantees
/// - No state is kept from one call to the next.
/// - Each failure is recorded in the status of the Agent.
/// - An Agent in its desired state causes no write.
pub async fn reconcile(ctx: &Context, agent: &Arc<Agent>) -> Requeue {
    if agent.metadata.deletion_timestamp.is_some() {
        return Box::pin(cleanup::deleting(ctx, agent)).await;
    }
    let mut work = Work::new(Arc::clone(agent));
    for _ in 0..MAX_PASSES {
        let mut facts = Facts { revocation: Revocation::recorded(&work.agent), ..Facts::default() };
        let end = if work.agent.is_observer() {
            Box::pin(observer::pass(ctx, &mut work, &mut facts.revocation, &mut facts.observer)).await
        } else {
            Box::pin(pass(ctx, &mut work, &mut facts)).await
        };
        let end = end.unwrap_or_else(|early| early);
        let Conclusion { status, next } = facts.conclude(ctx, &work.agent, &end);
        match write_agent(ctx, &work.agent, &status).await {
            Written::Unchanged => {}
            Written::Now(agent) => {
                revocation::publish(ctx, &work.agent, &agent).await;
                work.agent = agent;
                work.is_confirmed = true;
            }
            Written::Outdated => return Requeue::soon(),
            Written::Failed => return Requeue::retry(),
        }
        match next {
            NextPass::Again => {}
            NextPass::Requeue(requeue) => return requeue.no_later(facts.revocation.ends_in),
        }
    }
    Requeue::soon()
}

/// The results of a pass so far.
#[derive(Default)]
struct Facts {
    token: Option<TokenState>,
    desired: Option<Desired>,
    observed: Option<Observed>,
    observer: Box<ObserverFacts>,
    revocation: Revocation,
}

/// One pass: dereference, build, observe, plan, apply. The first step that fails ends the pass.
async fn pass(ctx: &Context, work: &mut Work, facts: &mut Facts) -> Result<PassEnd, PassEnd> {
    let began = Instant::now();
    lost_gateway::release(ctx, work).await?; // I/O
    revocation::settle(ctx, work, &mut facts.revocation).await?; // I/O
    let early_permit = try_permit(ctx, &work.agent)?; // pure
    let refs = dereference::read(ctx, work).await; // I/O
    let refs = refs.map_err(|error| revocation::refused(ctx, &work.agent, &mut facts.revocation, error))?;
    facts.revocation.end_if_admitted(&work.agent);
    let access = GatewayAccess::of(ctx, &refs.gateway_key, &refs.address, &work.agent).await; // I/O
    let refs = adoption::settle(refs, &work.agent, access.known()).await?; // I/O
    workspaces::check(&ctx.state.store, WantedWorkspace::of(&work.agent, &refs), access.inventory())?; // pure
    facts.token = Some(refs.token.state.clone());
    let desired = &*facts.desired.insert(build(&work.agent, &refs, access.inventory())?); // pure
    if let Some(suspended) = gateway_suspended(&refs.gateway) {
        return Err(suspended.into());
    }
    if access.is_settling && is_observed(&work.agent) && !access.is_ready() {
        return Err(requeue_when_settled());
    }
    let (gateway, inventory) = access.ready(&refs.gateway_key)?;
    let permit = held_permit(&gateway, early_permit, &work.agent)?;
    let status = work.agent.status.clone().unwrap_or_default();
    relist_for_requests(&gateway, desired, &status, work);
    let now = ctx.state.store.now();
    let observed = observe::agent(&gateway, &inventory, desired, &status, now).await?; // I/O
    let observed = facts.observed.insert(observed);
    let plan = planned(ctx, &work.agent, &status, (desired, &refs.token.state, observed)); // pure
    let (plan, deferred) = defer_for_peers(plan, &ObjectKey::of(&work.agent.metadata), &gateway, &permit);
    let step = StepContext { ctx, gateway: &gateway, token: &refs.token, desired, began };
    let outcome = apply::run(&step, work, observed, &plan.steps).await; // I/O
    Ok(PassEnd::Applied(Box::new(AppliedPlan { plan, deferred, outcome })))
}

fn planned(
    ctx: &Context,
    agent: &Agent,
    status: &AgentStatus,
    (desired, token, observed): (&Desired, &TokenState, &Observed),
) -> Plan {
    let reported = ctx.state.heartbeats.newer_than_status(agent);
    let last_seen = reported.as_ref().or(status.heartbeat.as_ref()).map(|heartbeat| heartbeat.last_seen.0);
    let binding = Binding::of(agent);
    let is_claimed = ownership::has_finalizer(&agent.metadata, keys::AGENT_FINALIZER);
    let (binding, annotated_id) = (binding.as_ref(), annotated_id(agent));
    let cluster = ClusterState { is_claimed, annotated_id, binding, token, status, last_seen };
    let plan = plan(desired, cluster, observed, ctx.state.store.now());
    debug!(agent = %ObjectKey::of(&agent.metadata), ?plan, "planned");
    plan
}

/// Removes the agent from the cache if its present state is needed: for a request, and for the reset of a session, which is identified
/// by the time of its last change.
fn relist_for_requests(gateway: &Arc<GatewayHandle>, desired: &Desired, status: &AgentStatus, work: &mut Work) {
    let activity = gateway.client().activity();
    let is_running = activity.borrow().of(&desired.identity.agent_id).is_some_and(AgentActivity::is_running);
    let mut kinds =
        RequestKind::ALL.into_iter().filter(|kind| !matches!(kind, RequestKind::Rotate | RequestKind::Wake));
    let is_needed = kinds.any(|kind| desired.requests.due(kind).is_some())
        || session::change(desired, status, is_running) == SessionChange::Begin;
    if is_needed && !work.is_relisted {
        work.is_relisted = true;
        gateway.cache.forget(&desired.identity.agent_id);
    }
}

/// No request is fulfilled before the Steps of a plan are done.
static NO_REQUESTS: BTreeSet<RequestKind> = BTreeSet::new();

impl Facts {
    fn conclude(&self, ctx: &Context, agent: &Agent, end: &PassEnd) -> Conclusion {
        let (status, heartbeats) = (agent.status.clone().unwrap_or_default(), &ctx.state.heartbeats);
        let (heartbeat, confirmed) = (heartbeats.newer_than_status(agent), heartbeats.confirmed(agent));
        let facts = StatusInput {
            old: &status,
            generation: agent.metadata.generation.unwrap_or_default(),
            desired: self.desired.as_ref(),
            observed: self.observed.as_ref(),
            observer: self.observer.input(agent),
            token: self.token.as_ref(),
            blocker: None,
            heartbeat: heartbeat.as_ref(),
            woken: None,
            labelled: None,
            confirmed: confirmed.as_ref(),
            fulfilled: &NO_REQUESTS,
            begins_reset: false,
            revocation: self.revocation.status.as_ref(),
            now: ctx.state.store.now(),
        };
        conclude(&facts, end)
    }
}
