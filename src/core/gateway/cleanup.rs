//! Deleted AgentGateways whose device Secrets remain.

use std::collections::BTreeSet;

use kube::api::ObjectMeta;

use crate::api::AgentGateway;
use crate::api::object_key::ObjectKey;
use crate::core::agent::binding::Binding;
use crate::core::gateway_ref::{gateway_key, gateway_of_board};
use crate::core::objects::Objects;

/// An AgentGateway that does not exist any more, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedGateway {
    /// Its key.
    pub key: ObjectKey,
    /// Its uid; `None` if it was deleted while no operator ran.
    pub uid: Option<String>,
    /// The names of its device Secrets.
    pub secrets: BTreeSet<String>,
}

impl DeletedGateway {
    /// An AgentGateway with this last state.
    #[must_use]
    pub fn last_seen(gateway: &AgentGateway) -> Self {
        let secrets = gateway.device_secrets();
        Self { secrets, ..Self::known(&gateway.metadata) }
    }

    /// An AgentGateway of which only the metadata could be read.
    #[must_use]
    pub fn known(meta: &ObjectMeta) -> Self {
        Self { uid: meta.uid.clone(), ..Self::named(ObjectKey::of(meta)) }
    }

    /// Whether both are the same object, with the same key and uid.
    #[must_use]
    pub fn is_same_object(&self, other: &Self) -> bool {
        (&self.key, &self.uid) == (&other.key, &other.uid)
    }

    /// An AgentGateway of which only the name is known. Its device Secret has the default name.
    fn named(key: ObjectKey) -> Self {
        let secrets = [AgentGateway::default_device_secret(&key.name)].into();
        Self { key, uid: None, secrets }
    }
}

/// The AgentGateways that do not exist although Agents or Boards refer to them.
pub fn missing<O: Objects>(objects: &O) -> Vec<DeletedGateway> {
    let mut keys = BTreeSet::new();
    for agent in objects.agents() {
        let namespace = agent.metadata.namespace.as_deref().unwrap_or_default();
        keys.extend(Binding::of(&agent).map(|binding| binding.gateway));
        keys.extend(agent.spec.gateway_ref.as_ref().map(|reference| gateway_key(reference, namespace)));
    }
    keys.extend(objects.boards().iter().map(|board| gateway_of_board(board)));
    let unreadable: BTreeSet<_> = objects.unreadable_gateways().iter().map(ObjectKey::of).collect();
    keys.retain(|key| objects.gateway(key).is_none() && !unreadable.contains(key));
    keys.into_iter().map(DeletedGateway::named).collect()
}
