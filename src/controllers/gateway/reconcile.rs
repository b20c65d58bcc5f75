//! The reconcile of an AgentGateway: its connection, its conditions, its end.

use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use super::credentials::{Credentials, SecretHolder};
use crate::api::object_key::ObjectKey;
use crate::api::{AgentGateway, Reason, keys};
use crate::controllers::Context;
use crate::controllers::agent::cleanup::cut_off;
use crate::controllers::gateway::credentials;
use crate::controllers::gateway_handle::GatewayHandle;
use crate::controllers::status_writer::{Written, publish_gateway_events, write_gateway};
use crate::core::error::ReconcileError;
use crate::core::gateway::census::{Census, bound, unmanaged};
use crate::core::gateway::conditions::ObservedConnection;
use crate::core::gateway::shared_heartbeats::{self, RecordedBlocks, SharedHeartbeatPlan};
use crate::core::gateway::status::{GatewayFacts, GatewayObservation, status};
use crate::core::requeue::Requeue;
use crate::core::{names, ownership};
use crate::openclaw::ConnectionSettings;
use crate::openclaw::model::{self, Credential, Inventory};
use crate::state::changes::STARTUP_GRACE;
use crate::state::store::{EventTarget, FinalizerChange, Store};

/// How often a gateway that is being deleted is looked at while agents are still bound to it.
const WHILE_BOUND: Duration = Duration::from_secs(5);

/// How often the credentials are read again while the gateway refuses them.
const WHILE_REFUSED: Duration = Duration::from_secs(30);

/// Brings the connection to a gateway in line with its AgentGateway and says how it is.
///
/// # Guarantees
/// A Secret that is missing never closes a connection that stands. The AgentGateway keeps its finalizer, and its device
/// Secret, until no Agent is bound to it.
pub async fn reconcile<S: Store>(ctx: &Context<S>, gateway: &AgentGateway) -> Requeue {
    let key = ObjectKey::of(&gateway.metadata);
    match step(ctx, gateway, &key).await {
        Ok(next) => next,
        Err(trouble) => {
            record(ctx, gateway, &key, &GatewayObservation::Error(&trouble)).await;
            match trouble.reason {
                // A person is about to make it, and Secrets are not watched.
                Reason::SecretNotFound | Reason::SecretInvalid => Requeue::after(WHILE_REFUSED),
                _ if trouble.transient => Requeue::retry(),
                _ => Requeue::after(gateway.spec.resync_interval()),
            }
        }
    }
}

async fn step<S: Store>(ctx: &Context<S>, gateway: &AgentGateway, key: &ObjectKey) -> Result<Requeue, ReconcileError> {
    if gateway.metadata.deletion_timestamp.is_some() {
        return deleting(ctx, gateway, key).await;
    }
    if gateway.spec.suspend {
        ctx.gateways.close(key);
        return Ok(record(ctx, gateway, key, &GatewayObservation::Suspended).await);
    }
    names::of_gateway(gateway)?;
    let claimed;
    let mut gateway = gateway;
    if !has_finalizer(gateway) {
        let claim = FinalizerChange { add_finalizer: Some(keys::GATEWAY_FINALIZER), ..FinalizerChange::default() };
        claimed = ctx.state.store.patch_gateway_finalizers(gateway, &claim).await?;
        gateway = &claimed;
    }
    let (credentials, link) = connect(ctx, gateway, key).await?;
    link.client().claim_heartbeats(shared_heartbeats::claims(&ctx.state.store, gateway, key));
    let before = gateway.status.as_ref().and_then(|status| status.device_secret.as_deref());
    if let Some(name) = before.filter(|name| *name != gateway.device_secret_name()) {
        credentials::discard(&ctx.state.store, SecretHolder::of(gateway), name).await?;
    }
    let told = gateway.status.as_ref().map(|status| status.observed_generation) == gateway.metadata.generation;
    if told && ctx.gateways.is_starting(key) {
        return Ok(Requeue::after(STARTUP_GRACE));
    }
    let state = link.client().link().borrow().clone();
    if let model::ConnectionState::Up(hello) = &state {
        credentials::keep(&ctx.state.store, gateway, &credentials, hello).await?;
    }
    let connection = ObservedConnection {
        device_id: Some(credentials.device.identity.device_id().to_owned()),
        ..seen(ctx, gateway, key, &link)
    };
    let next = record(ctx, gateway, key, &GatewayObservation::Connection(connection)).await;
    // A Secret that was put right is seen by reading it: Secrets are not watched.
    let refused = match &state {
        model::ConnectionState::Refused(_) => true,
        model::ConnectionState::Up(hello) => hello.credential != Credential::Shared,
        // A certificate that the Secret's authority did not issue looks like this.
        model::ConnectionState::Down { .. } => gateway.spec.tls.as_ref().is_some_and(|tls| tls.ca_secret_ref.is_some()),
        model::ConnectionState::Connecting => false,
    };
    let most = if refused { WHILE_REFUSED } else { Duration::MAX };
    let advice = link.advice_due().unwrap_or(Duration::MAX);
    let after = gateway.spec.resync_interval().min(most).min(advice);
    Ok(if next.failed { next } else { Requeue::after(after) })
}

fn has_finalizer(gateway: &AgentGateway) -> bool {
    ownership::has_finalizer(&gateway.metadata, keys::GATEWAY_FINALIZER)
}

async fn connect<S: Store>(
    ctx: &Context<S>,
    gateway: &AgentGateway,
    key: &ObjectKey,
) -> Result<(Credentials, Arc<GatewayHandle>), ReconcileError> {
    let credentials = credentials::read(&ctx.state.store, gateway).await?;
    let url = gateway.spec.url.parse().map_err(|e| {
        ReconcileError::permanent(Reason::InvalidSpec, format!("spec.url {:?} is no URL: {e}", gateway.spec.url))
    })?;
    let settings = ConnectionSettings {
        url,
        auth: credentials.auth.clone(),
        identity: Arc::clone(&credentials.device.identity),
        device_token: credentials.device.token.clone(),
        former: credentials.former.clone(),
        trust: credentials.trust.clone(),
        max_in_flight: gateway.spec.max_in_flight(),
        resync: gateway.spec.resync_interval(),
    };
    let fingerprint = credentials.fingerprint(gateway);
    let link = ctx.gateways.ensure(key, &fingerprint, || settings);
    Ok((credentials, link))
}

async fn deleting<S: Store>(
    ctx: &Context<S>,
    gateway: &AgentGateway,
    key: &ObjectKey,
) -> Result<Requeue, ReconcileError> {
    let bound = ctx.state.store.count_bound_agents(key).await?;
    let blocks = shared_heartbeats::recorded_blocks(&ctx.state.store, gateway, key, ctx.state.store.now());
    if bound > 0 || matches!(blocks, RecordedBlocks::Wait) {
        if ctx.gateways.handle(key).is_none()
            && let Err(trouble) = connect(ctx, gateway, key).await
        {
            warn!(gateway = %key, %trouble, "no connection for the cleanup");
        }
        let seen = ctx.gateways.handle(key).map(|link| seen(ctx, gateway, key, &link));
        record(ctx, gateway, key, &GatewayObservation::Deleting { bound, connection: seen }).await;
        return Ok(Requeue::after(WHILE_BOUND));
    }
    close(ctx, key);
    for name in gateway.device_secrets() {
        credentials::discard(&ctx.state.store, SecretHolder::of(gateway), &name).await?;
    }
    // Somebody took it away, and another one still holds the object.
    if !has_finalizer(gateway) {
        return Ok(Requeue::on_change());
    }
    let claim = FinalizerChange { remove_finalizer: Some(keys::GATEWAY_FINALIZER), ..FinalizerChange::default() };
    match ctx.state.store.patch_gateway_finalizers(gateway, &claim).await {
        Ok(_) | Err(crate::state::store::StoreError::NotFound(_)) => {}
        Err(error) => return Err(error.into()),
    }
    info!(gateway = %key, "let go");
    // Each step before may be repeated, and this event is to come once.
    if let RecordedBlocks::Left(message) = blocks {
        warn!(gateway = %key, left = message, "left on the gateway");
        ctx.state.store.publish(EventTarget::Gateway(gateway), &shared_heartbeats::leftover_event(message)).await;
    }
    Ok(Requeue::on_change())
}

/// What is seen of a gateway by its connection.
fn seen<S: Store>(
    ctx: &Context<S>,
    gateway: &AgentGateway,
    key: &ObjectKey,
    link: &GatewayHandle,
) -> ObservedConnection {
    let client = link.client();
    let inventory = link.inventory().ok();
    let look = |inventory: &Inventory| {
        SharedHeartbeatPlan::new(shared_heartbeats::claims(&ctx.state.store, gateway, key), inventory)
    };
    ObservedConnection {
        state: client.link().borrow().clone(),
        shared_heartbeats: inventory.as_deref().map(look),
        inventory,
        read_failure: client.unread().borrow().clone(),
        writes: client.writes().borrow().clone(),
        device_id: None,
        interrupted_removals: cut_off(ctx, key, bound(&ctx.state.store, key).iter().map(Arc::as_ref)),
    }
}

/// Ends what is open for a gateway that goes.
pub(crate) fn close<S: Store>(ctx: &Context<S>, key: &ObjectKey) {
    ctx.gateways.close(key);
    ctx.souls.close(key);
}

/// Writes the status if it changed, and publishes the events that follow.
async fn record<S: Store>(
    ctx: &Context<S>,
    gateway: &AgentGateway,
    key: &ObjectKey,
    seen: &GatewayObservation<'_>,
) -> Requeue {
    let (store, now) = (&ctx.state.store, ctx.state.store.now());
    let old = gateway.status.clone().unwrap_or_default();
    let found = match seen {
        GatewayObservation::Connection(connection) => {
            connection.inventory.as_deref().map(|inventory| unmanaged(store, key, inventory))
        }
        GatewayObservation::Error(_) | GatewayObservation::Suspended | GatewayObservation::Deleting { .. } => None,
    };
    let last = Census { counts: old.agents.unwrap_or_default(), unmanaged: old.unmanaged };
    let bound = bound(store, key);
    let facts = GatewayFacts {
        census: Census::of(&bound, found, &last),
        bound: &bound,
        soul_directory: ctx.souls.status(gateway, old.soul_directory.as_ref(), now),
        now,
    };
    let new = status(gateway, seen, facts); // pure
    let written = write_gateway(ctx, gateway, &new).await;
    if matches!(written, Written::Failed) {
        return Requeue::retry();
    }
    claim(ctx, key, seen);
    if matches!(written, Written::Now(_)) {
        publish_gateway_events(ctx, gateway, &new).await;
    }
    Requeue::on_change()
}

/// Lets the config writer do for others what is recorded.
fn claim<S: Store>(ctx: &Context<S>, key: &ObjectKey, seen: &GatewayObservation<'_>) {
    let (GatewayObservation::Connection(connection)
    | GatewayObservation::Deleting { connection: Some(connection), .. }) = seen
    else {
        return;
    };
    if let (Some(link), Some(shared)) = (ctx.gateways.handle(key), &connection.shared_heartbeats) {
        link.client().claim_heartbeats(shared.recorded());
    }
}
