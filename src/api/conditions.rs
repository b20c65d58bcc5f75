//! Condition types, and the functions that read and set conditions.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::reason::Reason;
use super::words::words;

words! {
    /// The types of conditions on Muster's resources.
    ConditionType {
        /// The object is as its spec specifies.
        Ready,
        /// kstatus: Muster works on the object, or retries. Present only while true.
        Reconciling,
        /// kstatus: Muster waits for a change by a person. Present only while true.
        Stalled,
        /// Agent: the gateway's roster shows the agent as specified.
        Registered,
        /// Agent: the workspace files have the rendered content.
        FilesSynced,
        /// Agent: the token is in its Secret.
        TokenIssued,
        /// Agent: the gateway's heartbeat is configured as specified.
        HeartbeatConfigured,
        /// Agent: the session has the agent's name as its label.
        SessionReady,
        /// Agent: the agent called Muster's API, within two heartbeat intervals if it has a heartbeat.
        CheckedIn,
        /// Agent: the Agent or its Board is suspended.
        Paused,
        /// AgentGateway: Muster is connected to the gateway.
        Reachable,
        /// AgentGateway: the gateway accepted the credential and granted the scopes.
        Authenticated,
        /// AgentGateway: the device is approved, or needs no approval.
        Paired,
        /// AgentGateway: Muster supports the gateway's protocol and roster.
        Compatible,
        /// AgentGateway: the gateway has applied its own last config.
        Settled,
        /// AgentGateway: no config write waits or was refused.
        ConfigSynced,
        /// AgentGateway: agents that Muster did not create keep their heartbeats.
        HeartbeatsShared,
        /// AgentGateway: the connection to the gateway and the calls of its agents are encrypted, or stay on one host.
        TransportSecure,
        /// AgentGateway: the AgentGateway is suspended.
        Suspended,
        /// Board: the board has a lead, and the lead is ready.
        LeadReady,
        /// Board: the board does not exceed its maximum number of agents.
        WithinQuota,
        /// Board: the AgentGateway is ready.
        GatewayReady,
    }
}

/// A condition's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionStatus {
    /// The condition holds.
    True,
    /// The condition does not hold.
    False,
    /// The condition's state is unknown.
    Unknown,
}

impl ConditionStatus {
    /// The status in a `metav1.Condition`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// A new value of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionUpdate {
    /// The condition's type.
    pub kind: ConditionType,
    /// The condition's status.
    pub status: ConditionStatus,
    /// The condition's reason.
    pub reason: Reason,
    /// A sentence for the person who reads `kubectl describe`.
    pub message: String,
}

impl ConditionUpdate {
    /// A new value of the condition `kind`.
    #[must_use]
    pub fn new(
        kind: ConditionType,
        status: impl Into<ConditionStatus>,
        reason: Reason,
        message: impl Into<String>,
    ) -> Self {
        Self { kind, status: status.into(), reason, message: message.into() }
    }
}

/// The maximum length of a condition's message in Kubernetes, in bytes.
const MAX_MESSAGE_BYTES: usize = 32_768;

/// Sets one condition. The transition time changes only when the status changes.
pub fn set(conditions: &mut Vec<Condition>, update: &ConditionUpdate, generation: i64, now: Timestamp) {
    let status = update.status.as_str();
    let old = conditions.iter().position(|c| c.type_ == update.kind.as_str());
    let since = match old.and_then(|i| conditions.get(i)) {
        Some(c) if c.status == status => c.last_transition_time.clone(),
        _ => Time(now),
    };
    let mut message = update.message.clone();
    if message.len() > MAX_MESSAGE_BYTES {
        message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
    }
    let new = Condition {
        type_: update.kind.as_str().into(),
        status: status.into(),
        reason: update.reason.as_str().into(),
        message,
        observed_generation: Some(generation),
        last_transition_time: since,
    };
    match old {
        Some(i) => conditions[i] = new,
        None => conditions.push(new),
    }
}

/// Removes a condition that is present only while true.
pub fn clear(conditions: &mut Vec<Condition>, kind: ConditionType) {
    conditions.retain(|c| c.type_ != kind.as_str());
}

/// The condition of a type.
#[must_use]
pub fn find(conditions: &[Condition], kind: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|c| c.type_ == kind.as_str())
}

/// Whether a condition is present and `True`.
#[must_use]
pub fn is_true(conditions: &[Condition], kind: ConditionType) -> bool {
    find(conditions, kind).is_some_and(|c| c.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_transition_time_changes_only_with_the_status() {
        let mut conditions = Vec::new();
        set(&mut conditions, &ConditionUpdate::new(ConditionType::Ready, false, Reason::Progressing, "a"), 1, at(1));
        set(&mut conditions, &ConditionUpdate::new(ConditionType::Ready, false, Reason::BoardNotFound, "b"), 2, at(2));
        assert_eq!(conditions.len(), 1);
        assert_eq!(conditions[0].last_transition_time.0, at(1));
        assert_eq!((conditions[0].reason.as_str(), conditions[0].observed_generation), ("BoardNotFound", Some(2)));
        set(&mut conditions, &ConditionUpdate::new(ConditionType::Ready, true, Reason::Reconciled, "c"), 2, at(3));
        assert_eq!(conditions[0].last_transition_time.0, at(3));
    }

    #[test]
    fn clear_removes_a_condition() {
        let mut conditions = Vec::new();
        set(&mut conditions, &ConditionUpdate::new(ConditionType::Stalled, true, Reason::TemplateError, "x"), 1, at(1));
        assert!(is_true(&conditions, ConditionType::Stalled));
        clear(&mut conditions, ConditionType::Stalled);
        assert!(find(&conditions, ConditionType::Stalled).is_none());
    }
}
