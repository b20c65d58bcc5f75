//! Notices changes of the Secrets that AgentGateways name. Secrets are read by name and never watched.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::MissedTickBehavior;
use tracing::debug;

use crate::api::AgentGateway;
use crate::api::object_key::ObjectKey;
use crate::core::objects::Objects;
use crate::state::kube_store::KubeStore;
use crate::state::store::StoreError;
use crate::state::triggers::Trigger;

/// How often the metadata of the Secrets is read. With the time for the reads of many AgentGateways, a change is noticed within 30 s.
const INTERVAL: Duration = Duration::from_secs(20);
/// The number of AgentGateways whose Secrets are read at one time.
const READERS: usize = 4;

/// The resource versions of the Secrets that an AgentGateway names, in the order of its fields. `None` for a Secret that does not exist.
type Versions = Vec<Option<String>>;

/// Enqueues an AgentGateway after a change of a Secret that it names. Never ends.
pub async fn run(store: &KubeStore, gateways: &UnboundedSender<Trigger>) {
    let mut seen: HashMap<ObjectKey, Versions> = HashMap::new();
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let in_use = store.gateways().into_iter().filter(|gateway| is_in_use(gateway));
        let looks = stream::iter(in_use).map(|gateway| look(store, gateway)).buffer_unordered(READERS);
        let mut now: HashMap<_, _> = looks.collect().await;
        for (key, versions) in &mut now {
            match (versions.as_ref(), seen.remove(key)) {
                (Some(new), Some(old)) if *new != old => {
                    // The receiver is open until the operator stops.
                    let _ = gateways.send(key.clone().into());
                }
                (None, old) => *versions = old,
                (Some(_), _) => {}
            }
        }
        seen = now.into_iter().filter_map(|(key, versions)| Some((key, versions?))).collect();
    }
}

fn is_in_use(gateway: &AgentGateway) -> bool {
    !gateway.spec.suspend && gateway.metadata.deletion_timestamp.is_none()
}

/// The versions of an AgentGateway's Secrets; `None` if they cannot be read now.
async fn look(store: &KubeStore, gateway: Arc<AgentGateway>) -> (ObjectKey, Option<Versions>) {
    let key = ObjectKey::of(&gateway.metadata);
    let mut versions = Vec::new();
    for name in named(&gateway) {
        match version(store, &ObjectKey::new(&key.namespace, name)).await {
            Ok(version) => versions.push(version),
            Err(error) => {
                debug!(gateway = %key, %error, "the metadata of a Secret could not be read");
                return (key, None);
            }
        }
    }
    (key, Some(versions))
}

async fn version(store: &KubeStore, secret: &ObjectKey) -> Result<Option<String>, StoreError> {
    Ok(store.secret_metadata(secret).await?.and_then(|metadata| metadata.resource_version))
}

/// The names of the Secrets in a spec.
fn named(gateway: &AgentGateway) -> impl Iterator<Item = &str> {
    let auth = &gateway.spec.auth;
    let ca = gateway.spec.tls.as_ref().and_then(|tls| tls.ca_secret_ref.as_ref());
    [auth.token_secret_ref.as_ref(), auth.password_secret_ref.as_ref(), ca]
        .into_iter()
        .flatten()
        .map(|reference| reference.name.as_str())
}
