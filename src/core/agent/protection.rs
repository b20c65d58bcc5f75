//! Agents that `muster.dev/protected` keeps, although their AgentGateway is being deleted. Pure.
//!
//! The deletion of a namespace deletes an AgentGateway without protection, and not a protected Agent in it. The AgentGateway then waits with
//! its credentials, so that the agent can be removed once the protection is lifted.

use std::sync::Arc;

use crate::api::agent::Agent;
use crate::api::object_key::ObjectKey;
use crate::api::{Reason, keys};
use crate::core::agent::binding::Binding;
use crate::core::error::ReconcileError;
use crate::core::names::list;

/// The largest number of Agents that one message names.
const MAX_NAMED: usize = 5;

/// Whether the protection of an Agent keeps its agent on the gateway. An Agent that is being deleted is not kept. The agent of an Agent that
/// only observes stays anyway, so that nothing waits for it.
#[must_use]
pub fn is_kept(agent: &Agent) -> bool {
    let annotations = agent.metadata.annotations.as_ref();
    let is_protected = annotations.and_then(|all| all.get(keys::PROTECTED)).is_some_and(|value| value == "true");
    is_protected && !agent.is_observer() && agent.metadata.deletion_timestamp.is_none()
}

/// Why the agent of an Agent stays on a gateway whose AgentGateway is being deleted. `None` if it does not stay. `goes_to`: the AgentGateway
/// to which the references of the Agent lead, if they lead to one. A protected Agent can move.
#[must_use]
pub fn obstacle(agent: &Agent, binding: &Binding, goes_to: Option<&ObjectKey>) -> Option<ReconcileError> {
    let stays = is_kept(agent) && goes_to.is_none_or(|key| *key == binding.gateway);
    let message = || {
        format!(
            "AgentGateway {} is being deleted; this Agent has the annotation {}: \"true\", so that its agent stays on the gateway, and the AgentGateway waits; lift the protection of the Agent to have the agent removed",
            binding.gateway,
            keys::PROTECTED
        )
    };
    stays.then(|| ReconcileError::permanent(Reason::GatewayNotFound, message()))
}

/// The sentence about the protected Agents for which an AgentGateway that is being deleted waits. `None` without one.
#[must_use]
pub fn waits_for(bound: &[Arc<Agent>]) -> Option<String> {
    let kept = bound.iter().filter(|agent| is_kept(agent));
    let names: Vec<_> = kept.map(|agent| ObjectKey::of(&agent.metadata).to_string()).collect();
    let listed = || {
        format!(
            "the annotation {}: \"true\" keeps the agents of {}, until their protection is lifted",
            keys::PROTECTED,
            list(&names, MAX_NAMED)
        )
    };
    (!names.is_empty()).then(listed)
}
