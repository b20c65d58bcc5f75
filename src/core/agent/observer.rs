//! An Agent with `spec.managementPolicy: Observe`: somebody else keeps the agent, and Muster shows it. Pure.
//!
//! An observer has no finalizer, no binding and no token Secret, so that nothing follows from it for the gateway. An Agent that Muster
//! managed before keeps all three: its agent may still call Muster's API, and Muster can manage it again.

use std::time::Duration;

use jiff::Timestamp;

use super::admission::check_observed_id;
use super::binding::{AgentIdentity, Binding};
use super::claim::claimed_id;
use super::heartbeat_state::{HeartbeatFlaw, ObservedHeartbeat};
use super::liveness::Liveness;
use super::observed::{Observed, ObservedActivity};
use crate::api::agent::{Agent, AgentStatus, DeletionPolicy, Phase, Role, RunStatus};
use crate::api::conditions::{ConditionStatus, ConditionUpdate, is_true};
use crate::api::object_key::ObjectKey;
use crate::api::{AgentGateway, ConditionType, Reason, keys};
use crate::core::error::ReconcileError;
use crate::core::gateway_ref::address;
use crate::core::objects::Objects;
use crate::core::requests::Requests;
use crate::openclaw::model::SkipReason;

/// Why a condition does not apply.
const NOT_MANAGED: &str = "Muster only observes the agent, as spec.managementPolicy says";
/// Why a request is not fulfilled.
const NOT_REQUESTED: &str = "nothing was done, because Muster only observes the agent; set spec.managementPolicy to Manage, and request it again";
/// The conditions that say nothing about an agent that Muster only observes.
const NOT_APPLICABLE: [ConditionType; 4] =
    [ConditionType::TokenIssued, ConditionType::FilesSynced, ConditionType::SessionReady, ConditionType::CheckedIn];

/// The agent that an observer shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObserverTarget {
    /// Its names at the gateway. The workspace is empty unless the Agent is bound at the gateway's present address.
    pub identity: AgentIdentity,
    /// Its AgentGateway.
    pub gateway: ObjectKey,
    /// The one-shot requests to the Agent. None of them is fulfilled.
    pub requests: Requests,
    /// Whether the Agent or its Board is suspended.
    pub is_suspended: bool,
    /// The interval of the looks at the agent.
    pub resync_interval: Duration,
}

/// An agent on its gateway, as far as an observer looks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenAgent {
    /// Whether the roster shows the agent.
    pub is_served: bool,
    /// Whether the config has its entry.
    pub is_configured: bool,
    /// The path of its workspace, if it is known.
    pub workspace: Option<String>,
    /// Its runs.
    pub activity: ObservedActivity,
    /// Its heartbeat.
    pub heartbeat: ObservedHeartbeat,
}

/// The part of the input of a status that an observer has.
#[derive(Clone, Copy, Debug)]
pub struct ObserverInput<'a> {
    /// Whether Muster managed the agent before, so that the Agent is bound.
    pub is_bound: bool,
    /// The agent, if the spec and its references hold.
    pub target: Option<&'a ObserverTarget>,
    /// The agent on the gateway, if the gateway was reachable.
    pub seen: Option<&'a SeenAgent>,
}

/// The names of the agent that an Agent observes: those of its binding, or by the id of `spec.agentId`, or by the id in the annotation that
/// an earlier object of this Agent had. A binding that was made at another address gives the id alone.
///
/// # Errors
/// `InvalidSpec` without any of these ids; `AgentIdTaken` for an agent of another namespace.
pub fn identity<O: Objects>(
    objects: &O,
    agent: &Agent,
    gateway: &AgentGateway,
) -> Result<AgentIdentity, ReconcileError> {
    let key = ObjectKey::of(&gateway.metadata);
    let bound = Binding::of(agent).filter(|binding| binding.gateway == key);
    if let Some(binding) = bound.as_ref().filter(|binding| binding.is_made_for(&key, &address(&gateway.spec.url))) {
        return Ok(binding.identity.clone());
    }
    let bound = bound.as_ref().map(|binding| binding.identity.agent_id.as_str());
    let chosen = agent.spec.agent_id.as_deref().filter(|_| agent.spec.role == Role::Worker);
    let Some(id) = bound.or(chosen).or_else(|| claimed_id(agent)) else {
        let message = format!(
            "spec.managementPolicy Observe needs spec.agentId, the gateway's id of the agent, and the role Worker, or the annotation {} of an agent that Muster managed; set it to Manage, or delete the Agent and create it again with an id",
            keys::AGENT_ID
        );
        return Err(ReconcileError::permanent(Reason::InvalidSpec, message));
    };
    check_observed_id(objects, agent, &key, id)?;
    let derived = AgentIdentity::derive(Role::Worker, Some(id), "", "");
    Ok(AgentIdentity { workspace: String::new(), ..derived })
}

impl ObserverInput<'_> {
    /// Sets the ids, the workspace, the runs and the requests. An Agent that is not bound has no records of files, sessions and wakes: they
    /// would be of another agent. The former token stays recorded as it is.
    pub(super) fn describe(&self, new: &mut AgentStatus, now: Timestamp) {
        match &mut new.binding {
            Some(binding) if self.is_bound => binding.deletion_policy = Some(DeletionPolicy::Orphan),
            Some(_) | None => forget_managed(new),
        }
        let Some(target) = self.target else { return };
        let ObserverTarget { identity, gateway, requests, .. } = target;
        let is_other = new.agent_id.as_ref() != Some(&identity.agent_id) || new.gateway.as_ref() != Some(gateway);
        if is_other || self.is_bound_elsewhere(target) {
            (new.last_run, new.active_hours, new.workspace_path) = (None, None, None);
        }
        new.agent_id = Some(identity.agent_id.clone());
        new.session_key = Some(identity.session_key.clone());
        new.gateway = Some(gateway.clone());
        if let Some(seen) = self.seen.filter(|seen| seen.is_served) {
            new.workspace_path = seen.workspace.clone().or(new.workspace_path.take());
            new.active_hours = seen.heartbeat.hours.clone().map(Box::new);
            new.last_run = seen.activity.run.map(RunStatus::from).or(new.last_run.take());
        }
        requests.decline(new, NOT_REQUESTED, now);
    }

    /// Whether the binding was made at another address. What the status shows may then be of the agent there, so that only what this look
    /// shows counts.
    fn is_bound_elsewhere(&self, target: &ObserverTarget) -> bool {
        self.is_bound && target.identity.workspace.is_empty()
    }

    /// The conditions. Those about the gateway are missing while the gateway was not asked.
    pub(super) fn conditions(&self) -> Vec<ConditionUpdate> {
        let unknown =
            |kind, message: String| ConditionUpdate::new(kind, ConditionStatus::Unknown, Reason::NotManaged, message);
        let mut all: Vec<_> = NOT_APPLICABLE.iter().map(|kind| unknown(*kind, NOT_MANAGED.to_owned())).collect();
        let fact = self.seen.and_then(|seen| heartbeat_fact(&seen.heartbeat));
        let fact = fact.map(|fact| format!("; {fact}")).unwrap_or_default();
        all.push(unknown(ConditionType::HeartbeatConfigured, format!("{NOT_MANAGED}{fact}")));
        let paused = match self.target {
            Some(target) if target.is_suspended => "a suspension does not pause an agent that Muster only observes",
            Some(_) | None => "Muster only observes the agent and does not pause it",
        };
        all.push(ConditionUpdate::new(ConditionType::Paused, false, Reason::Running, paused));
        all.extend(self.registered());
        all
    }

    /// The condition Ready, when nothing prevents a look at the agent.
    pub(super) fn ready(&self) -> ConditionUpdate {
        match self.registered() {
            Some(registered) if registered.status == ConditionStatus::True => ConditionUpdate {
                kind: ConditionType::Ready,
                message: "the gateway has the agent; Muster only observes it, as spec.managementPolicy says".into(),
                ..registered
            },
            Some(registered) => ConditionUpdate { kind: ConditionType::Ready, ..registered },
            None => {
                let message = "Muster looks for the agent on the gateway";
                ConditionUpdate::new(ConditionType::Ready, false, Reason::Progressing, message)
            }
        }
    }

    fn registered(&self) -> Option<ConditionUpdate> {
        let (target, seen) = (self.target?, self.seen?);
        let (id, gateway) = (&target.identity.agent_id, &target.gateway);
        let (holds, reason, message) = if seen.is_served {
            (true, Reason::Observed, "the gateway's roster shows the agent".to_owned())
        } else if seen.is_configured {
            let message = "the gateway's config has an entry of the agent, which the gateway has not applied yet";
            (false, Reason::Progressing, message.to_owned())
        } else {
            let message = format!(
                "gateway {gateway} has no agent {id:?}; Muster shows the agent as soon as somebody creates it there. To have Muster create it, set spec.managementPolicy to Manage"
            );
            (false, Reason::AgentMissing, message)
        };
        Some(ConditionUpdate::new(ConditionType::Registered, holds, reason, message))
    }

    /// The phase, by the runs alone: the agent does not call Muster's API. While the gateway cannot be asked, the phase stays.
    pub(super) fn phase(&self, new: &AgentStatus, now: Timestamp) -> Phase {
        if is_true(&new.conditions, ConditionType::Stalled) {
            return Phase::Failed;
        }
        if !is_true(&new.conditions, ConditionType::Registered) {
            return Phase::Provisioning;
        }
        let runs = match self.seen {
            Some(seen) => running_until(seen, now).is_some(),
            None => new.phase == Some(Phase::Active),
        };
        if runs { Phase::Active } else { Phase::Idle }
    }

    /// The time until the next look at the agent: its run counts as over, or the resync interval has passed.
    pub(super) fn look_after(&self, now: Timestamp) -> Duration {
        let resync = self.target.map(|target| target.resync_interval).unwrap_or_default();
        let over = self.seen.and_then(|seen| running_until(seen, now));
        let over = over.and_then(|over| Duration::try_from(over.duration_since(now)).ok());
        over.map_or(resync, |over| over.min(resync))
    }
}

/// Removes the records of an agent that Muster managed.
fn forget_managed(status: &mut AgentStatus) {
    status.files.clear();
    status.rewritten.clear();
    status.config_keys.clear();
    status.soul = None;
    status.wake = None;
    status.session = None;
    status.session_label = None;
    status.heartbeat = None;
}

/// The assumed end of a run that goes on.
fn running_until(seen: &SeenAgent, now: Timestamp) -> Option<Timestamp> {
    let observed = Observed { activity: seen.activity.clone(), ..Observed::default() };
    Liveness::of(None, &AgentStatus::default(), Some(&observed)).running_until(now)
}

/// What keeps the heartbeat of the agent from working, as a fact. The next step is for the one who keeps the agent.
fn heartbeat_fact(heartbeat: &ObservedHeartbeat) -> Option<String> {
    Some(match heartbeat.flaw.as_ref()? {
        HeartbeatFlaw::Unreadable(error) => format!("the jobs of the gateway cannot be read: {error}"),
        HeartbeatFlaw::SchedulerOff { .. } => "the scheduler of the gateway is off".into(),
        HeartbeatFlaw::NotScheduled => "the gateway has no heartbeat job for the agent".into(),
        HeartbeatFlaw::JobDisabled => "the agent's heartbeat job is disabled".into(),
        HeartbeatFlaw::EmptyHours => "the active hours of the agent begin and end at the same time".into(),
        HeartbeatFlaw::FilesHidden => "heartbeat runs of the agent get no workspace files".into(),
        HeartbeatFlaw::EmptyFile => "HEARTBEAT.md of the agent has no task".into(),
        HeartbeatFlaw::Skipped(SkipReason::Other(reason)) => format!("the gateway skips the heartbeats ({reason})"),
        HeartbeatFlaw::Skipped(_) => "the gateway skips the heartbeats".into(),
        HeartbeatFlaw::Failed(reason) => format!("the last heartbeat failed ({reason})"),
    })
}

#[cfg(test)]
#[path = "observer_tests.rs"]
mod tests;
