//! What an AgentGateway leaves that goes without our leave: somebody took its finalizer away.
//!
//! No reconcile sees it any more, and its device Secret carries a finalizer of ours. Secrets are never listed, so that the
//! names come from what was last seen of it. What went while no operator ran is found by those who still refer to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kube::api::ObjectMeta;
use tokio::sync::mpsc::UnboundedReceiver;
use tracing::warn;

use super::credentials::{self, Holder};
use super::ports::{Key, Store};
use super::references::gateway_key;
use super::{World, gateway};
use crate::api::AgentGateway;
use crate::api::agent::GatewayKey;
use crate::plan::{Binding, Trouble};

/// How long a farewell that failed waits for the next attempt.
const AGAIN: Duration = Duration::from_secs(30);

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
    keys.retain(|key| store.gateway(&Key::from(key)).is_none());
    keys.into_iter().map(Gone::named).collect()
}

/// Takes leave of each AgentGateway that goes, and again until it succeeds; at first of those that went while no operator ran.
/// The caches must be in sync. Ends with the senders.
pub async fn run<S: Store>(world: Arc<World<S>>, mut gone: UnboundedReceiver<Gone>) {
    let mut waiting: BTreeMap<_, Gone> = missing(&world.store).into_iter().map(named).collect();
    loop {
        let mut failed = BTreeMap::new();
        for (id, gone) in waiting {
            match take_leave(&world, &gone).await {
                Ok(()) => {}
                Err(trouble) => {
                    warn!(gateway = %gone.key, %trouble, "is gone, and its device Secret could not be let go of yet");
                    failed.insert(id, gone);
                }
            }
        }
        waiting = failed;
        let next =
            if waiting.is_empty() { Ok(gone.recv().await) } else { tokio::time::timeout(AGAIN, gone.recv()).await };
        match next {
            Ok(Some(gone)) => waiting.extend([named(gone)]),
            Ok(None) => return,
            Err(_) => {}
        }
    }
}

/// An AgentGateway by what tells it from another one.
fn named(gone: Gone) -> ((GatewayKey, Option<String>), Gone) {
    ((gone.key.clone(), gone.uid.clone()), gone)
}
