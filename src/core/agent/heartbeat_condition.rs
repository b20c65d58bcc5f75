//! The condition `HeartbeatConfigured`.

use super::active_hours::HeartbeatHours;
use super::desired::Desired;
use super::heartbeat_state::ObservedHeartbeat;
use crate::api::agent::AgentStatus;
use crate::api::conditions::{ConditionStatus, ConditionUpdate, find};
use crate::api::{ConditionType, Reason};

/// The condition of the heartbeat of a registered agent.
pub(super) fn heartbeat_condition(
    desired: &Desired,
    new: &AgentStatus,
    observed: &ObservedHeartbeat,
) -> ConditionUpdate {
    let say = |status, reason, message: String| {
        ConditionUpdate::new(ConditionType::HeartbeatConfigured, status, reason, message)
    };
    if desired.heartbeat_interval.is_zero() {
        return say(ConditionStatus::True, Reason::Reconciled, without_heartbeat(desired).into());
    }
    match &observed.flaw {
        Some(flaw) => say(flaw.status(), flaw.reason(), flaw.message()),
        None => match unsettled_flaw(new).filter(|_| !observed.is_known) {
            Some((status, reason, message)) => say(status, reason, message),
            None => say(ConditionStatus::True, Reason::Reconciled, working(observed)),
        },
    }
}

/// Why Muster expects no heartbeat of the agent, and what to do for one.
fn without_heartbeat(desired: &Desired) -> &'static str {
    if desired.paused.is_some() {
        "the agent is suspended and has no heartbeat; spec.suspend of the Agent or of its Board ends that"
    } else if desired.entry.heartbeat.every.is_none() {
        "the adopted agent keeps the heartbeat of its config entry, if it has one, and Muster does not watch for its silence; set spec.heartbeat.interval to have Muster set up a heartbeat"
    } else {
        "the agent has no heartbeat, because heartbeat.enabled is false in the spec of the Agent or of its AgentGateway, so Muster does not watch for its silence; set it to true for a heartbeat"
    }
}

/// The flaw in the recorded condition, which stays until a heartbeat shows whether it is gone.
fn unsettled_flaw(status: &AgentStatus) -> Option<(ConditionStatus, Reason, String)> {
    let before = find(&status.conditions, ConditionType::HeartbeatConfigured)?;
    let shown_by_outcomes = [Reason::HeartbeatSkipped, Reason::HeartbeatFailed];
    let reason = shown_by_outcomes.into_iter().find(|reason| before.reason == *reason)?;
    Some((ConditionStatus::False, reason, before.message.to_string()))
}

fn working(observed: &ObservedHeartbeat) -> String {
    let so = "the gateway's heartbeat is set up as specified";
    if observed.is_quiet {
        return format!("{so}; none runs at the moment, outside its active hours (status.activeHours)");
    }
    match HeartbeatHours::of(observed.hours.as_ref()) {
        HeartbeatHours::Unknown if observed.shows_outcomes => so.to_owned(),
        HeartbeatHours::Unknown => format!(
            "{so}; Muster does not know the time zone of its active hours, so no silence counts; set spec.heartbeat.activeHours.timezone, or agents.defaults.userTimezone in the gateway's config"
        ),
        HeartbeatHours::Always | HeartbeatHours::Never | HeartbeatHours::Within(_) => so.to_owned(),
    }
}
