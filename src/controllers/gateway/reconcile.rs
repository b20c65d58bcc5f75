//! The reconcile of an AgentGateway: its connection, its conditions, its deletion.

use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, info, warn};

use super::credentials::{Credentials, SecretHolder};
use crate::api::object_key::ObjectKey;
use crate::api::{AgentGateway, Reason, keys};
use crate::controllers::Context;
use crate::controllers::agent::cleanup::interrupted_removals;
use crate::controllers::agent::dereference::admits;
use crate::controllers::gateway::credentials;
use crate::controllers::gateway_handle::GatewayHandle;
use crate::controllers::status_writer::{Written, publish_gateway_events, write_gateway};
use crate::core::error::ReconcileError;
use crate::core::gateway::census::{self, Census, bound};
use crate::core::gateway::cleanup::{unseen_agents, unseen_event};
use crate::core::gateway::conditions::ObservedConnection;
use crate::core::gateway::shared_heartbeats::{self, RecordedBlocks, SharedHeartbeatPlan};
use crate::core::gateway::status::{GatewayFacts, GatewayObservation, status};
use crate::core::gateway::url;
use crate::core::kstatus::Settled;
use crate::core::requeue::Requeue;
use crate::core::{names, ownership};
use crate::openclaw::ConnectionSettings;
use crate::openclaw::model::{self, Credential, Inventory};
use crate::state::changes::STARTUP_GRACE;
use crate::state::store::{BoundAgents, EventTarget, MetadataChange, StoreError};

/// The longest time until an AgentGateway that is being deleted is reconciled again. A change of its Agents triggers it.
const WHILE_BOUND: Duration = Duration::from_mins(1);
/// The same, while only the API server knows the bound Agents: the cache lags, or this version cannot decode them.
const WHILE_UNKNOWN: Duration = Duration::from_secs(5);

/// The requeue while the gateway refuses the credentials. Secrets are not watched, so they are read again.
const WHILE_REFUSED: Duration = Duration::from_secs(30);

/// Opens or replaces the connection to a gateway, and records its state.
///
/// # Guarantees
/// A missing Secret never closes an open connection. The AgentGateway keeps its finalizer and its device Secret until no Agent is
/// bound to it.
pub async fn reconcile(ctx: &Context, gateway: &AgentGateway) -> Requeue {
    let key = ObjectKey::of(&gateway.metadata);
    let claimed = claim(ctx, gateway).await;
    let (gateway, outcome) = match &claimed {
        Ok(claimed) => {
            let gateway = claimed.as_deref().unwrap_or(gateway);
            (gateway, pass(ctx, gateway, &key).await)
        }
        Err(error) => (gateway, Err(error.clone())),
    };
    match outcome {
        Ok(next) => next,
        Err(error) if error.is_conflict() => Requeue::soon(),
        Err(error) => {
            let recorded = record(ctx, gateway, &key, &GatewayObservation::Error(&error)).await;
            match error.reason {
                _ if recorded != Requeue::on_change() => recorded,
                // A person is about to create it, and Secrets are not watched.
                Reason::SecretNotFound | Reason::SecretInvalid => Requeue::after(WHILE_REFUSED),
                _ if error.is_retried() => Requeue::retry(),
                _ => Requeue::after(gateway.spec.resync_interval()),
            }
        }
    }
}

/// Checks the names in an AgentGateway that is to be connected, and adds its finalizer. Returns the AgentGateway if it was written.
async fn claim(ctx: &Context, gateway: &AgentGateway) -> Result<Option<Arc<AgentGateway>>, ReconcileError> {
    if gateway.metadata.deletion_timestamp.is_some() || gateway.spec.suspend {
        return Ok(None);
    }
    names::of_gateway(gateway)?;
    if has_finalizer(gateway) {
        return Ok(None);
    }
    let claim = MetadataChange { add_finalizer: Some(keys::GATEWAY_FINALIZER), ..MetadataChange::default() };
    Ok(Some(ctx.state.store.patch_gateway_metadata(gateway, &claim).await?))
}

async fn pass(ctx: &Context, gateway: &AgentGateway, key: &ObjectKey) -> Result<Requeue, ReconcileError> {
    if gateway.metadata.deletion_timestamp.is_some() {
        return deleting(ctx, gateway, key).await;
    }
    if gateway.spec.suspend {
        ctx.gateways.close(key);
        return Ok(record(ctx, gateway, key, &GatewayObservation::Suspended).await);
    }
    let (credentials, handle) = connect(ctx, gateway, key).await?;
    handle.client().claim_heartbeats(shared_heartbeats::claims(&ctx.state.store, gateway, key));
    let before = gateway.status.as_ref().and_then(|status| status.device_secret.as_deref());
    if let Some(name) = before.filter(|name| *name != gateway.device_secret_name()) {
        credentials::discard(&ctx.state.store, SecretHolder::of(gateway), name).await?;
    }
    let is_observed = gateway.status.as_ref().map(|status| status.observed_generation) == gateway.metadata.generation;
    if is_observed && ctx.gateways.is_starting(key) {
        return Ok(Requeue::after(STARTUP_GRACE));
    }
    let state = handle.client().connection().borrow().clone();
    if let model::ConnectionState::Up(hello) = &state {
        credentials::keep(&ctx.state.store, gateway, &credentials, hello).await?;
    }
    let connection = ObservedConnection {
        device_id: Some(credentials.device.identity.device_id().to_owned()),
        ..observe(ctx, gateway, key, &handle)
    };
    let next = record(ctx, gateway, key, &GatewayObservation::Connection(connection)).await;
    // A repaired Secret is found by reading it: Secrets are not watched.
    let refused = match &state {
        model::ConnectionState::Refused(_) => true,
        model::ConnectionState::Up(hello) => hello.credential != Credential::Shared,
        // A certificate that the CA in the Secret did not issue ends the connection as well.
        model::ConnectionState::Down { .. } => gateway.spec.tls.as_ref().is_some_and(|tls| tls.ca_secret_ref.is_some()),
        model::ConnectionState::Connecting => false,
    };
    let most = if refused { WHILE_REFUSED } else { Duration::MAX };
    let advice = handle.advice_due().unwrap_or(Duration::MAX);
    let after = gateway.spec.resync_interval().min(most).min(advice);
    Ok(if next == Requeue::on_change() { Requeue::after(after) } else { next })
}

fn has_finalizer(gateway: &AgentGateway) -> bool {
    ownership::has_finalizer(&gateway.metadata, keys::GATEWAY_FINALIZER)
}

async fn connect(
    ctx: &Context,
    gateway: &AgentGateway,
    key: &ObjectKey,
) -> Result<(Credentials, Arc<GatewayHandle>), ReconcileError> {
    let credentials = credentials::read(&ctx.state.store, gateway).await?;
    let handle = open(ctx, gateway, key, &credentials)?;
    Ok((credentials, handle))
}

/// Opens the connection to a gateway that was Ready, before the operator knows its Agents. It writes nothing, and leaves what is missing to the
/// reconcile.
pub(crate) async fn connect_early(ctx: &Context, gateway: &AgentGateway) {
    if !gateway.is_settled() || gateway.spec.suspend || !has_finalizer(gateway) {
        return;
    }
    let key = ObjectKey::of(&gateway.metadata);
    let opened = match credentials::read_only(&ctx.state.store, gateway).await {
        Ok(Some(credentials)) => open(ctx, gateway, &key, &credentials).map(drop),
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = opened {
        debug!(gateway = %key, %error, "not connected yet");
    }
}

fn open(
    ctx: &Context,
    gateway: &AgentGateway,
    key: &ObjectKey,
    credentials: &Credentials,
) -> Result<Arc<GatewayHandle>, ReconcileError> {
    let url = url::parse(&gateway.spec.url)?;
    let settings = ConnectionSettings {
        url,
        auth: credentials.auth.clone(),
        device_key: Arc::clone(&credentials.device.identity),
        device_token: credentials.device.token.clone(),
        previous: credentials.previous.clone(),
        trust: credentials.trust.clone(),
        max_in_flight: gateway.spec.max_in_flight(),
        resync: gateway.spec.resync_interval(),
    };
    let fingerprint = credentials.fingerprint(gateway);
    Ok(ctx.gateways.ensure(key, &fingerprint, gateway.spec.max_concurrent_reconciles(), || settings))
}

async fn deleting(ctx: &Context, gateway: &AgentGateway, key: &ObjectKey) -> Result<Requeue, ReconcileError> {
    let known = bound(&ctx.state.store, key).len();
    // The last credentials for the cleanup go with this AgentGateway, so the API server confirms that no Agent needs them.
    let (bound, unseen) = if known > 0 { (known, Vec::new()) } else { bound_and_unseen(ctx, gateway, key).await? };
    let blocks = shared_heartbeats::recorded_blocks(&ctx.state.store, gateway, key, ctx.state.store.now());
    if bound > 0 || matches!(blocks, RecordedBlocks::Wait) {
        if ctx.gateways.handle(key).is_none()
            && let Err(error) = connect(ctx, gateway, key).await
        {
            warn!(gateway = %key, %error, "no connection for the cleanup");
        }
        let observed = ctx.gateways.handle(key).map(|handle| observe(ctx, gateway, key, &handle));
        record(ctx, gateway, key, &GatewayObservation::Deleting { bound, connection: observed }).await;
        return Ok(Requeue::after(if known > 0 { WHILE_BOUND } else { WHILE_UNKNOWN }));
    }
    close(ctx, key);
    for name in gateway.device_secrets() {
        credentials::discard(&ctx.state.store, SecretHolder::of(gateway), &name).await?;
    }
    // Somebody removed the finalizer, and another finalizer keeps the object.
    if !has_finalizer(gateway) {
        return Ok(Requeue::on_change());
    }
    let claim = MetadataChange { remove_finalizer: Some(keys::GATEWAY_FINALIZER), ..MetadataChange::default() };
    match ctx.state.store.patch_gateway_metadata(gateway, &claim).await {
        Ok(_) | Err(StoreError::NotFound(_)) => {}
        Err(error) => return Err(error.into()),
    }
    info!(gateway = %key, "finalizer removed");
    // The steps above may be repeated. These events are published once.
    if !unseen.is_empty() {
        warn!(gateway = %key, namespaces = ?unseen, "deleted without a look at namespaces that the API server refuses");
        ctx.state.store.publish(EventTarget::Gateway(gateway), &unseen_event(&unseen)).await;
    }
    if let RecordedBlocks::Left(message) = blocks {
        warn!(gateway = %key, left = message, "left on the gateway");
        ctx.state.store.publish(EventTarget::Gateway(gateway), &shared_heartbeats::leftover_event(message)).await;
    }
    Ok(Requeue::on_change())
}

/// The number of Agents that are bound to an AgentGateway, by the API server, and the namespaces that it refuses to show.
///
/// One refused namespace must not keep all AgentGateways of the others. An Agent of a namespace that this AgentGateway does not admit is not
/// bound to it, unless the admission was taken back while the operator could not see the Agent: its agent stays on the gateway then, and an
/// event says that nobody looked. An Agent of an admitted namespace may well be bound, and without the credentials nobody could remove its
/// agent any more. The AgentGateway waits for it, until a person grants the Role or takes the namespace out of the list.
///
/// # Errors
/// The API server does not answer, or refuses a namespace that the AgentGateway admits.
async fn bound_and_unseen(
    ctx: &Context,
    gateway: &AgentGateway,
    key: &ObjectKey,
) -> Result<(usize, Vec<String>), ReconcileError> {
    let store = &ctx.state.store;
    let BoundAgents { count, refused } = store.bound_agents(key).await?;
    let (mut admitted, mut others) = (Vec::new(), Vec::new());
    for namespace in refused {
        match admits(store, gateway, key, &namespace).await {
            Ok(false) => others.push(namespace),
            // Without the labels of the namespace, a selector may admit it.
            Ok(true) | Err(StoreError::Denied { .. }) => admitted.push(namespace),
            Err(error) => return Err(error.into()),
        }
    }
    if admitted.is_empty() || count > 0 { Ok((count, others)) } else { Err(unseen_agents(&admitted)) }
}

/// The observed state of a gateway with a connection.
fn observe(ctx: &Context, gateway: &AgentGateway, key: &ObjectKey, handle: &GatewayHandle) -> ObservedConnection {
    let client = handle.client();
    let inventory = handle.inventory().ok();
    let look = |inventory: &Inventory| {
        SharedHeartbeatPlan::new(shared_heartbeats::claims(&ctx.state.store, gateway, key), inventory)
    };
    ObservedConnection {
        state: client.connection().borrow().clone(),
        shared_heartbeats: inventory.as_deref().map(look),
        inventory,
        read_failure: client.read_failure().borrow().clone(),
        writes: client.config_writes().borrow().clone(),
        device_id: None,
        interrupted_removals: interrupted_removals(ctx, key, bound(&ctx.state.store, key).iter().map(Arc::as_ref)),
    }
}

/// Closes the connections for a gateway that is deleted.
pub(crate) fn close(ctx: &Context, key: &ObjectKey) {
    ctx.gateways.close(key);
    ctx.souls.close(key);
}

/// Writes the status if it changed, and publishes the events that follow.
async fn record(ctx: &Context, gateway: &AgentGateway, key: &ObjectKey, observed: &GatewayObservation<'_>) -> Requeue {
    let (store, now) = (&ctx.state.store, ctx.state.store.now());
    let old = gateway.status.clone().unwrap_or_default();
    let undeclared = match observed {
        GatewayObservation::Connection(connection) => {
            connection.inventory.as_deref().map(|inventory| census::unmanaged(store, key, inventory))
        }
        GatewayObservation::Error(_) | GatewayObservation::Suspended | GatewayObservation::Deleting { .. } => None,
    };
    let last = Census { counts: old.agents.unwrap_or_default(), unmanaged: old.unmanaged };
    let (bound, observers) = (bound(store, key), census::observers(store, key));
    let facts = GatewayFacts {
        census: Census::of(&bound, &observers, undeclared, &last),
        bound: &bound,
        observers: &observers,
        soul_directory: ctx.souls.status(gateway, old.soul_directory.as_ref(), now),
        served_api: &ctx.served_api,
        now,
    };
    let new = status(gateway, observed, facts); // pure
    let written = write_gateway(ctx, gateway, &new).await;
    match &written {
        Written::Failed => return Requeue::retry(),
        Written::Outdated => return Requeue::soon(),
        Written::Unchanged | Written::Now(_) => {}
    }
    claim_heartbeats(ctx, key, observed);
    if matches!(written, Written::Now(_)) {
        publish_gateway_events(ctx, gateway, &new).await;
    }
    Requeue::on_change()
}

/// Permits the config writer to write the heartbeat blocks that the status records.
fn claim_heartbeats(ctx: &Context, key: &ObjectKey, observed: &GatewayObservation<'_>) {
    let (GatewayObservation::Connection(connection)
    | GatewayObservation::Deleting { connection: Some(connection), .. }) = observed
    else {
        return;
    };
    if let (Some(handle), Some(shared)) = (ctx.gateways.handle(key), &connection.shared_heartbeats) {
        handle.client().claim_heartbeats(shared.recorded());
    }
}
