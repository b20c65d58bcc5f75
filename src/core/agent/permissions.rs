//! What an Agent may do on an AgentGateway of another namespace: `spec.allowedNamespaces.permissions`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::admission::creation_order;
use super::binding::Binding;
use super::heartbeat::DEFAULT_INTERVAL;
use crate::api::agent::{AdoptionPolicy, Agent};
use crate::api::allowed_namespaces::Permissions;
use crate::api::object_key::ObjectKey;
use crate::api::shared::{Heartbeat, Interval, duration_text};
use crate::api::text::one_line;
use crate::api::{AgentGateway, Reason};
use crate::core::error::ReconcileError;
use crate::core::gateway_ref::{address, agents_of_board};
use crate::core::names::list;
use crate::core::objects::{AgentIndex, BoardIndex, Objects};

/// The field of an AgentGateway with the permissions.
const FIELD: &str = "spec.allowedNamespaces.permissions";

/// The largest number of Agents that one message names.
const MAX_NAMED: usize = 5;

/// Checks that an AgentGateway of another namespace permits the spec of an Agent, and one more Agent of its namespace.
///
/// # Errors
/// `NotPermitted` or `NamespaceFull`, with the fields of both objects.
pub fn check<O: Objects>(
    objects: &O,
    agent: &Agent,
    gateway: &AgentGateway,
    key: &ObjectKey,
) -> Result<(), ReconcileError> {
    let namespace = agent.metadata.namespace.as_deref().unwrap_or_default();
    if key.namespace == namespace {
        return Ok(());
    }
    let permissions = gateway.spec.allowed_namespaces.as_ref().map(|a| a.permissions.clone()).unwrap_or_default();
    let address = address(&gateway.spec.url);
    let is_bound_here = Binding::of(agent).is_some_and(|binding| binding.is_made_for(key, &address));
    let default = gateway.spec.heartbeat.as_ref();
    let input = RuleInput { agent, permissions: &permissions, default, is_bound_here };
    let rules = if agent.is_observer() { OBSERVER_RULES } else { RULES };
    if let Some(excess) = rules.iter().find_map(|rule| rule(&input)) {
        return Err(ReconcileError::permanent(Reason::NotPermitted, excess.message(namespace, key)));
    }
    check_quota(objects, agent, &permissions, key)
}

/// Whether an Agent may take up an agent again without a proof: in the namespace of the AgentGateway, where the AgentGateway permits it, and
/// where the Agent may adopt the agent.
#[must_use]
pub fn may_take_up(agent: &Agent, gateway: &AgentGateway) -> bool {
    let is_guest = agent.metadata.namespace != gateway.metadata.namespace;
    let is_permitted = || gateway.spec.allowed_namespaces.as_ref().is_some_and(|a| a.permissions.taking_up);
    let adopts = agent.spec.agent_id.is_some() && agent.spec.adoption_policy == AdoptionPolicy::IfExists;
    !is_guest || adopts || is_permitted()
}

/// The input of a rule.
struct RuleInput<'a> {
    agent: &'a Agent,
    permissions: &'a Permissions,
    /// The heartbeat settings of the AgentGateway.
    default: Option<&'a Heartbeat>,
    /// Whether the Agent is bound to an agent of this AgentGateway, at its present address.
    is_bound_here: bool,
}

/// A field of an Agent that the AgentGateway does not permit.
struct Excess {
    /// The field of the Agent, with its value.
    field: String,
    /// The field below [`FIELD`].
    setting: &'static str,
    /// The permitted values.
    permitted: String,
}

impl Excess {
    fn message(&self, namespace: &str, key: &ObjectKey) -> String {
        let Self { field, setting, permitted } = self;
        format!(
            "{field} of this Agent is not permitted: {FIELD}.{setting} of AgentGateway {key} permits {permitted} to namespace {namespace:?}; change that field of the Agent, or that of the AgentGateway"
        )
    }
}

type Rule = fn(&RuleInput<'_>) -> Option<Excess>;

/// The first rule that applies decides.
const RULES: &[Rule] =
    &[role, chosen_id, adoption, config, model, fallback_models, heartbeat_model, heartbeat_target, heartbeat_interval];

/// The rules for an Agent that only observes: its other fields have no effect.
const OBSERVER_RULES: &[Rule] = &[role, chosen_id, observation];

/// An agent that Muster did not make for this Agent is shown where it may be adopted.
fn observation(input: &RuleInput<'_>) -> Option<Excess> {
    (!input.is_bound_here && !input.permissions.adoption).then(|| Excess {
        field: "spec.managementPolicy Observe".into(),
        setting: "adoption",
        permitted: "no adoption and no observation".into(),
    })
}

fn role(input: &RuleInput<'_>) -> Option<Excess> {
    let (role, roles) = (input.agent.spec.role, &input.permissions.roles);
    let names: Vec<_> = roles.iter().map(|role| format!("{role:?}")).collect();
    let excess = || Excess { field: format!("spec.role {role:?}"), setting: "roles", permitted: listed(&names) };
    (!roles.contains(&role)).then(excess)
}

fn chosen_id(input: &RuleInput<'_>) -> Option<Excess> {
    let id = input.agent.spec.agent_id.as_ref().filter(|_| !input.permissions.chosen_ids)?;
    Some(Excess { field: format!("spec.agentId {id:?}"), setting: "chosenIds", permitted: "no chosen ids".into() })
}

fn adoption(input: &RuleInput<'_>) -> Option<Excess> {
    let adopts = input.agent.spec.adoption_policy == AdoptionPolicy::IfExists;
    (adopts && !input.permissions.adoption).then(|| Excess {
        field: "spec.adoptionPolicy IfExists".into(),
        setting: "adoption",
        permitted: "no adoption".into(),
    })
}

fn config(input: &RuleInput<'_>) -> Option<Excess> {
    let key = input.agent.spec.config.keys().next().filter(|_| !input.permissions.config)?;
    Some(Excess { field: format!("spec.config.{key}"), setting: "config", permitted: "no further keys".into() })
}

fn model(input: &RuleInput<'_>) -> Option<Excess> {
    model_of("spec.model", input.agent.spec.model.as_ref(), input.permissions)
}

fn fallback_models(input: &RuleInput<'_>) -> Option<Excess> {
    let mut named = input.agent.spec.model_fallbacks.iter().flatten();
    named.find_map(|name| model_of("spec.modelFallbacks", Some(name), input.permissions))
}

fn heartbeat_model(input: &RuleInput<'_>) -> Option<Excess> {
    let heartbeat = input.agent.spec.heartbeat.as_ref()?;
    model_of("spec.heartbeat.model", heartbeat.model.as_ref(), input.permissions)
}

fn model_of(field: &str, model: Option<&String>, permissions: &Permissions) -> Option<Excess> {
    let model = model.and_then(|model| one_line(model)).filter(|model| !matches_any(&permissions.models, model))?;
    let permitted = listed(&permissions.models);
    Some(Excess { field: format!("{field} {model:?}"), setting: "models", permitted })
}

fn heartbeat_target(input: &RuleInput<'_>) -> Option<Excess> {
    let target = one_line(input.agent.spec.heartbeat.as_ref()?.target.as_ref()?)?;
    let permitted = &input.permissions.heartbeat_targets;
    (target != "none" && !matches_any(permitted, &target)).then(|| Excess {
        field: format!("spec.heartbeat.target {target:?}"),
        setting: "heartbeatTargets",
        permitted: listed(&[&["none".to_owned()], permitted.as_slice()].concat()),
    })
}

fn heartbeat_interval(input: &RuleInput<'_>) -> Option<Excess> {
    let own = input.agent.spec.heartbeat.as_ref();
    let enabled = own.and_then(|own| own.enabled).or_else(|| input.default?.enabled);
    let inherited = input.default.and_then(|default| default.interval).map(Interval::get);
    let asked = own.and_then(|own| own.interval).map(Interval::get);
    let shortest = input.permissions.shortest_interval.map(Interval::get).or(inherited).unwrap_or(DEFAULT_INTERVAL);
    let interval = if asked.is_none() && inherited.is_some() { return None } else { asked.unwrap_or(DEFAULT_INTERVAL) };
    (enabled != Some(false) && interval < shortest).then(|| Excess {
        field: format!("spec.heartbeat.interval {}", duration_text(interval)),
        setting: "shortestInterval",
        permitted: format!("{} at least", duration_text(shortest)),
    })
}

/// Whether a value is one of these, or begins with one of these that ends with `*`.
fn matches_any(permitted: &[String], value: &str) -> bool {
    permitted.iter().any(|permitted| match permitted.strip_suffix('*') {
        Some(beginning) => value.starts_with(beginning),
        None => value == permitted,
    })
}

fn listed(values: &[String]) -> String {
    if values.is_empty() { "none".to_owned() } else { values.join(", ") }
}

/// Checks the number of Agents of the namespace on the gateway. A bound Agent keeps its place; the others follow in the order of
/// creation.
fn check_quota<O: Objects>(
    objects: &O,
    agent: &Agent,
    permissions: &Permissions,
    key: &ObjectKey,
) -> Result<(), ReconcileError> {
    let limit = usize::try_from(permissions.max_agents_per_namespace).unwrap_or_default();
    let namespace = agent.metadata.namespace.as_deref().unwrap_or_default();
    let is_bound = |agent: &Agent| Binding::of(agent).is_some_and(|binding| binding.gateway == *key);
    let bound = is_bound(agent);
    let comes_first = |other: &&Arc<Agent>| {
        let is_older = creation_order(other) < creation_order(agent);
        if bound { is_bound(other) && is_older } else { is_bound(other) || is_older }
    };
    let others = guests(objects, key, namespace);
    let is_other = |other: &&Arc<Agent>| other.metadata.uid != agent.metadata.uid;
    let first: Vec<_> = others.values().filter(is_other).filter(comes_first).collect();
    if first.len() < limit {
        return Ok(());
    }
    let name = |other: &&Arc<Agent>| {
        let waits = if is_bound(other) { "" } else { " (waits)" };
        format!("{}{waits}", ObjectKey::of(&other.metadata))
    };
    let message = full(namespace, key, limit, &first.iter().map(name).collect::<Vec<_>>());
    Err(ReconcileError::permanent(Reason::NamespaceFull, message))
}

/// The message of an Agent without a place, with the Agents that have the places.
fn full(namespace: &str, key: &ObjectKey, limit: usize, holders: &[String]) -> String {
    let setting = format!("{FIELD}.maxAgentsPerNamespace of AgentGateway {key}");
    let at_most = match limit {
        0 => return format!("namespace {namespace:?} may have no Agent there, by {setting}; raise that field"),
        1 => "1 Agent".to_owned(),
        _ => format!("{limit} Agents"),
    };
    format!(
        "namespace {namespace:?} may have at most {at_most} there, by {setting}, and these come first: {}. An Agent that waits or is refused counts as well; delete one of them, or raise that field",
        list(holders, MAX_NAMED)
    )
}

/// The Agents of another namespace that are bound to an AgentGateway, or whose references lead to it.
fn guests<O: Objects>(objects: &O, key: &ObjectKey, namespace: &str) -> BTreeMap<ObjectKey, Arc<Agent>> {
    let from =
        |index: fn(ObjectKey, String) -> AgentIndex| objects.agents_by(&index(key.clone(), namespace.to_owned()));
    let boards = objects.boards_by(&BoardIndex::GatewayFrom(key.clone(), namespace.to_owned()));
    let on_boards = boards.iter().flat_map(|board| agents_of_board(objects, board));
    let named = from(AgentIndex::GatewayRefFrom).into_iter().chain(from(AgentIndex::BoundFrom));
    named.chain(on_boards).map(|agent| (ObjectKey::of(&agent.metadata), agent)).collect()
}

#[cfg(test)]
#[path = "permissions_tests.rs"]
mod tests;
