//! What an AgentGateway leaves that goes without our leave: somebody took its finalizer away.
//!
//! No reconcile sees it any more, and its device Secret carries a finalizer of ours. Secrets are never listed, so that the
//! names come from what was last seen of it. What went while no operator ran is found by those who still refer to it.

use std::collections::BTreeSet;
use std::time::Duration;

use kube::api::ObjectMeta;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;
use tracing::warn;

use super::credentials::{self, Holder};
use super::ports::{Key, Store};
use super::references::gateway_key;
use super::{World, gateway};
use crate::api::AgentGateway;
use crate::api::agent::GatewayKey;
use crate::plan::{Binding, Trouble, backoff};

/// How long a farewell that failed waits for the next attempt: the first time, and at most.
const FIRST_WAIT: Duration = Duration::from_secs(30);
const LONGEST_WAIT: Duration = Duration::from_mins(10);

/// An AgentGateway that does not exist any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    key: GatewayKey,
    uid: Option<String>,
    secrets: BTreeSet<String>,
}

impl Gone {
    /// One that was last seen so.
    #[must_use]
    pub fn seen(gateway: &AgentGateway) -> Self {
        let secrets = gateway.device_secrets();
        Self { secrets, ..Self::known(&gateway.metadata) }
    }

    /// One of which only the metadata could be read.
    #[must_use]
    pub fn known(meta: &ObjectMeta) -> Self {
        Self { uid: meta.uid.clone(), ..Self::named(GatewayKey::from(&Key::of(meta))) }
    }

    /// Whether both are about one object: one key and one uid.
    fn is_same_object(&self, other: &Self) -> bool {
        (&self.key, &self.uid) == (&other.key, &other.uid)
    }

    /// One of which only the name is known: its device Secret has the name that it has without `spec.device.secretName`.
    fn named(key: GatewayKey) -> Self {
        let secrets = [AgentGateway::default_device_secret(&key.name)].into();
        Self { key, uid: None, secrets }
    }
}

/// Ends what is open for an AgentGateway that is gone, and lets go of its device Secrets, unless another AgentGateway uses
/// them. Kubernetes deletes them with their owner.
///
/// # Errors
/// The request to Kubernetes that failed.
pub async fn take_leave<S: Store>(world: &World<S>, gone: &Gone) -> Result<(), Trouble> {
    if world.store.gateway(&Key::from(&gone.key)).is_none() {
        gateway::close(world, &gone.key);
    }
    let holder = Holder { namespace: &gone.key.namespace, uid: gone.uid.as_deref() };
    for name in &gone.secrets {
        credentials::discard(&world.store, holder, name).await?;
    }
    Ok(())
}

/// The AgentGateways that Agents or Boards refer to and that do not exist.
pub fn missing<S: Store>(store: &S) -> Vec<Gone> {
    let mut keys = BTreeSet::new();
    for agent in store.agents() {
        let namespace = agent.metadata.namespace.as_deref().unwrap_or_default();
        keys.extend(Binding::of(&agent).map(|binding| binding.gateway));
        keys.extend(agent.spec.gateway_ref.as_ref().map(|reference| gateway_key(reference, namespace)));
    }
    for board in store.boards() {
        let namespace = board.metadata.namespace.as_deref().unwrap_or_default();
        keys.insert(gateway_key(&board.spec.gateway_ref, namespace));
    }
    let unreadable: BTreeSet<_> =
        store.unreadable_gateways().iter().map(|meta| GatewayKey::from(&Key::of(meta))).collect();
    keys.retain(|key| store.gateway(&Key::from(key)).is_none() && !unreadable.contains(key));
    keys.into_iter().map(Gone::named).collect()
}

/// A farewell that is due.
struct Due {
    gone: Gone,
    failures: u32,
    at: Instant,
}

impl Due {
    fn now(gone: Gone) -> Self {
        Self { gone, failures: 0, at: Instant::now() }
    }

    /// After a failure, with a wait that grows.
    fn later(self) -> Self {
        let failures = self.failures.saturating_add(1);
        Self { failures, at: Instant::now() + backoff::doubled(FIRST_WAIT, LONGEST_WAIT, failures), ..self }
    }
}

/// Takes leave of each AgentGateway that goes, and retries until it succeeds; at first of those that went while no operator ran.
/// The caches must be in sync. Ends with the senders.
pub async fn run<S: Store>(world: &World<S>, mut gone: UnboundedReceiver<Gone>) {
    let mut waiting: Vec<_> = missing(&world.store).into_iter().map(Due::now).collect();
    loop {
        let now = Instant::now();
        for due in std::mem::take(&mut waiting) {
            waiting.extend(if due.at <= now { attempt(world, due).await } else { Some(due) });
        }
        let next = match waiting.iter().map(|due| due.at).min() {
            Some(at) => tokio::time::timeout_at(at, gone.recv()).await,
            None => Ok(gone.recv().await),
        };
        match next {
            Ok(Some(gone)) => {
                waiting.retain(|due| !due.gone.is_same_object(&gone));
                waiting.push(Due::now(gone));
            }
            Ok(None) => return,
            Err(_) => {}
        }
    }
}

/// One attempt; what is left to do of it.
async fn attempt<S: Store>(world: &World<S>, due: Due) -> Option<Due> {
    let trouble = take_leave(world, &due.gone).await.err()?;
    let due = due.later();
    let seconds = due.at.duration_since(Instant::now()).as_secs();
    warn!(gateway = %due.gone.key, %trouble, seconds, "is gone, and its device Secret could not be let go of yet");
    Some(due)
}
