//! The leftovers of a deleted AgentGateway.

use std::collections::BTreeSet;

use kube::api::ObjectMeta;

use crate::api::object_key::ObjectKey;
use crate::api::{AgentGateway, Reason};
use crate::core::agent::binding::Binding;
use crate::core::error::ReconcileError;
use crate::core::event::Event;
use crate::core::gateway_ref::{gateway_key, gateway_of_board};
use crate::core::names::list;
use crate::core::objects::{Coverage, Objects};

/// The largest number of namespaces that one message names.
const MAX_NAMED: usize = 5;

/// An AgentGateway that no longer exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedGateway {
    /// Its key.
    pub key: ObjectKey,
    /// Its uid, if known.
    pub uid: Option<String>,
    /// The names of its device Secrets.
    pub secrets: BTreeSet<String>,
}

impl DeletedGateway {
    /// A deleted AgentGateway, from its last cached state.
    #[must_use]
    pub fn from_resource(gateway: &AgentGateway) -> Self {
        let secrets = gateway.device_secrets();
        Self { secrets, ..Self::from_metadata(&gateway.metadata) }
    }

    /// A deleted AgentGateway whose spec this version cannot decode.
    #[must_use]
    pub fn from_metadata(meta: &ObjectMeta) -> Self {
        Self { uid: meta.uid.clone(), ..Self::from_key(ObjectKey::of(meta)) }
    }

    /// Whether both have the same key and the same uid.
    #[must_use]
    pub fn is_same_object(&self, other: &Self) -> bool {
        (&self.key, &self.uid) == (&other.key, &other.uid)
    }

    /// A deleted AgentGateway of which only the key is known. Its device Secret has the default name.
    fn from_key(key: ObjectKey) -> Self {
        let secrets = [AgentGateway::default_device_secret(&key.name)].into();
        Self { key, uid: None, secrets }
    }
}

/// The error of an AgentGateway that is being deleted, while the operator may not list the Agents of namespaces that it admits. One of them may
/// be bound to it, and needs its credentials for its removal.
#[must_use]
pub fn unseen_agents(namespaces: &[String]) -> ReconcileError {
    let message = format!(
        "Muster may not list the Agents of {}, which this AgentGateway admits, and one of them may be bound to it; grant the operator its Role there, or take the namespace out of --namespaces",
        quoted(namespaces)
    );
    ReconcileError::permanent(Reason::KubernetesError, message)
}

/// The event of a deleted AgentGateway for whose deletion these namespaces were not looked at.
#[must_use]
pub fn unseen_event(namespaces: &[String]) -> Event {
    let message = format!(
        "the AgentGateway was deleted without a look at {}, which it does not admit and whose Agents Muster may not list; an agent that is still bound from there stays on the gateway",
        quoted(namespaces)
    );
    Event { warning: true, reason: Reason::Deleting.to_string(), action: "Release", message }
}

fn quoted(namespaces: &[String]) -> String {
    let names: Vec<_> = namespaces.iter().map(|name| format!("namespace {name:?}")).collect();
    list(&names, MAX_NAMED)
}

/// The missing AgentGateways that Agents or Boards refer to. An AgentGateway in a namespace that the operator does not know is not missing.
pub fn missing<O: Objects>(objects: &O) -> Vec<DeletedGateway> {
    let mut keys = BTreeSet::new();
    for agent in objects.agents() {
        let namespace = agent.metadata.namespace.as_deref().unwrap_or_default();
        keys.extend(Binding::of(&agent).map(|binding| binding.gateway));
        keys.extend(agent.spec.gateway_ref.as_ref().map(|reference| gateway_key(reference, namespace)));
    }
    keys.extend(objects.boards().iter().map(|board| gateway_of_board(board)));
    let unreadable: BTreeSet<_> = objects.unreadable_gateways().iter().map(ObjectKey::of).collect();
    let is_known = |key: &ObjectKey| objects.coverage(&key.namespace) == Coverage::Complete;
    keys.retain(|key| is_known(key) && objects.gateway(key).is_none() && !unreadable.contains(key));
    keys.into_iter().map(DeletedGateway::from_key).collect()
}
