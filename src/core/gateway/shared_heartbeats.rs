//! The heartbeats of agents that Muster did not create on a gateway, and the record of them in the status of the AgentGateway.

use std::collections::BTreeSet;
use std::sync::Arc;

use ConditionType as C;
use jiff::Timestamp;

use crate::api::conditions::{ConditionStatus, ConditionUpdate, find};
use crate::api::config_policy::{SharedHeartbeats, SharedHeartbeatsStatus};
use crate::api::object_key::ObjectKey;
use crate::api::{AgentGateway, AgentGatewayStatus, ConditionType, Reason};
use crate::core::agent::binding::Binding;
use crate::core::event::Event;
use crate::core::gateway_ref::{bound_agents, same_gateways};
use crate::core::names::list;
use crate::core::objects::Objects;
use crate::openclaw::model::{HeartbeatClaims, HeartbeatPlan, Inventory, MAX_KEPT_HEARTBEATS};

/// The largest number of agents that one message names.
const MAX_NAMED_AGENTS: usize = 10;

/// Muster's claims on the config of a gateway, and the resulting plan for the agents that Muster did not create.
#[derive(Clone, Debug, Default)]
pub struct SharedHeartbeatPlan {
    claims: HeartbeatClaims,
    plan: HeartbeatPlan,
}

/// The ids in the status of an AgentGateway.
fn recorded(gateway: &AgentGateway) -> BTreeSet<String> {
    let status = gateway.status.as_ref().and_then(|status| status.shared_heartbeats.as_ref());
    status.map(|status| status.kept.iter().cloned().collect()).unwrap_or_default()
}

/// Muster's claims on a gateway through all AgentGateways of its URL.
pub fn claims<O: Objects>(objects: &O, gateway: &AgentGateway, key: &ObjectKey) -> HeartbeatClaims {
    let mut claims =
        HeartbeatClaims { keep: keeps_shared(gateway), recorded: recorded(gateway), ..HeartbeatClaims::default() };
    for other in siblings(objects, key) {
        claims.keep |= other.metadata.deletion_timestamp.is_none() && keeps_shared(&other);
        claims.recorded.extend(recorded(&other));
    }
    for agent in bound_agents(objects, key) {
        let Some(binding) = Binding::of(&agent) else { continue };
        let id = binding.identity.agent_id;
        if agent.is_observer() {
            claims.observed.insert(id.clone());
        }
        let ids = if binding.adopted { &mut claims.adopted } else { &mut claims.made };
        ids.insert(id);
    }
    claims
}

/// Other AgentGateways of the same URL.
fn siblings<O: Objects>(objects: &O, key: &ObjectKey) -> Vec<Arc<AgentGateway>> {
    let others = same_gateways(objects, key).into_iter().filter(|other| other != key);
    others.filter_map(|other| objects.gateway(&other)).collect()
}

fn keeps_shared(gateway: &AgentGateway) -> bool {
    let policy = gateway.spec.config_policy.as_ref().map(|policy| policy.shared_heartbeats).unwrap_or_default();
    match policy {
        SharedHeartbeats::Keep => true,
        SharedHeartbeats::Leave => false,
    }
}

impl SharedHeartbeatPlan {
    /// The plan for a gateway with this inventory.
    pub fn new(claims: HeartbeatClaims, inventory: &Inventory) -> Self {
        let plan = inventory.heartbeats.plan(&claims, &BTreeSet::new());
        Self { claims, plan }
    }

    /// The record for the status of the AgentGateway. The status is written before the gateway's config.
    pub fn record(&self) -> Option<SharedHeartbeatsStatus> {
        let kept: Vec<_> = self.plan.record.iter().cloned().collect();
        (!kept.is_empty()).then_some(SharedHeartbeatsStatus { kept })
    }

    /// The claims once the record is written.
    pub fn recorded(&self) -> HeartbeatClaims {
        HeartbeatClaims { recorded: self.plan.record.clone(), ..self.claims.clone() }
    }

    /// The condition HeartbeatsShared.
    pub fn condition(&self) -> ConditionUpdate {
        let stopped: Vec<_> = self.plan.stopped.iter().map(String::as_str).collect();
        if stopped.is_empty() {
            let message = "the heartbeat blocks of Muster's agents stop no heartbeat of other agents";
            return ConditionUpdate::new(C::HeartbeatsShared, true, Reason::Reconciled, message);
        }
        let advice = if self.claims.keep {
            format!(
                "Muster keeps at most {MAX_KEPT_HEARTBEATS} heartbeats: add a heartbeat block to the entries of the other agents in the gateway's config"
            )
        } else {
            "set spec.configPolicy.sharedHeartbeats to Keep, or add a heartbeat block to their entries in the gateway's config"
                .to_owned()
        };
        let message = format!(
            "OpenClaw runs no heartbeat of {}: Muster's agents have a heartbeat block and these agents have none; {advice}",
            list(&stopped, MAX_NAMED_AGENTS)
        );
        ConditionUpdate::new(C::HeartbeatsShared, false, Reason::HeartbeatsStopped, message)
    }
}

/// The condition HeartbeatsShared of an unreachable gateway.
pub fn unknown() -> ConditionUpdate {
    ConditionUpdate::new(
        C::HeartbeatsShared,
        ConditionStatus::Unknown,
        Reason::NotConnected,
        "not known without a connection",
    )
}

/// The event when agents that Muster did not create lose their heartbeats.
pub fn stopped_event(old: &AgentGatewayStatus, new: &AgentGatewayStatus) -> Option<Event> {
    let is_stopped = |status: &AgentGatewayStatus| {
        find(&status.conditions, C::HeartbeatsShared).filter(|condition| condition.status == "False").cloned()
    };
    let now = is_stopped(new).filter(|_| is_stopped(old).is_none())?;
    Some(Event {
        warning: true,
        reason: now.reason.to_string(),
        action: "WriteConfig",
        message: now.message.to_string(),
    })
}

/// The decision about the recorded heartbeat blocks of an AgentGateway that is being deleted.
pub enum RecordedBlocks {
    /// There are no blocks, or another AgentGateway of the same URL removes them.
    Done,
    /// The blocks have to be removed first.
    Wait,
    /// The blocks stay, because the gateway was unreachable for the whole `cleanupTimeout`. The message names the agents.
    Left(String),
}

/// Decides about the recorded heartbeat blocks of an AgentGateway that is being deleted and has no bound agent. The wait ends with
/// its `cleanupTimeout`.
pub fn recorded_blocks<O: Objects>(
    objects: &O,
    gateway: &AgentGateway,
    key: &ObjectKey,
    now: Timestamp,
) -> RecordedBlocks {
    let recorded = recorded(gateway);
    if recorded.is_empty() {
        return RecordedBlocks::Done;
    }
    // Another AgentGateway of the same URL removes the blocks with its own. If both are being deleted, the one with the last key does.
    let stays =
        |other: &AgentGateway| other.metadata.deletion_timestamp.is_none() || ObjectKey::of(&other.metadata) > *key;
    let mut others = siblings(objects, key);
    others.retain(|other| stays(other));
    if others.iter().any(|other| self::recorded(other).is_superset(&recorded)) {
        return RecordedBlocks::Done;
    }
    let since = gateway.metadata.deletion_timestamp.as_ref().map(|at| at.0);
    let end = since.and_then(|since| since.saturating_add(gateway.spec.cleanup_timeout()).ok());
    if end.is_some_and(|end| now < end) {
        return RecordedBlocks::Wait;
    }
    let ids: Vec<_> = recorded.iter().map(String::as_str).collect();
    RecordedBlocks::Left(format!(
        "empty heartbeat blocks may remain in the config of the gateway {}, in the entries of {}, because the gateway was unreachable; remove the blocks there",
        gateway.spec.url,
        list(&ids, MAX_NAMED_AGENTS)
    ))
}

/// The event of a deleted AgentGateway whose heartbeat blocks stay in the config of the gateway.
pub fn leftover_event(message: String) -> Event {
    Event { warning: true, reason: Reason::Deleting.to_string(), action: "Release", message }
}
