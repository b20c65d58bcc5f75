//! The reconcile of an AgentGateway: its connection, its conditions, its end.

use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use super::board::inherited_id;
use super::changes::STARTING;
use super::credentials::{self, Credentials, Holder};
use super::gateway_status::{Seen, status};
use super::gateway_verdicts::Connection;
use super::link::Link;
use super::ports::{Claim, Key, Note, Store, Subject};
use super::progress::progress;
use super::release::cut_off;
use super::shared_heartbeats::{self, Blocks, Shared};
use super::status_writer::{kubernetes, status_not_written};
use super::unmanaged::{self, Unmanaged};
use super::{Next, World, names, ownership};
use crate::api::agent::{Agent, GatewayKey, Role};
use crate::api::conditions::find;
use crate::api::gateway::{AgentCounts, UnmanagedAgent};
use crate::api::{AgentGateway, AgentGatewayStatus, ConditionType, Reason, conditions, keys};
use crate::gateway::{self, Credential, Inventory, Settings};
use crate::plan::{Asked, Binding, Trouble};

/// How often a gateway that is being deleted is looked at while agents are still bound to it.
const WHILE_BOUND: Duration = Duration::from_secs(5);

/// Most agents that no Agent declares and that the status names, and the most letters of their names: anybody may make
/// agents on a gateway, and a status has a size.
const MOST_LISTED: usize = 100;
const LONGEST_NAME: usize = 128;

/// How often the credentials are read again while the gateway refuses them.
const WHILE_REFUSED: Duration = Duration::from_secs(30);

/// Brings the connection to a gateway in line with its AgentGateway and says how it is.
///
/// # Guarantees
/// A Secret that is missing never closes a connection that stands. The AgentGateway keeps its finalizer, and its device
/// Secret, until no Agent is bound to it.
pub async fn reconcile<S: Store>(world: &World<S>, gateway: &AgentGateway) -> Next {
    let key = GatewayKey::from(&Key::of(&gateway.metadata));
    match step(world, gateway, &key).await {
        Ok(next) => next,
        Err(trouble) => {
            record(world, gateway, &key, &Seen::Trouble(&trouble)).await;
            match trouble.reason {
                // A person is about to make it, and Secrets are not watched.
                Reason::SecretNotFound | Reason::SecretInvalid => Next::after(WHILE_REFUSED),
                _ if trouble.transient => Next::retry(),
                _ => Next::after(gateway.spec.resync_interval()),
            }
        }
    }
}

async fn step<S: Store>(world: &World<S>, gateway: &AgentGateway, key: &GatewayKey) -> Result<Next, Trouble> {
    if gateway.metadata.deletion_timestamp.is_some() {
        return deleting(world, gateway, key).await;
    }
    if gateway.spec.suspend {
        world.gateways.close(key);
        return Ok(record(world, gateway, key, &Seen::Suspended).await);
    }
    names::of_gateway(gateway)?;
    let claimed;
    let mut gateway = gateway;
    if !has_finalizer(gateway) {
        let claim = Claim { add_finalizer: Some(keys::GATEWAY_FINALIZER), ..Claim::default() };
        claimed = world.store.claim_gateway(gateway, &claim).await.map_err(|e| kubernetes(&e))?;
        gateway = &claimed;
    }
    let (credentials, link) = connect(world, gateway, key).await?;
    link.client().claim_heartbeats(shared_heartbeats::claims(&world.store, gateway, key));
    let before = gateway.status.as_ref().and_then(|status| status.device_secret.as_deref());
    if let Some(name) = before.filter(|name| *name != gateway.device_secret_name()) {
        credentials::discard(&world.store, Holder::of(gateway), name).await?;
    }
    let told = gateway.status.as_ref().map(|status| status.observed_generation) == gateway.metadata.generation;
    if told && world.gateways.starting(key) {
        return Ok(Next::after(STARTING));
    }
    let state = link.client().link().borrow().clone();
    if let gateway::Link::Up(hello) = &state {
        credentials::keep(&world.store, gateway, &credentials, hello).await?;
    }
    let connection = Connection {
        device_id: Some(credentials.device.identity.device_id().to_owned()),
        ..seen(world, gateway, key, &link)
    };
    let next = record(world, gateway, key, &Seen::Link(connection)).await;
    // A Secret that was put right is seen by reading it: Secrets are not watched.
    let refused = match &state {
        gateway::Link::Refused(_) => true,
        gateway::Link::Up(hello) => hello.credential != Credential::Shared,
        // A certificate that the Secret's authority did not issue looks like this.
        gateway::Link::Down { .. } => gateway.spec.tls.as_ref().is_some_and(|tls| tls.ca_secret_ref.is_some()),
        gateway::Link::Connecting => false,
    };
    let most = if refused { WHILE_REFUSED } else { Duration::MAX };
    let advice = link.advice_due().unwrap_or(Duration::MAX);
    let after = gateway.spec.resync_interval().min(most).min(advice);
    Ok(if next.failed { next } else { Next::after(after) })
}

fn has_finalizer(gateway: &AgentGateway) -> bool {
    ownership::has_finalizer(&gateway.metadata, keys::GATEWAY_FINALIZER)
}

async fn connect<S: Store>(
    world: &World<S>,
    gateway: &AgentGateway,
    key: &GatewayKey,
) -> Result<(Credentials, Arc<Link>), Trouble> {
    let credentials = credentials::read(&world.store, gateway).await?;
    let url = gateway.spec.url.parse().map_err(|e| {
        Trouble::permanent(Reason::InvalidSpec, format!("spec.url {:?} is no URL: {e}", gateway.spec.url))
    })?;
    let settings = Settings {
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
    let link = world.gateways.ensure(key, &fingerprint, || settings);
    Ok((credentials, link))
}

async fn deleting<S: Store>(world: &World<S>, gateway: &AgentGateway, key: &GatewayKey) -> Result<Next, Trouble> {
    let bound = world.store.count_bound(key).await.map_err(|e| kubernetes(&e))?;
    let blocks = shared_heartbeats::blocks(&world.store, gateway, key);
    if bound > 0 || matches!(blocks, Blocks::Wait) {
        if world.gateways.link(key).is_none()
            && let Err(trouble) = connect(world, gateway, key).await
        {
            warn!(gateway = %key, %trouble, "no connection for the cleanup");
        }
        let seen = world.gateways.link(key).map(|link| seen(world, gateway, key, &link));
        record(world, gateway, key, &Seen::Bound(bound, seen)).await;
        return Ok(Next::after(WHILE_BOUND));
    }
    close(world, key);
    for name in gateway.device_secrets() {
        credentials::discard(&world.store, Holder::of(gateway), &name).await?;
    }
    // Somebody took it away, and another one still holds the object.
    if !has_finalizer(gateway) {
        return Ok(Next::on_change());
    }
    let claim = Claim { remove_finalizer: Some(keys::GATEWAY_FINALIZER), ..Claim::default() };
    match world.store.claim_gateway(gateway, &claim).await {
        Ok(_) | Err(super::StoreError::NotFound(_)) => {}
        Err(error) => return Err(kubernetes(&error)),
    }
    info!(gateway = %key, "let go");
    // Each step before may be repeated, and this event is to come once.
    if let Blocks::Left(message) = blocks {
        warn!(gateway = %key, left = message, "left on the gateway");
        world.store.tell(Subject::Gateway(gateway), &shared_heartbeats::left_behind(message)).await;
    }
    Ok(Next::on_change())
}

/// What is seen of a gateway by its connection.
fn seen<S: Store>(world: &World<S>, gateway: &AgentGateway, key: &GatewayKey, link: &Link) -> Connection {
    let client = link.client();
    let inventory = link.inventory().ok();
    let look = |inventory: &Inventory| Shared::look(shared_heartbeats::claims(&world.store, gateway, key), inventory);
    Connection {
        link: client.link().borrow().clone(),
        shared: inventory.as_deref().map(look),
        inventory,
        unread: client.unread().borrow().clone(),
        writes: client.writes().borrow().clone(),
        device_id: None,
        cut_off: cut_off(world, key, bound(&world.store, key).iter().map(Arc::as_ref)),
    }
}

/// Ends what is open for a gateway that goes.
pub(super) fn close<S: Store>(world: &World<S>, key: &GatewayKey) {
    world.gateways.close(key);
    world.souls.close(key);
}

/// How many agents there are, and those that no Agent declares. Of these what was seen last, while the gateway cannot be asked.
fn census<S: Store>(
    store: &S,
    key: &GatewayKey,
    seen: &Seen<'_>,
    old: &AgentGatewayStatus,
) -> (AgentCounts, Vec<UnmanagedAgent>) {
    let mut ids = std::collections::BTreeSet::new();
    let mut ready = 0_usize;
    for agent in store.agents() {
        let Some(binding) = Binding::of(&agent).filter(|b| b.gateway == *key) else { continue };
        ids.insert(binding.identity.agent_id);
        let conditions = agent.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
        ready += usize::from(conditions::is_true(conditions, ConditionType::Ready));
    }
    let number = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let (unmanaged, listed) = match seen {
        Seen::Link(Connection { inventory: Some(inventory), .. }) => {
            let found = unmanaged::on(store, key, inventory);
            (number(found.len()), found.into_iter().take(MOST_LISTED).map(listed).collect())
        }
        Seen::Link(_) | Seen::Trouble(_) | Seen::Suspended | Seen::Bound(..) => {
            (old.agents.as_ref().map_or(0, |counts| counts.unmanaged), old.unmanaged.clone())
        }
    };
    (AgentCounts { managed: number(ids.len()), ready: number(ready), unmanaged }, listed)
}

fn listed(agent: Unmanaged) -> UnmanagedAgent {
    let name = agent.name.map(|name| name.chars().take(LONGEST_NAME).collect());
    UnmanagedAgent { id: agent.id, name }
}

/// The Agents that are bound to a gateway.
fn bound<S: Store>(store: &S, key: &GatewayKey) -> Vec<Arc<Agent>> {
    let mut agents = store.agents();
    agents.retain(|agent| Binding::of(agent).is_some_and(|binding| binding.gateway == *key));
    agents
}

/// Writes the status if it changed, and tells of a change of Ready.
async fn record<S: Store>(world: &World<S>, gateway: &AgentGateway, key: &GatewayKey, seen: &Seen<'_>) -> Next {
    let old = gateway.status.clone().unwrap_or_default();
    let (counts, unmanaged) = census(&world.store, key, seen, &old);
    let now = world.store.now();
    let mut new = status(gateway, &old, seen, counts, now);
    let asked = Asked::read(gateway.metadata.annotations.as_ref(), now);
    let bound = bound(&world.store, key);
    let main = bound.iter().find(|agent| agent.spec.role == Role::Main);
    new.main_agent_id = main.and_then(|main| inherited_id(main)).or(new.main_agent_id);
    new.last_sync = progress(&asked, &bound).or(new.last_sync);
    new.soul_directory = world.souls.status(gateway, old.soul_directory.as_ref(), now);
    new.invalid_requests = asked.invalid;
    new.unmanaged = unmanaged;
    if new == old && gateway.status.is_some() {
        claim(world, key, seen);
        return Next::on_change();
    }
    if let Err(error) = world.store.gateway_status(gateway, &new).await {
        status_not_written("AgentGateway", &gateway.metadata, &error);
        return Next::retry();
    }
    claim(world, key, seen);
    for note in news(&old, &new).into_iter().chain(shared_heartbeats::news(&old, &new)) {
        world.store.tell(Subject::Gateway(gateway), &note).await;
    }
    Next::on_change()
}

/// Lets the config writer do for others what is recorded.
fn claim<S: Store>(world: &World<S>, key: &GatewayKey, seen: &Seen<'_>) {
    let (Seen::Link(connection) | Seen::Bound(_, Some(connection))) = seen else { return };
    if let (Some(link), Some(shared)) = (world.gateways.link(key), &connection.shared) {
        link.client().claim_heartbeats(shared.recorded());
    }
}

/// What is worth an event: Ready changed its status, or its reason while it is not true.
fn news(old: &AgentGatewayStatus, new: &AgentGatewayStatus) -> Option<Note> {
    let ready = find(&new.conditions, ConditionType::Ready)?;
    let before = find(&old.conditions, ConditionType::Ready);
    let same = before.is_some_and(|b| (&b.status, &b.reason) == (&ready.status, &ready.reason));
    let quiet = [Reason::Connecting, Reason::NotSettled].iter().any(|r| r.as_str() == ready.reason);
    // Events of one reason are counted on the first of them, whose words stay: by then another request is to be approved.
    let message = if ready.reason == Reason::PairingRequired.as_str() {
        "the gateway wants this device to be approved; the condition Paired has the command that does it".to_owned()
    } else {
        ready.message.clone()
    };
    (!same && !quiet).then(|| Note {
        warning: ready.status != "True",
        reason: ready.reason.clone(),
        action: "Connect",
        message,
    })
}
