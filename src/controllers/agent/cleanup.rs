//! Removes an agent from its gateway: after the deletion of its Agent, and after a change of its identity or gateway.

use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, info, warn};

use crate::api::agent::{Agent, DeletionPolicy, Phase};
use crate::api::object_key::ObjectKey;
use crate::api::{Reason, keys};
use crate::controllers::Context;
use crate::controllers::gateway_handle::GatewayHandle;
use crate::controllers::status_writer::{Written, remove_binding, write_agent};
use crate::core::agent::admission::is_shared;
use crate::core::agent::binding::Binding;
use crate::core::agent::claim::annotated_id;
use crate::core::agent::cleanup::{
    self, CleanupDecision, CleanupInput, MAX_BOOT_TIME, Presence, TerminatingNamespace, advice, is_foreign_agent,
    is_workspace_shared, waits_for_permit,
};
use crate::core::agent::deletion_policy::of_removal;
use crate::core::agent::{leftovers, removal, status};
use crate::core::error::ReconcileError;
use crate::core::event::Event;
use crate::core::gateway_ref::address;
use crate::core::objects::Coverage;
use crate::core::ownership;
use crate::core::requeue::Requeue;
use crate::openclaw::model::{Deleted, Inventory};
use crate::state::store::{AgentIdChange, EventTarget, MetadataChange, Store};

/// The reason of the event that names the folder of an agent that the gateway removed.
const REMOVED: &str = "Removed";
/// The reason of the event that names the remains of an agent that the gateway did not remove.
const LEFT_BEHIND: &str = "LeftBehind";

/// The presence of the gateway that a binding names.
pub(crate) fn presence<S: Store>(store: &S, binding: &Binding) -> Presence {
    match store.gateway(&binding.gateway) {
        None if store.coverage(&binding.gateway.namespace) == Coverage::Complete => Presence::Absent,
        None => Presence::Unknown,
        Some(gateway) => match &gateway.metadata.deletion_timestamp {
            None => Presence::Present,
            Some(since) => Presence::Terminating { since: since.0, timeout: gateway.spec.cleanup_timeout() },
        },
    }
}

/// The gateway of a binding, if its connection was opened to the address of the binding, as far as the binding has one.
fn handle_of<S: Store>(ctx: &Context<S>, binding: &Binding) -> Option<Arc<GatewayHandle>> {
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

/// Removes the bound agent from its gateway.
///
/// # Errors
/// The agent cannot be removed now. The binding stays.
async fn remove_from_gateway<S: Store>(
    ctx: &Context<S>,
    agent: &Agent,
    binding: Option<&Binding>,
) -> Result<(), Delay> {
    if let Some(binding) = binding.filter(|binding| is_shared(&ctx.state.store, agent, binding)) {
        let message = format!(
            "agent {} stays on gateway {}: another Agent is bound to the same agent",
            binding.identity.agent_id, binding.gateway
        );
        report_left(ctx, agent, Some(binding), message, true).await;
        return Ok(());
    }
    let gateway = binding.map_or(Presence::Absent, |b| presence(&ctx.state.store, b));
    let handle = binding.and_then(|binding| handle_of(ctx, binding));
    let obstacle = binding.and_then(|b| ctx.state.store.coverage(&b.gateway.namespace).obstacle(&b.gateway.namespace));
    let reachability = match (&handle, obstacle) {
        (Some(handle), _) => handle.inventory().map(|_| ()),
        (None, Some(obstacle)) => Err(ReconcileError::permanent(Reason::NamespaceNotWatched, obstacle)),
        (None, None) => Err(ReconcileError::transient(
            Reason::GatewayNotReady,
            "there is no connection to it; see the conditions of the AgentGateway",
        )),
    };
    let resource = binding.and_then(|b| ctx.state.store.gateway(&b.gateway));
    let address = resource.as_ref().map(|gateway| address(&gateway.spec.url));
    let input = CleanupInput {
        policy: binding.map_or_else(DeletionPolicy::default, |b| of_removal(agent, resource.as_deref(), b)),
        gateway,
        moved_to: address.as_deref().filter(|address| binding.is_some_and(|b| !b.is_at(address))),
        reachable: reachability.as_ref().copied(),
        namespace: None,
        now: ctx.state.store.now(),
    };
    let mut decision = cleanup::decide(binding, &input);
    if let (CleanupDecision::Wait { .. }, Some(binding)) = (&decision, binding) {
        let namespace = terminating_namespace(ctx, agent, binding).await;
        decision = cleanup::decide(Some(binding), &CleanupInput { namespace, ..input });
    }
    match decision {
        CleanupDecision::Nothing => Ok(()),
        CleanupDecision::Leave { message, asked } => {
            if let (Some(handle), Some(binding)) = (&handle, binding) {
                handle.client().withdraw(&binding.identity.agent_id);
            }
            report_left(ctx, agent, binding, message, asked).await;
            Ok(())
        }
        CleanupDecision::Wait { error, until } => {
            let ends_in = until.and_then(|end| Duration::try_from(end.duration_since(input.now)).ok());
            Err(Delay { error: with_advice(ctx, agent, binding, error), ends_in })
        }
        CleanupDecision::Remove { delete_files } => {
            let (Some(handle), Some(binding)) = (handle, binding) else { return Ok(()) };
            Ok(remove_with_permit(ctx, agent, binding, &handle, delete_files).await?)
        }
    }
}

/// The namespace of an Agent that is being deleted, if the namespace is being deleted too. It costs one read for each look at an Agent whose
/// removal waits.
async fn terminating_namespace<'a, S: Store>(
    ctx: &Context<S>,
    agent: &'a Agent,
    binding: &Binding,
) -> Option<TerminatingNamespace<'a>> {
    let (name, deleted) = (agent.metadata.namespace.as_deref()?, agent.metadata.deletion_timestamp.as_ref()?);
    let timeout = ctx.state.store.gateway(&binding.gateway)?.spec.cleanup_timeout();
    match ctx.state.store.namespace(name).await {
        Ok(namespace) => {
            let since = namespace?.deletion_timestamp?.0.max(deleted.0);
            Some(TerminatingNamespace { name, since, timeout })
        }
        Err(error) => {
            debug!(namespace = name, %error, "it is not known whether the namespace is being deleted");
            None
        }
    }
}

/// Removes the agent, one at a time per gateway, and reports what stays.
async fn remove_with_permit<S: Store>(
    ctx: &Context<S>,
    agent: &Agent,
    binding: &Binding,
    handle: &Arc<GatewayHandle>,
    delete_files: bool,
) -> Result<(), ReconcileError> {
    if handle.inventory().is_ok_and(|inventory| is_foreign_agent(&inventory, agent, binding)) {
        let id = &binding.identity.agent_id;
        let message = format!(
            "agent {id} stays on gateway {}: another client created it before this Agent could",
            binding.gateway
        );
        report_left(ctx, agent, Some(binding), message, true).await;
        return Ok(());
    }
    let Some(_permit) = handle.delete_permit(&ObjectKey::of(&agent.metadata)) else {
        return Err(ReconcileError::transient(
            Reason::Deleting,
            "the gateway removes one agent at a time; this removal waits for its turn",
        ));
    };
    let Removed { done, kept, left } = remove(handle, binding, delete_files).await?;
    if let Some(message) = done {
        let event = Event { warning: false, reason: REMOVED.into(), action: "Release", message };
        ctx.state.store.publish(EventTarget::Agent(agent), &event).await;
    }
    if let Some(message) = kept {
        report_left(ctx, agent, Some(binding), message, false).await;
    }
    if let Some(message) = left {
        warn!(agent = %ObjectKey::of(&agent.metadata), gateway = %binding.gateway, left = message, "the gateway removed a part of the agent");
        let event = Event { warning: true, reason: LEFT_BEHIND.into(), action: "Release", message };
        publish_left(ctx, agent, Some(binding), &event).await;
    }
    Ok(())
}

async fn report_left<S: Store>(
    ctx: &Context<S>,
    agent: &Agent,
    binding: Option<&Binding>,
    message: String,
    requested: bool,
) {
    // A namespace that is being deleted accepts no events, so the message is logged too.
    if !requested {
        warn!(agent = %ObjectKey::of(&agent.metadata), left = message, "left on the gateway");
    }
    let event = Event { warning: !requested, reason: Reason::Deleting.to_string(), action: "Release", message };
    publish_left(ctx, agent, binding, &event).await;
}

/// Publishes an event about what stays on a gateway. A warning goes to an AgentGateway of another namespace too: its owner has to know, and
/// the namespace of the Agent may be going away.
async fn publish_left<S: Store>(ctx: &Context<S>, agent: &Agent, binding: Option<&Binding>, event: &Event) {
    let store = &ctx.state.store;
    store.publish(EventTarget::Agent(agent), event).await;
    let key = ObjectKey::of(&agent.metadata);
    let elsewhere = binding.map(|b| &b.gateway).filter(|gateway| event.warning && gateway.namespace != key.namespace);
    if let Some(gateway) = elsewhere.and_then(|gateway| store.gateway(gateway)) {
        let event = Event { message: format!("Agent {key}: {}", event.message), ..event.clone() };
        store.publish(EventTarget::Gateway(&gateway), &event).await;
    }
}

/// Adds the remedy to the message of a removal that the gateway may have been killed in.
fn with_advice<S: Store>(
    ctx: &Context<S>,
    agent: &Agent,
    binding: Option<&Binding>,
    wait: ReconcileError,
) -> ReconcileError {
    let interrupted = binding.map(|binding| interrupted_removals(ctx, &binding.gateway, [agent])).unwrap_or_default();
    match advice(&interrupted) {
        Some(advice) => ReconcileError { message: format!("{}; {advice}", wait.message), ..wait },
        None => wait,
    }
}

/// The messages about a removed agent.
struct Removed {
    /// The gateway removed it, and its workspace is kept or in the trash.
    done: Option<String>,
    /// Its workspace is kept.
    kept: Option<String>,
    /// The gateway did not remove all of it.
    left: Option<String>,
}

async fn remove(handle: &GatewayHandle, binding: &Binding, delete_files: bool) -> Result<Removed, ReconcileError> {
    let id = binding.identity.agent_id.as_str();
    let client = handle.client();
    client.withdraw(id);
    let kept = delete_files && handle.inventory().map_or(true, |inventory| is_workspace_shared(&inventory, binding));
    let delete_files = delete_files && !kept;
    let deleted =
        client.agent_delete(id, delete_files).await.map_err(|e| ReconcileError::gateway("to remove the agent", &e))?;
    // From 2026.8.1 on the gateway deletes the session with the agent.
    let keeps_session = |inventory: &Inventory| inventory.capabilities.main_session_delete;
    if client.inventory().borrow().as_deref().is_none_or(keeps_session) {
        client
            .session_delete(&binding.identity.session_key)
            .await
            .map_err(|e| ReconcileError::gateway("to delete its session", &e))?;
    }
    handle.cache.forget_agent(id);
    info!(agent.id = id, ?deleted, "removed from the gateway");
    let (done, left) = match &deleted {
        Deleted::Removed(removal) => {
            let done = if kept { None } else { removal::message(binding, removal, delete_files) };
            (done, leftovers::message(binding, &removal.left, delete_files))
        }
        Deleted::Absent => (None, None),
    };
    let kept = kept.then(|| {
        format!(
            "agent {id} is removed from gateway {} and its workspace {} stays: another agent uses it, or the agent worked in another one",
            binding.gateway, binding.identity.workspace
        )
    });
    Ok(Removed { done, kept, left })
}

/// Step `Step::Release`: removes the agent of an earlier binding.
///
/// # Guarantees
/// The Agent gets a new token, because its former files may stay, by its deletion policy or because the gateway did not remove them.
/// The former token is refused before the binding is removed.
///
/// # Errors
/// The agent cannot be removed now.
pub(crate) async fn release<S: Store>(
    ctx: &Context<S>,
    agent: &Agent,
    binding: &Binding,
) -> Result<Arc<Agent>, ReconcileError> {
    remove_from_gateway(ctx, agent, Some(binding)).await.map_err(|delay| delay.error)?;
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
pub(crate) async fn deleting<S: Store>(ctx: &Context<S>, agent: &Agent) -> Requeue {
    let has_finalizer = |agent: &Agent| ownership::has_finalizer(&agent.metadata, keys::AGENT_FINALIZER);
    if !has_finalizer(agent) {
        return Requeue::on_change();
    }
    // The cache may lag behind a completed removal. A second removal would wait for the gateway in vain.
    let agent = match ctx.state.store.fresh_agent(&ObjectKey::of(&agent.metadata)).await {
        Ok(Some(now)) if now.metadata.uid == agent.metadata.uid && has_finalizer(&now) => now,
        Ok(_) => return Requeue::on_change(),
        Err(_) => return Requeue::retry(),
    };
    let is_shown = agent.status.as_ref().is_some_and(|status| status.phase == Some(Phase::Deleting));
    let written = if is_shown { None } else { show_deleting(ctx, &agent, None).await };
    let agent = written.as_ref().unwrap_or(&agent);
    let is_starting = Binding::of(agent).is_some_and(|binding| ctx.gateways.is_starting(&binding.gateway));
    match finalize(ctx, agent).await {
        Ok(()) => Requeue::on_change(),
        Err(Delay { error, .. }) if error.reason == Reason::DeletionBlocked && is_starting => Requeue::retry(),
        Err(Delay { error, ends_in }) => {
            show_deleting(ctx, agent, Some(&error)).await;
            let handle = Binding::of(agent).and_then(|binding| ctx.gateways.handle(&binding.gateway));
            let advice = handle.and_then(|handle| handle.advice_due());
            if waits_for_permit(&error) {
                Requeue::on_change()
            } else {
                Requeue::retry().within(advice).no_later(ends_in)
            }
        }
    }
}

/// Writes the phase Deleting, and why the removal waits. Returns the written Agent.
async fn show_deleting<S: Store>(
    ctx: &Context<S>,
    agent: &Arc<Agent>,
    error: Option<&ReconcileError>,
) -> Option<Arc<Agent>> {
    let old = agent.status.clone().unwrap_or_default();
    let generation = agent.metadata.generation.unwrap_or_default();
    let new = status::terminating(&old, generation, error, ctx.state.store.now());
    match write_agent(ctx, agent, &new).await {
        Written::Unchanged => Some(Arc::clone(agent)),
        Written::Now(agent) => Some(agent),
        Written::Outdated | Written::Failed => None,
    }
}

async fn finalize<S: Store>(ctx: &Context<S>, agent: &Agent) -> Result<(), Delay> {
    let binding = Binding::of(agent);
    remove_from_gateway(ctx, agent, binding.as_ref()).await?;
    let token = super::token_secret::read(&ctx.state, agent, "").await?;
    if let Some(secret) = token.secret() {
        ctx.state.recent_secrets.forget(&super::token_secret::key(agent));
        ctx.state.store.delete_secret(secret).await?;
    }
    let claim = MetadataChange { remove_finalizer: Some(keys::AGENT_FINALIZER), ..MetadataChange::default() };
    match ctx.state.store.patch_agent_metadata(agent, &claim).await {
        Ok(_) | Err(crate::state::store::StoreError::NotFound(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The ids of the agents during whose removal the gateway may have been killed: it has had no connection for longer than a boot
/// takes.
pub(crate) fn interrupted_removals<'a, S: Store>(
    ctx: &Context<S>,
    key: &ObjectKey,
    agents: impl IntoIterator<Item = &'a Agent>,
) -> Vec<String> {
    let away = ctx.gateways.handle(key).and_then(|handle| handle.away_for());
    let gateway = away.filter(|away| *away >= MAX_BOOT_TIME).and_then(|_| ctx.state.store.gateway(key));
    gateway.map(|gateway| cleanup::interrupted_removals(&gateway, agents)).unwrap_or_default()
}
