//! The agents of a gateway: the agents that Agent resources declare, and the unmanaged agents.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::api::agent::Agent;
use crate::api::conditions::find;
use crate::api::gateway::{AgentCounts, UnmanagedAgent};
use crate::api::object_key::ObjectKey;
use crate::api::{ConditionType, Reason};
use crate::core::agent::binding::Binding;
use crate::core::agent::status::is_ready;
use crate::core::gateway_ref::{bound_agents, same_gateways};
use crate::core::objects::{AgentIndex, Objects};
use crate::openclaw::model::{AgentRow, Inventory, clean, literal};

/// The largest number of unmanaged agents that a status lists. Any client may create agents on a gateway, and the size of a status is
/// limited.
const MAX_LISTED: usize = 100;
/// The largest number of characters of a name that a status shows.
const MAX_NAME_CHARS: usize = 128;

/// An unmanaged agent: the gateway has the agent, and no Agent resource declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmanaged {
    /// The AgentGateway.
    pub gateway: ObjectKey,
    /// The gateway's id of the agent.
    pub id: String,
    /// Its name on the gateway, if it has one.
    pub name: Option<String>,
}

/// The Agents without a binding whose agents Muster only observes through an AgentGateway. A refused Agent observes nothing.
pub fn observers<O: Objects>(objects: &O, key: &ObjectKey) -> Vec<Arc<Agent>> {
    let mut all = objects.agents_by(&AgentIndex::Observes(key.clone()));
    all.retain(|agent| Binding::of(agent).is_none() && !is_refused(agent));
    all
}

/// Whether the spec or a reference of an observer does not hold, or its agent belongs to another Agent. Its status then still names the
/// agent that it showed before.
fn is_refused(observer: &Agent) -> bool {
    let ready = observer.status.as_ref().and_then(|status| find(&status.conditions, ConditionType::Ready));
    let reason = ready.and_then(|ready| Reason::parse(&ready.reason));
    reason.is_some_and(|reason| reason.is_of_the_spec() || reason == Reason::AgentIdTaken)
}

/// The ids of the agents of these observers.
fn observed_ids(observers: &[Arc<Agent>]) -> impl Iterator<Item = String> {
    observers.iter().filter_map(|agent| agent.status.as_ref()?.agent_id.clone())
}

/// The Agents that are bound to an AgentGateway.
pub fn bound<O: Objects>(objects: &O, key: &ObjectKey) -> Vec<Arc<Agent>> {
    objects.agents_by(&AgentIndex::BoundTo(key.clone()))
}

/// The numbers of agents and the list of unmanaged agents for the status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Census {
    /// The numbers.
    pub counts: AgentCounts,
    /// The unmanaged agents.
    pub unmanaged: Vec<UnmanagedAgent>,
}

impl Census {
    /// The census of these bound Agents and observers. While the gateway is unreachable, `found` is `None`, and the unmanaged agents come
    /// from the last census.
    #[must_use]
    pub fn of(bound: &[Arc<Agent>], observers: &[Arc<Agent>], found: Option<Vec<Unmanaged>>, last: &Self) -> Self {
        let number = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        let (managed, left): (Vec<_>, Vec<_>) = bound.iter().partition(|agent| !agent.is_observer());
        let id = |agent: &Arc<Agent>| Binding::of(agent).map(|binding| binding.identity.agent_id);
        let ids: BTreeSet<_> = managed.iter().filter_map(|agent| id(agent)).collect();
        let ready = managed.iter().filter(|agent| is_ready(agent)).count();
        let observed = observed_ids(observers).chain(left.into_iter().filter_map(id));
        let observed: BTreeSet<_> = observed.filter(|id| !ids.contains(id)).collect();
        let (count, unmanaged) = match found {
            Some(found) => (number(found.len()), found.into_iter().take(MAX_LISTED).map(listed).collect()),
            None => (last.counts.unmanaged, last.unmanaged.clone()),
        };
        let counts = AgentCounts {
            managed: number(ids.len()),
            ready: number(ready),
            observed: number(observed.len()),
            unmanaged: count,
        };
        Self { counts, unmanaged }
    }
}

fn listed(agent: Unmanaged) -> UnmanagedAgent {
    let name = agent.name.map(|name| name.chars().take(MAX_NAME_CHARS).collect());
    UnmanagedAgent { id: agent.id, name }
}

/// The unmanaged agents of a gateway, by id.
pub fn unmanaged<O: Objects>(objects: &O, gateway: &ObjectKey, inventory: &Inventory) -> Vec<Unmanaged> {
    let agents = bound_agents(objects, gateway);
    let bindings = agents.iter().filter_map(|agent| Binding::of(agent));
    let observed = same_gateways(objects, gateway)
        .into_iter()
        .flat_map(|key| observed_ids(&observers(objects, &key)).collect::<Vec<_>>());
    let declared: BTreeSet<String> = bindings.map(|binding| binding.identity.agent_id).chain(observed).collect();
    let free = inventory.agents.values().filter(|row| !declared.contains(&row.id));
    free.map(|row| Unmanaged { gateway: gateway.clone(), id: row.id.clone(), name: name(row) }).collect()
}

fn name(row: &AgentRow) -> Option<String> {
    let name = row.entry.as_ref()?.texts().name?;
    // A name that refers to the gateway's environment is shown as the config holds it, without the value of the variable.
    Some(clean(&literal(&name).unwrap_or(name)))
}
