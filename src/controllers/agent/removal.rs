//! Removes an agent on its gateway, and reports what stays there.

use std::sync::Arc;

use tracing::{debug, info, warn};

use crate::api::Reason;
use crate::api::agent::Agent;
use crate::api::object_key::ObjectKey;
use crate::controllers::Context;
use crate::controllers::gateway_handle::{DeletePermit, GatewayHandle};
use crate::core::agent::binding::Binding;
use crate::core::agent::cleanup::{
    Presence, TerminatingNamespace, blocked_by_folder, folder_obstacle, is_foreign_agent,
};
use crate::core::agent::{leftovers, removal};
use crate::core::error::ReconcileError;
use crate::core::event::Event;
use crate::core::objects::{Coverage, Objects};
use crate::openclaw::model::{Deleted, Inventory, Removal};
use crate::state::kube_store::KubeStore;
use crate::state::store::EventTarget;

/// The reason of the event that names the folder of an agent that the gateway removed.
const REMOVED: &str = "Removed";
/// The reason of the event that names the remains of an agent that the gateway did not remove.
const LEFT_BEHIND: &str = "LeftBehind";

/// The removal of a bound agent from a gateway that can be asked.
pub(super) struct RemovalRequest<'a> {
    pub(super) ctx: &'a Context,
    pub(super) agent: &'a Agent,
    pub(super) binding: &'a Binding,
    pub(super) handle: &'a Arc<GatewayHandle>,
    /// Whether its folder is removed too.
    pub(super) delete_files: bool,
}

impl RemovalRequest<'_> {
    /// Removes the agent, in its turn among the removals of the gateway, and reports what became of its folder. Without a turn it asks for one.
    ///
    /// An Agent that is being deleted waits until its files are removed. An Agent that moves does not: what its former agent leaves is
    /// reported.
    ///
    /// # Errors
    /// The gateway refuses the removal; or, for an Agent that is being deleted, the folder cannot be removed or something is left.
    pub(super) async fn run(&self, turn: Option<DeletePermit>) -> Result<(), ReconcileError> {
        let Self { ctx, agent, binding, handle, delete_files } = *self;
        if handle.inventory().is_ok_and(|inventory| is_foreign_agent(&inventory, agent, binding)) {
            let id = &binding.identity.agent_id;
            let message = format!(
                "agent {id} stays on gateway {}: another client created it before this Agent could",
                binding.gateway
            );
            report_left(ctx, agent, Some(binding), message, true).await;
            return Ok(());
        }
        let Some(turn) = turn.or_else(|| handle.delete_permit(&ObjectKey::of(&agent.metadata))) else {
            return Err(waits_for_turn());
        };
        let inventory = handle.inventory()?;
        let kept = delete_files.then(|| folder_obstacle(&inventory, binding)).flatten();
        if let Some(obstacle) = &kept
            && self.waits_for_files().await
        {
            return Err(blocked_by_folder(&inventory, binding, obstacle));
        }
        let deleted = remove(handle, binding, delete_files && kept.is_none()).await?;
        drop(turn);
        if let Some(obstacle) = kept {
            let message = removal::kept(binding, &obstacle);
            report_left(ctx, agent, Some(binding), message, false).await;
            return Ok(());
        }
        match deleted {
            Deleted::Removed(removal) => self.report(&removal).await,
            Deleted::Absent => {
                if delete_files {
                    self.publish_removed(removal::absent(binding)).await;
                }
                Ok(())
            }
        }
    }

    async fn publish_removed(&self, message: String) {
        let event = Event { warning: false, reason: REMOVED.into(), action: "Release", message };
        self.ctx.state.store.publish(EventTarget::Agent(self.agent), &event).await;
    }

    /// Whether the removal waits until the files are removed: the Agent is being deleted, and nothing that bounds the wait is.
    async fn waits_for_files(&self) -> bool {
        let Self { ctx, agent, binding, .. } = *self;
        self.delete_files
            && agent.metadata.deletion_timestamp.is_some()
            && presence(&ctx.state.store, binding) == Presence::Present
            && terminating_namespace(ctx, agent, binding).await.is_none()
    }

    async fn report(&self, removal: &Removal) -> Result<(), ReconcileError> {
        let Self { ctx, agent, binding, delete_files, .. } = *self;
        if let Some(message) = removal::message(binding, removal, delete_files) {
            self.publish_removed(message).await;
        }
        let Some(error) = leftovers::error(binding, &removal.left, delete_files) else { return Ok(()) };
        if self.waits_for_files().await {
            return Err(error);
        }
        let message = leftovers::message(binding, &error);
        warn!(agent = %ObjectKey::of(&agent.metadata), gateway = %binding.gateway, left = message, "the gateway removed a part of the agent");
        let event = Event { warning: true, reason: LEFT_BEHIND.into(), action: "Release", message };
        publish_left(ctx, agent, Some(binding), &event).await;
        Ok(())
    }
}

/// The state of a removal before its turn.
pub(super) fn waits_for_turn() -> ReconcileError {
    ReconcileError::transient(
        Reason::Deleting,
        "the gateway removes one agent at a time; this removal waits for its turn",
    )
}

async fn remove(handle: &GatewayHandle, binding: &Binding, delete_files: bool) -> Result<Deleted, ReconcileError> {
    let id = binding.identity.agent_id.as_str();
    let client = handle.client();
    client.withdraw(id);
    let deleted = match client.agent_delete(id, delete_files).await {
        Err(error) if error.is_size_drop() && !binding.adopted => {
            info!(agent.id = id, %error, "the entry is shortened, so that the gateway deletes the agent");
            match client.entry_shorten(id).await {
                Err(error) if error.is_size_drop() => Err(error),
                Err(error) => return Err(ReconcileError::gateway("to shorten the entry of the agent", &error)),
                Ok(()) => client.agent_delete(id, delete_files).await,
            }
        }
        result => result,
    };
    let deleted = deleted.map_err(|error| removal::refused(id, &error))?;
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
    Ok(deleted)
}

/// Reports an agent that stays on a gateway. `requested`: the spec asks for that, or the agent is not the Agent's own.
pub(super) async fn report_left(
    ctx: &Context,
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

/// Reports that the deletion of an Agent waits for somebody who corrects something on its gateway.
pub(super) async fn report_obstacle(ctx: &Context, agent: &Agent, error: &ReconcileError) {
    let message = error.message.clone();
    warn!(agent = %ObjectKey::of(&agent.metadata), obstacle = message, "the deletion waits");
    let reason = if error.reason == Reason::DeletionIncomplete { LEFT_BEHIND } else { error.reason.as_str() };
    let event = Event { warning: true, reason: reason.into(), action: "Release", message };
    publish_left(ctx, agent, Binding::of(agent).as_ref(), &event).await;
}

/// Publishes an event about what stays on a gateway. A warning goes to an AgentGateway of another namespace too: its owner has to know, and
/// the namespace of the Agent may be going away.
async fn publish_left(ctx: &Context, agent: &Agent, binding: Option<&Binding>, event: &Event) {
    let store = &ctx.state.store;
    store.publish(EventTarget::Agent(agent), event).await;
    let key = ObjectKey::of(&agent.metadata);
    let elsewhere = binding.map(|b| &b.gateway).filter(|gateway| event.warning && gateway.namespace != key.namespace);
    if let Some(gateway) = elsewhere.and_then(|gateway| store.gateway(gateway)) {
        let event = Event { message: format!("Agent {key}: {}", event.message), ..event.clone() };
        store.publish_now(EventTarget::Gateway(&gateway), &event).await;
    }
}

/// The presence of the gateway that a binding names.
pub(super) fn presence(store: &KubeStore, binding: &Binding) -> Presence {
    match store.gateway(&binding.gateway) {
        None if store.coverage(&binding.gateway.namespace) == Coverage::Complete => Presence::Absent,
        None => Presence::Unknown,
        Some(gateway) => match &gateway.metadata.deletion_timestamp {
            None => Presence::Present,
            Some(since) => Presence::Terminating { since: since.0, timeout: gateway.spec.cleanup_timeout() },
        },
    }
}

/// The namespace of an Agent that is being deleted, if the namespace is being deleted too. It costs one read for each look at an Agent whose
/// removal waits.
pub(super) async fn terminating_namespace<'a>(
    ctx: &Context,
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
