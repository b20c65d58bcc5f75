//! Condition types and reasons, and the one way to set a condition.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Makes an enum whose variants are written into objects by their own name.
macro_rules! words {
    ($(#[$outer:meta])* $name:ident { $($(#[$inner:meta])* $word:ident),+ $(,)? }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$inner])* $word),+ }

        impl $name {
            /// The word as it stands in the object.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$word => stringify!($word)),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// The types of conditions on Muster's resources.
    ConditionType {
        /// All that the spec asks for is so.
        Ready,
        /// kstatus: work is under way. Present only while true.
        Reconciling,
        /// kstatus: no progress without a change. Present only while true.
        Stalled,
        /// Agent: the gateway's roster shows it as specified.
        Registered,
        /// Agent: its workspace files are as rendered.
        FilesSynced,
        /// Agent: its token is in its Secret.
        TokenIssued,
        /// Agent: the gateway's heartbeat is set up as specified.
        HeartbeatConfigured,
        /// Agent: its session carries its name.
        SessionReady,
        /// Agent: it called Muster's API within two heartbeat intervals.
        CheckedIn,
        /// Agent: it is suspended, or its board is.
        Paused,
        /// AgentGateway: the connection stands.
        Reachable,
        /// AgentGateway: the credential was accepted and the scopes granted.
        Authenticated,
        /// AgentGateway: the device needs no approval, or has it.
        Paired,
        /// AgentGateway: it speaks a protocol that Muster speaks.
        Compatible,
        /// AgentGateway: it has applied its own last config.
        Settled,
        /// AgentGateway: no config write is waiting or refused.
        ConfigSynced,
        /// AgentGateway: no agent that Muster did not make lost its heartbeat.
        HeartbeatsShared,
        /// AgentGateway: it is suspended.
        Suspended,
        /// Board: it has a lead and the lead is ready.
        LeadReady,
        /// Board: it has no more agents than it may have.
        WithinQuota,
        /// Board: its gateway is ready.
        GatewayReady,
    }
}

words! {
    /// Why a condition is as it is.
    Reason {
        /// Everything is as specified.
        Reconciled,
        /// Work is under way.
        Progressing,
        /// The object is being deleted.
        Deleting,
        /// The deletion waits for the gateway.
        DeletionBlocked,
        /// The Board does not exist.
        BoardNotFound,
        /// The AgentGateway does not exist.
        GatewayNotFound,
        /// The AgentGateway does not admit this namespace.
        NotAdmitted,
        /// The AgentGateway is not ready.
        GatewayNotReady,
        /// Another Agent leads the board, or is the gateway's main agent.
        RoleTaken,
        /// The board has as many agents as it may have.
        BoardFull,
        /// The agent id is in use by an agent that is not ours.
        AgentIdTaken,
        /// A ConfigMap, or a key of it, does not exist.
        ConfigMapNotFound,
        /// A template does not render.
        TemplateError,
        /// A Secret, or a key of it, does not exist.
        SecretNotFound,
        /// A Secret of that name belongs to somebody else.
        SecretConflict,
        /// A Secret's content is not what it should be.
        SecretInvalid,
        /// A field of the spec is refused.
        InvalidSpec,
        /// The gateway refuses the agent's config entry.
        EntryRefused,
        /// The agent's config entry came to nothing and is retried.
        EntryDelayed,
        /// A write was made as often as it may be, did not last, and is held back.
        RepeatedWrite,
        /// The entry waits for the gateway's next config write.
        WaitingForConfigWrite,
        /// The gateway has not applied its last config yet.
        NotSettled,
        /// The gateway's limit of config writes is used up for now.
        RateLimited,
        /// A file is longer than the gateway passes on.
        FileTooLarge,
        /// The gateway refuses to read or to write a file.
        FileRefused,
        /// Somebody else changed a file, and it is left so.
        Drifted,
        /// The gateway refuses every label for the session.
        LabelRefused,
        /// A request to the gateway failed.
        GatewayError,
        /// A request to Kubernetes failed.
        KubernetesError,
        /// The agent has been woken and has not checked in yet.
        WaitingForCheckIn,
        /// The agent was woken, did not check in by its deadline, and is woken again.
        DeadlineExceeded,
        /// The agent was woken as often as it may be and did not check in.
        MaxWakeAttempts,
        /// The agent has not been heard of for two heartbeat intervals.
        Stale,
        /// The agent has checked in.
        CheckedIn,
        /// The agent is not woken, and has not called.
        NotWoken,
        /// It is suspended.
        Suspended,
        /// It is not suspended.
        Running,
        /// The connection stands.
        Connected,
        /// The connection is being made.
        Connecting,
        /// The gateway cannot be reached.
        Unreachable,
        /// The gateway refused the credential.
        BadCredentials,
        /// The gateway did not grant the scopes that are needed.
        ScopesMissing,
        /// The gateway wants this device to be approved.
        PairingRequired,
        /// The gateway refused this device.
        DeviceRejected,
        /// No protocol version is common.
        ProtocolMismatch,
        /// The gateway does not offer methods that are needed.
        MethodsMissing,
        /// The gateway's config and roster cannot be read.
        RosterUnreadable,
        /// The gateway refused the connection otherwise.
        Refused,
        /// It is not known, since there is no connection.
        NotConnected,
        /// There is no lead.
        NoLead,
        /// The lead is not ready.
        LeadNotReady,
        /// There are more agents than there may be.
        OverLimit,
        /// Agents are still bound to it.
        AgentsBound,
        /// Agents that Muster did not make have no heartbeat any more.
        HeartbeatsStopped,
    }
}

/// How long the cause of a reason lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// Until somebody changes something.
    Lasting,
    /// It may pass by itself.
    Passing,
    /// The error says it: the same reason may last or pass.
    OfTheError,
}

impl Reason {
    /// How long its cause lasts.
    #[must_use]
    pub fn persistence(self) -> Persistence {
        match self {
            Self::BoardNotFound
            | Self::GatewayNotFound
            | Self::NotAdmitted
            | Self::RoleTaken
            | Self::BoardFull
            | Self::AgentIdTaken
            | Self::ConfigMapNotFound
            | Self::TemplateError
            | Self::SecretNotFound
            | Self::SecretConflict
            | Self::SecretInvalid
            | Self::InvalidSpec
            | Self::EntryRefused
            | Self::FileTooLarge
            | Self::FileRefused
            | Self::BadCredentials
            | Self::ScopesMissing
            | Self::PairingRequired
            | Self::DeviceRejected
            | Self::ProtocolMismatch
            | Self::MethodsMissing
            | Self::RosterUnreadable
            | Self::Refused
            | Self::OverLimit => Persistence::Lasting,
            Self::GatewayError | Self::KubernetesError | Self::RepeatedWrite | Self::DeletionBlocked => {
                Persistence::OfTheError
            }
            Self::Reconciled
            | Self::Progressing
            | Self::Deleting
            | Self::GatewayNotReady
            | Self::EntryDelayed
            | Self::WaitingForConfigWrite
            | Self::NotSettled
            | Self::RateLimited
            | Self::Drifted
            | Self::LabelRefused
            | Self::WaitingForCheckIn
            | Self::DeadlineExceeded
            | Self::MaxWakeAttempts
            | Self::Stale
            | Self::CheckedIn
            | Self::NotWoken
            | Self::Suspended
            | Self::Running
            | Self::Connected
            | Self::Connecting
            | Self::Unreachable
            | Self::NotConnected
            | Self::NoLead
            | Self::LeadNotReady
            | Self::AgentsBound
            | Self::HeartbeatsStopped => Persistence::Passing,
        }
    }
}

/// A condition's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionStatus {
    /// It is so.
    True,
    /// It is not so.
    False,
    /// It is not known.
    Unknown,
}

impl ConditionStatus {
    /// As a condition writes it.
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
    fn from(so: bool) -> Self {
        if so { Self::True } else { Self::False }
    }
}

/// What a condition is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionUpdate {
    /// The condition's type.
    pub kind: ConditionType,
    /// Its status.
    pub truth: ConditionStatus,
    /// Why.
    pub reason: Reason,
    /// A sentence for the person who reads `kubectl describe`.
    pub message: String,
}

impl ConditionUpdate {
    /// A verdict.
    #[must_use]
    pub fn new(
        kind: ConditionType,
        truth: impl Into<ConditionStatus>,
        reason: Reason,
        message: impl Into<String>,
    ) -> Self {
        Self { kind, truth: truth.into(), reason, message: message.into() }
    }
}

/// The longest message that Kubernetes takes in a condition, in bytes.
const LONGEST_MESSAGE: usize = 32_768;

/// Sets one condition. Its transition time moves only when its status does.
pub fn set(conditions: &mut Vec<Condition>, verdict: &ConditionUpdate, generation: i64, now: Timestamp) {
    let status = verdict.truth.as_str();
    let old = conditions.iter().position(|c| c.type_ == verdict.kind.as_str());
    let since = match old.and_then(|i| conditions.get(i)) {
        Some(c) if c.status == status => c.last_transition_time.clone(),
        _ => Time(now),
    };
    let mut message = verdict.message.clone();
    if message.len() > LONGEST_MESSAGE {
        message.truncate(message.floor_char_boundary(LONGEST_MESSAGE));
    }
    let new = Condition {
        type_: verdict.kind.as_str().into(),
        status: status.into(),
        reason: verdict.reason.as_str().into(),
        message,
        observed_generation: Some(generation),
        last_transition_time: since,
    };
    match old {
        Some(i) => conditions[i] = new,
        None => conditions.push(new),
    }
}

/// Removes a condition, for those that are present only while true.
pub fn clear(conditions: &mut Vec<Condition>, kind: ConditionType) {
    conditions.retain(|c| c.type_ != kind.as_str());
}

/// The condition of a type.
#[must_use]
pub fn find(conditions: &[Condition], kind: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|c| c.type_ == kind.as_str())
}

/// Whether a condition is there and `True`.
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
    fn the_transition_time_moves_only_with_the_status() {
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
    fn a_condition_that_is_present_only_while_true_can_be_cleared() {
        let mut conditions = Vec::new();
        set(&mut conditions, &ConditionUpdate::new(ConditionType::Stalled, true, Reason::TemplateError, "x"), 1, at(1));
        assert!(is_true(&conditions, ConditionType::Stalled));
        clear(&mut conditions, ConditionType::Stalled);
        assert!(find(&conditions, ConditionType::Stalled).is_none());
    }
}
