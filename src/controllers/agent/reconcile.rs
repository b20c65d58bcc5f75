//! The reconcile of an Agent.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tracing::debug;

use super::step_context::StepContext;
use super::templates::TemplatesError;
use crate::api::agent::{Agent, AgentStatus, HeartbeatStatus};
use crate::api::conditions::is_true;
use crate::api::object_key::ObjectKey;
use crate::api::requests::RequestKind;
use crate::api::{ConditionType, Reason, keys};
use crate::controllers::agent::{adoption, apply, cleanup, dereference, observe};
use crate::controllers::gateway_handle::{AgentPermit, GatewayHandle, WITHOUT_A_PLACE};
use crate::controllers::status_writer::{kubernetes, write_status};
use crate::controllers::{Context, Requeue};
use crate::core::agent::binding::Binding;
use crate::core::agent::blocked::Blocker;
use crate::core::agent::build;
use crate::core::agent::cleanup::Presence;
use crate::core::agent::desired::Desired;
use crate::core::agent::label::{LabelDecision, LabelResult, labelling};
use crate::core::agent::liveness::Liveness;
use crate::core::agent::observed::{Observed, Registration};
use crate::core::agent::plan::{ClusterState, Plan, Step, plan};
use crate::core::agent::references::References;
use crate::core::agent::session::{self, SessionChange};
use crate::core::agent::status::status;
use crate::core::agent::status_input::StatusInput;
use crate::core::agent::token::rules::{self, TokenState};
use crate::core::agent::wake::{WakeDecision, waking};
use crate::core::error::ReconcileError;
use crate::core::gateway_ref::resolved_gateway;
use crate::core::ownership;
use crate::openclaw::model::AgentActivity;
use crate::state::changes::STARTING;
use crate::state::store::Store;

/// A reconcile looks at most this often before it leaves the rest to the next one.
const MOST_ROUNDS: usize = 6;

/// How long an agent waits for others before it looks whether it may do what they come before.
const AFTER_THE_OTHERS: Duration = Duration::from_secs(3);

/// Brings one Agent a step nearer to what its spec asks for.
///
/// # Guarantees
/// Nothing is remembered from one call to the next. Every failure ends up in the Agent's status. When all is as it
/// should be, nothing is written.
pub async fn reconcile<S: Store>(ctx: &Context<S>, agent: &Agent) -> Requeue {
    if agent.metadata.deletion_timestamp.is_some() {
        return Box::pin(cleanup::deleting(ctx, agent)).await;
    }
    let mut turn = Turn { agent: agent.clone(), fresh: false, looked_anew: false };
    for _ in 0..MOST_ROUNDS {
        let round = Box::pin(round(ctx, &mut turn)).await;
        let Some(recorded) = write_status(ctx, &turn.agent, &round.status).await else { return Requeue::retry() };
        turn.agent = recorded;
        match round.end {
            End::Again => {}
            End::Requeue(next) => return next,
        }
    }
    Requeue::retry()
}

/// The agent that is worked on.
struct Turn {
    agent: Agent,
    /// Whether it came from the API server, or from a write of ours, and not from the cache, which may lag behind.
    fresh: bool,
    /// Whether workspace and session were read anew for a request. Once is enough: what the gateway refused since is known.
    looked_anew: bool,
}

/// One look at an agent and what was done about it.
struct Round {
    status: AgentStatus,
    end: End,
}

enum End {
    Again,
    Requeue(Requeue),
}

/// What is known so far, when a round ends before its plan.
#[derive(Default)]
struct Partial<'a> {
    desired: Option<&'a Desired>,
    token: Option<&'a TokenState>,
}

async fn round<S: Store>(ctx: &Context<S>, turn: &mut Turn) -> Round {
    let agent = &mut turn.agent;
    if let Some(binding) = Binding::of(agent)
        && cleanup::presence(&ctx.state.store, &binding) != Presence::Here
    {
        return match cleanup::step(ctx, agent, &binding).await {
            Ok(released) => {
                *agent = released;
                ended(ctx, agent, &Partial::default(), None)
            }
            Err(trouble) => ended(ctx, agent, &Partial::default(), Some(trouble)),
        };
    }
    let Ok(early) = early_place(ctx, agent) else { return without_a_place(agent) };
    let references = match dereference::read(&ctx.state.store, agent).await {
        Ok(references) => {
            let soul = ctx.souls.of(agent, &references).await;
            References { soul, ..references }
        }
        Err(error) => return ended(ctx, agent, &Partial::default(), Some(cause(error))),
    };
    // Asked first: it may be connected a moment later, and the news of that comes then.
    let unknown_yet = ctx.gateways.unknown_yet(&references.gateway_key);
    let link = ctx.gateways.link(&references.gateway_key);
    let inventory = match &link {
        Some(link) => Some(adoption::inventory(link, agent).await),
        None => None,
    };
    let known = inventory.as_ref().and_then(|i| i.as_ref().ok());
    let references = match link.as_ref().zip(known) {
        None => references,
        Some((link, inventory)) => match adoption::settle(references, agent, (link, inventory)).await {
            Ok(references) => references,
            Err(trouble) => return ended(ctx, agent, &Partial::default(), Some(trouble)),
        },
    };
    let token = &references.token.state;
    let accepted = known.map(|inventory| &inventory.capabilities.accepted_files);
    let heard_since = heard_since(ctx, agent);
    let desired = match build::desired(agent, &references, accepted) {
        Ok(desired) => Desired { heard_since, ..desired },
        Err(trouble) => {
            return ended(ctx, agent, &Partial { token: Some(token), ..Partial::default() }, Some(trouble));
        }
    };
    if unknown_yet && looked_at(agent) && !matches!(inventory, Some(Ok(_))) {
        let end = End::Requeue(Requeue::after(STARTING));
        return Round { status: agent.status.clone().unwrap_or_default(), end };
    }
    let partial = Partial { desired: Some(&desired), token: Some(token) };
    let (link, inventory) = match (link, inventory) {
        (Some(link), Some(Ok(inventory))) => (link, inventory),
        (_, Some(Err(trouble))) => return ended(ctx, agent, &partial, Some(trouble)),
        (_, None) | (None, _) => return ended(ctx, agent, &partial, Some(no_connection(&references))),
    };
    let early = early.filter(|slot| slot.is_at(&link));
    let Some(slot) = early.or_else(|| slot(&link, agent)) else { return without_a_place(agent) };
    let old = agent.status.clone().unwrap_or_default();
    if !turn.looked_anew && looks_anew(&link, &desired, &old) {
        turn.looked_anew = true;
        link.forget(&desired.identity.agent_id);
    }
    match observe::agent(&link, &inventory, &desired, &old, ctx.state.store.now()).await {
        Ok(observed) => work(ctx, turn, (&link, &slot), &references, &desired, observed).await,
        Err(trouble) => ended(ctx, agent, &partial, Some(trouble)),
    }
}

/// A place at the agent's gateway, where there is nothing to do without one: nothing is read for who has to wait for it. A
/// new spec is read at once, so that what is wrong with it is said at once.
fn early_place<S: Store>(ctx: &Context<S>, agent: &Agent) -> Result<Option<AgentPermit>, NoPlace> {
    let gateway = resolved_gateway(&ctx.state.store, agent).filter(|_| looked_at(agent));
    let link = gateway.and_then(|key| ctx.gateways.link(&key)).filter(|link| link.inventory().is_ok());
    let Some(link) = link else { return Ok(None) };
    let slot = slot(&link, agent).ok_or(NoPlace)?;
    if agent.status.as_ref().is_some_and(|status| is_true(&status.conditions, ConditionType::Ready)) {
        slot.ready();
    }
    Ok(Some(slot))
}

fn slot(link: &Arc<GatewayHandle>, agent: &Agent) -> Option<AgentPermit> {
    link.slot(&ObjectKey::of(&agent.metadata), Binding::of(agent).is_none())
}

/// The gateway has as many reconciles as it may have.
struct NoPlace;

/// The agent is told when there is a place.
fn without_a_place(agent: &Agent) -> Round {
    let end = End::Requeue(Requeue::after(WITHOUT_A_PLACE));
    Round { status: agent.status.clone().unwrap_or_default(), end }
}

/// Since when a silence of the agent counts. One that had checked in may have called while no operator was there to hear
/// it; one that had not is not taken for present because of a restart.
fn heard_since<S: Store>(ctx: &Context<S>, agent: &Agent) -> Timestamp {
    let started = ctx.state.heartbeats.heard_since(ctx.state.store.now());
    let checked_in = agent.status.as_ref().is_some_and(|s| is_true(&s.conditions, ConditionType::CheckedIn));
    if checked_in { started } else { Timestamp::MIN }
}

/// Whether what was seen of the agent's workspace and session is not enough: a request is to be done to what is there now, and
/// a session that is to end is told by when it last changed.
fn looks_anew(link: &GatewayHandle, desired: &Desired, status: &AgentStatus) -> bool {
    let runs = link.client().activity();
    let is_running = runs.borrow().of(&desired.identity.agent_id).is_some_and(AgentActivity::is_running);
    let asked = RequestKind::ALL.into_iter().filter(|kind| *kind != RequestKind::Rotate);
    asked.into_iter().any(|kind| desired.requests.due(kind).is_some())
        || session::change(desired, status, is_running) == SessionChange::Begin
}

/// Whether the status is about the spec as it is now.
fn looked_at(agent: &Agent) -> bool {
    agent.status.as_ref().map(|status| status.observed_generation) == agent.metadata.generation
}

/// Plans and acts.
async fn work<S: Store>(
    ctx: &Context<S>,
    turn: &mut Turn,
    (link, slot): (&GatewayHandle, &AgentPermit),
    references: &References,
    desired: &Desired,
    mut observed: Observed,
) -> Round {
    let Turn { agent, fresh, .. } = turn;
    let old = agent.status.clone().unwrap_or_default();
    let heartbeat = ctx.state.heartbeats.newer(agent);
    let last_seen = heartbeat.as_ref().or(old.heartbeat.as_ref()).map(|h| h.last_seen.0);
    let binding = Binding::of(agent);
    let known = ClusterState { binding: binding.as_ref(), token: &references.token.state, status: &old, last_seen };
    let plan = plan(desired, known, &observed, ctx.state.store.now());
    debug!(agent = %ObjectKey::of(&agent.metadata), ?plan, "planned");
    let (plan, put_off) = first_things_first(plan, link, slot);
    if !plan.steps.is_empty() && !*fresh {
        *fresh = true;
        if !begins_with_a_claim(&plan, agent)
            && let Some(round) = refresh(ctx, agent).await
        {
            return round;
        }
    }
    let scene = StepContext { ctx, link, references, desired };
    let released = plan.steps.iter().any(|step| matches!(step, Step::Release(_)));
    let outcome = apply::run(&scene, agent, &mut observed, &plan.steps).await;
    // A Step may have recorded something.
    let old = agent.status.clone().unwrap_or_default();
    let wait = match (outcome.failed, plan.wait) {
        (Some(trouble), _) => Some(Blocker::Blocked(trouble)),
        (None, wait) => wait,
    };
    let now = ctx.state.store.now();
    let fulfilled = if wait.is_none() { plan.fulfils } else { BTreeSet::new() };
    let confirmed = ctx.state.heartbeats.confirmed(agent);
    let report = StatusInput {
        old: &old,
        generation: agent.metadata.generation.unwrap_or_default(),
        desired: Some(desired),
        observed: Some(&observed),
        // A release has replaced the token that was read.
        token: Some(&references.token.state).filter(|_| !released),
        wait: wait.as_ref(),
        heartbeat: heartbeat.as_ref(),
        woken: outcome.woken.as_ref(),
        labelled: outcome.labelled.as_ref(),
        confirmed: confirmed.as_ref(),
        fulfilled: &fulfilled,
        begins_reset: plan.begins_reset && wait.is_none(),
        now,
    };
    let status = status(&report);
    // What the status has let go of is then dropped from the Secret.
    let more_about_the_token = rules::change(desired, &references.token.state, status.token.as_ref(), now).is_some();
    // While an agent is set up, what a round has to say is said better by the one that follows it.
    let is_said_next = (plan.again || put_off) && wait.is_none() && observed.registration != Registration::Current;
    let status = if is_said_next { old } else { status };
    let end = match &wait {
        None if put_off => End::Requeue(Requeue::after(AFTER_THE_OTHERS)),
        None if outcome.labelled.as_ref().is_some_and(LabelResult::may_work_later) => End::Requeue(Requeue::retry()),
        None if plan.again || more_about_the_token => End::Again,
        None => End::Requeue(Requeue::after(rest(desired, (&status, &observed), now))),
        Some(wait) => End::Requeue(after_wait(wait, desired)),
    };
    Round { status, end }
}

/// Puts off what can wait until others at the gateway are as far.
fn first_things_first(plan: Plan, link: &GatewayHandle, slot: &AgentPermit) -> (Plan, bool) {
    let Some(first) = plan.first_part() else { return (plan, false) };
    if first.steps.is_empty() {
        slot.ready();
    }
    if link.is_crowded_beside(slot) { (first, true) } else { (plan, false) }
}

/// Whether the plan begins with a write that the API server refuses should the Agent have changed since it was read.
fn begins_with_a_claim(plan: &Plan, agent: &Agent) -> bool {
    matches!(plan.steps[..], [Step::Bind(_), ..]) && !ownership::has_finalizer(&agent.metadata, keys::AGENT_FINALIZER)
}

/// Reads the agent again before anything is done about it. Gives the round's end when the cache was behind.
async fn refresh<S: Store>(ctx: &Context<S>, agent: &mut Agent) -> Option<Round> {
    let end = match ctx.state.store.fresh_agent(&ObjectKey::of(&agent.metadata)).await {
        Ok(Some(now)) if now.metadata.resource_version == agent.metadata.resource_version => return None,
        Ok(Some(now)) if now.metadata.deletion_timestamp.is_none() => {
            *agent = now;
            End::Again
        }
        Ok(Some(_) | None) => End::Requeue(Requeue::on_change()),
        Err(_) => End::Requeue(Requeue::retry()),
    };
    Some(Round { status: agent.status.clone().unwrap_or_default(), end })
}

/// How long nothing will happen by itself.
fn rest(desired: &Desired, (status, observed): (&AgentStatus, &Observed), now: Timestamp) -> Duration {
    let seen = status.heartbeat.as_ref().map(|h| h.last_seen.0);
    let signs = Liveness::of(seen, status, Some(observed));
    let wake = match waking(desired, status.wake.as_ref(), &signs, now) {
        WakeDecision::Until(at) | WakeDecision::Again(at) | WakeDecision::Busy(at) => Some(at),
        WakeDecision::Rest | WakeDecision::Send { .. } | WakeDecision::Exhausted => None,
    };
    let stale = signs.stale_at(desired).into_iter().chain(signs.running_until(now)).filter(|at| *at > now);
    let label = match labelling(desired, status.session_label.as_ref(), observed, now) {
        LabelDecision::Later(at) => Some(at),
        LabelDecision::Send(_) => Some(now),
        LabelDecision::Rest => None,
    };
    let token = rules::due(desired, status.token.as_ref());
    let soonest = wake.into_iter().chain(stale).chain(label).chain(token).min();
    let until = soonest.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
    until.map_or(desired.resync_interval, |time| time.min(desired.resync_interval))
}

fn after_wait(wait: &Blocker, desired: &Desired) -> Requeue {
    match wait {
        Blocker::Blocked(trouble) if trouble.transient => Requeue::retry(),
        Blocker::Blocked(_) | Blocker::ForGateway(_) => Requeue::after(desired.resync_interval),
    }
}

fn ended<S: Store>(ctx: &Context<S>, agent: &Agent, partial: &Partial<'_>, trouble: Option<ReconcileError>) -> Round {
    let old = agent.status.clone().unwrap_or_default();
    let heartbeat: Option<HeartbeatStatus> = ctx.state.heartbeats.newer(agent);
    let end = match &trouble {
        None => End::Again,
        // The gateway's link tells when it is there again; a slow look on top costs nothing.
        Some(t) if t.reason == Reason::GatewayNotReady => End::Requeue(Requeue::after(Duration::from_mins(1))),
        Some(t) if cleanup::waits_for_its_turn(t) => End::Requeue(Requeue::after(WITHOUT_A_PLACE)),
        Some(t) if t.transient => End::Requeue(Requeue::retry()),
        Some(_) => End::Requeue(Requeue::after(Duration::from_mins(10))),
    };
    let wait = trouble.map(Blocker::Blocked);
    let confirmed = ctx.state.heartbeats.confirmed(agent);
    let report = StatusInput {
        old: &old,
        generation: agent.metadata.generation.unwrap_or_default(),
        desired: partial.desired,
        observed: None,
        token: partial.token,
        wait: wait.as_ref(),
        heartbeat: heartbeat.as_ref(),
        woken: None,
        labelled: None,
        confirmed: confirmed.as_ref(),
        fulfilled: &BTreeSet::new(),
        begins_reset: false,
        now: ctx.state.store.now(),
    };
    Round { status: status(&report), end }
}

fn cause(error: TemplatesError) -> ReconcileError {
    match error {
        TemplatesError::Reconcile(trouble) => trouble,
        TemplatesError::Store(error) => kubernetes(&error),
    }
}

fn no_connection(references: &References) -> ReconcileError {
    let key = &references.gateway_key;
    let message = format!("there is no connection to gateway {key}; see the conditions of that AgentGateway");
    ReconcileError::transient(Reason::GatewayNotReady, message)
}
