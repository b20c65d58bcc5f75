//! Removes an agent from its gateway: after the deletion of its Agent, and after a change of its identity or gateway.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::removal::{self, RemovalRequest, presence, terminating_namespace};
use crate::api::agent::{Agent, DeletionPolicy, Phase};
use crate::api::object_key::ObjectKey;
use crate::api::{Reason, keys};
use crate::controllers::Context;
use crate::controllers::gateway_handle::{DeletePermit, GatewayHandle};
use crate::controllers::status_writer::{Written, remove_binding, write_agent};
use crate::core::agent::admission::is_shared;
use crate::core::agent::binding::Binding;
use crate::core::agent::claim::annotated_id;
use crate::core::agent::cleanup::{self, CleanupDecision, CleanupInput, Presence, waits_for_permit};
use crate::core::agent::deletion_policy::{given_by, of_removal};
use crate::core::agent::interrupted::{self, MAX_BOOT_TIME, advice};
use crate::core::agent::status;
use crate::core::error::ReconcileError;
use crate::core::gateway_ref::address;
use crate::core::objects::Objects;
use crate::core::ownership;
use crate::core::requeue::Requeue;
use crate::state::store::{AgentIdChange, MetadataChange};

/// The time between two attempts at a removal that the gateway refuses, or cannot complete, until somebody corrects something there.
const REFUSED_RETRY: Duration = Duration::from_mins(5);

/// How long after the deletion of an Agent its status says so. Most removals are over by then, and their writes of the status were a third of what
/// the deletion of a fleet costs the API server.
const SHOWN_AFTER: Duration = Duration::from_secs(10);

/// The gateway of a binding, if its connection was opened to the address of the binding, as far as the binding has one.
fn handle_of(ctx: &Context, binding: &Binding) -> Option<Arc<GatewayHandle>> {
    match binding.address.as_str() {
        "" => ctx.gateways.handle(&binding.gateway),
        address => ctx.gateways.handle_at(&binding.gateway, address),
    }
}

/// A removal that is not done.
struct Delay {
    error: ReconcileError,
    /// The time until the agent is left on the gateway, if there is one.
    ends_in: Option<Duration>,
}

impl<E: Into<ReconcileError>> From<E> for Delay {
    fn from(error: E) -> Self {
        Self { error: error.into(), ends_in: None }
    }
}

/// What decides about an agent that is to be removed.
struct Circumstances {
    policy: DeletionPolicy,
    given_by: &'static str,
    gateway: Presence,
    moved_to: Option<String>,
    obstacle: Option<ReconcileError>,
    now: Timestamp,
}

impl Circumstances {
    fn of(ctx: &Context, agent: &Agent, binding: Option<&Binding>, handle: Option<&GatewayHandle>) -> Self {
        let resource = binding.and_then(|b| ctx.state.store.gateway(&b.gateway));
        let address = resource.as_ref().map(|gateway| address(&gateway.spec.url));
        Self {
            policy: binding.map_or_else(DeletionPolicy::default, |b| of_removal(agent, resource.as_deref(), b)),
            given_by: given_by(agent),
            gateway: binding.map_or(Presence::Absent, |b| presence(&ctx.state.store, b)),
            moved_to: address.filter(|address| binding.is_some_and(|b| !b.is_at(address))),
            obstacle: binding.and_then(|binding| obstacle(ctx, binding, handle)),
            now: ctx.state.store.now(),
        }
    }

    fn input(&self) -> CleanupInput<'_> {
        CleanupInput {
            policy: self.policy,
            given_by: self.given_by,
            gateway: self.gateway,
            moved_to: self.moved_to.as_deref(),
            obstacle: self.obstacle.as_ref(),
            namespace: None,
            now: self.now,
        }
    }
}

/// The turn of a removal among the removals of its gateway.
enum Turn {
    /// The removal needs no turn: nothing is removed, or the gateway cannot be asked.
    NotNeeded,
    Now(DeletePermit),
    /// The Agent is reconciled again when its turn comes.
    Later,
}

impl Turn {
    /// Asks for the turn of an Agent that is being deleted.
    fn of(ctx: &Context, agent: &Agent) -> Self {
        let binding = Binding::of(agent);
        let handle = binding.as_ref().and_then(|binding| handle_of(ctx, binding));
        let (Some(binding), Some(handle)) = (binding, handle) else { return Self::NotNeeded };
        let circumstances = Circumstances::of(ctx, agent, Some(&binding), Some(&handle));
        let is_removed =
            matches!(cleanup::decide(Some(&binding), &circumstances.input()), CleanupDecision::Remove { .. });
        if !is_removed || is_shared(&ctx.state.store, agent, &binding) {
            return Self::NotNeeded;
        }
        handle.delete_permit(&ObjectKey::of(&agent.metadata)).map_or(Self::Later, Self::Now)
    }
}

/// Removes the bound agent from its gateway, in its turn.
///
/// # Errors
/// The agent cannot be removed now, or a part of it stays. The binding stays.
async fn remove_from_gateway(
    ctx: &Context,
    agent: &Agent,
    binding: Option<&Binding>,
    turn: Option<DeletePermit>,
) -> Result<(), Delay> {
    if let Some(binding) = binding.filter(|binding| is_shared(&ctx.state.store, agent, binding)) {
        let message = format!(
            "agent {} stays on gateway {}: another Agent is bound to the same agent",
            binding.identity.agent_id, binding.gateway
        );
        removal::report_left(ctx, agent, Some(binding), message, true).await;
        return Ok(());
    }
    let handle = binding.and_then(|binding| handle_of(ctx, binding));
    let circumstances = Circumstances::of(ctx, agent, binding, handle.as_deref());
    let input = circumstances.input();
    let mut decision = decide(ctx, agent, binding, &input).await;
    if let (CleanupDecision::Remove { delete_files }, Some(handle), Some(binding)) = (&decision, &handle, binding) {
        let removal = RemovalRequest { ctx, agent, binding, handle, delete_files: *delete_files };
        match removal.run(turn).await {
            Ok(()) => return Ok(()),
            Err(error) if waits_for_permit(&error) => return Err(error.into()),
            Err(error) => {
                decision = decide(ctx, agent, Some(binding), &CleanupInput { obstacle: Some(&error), ..input }).await;
            }
        }
    }
    match decision {
        CleanupDecision::Nothing | CleanupDecision::Remove { .. } => Ok(()),
        CleanupDecision::Leave { message, asked } => {
            if let (Some(handle), Some(binding)) = (&handle, binding) {
                handle.client().withdraw(&binding.identity.agent_id);
            }
            removal::report_left(ctx, agent, binding, message, asked).await;
            Ok(())
        }
        CleanupDecision::Wait { error, until } => {
            let ends_in = until.and_then(|end| Duration::try_from(end.duration_since(input.now)).ok());
            Err(Delay { error: with_advice(ctx, agent, binding, error), ends_in })
        }
    }
}

/// Why the gateway of a binding cannot be asked to remove the agent.
fn obstacle(ctx: &Context, binding: &Binding, handle: Option<&GatewayHandle>) -> Option<ReconcileError> {
    let namespace = &binding.gateway.namespace;
    match (handle, ctx.state.store.coverage(namespace).obstacle(namespace)) {
        (Some(handle), _) => handle.inventory().err(),
        (None, Some(obstacle)) => Some(ReconcileError::permanent(Reason::NamespaceNotWatched, obstacle)),
        (None, None) => Some(ReconcileError::transient(
            Reason::GatewayNotReady,
            "there is no connection to it; see the conditions of the AgentGateway",
        )),
    }
}

/// The decision about a removal. The namespace of the Agent is read when the removal would wait.
async fn decide(ctx: &Context, agent: &Agent, binding: Option<&Binding>, input: &CleanupInput<'_>) -> CleanupDecision {
    let decision = cleanup::decide(binding, input);
    let (CleanupDecision::Wait { .. }, Some(waiting)) = (&decision, binding) else { return decision };
    let namespace = terminating_namespace(ctx, agent, waiting).await;
    cleanup::decide(binding, &CleanupInput { namespace, ..*input })
}

/// Adds the remedy to the message of a removal that the gateway may have been killed in.
fn with_advice(ctx: &Context, agent: &Agent, binding: Option<&Binding>, wait: ReconcileError) -> ReconcileError {
    let interrupted = binding.map(|binding| interrupted_removals(ctx, &binding.gateway, [agent])).unwrap_or_default();
    match advice(&interrupted) {
        Some(advice) => ReconcileError { message: format!("{}; {advice}", wait.message), ..wait },
        None => wait,
    }
}

/// Step `Step::Release`: removes the agent of an earlier binding.
///
/// # Guarantees
/// The Agent gets a new token, because its former files may stay, by its deletion policy or because the gateway did not remove them.
/// The former token is refused before the binding is removed.
///
/// # Errors
/// The agent cannot be removed now.
pub(crate) async fn release(ctx: &Context, agent: &Agent, binding: &Binding) -> Result<Arc<Agent>, ReconcileError> {
    remove_from_gateway(ctx, agent, Some(binding), None).await.map_err(|delay| delay.error)?;
    if let Some(handle) = ctx.gateways.handle(&binding.gateway) {
        handle.cache.forget_agent(&binding.identity.agent_id);
    }
    super::token_secret::renew(&ctx.state, agent).await?;
    let mut agent = agent.clone();
    // Without the binding, the annotation would claim the released agent.
    if annotated_id(&agent).is_some() {
        let change = MetadataChange { agent_id: Some(AgentIdChange::Remove), ..MetadataChange::default() };
        agent = Arc::unwrap_or_clone(ctx.state.store.patch_agent_metadata(&agent, &change).await?);
    }
    if let Some(token) = agent.status.as_mut().and_then(|status| status.token.as_mut()) {
        *token = crate::core::agent::token::rules::revoked(token);
    }
    remove_binding(&ctx.state.store, &agent).await
}

/// Reconciles an Agent that is being deleted.
pub(crate) async fn deleting(ctx: &Context, agent: &Arc<Agent>) -> Requeue {
    let has_finalizer = |agent: &Agent| ownership::has_finalizer(&agent.metadata, keys::AGENT_FINALIZER);
    if !has_finalizer(agent) {
        return Requeue::on_change();
    }
    let turn = match Turn::of(ctx, agent) {
        Turn::NotNeeded => None,
        Turn::Now(permit) => Some(permit),
        Turn::Later => {
            let shown_in = shown_in(ctx, agent);
            if shown_in.is_none() {
                show_deleting(ctx, agent, Some(&removal::waits_for_turn())).await;
            }
            return shown_in.map_or(Requeue::on_change(), Requeue::after);
        }
    };
    // The cache may lag behind a completed removal. A second removal would wait for the gateway in vain.
    let agent = match ctx.state.store.fresh_agent(&ObjectKey::of(&agent.metadata)).await {
        Ok(Some(now)) if now.metadata.uid == agent.metadata.uid && has_finalizer(&now) => now,
        Ok(_) => return Requeue::on_change(),
        Err(_) => return Requeue::retry(),
    };
    let (agent, ended) = Box::pin(finalize(ctx, agent, turn)).await;
    let agent = &agent;
    let is_starting = Binding::of(agent).is_some_and(|binding| ctx.gateways.is_starting(&binding.gateway));
    match ended {
        Ok(()) => Requeue::on_change(),
        Err(Delay { error, .. }) if error.reason == Reason::DeletionBlocked && is_starting => Requeue::retry(),
        Err(Delay { error, ends_in }) => {
            if status::is_new_obstacle(agent, &error) {
                removal::report_obstacle(ctx, agent, &error).await;
            }
            show_deleting(ctx, agent, Some(&error)).await;
            let handle = Binding::of(agent).and_then(|binding| ctx.gateways.handle(&binding.gateway));
            let advice = handle.and_then(|handle| handle.advice_due());
            if waits_for_permit(&error) {
                Requeue::on_change()
            } else if error.is_retried() {
                Requeue::retry().within(advice).no_later(ends_in)
            } else {
                Requeue::after(REFUSED_RETRY).no_later(ends_in)
            }
        }
    }
}

/// Writes the phase Deleting, and why the removal waits. Returns the written Agent.
async fn show_deleting(ctx: &Context, agent: &Arc<Agent>, error: Option<&ReconcileError>) -> Option<Arc<Agent>> {
    let old = agent.status.clone().unwrap_or_default();
    let generation = agent.metadata.generation.unwrap_or_default();
    let new = status::terminating(&old, generation, error, ctx.state.store.now());
    match write_agent(ctx, agent, &new).await {
        Written::Unchanged => Some(Arc::clone(agent)),
        Written::Now(agent) => Some(agent),
        Written::Outdated | Written::Failed => None,
    }
}

fn is_shown(agent: &Agent) -> bool {
    agent.status.as_ref().is_some_and(|status| status.phase == Some(Phase::Deleting))
}

/// The time until the status of an Agent says that it is being deleted; `None` if it does, or is to do so now.
fn shown_in(ctx: &Context, agent: &Agent) -> Option<Duration> {
    if is_shown(agent) {
        return None;
    }
    let since = agent.metadata.deletion_timestamp.as_ref()?.0;
    // The clocks of the API server and of the operator may differ.
    let age = Duration::try_from(ctx.state.store.now().duration_since(since)).unwrap_or_default();
    SHOWN_AFTER.checked_sub(age).filter(|left| !left.is_zero())
}

/// Removes the agent and its Secret, then the finalizer. A removal that takes long is shown meanwhile. Returns the Agent as it was written last.
async fn finalize(ctx: &Context, agent: Arc<Agent>, turn: Option<DeletePermit>) -> (Arc<Agent>, Result<(), Delay>) {
    let removal = Box::pin(remove(ctx, &agent, turn));
    let (shown, removed) = while_shown(ctx, &agent, removal).await;
    let agent = shown.unwrap_or(agent);
    let ended = match removed {
        Ok(()) => remove_finalizer(ctx, &agent).await,
        Err(delay) => Err(delay),
    };
    (agent, ended)
}

/// Awaits a removal, and shows the phase Deleting when it is to be shown. Returns the Agent if it was written.
async fn while_shown<T>(
    ctx: &Context,
    agent: &Arc<Agent>,
    mut removal: impl Future<Output = T> + Unpin,
) -> (Option<Arc<Agent>>, T) {
    if let Some(wait) = shown_in(ctx, agent)
        && let Ok(removed) = tokio::time::timeout(wait, &mut removal).await
    {
        return (None, removed);
    }
    let shown = if is_shown(agent) { None } else { show_deleting(ctx, agent, None).await };
    (shown, removal.await)
}

async fn remove(ctx: &Context, agent: &Agent, turn: Option<DeletePermit>) -> Result<(), Delay> {
    let binding = Binding::of(agent);
    remove_from_gateway(ctx, agent, binding.as_ref(), turn).await?;
    let token = super::token_secret::read(&ctx.state, agent, "").await?;
    if let Some(secret) = token.secret() {
        ctx.state.recent_secrets.forget(&super::token_secret::key(agent));
        ctx.state.store.delete_secret(secret).await?;
    }
    Ok(())
}

async fn remove_finalizer(ctx: &Context, agent: &Agent) -> Result<(), Delay> {
    let claim = MetadataChange { remove_finalizer: Some(keys::AGENT_FINALIZER), ..MetadataChange::default() };
    match ctx.state.store.patch_agent_metadata(agent, &claim).await {
        Ok(_) | Err(crate::state::store::StoreError::NotFound(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The ids of the agents during whose removal the gateway may have been killed: it has had no connection for longer than a boot
/// takes.
pub(crate) fn interrupted_removals<'a>(
    ctx: &Context,
    key: &ObjectKey,
    agents: impl IntoIterator<Item = &'a Agent>,
) -> Vec<String> {
    let away = ctx.gateways.handle(key).and_then(|handle| handle.away_for());
    let gateway = away.filter(|away| *away >= MAX_BOOT_TIME).and_then(|_| ctx.state.store.gateway(key));
    gateway.map(|gateway| interrupted::interrupted_removals(&gateway, agents)).unwrap_or_default()
}
