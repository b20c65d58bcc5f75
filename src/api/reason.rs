//! Reasons of conditions.

use super::words::words;

words! {
    /// The reason of a condition.
    Reason {
        /// The object is as specified.
        Reconciled,
        /// Muster works on the object.
        Progressing,
        /// The object is being deleted.
        Deleting,
        /// The agent cannot be removed from its gateway now.
        DeletionBlocked,
        /// The gateway removed a part of the agent.
        DeletionIncomplete,
        /// The Board does not exist.
        BoardNotFound,
        /// The AgentGateway does not exist.
        GatewayNotFound,
        /// The operator does not work in the namespace of the AgentGateway.
        NamespaceNotWatched,
        /// The AgentGateway does not admit this namespace.
        NotAdmitted,
        /// The AgentGateway in another namespace does not permit a field of the Agent.
        NotPermitted,
        /// The namespace has its maximum number of agents on the AgentGateway of another namespace.
        NamespaceFull,
        /// The AgentGateway is not ready.
        GatewayNotReady,
        /// Another Agent is the lead of the board or the main agent of the gateway.
        RoleTaken,
        /// The board has its maximum number of agents.
        BoardFull,
        /// An agent that Muster did not create for this Agent has the id.
        AgentIdTaken,
        /// Muster observes the agent, and the gateway has it.
        Observed,
        /// The gateway does not have the agent that Muster observes.
        AgentMissing,
        /// Muster only observes the agent, so that the condition does not apply.
        NotManaged,
        /// The annotation names an agent of the gateway, and nothing proves that it is the agent of this Agent.
        ClaimUnproven,
        /// The workspace would be, contain or be within the workspace of another agent.
        WorkspaceTaken,
        /// A ConfigMap, or a key of it, does not exist.
        ConfigMapNotFound,
        /// A template cannot be rendered.
        TemplateError,
        /// A Secret, or a key of it, does not exist.
        SecretNotFound,
        /// A Secret with the name belongs to another owner.
        SecretConflict,
        /// The content of a Secret is not valid.
        SecretInvalid,
        /// A field of the spec is not valid.
        InvalidSpec,
        /// The gateway refuses the agent's config entry.
        EntryRefused,
        /// The write of the agent's config entry had no effect and is retried.
        EntryDelayed,
        /// A write did not last after its maximum number of repetitions and is held back.
        RepeatedWrite,
        /// The agent's config entry waits for the next config write.
        WaitingForConfigWrite,
        /// The gateway has not applied its last config yet.
        NotSettled,
        /// The gateway applies its last config at its next start.
        RestartRequired,
        /// The gateway cannot write its config.
        ConfigNotWritable,
        /// Something else removes Muster's entries from the gateway's config.
        ConfigOverwritten,
        /// The gateway's rate limit of config writes is used up.
        RateLimited,
        /// A file is longer than the gateway passes to an agent.
        FileTooLarge,
        /// The gateway refuses to read or to write a file.
        FileRefused,
        /// Somebody else changed a file, and its drift policy keeps the change.
        Drifted,
        /// The gateway refuses each label for the session.
        LabelRefused,
        /// A request to the gateway failed.
        GatewayError,
        /// A request to Kubernetes failed.
        KubernetesError,
        /// The agent was woken and has not checked in yet.
        WaitingForCheckIn,
        /// The agent did not check in by its deadline and is woken again.
        DeadlineExceeded,
        /// The agent did not check in after the maximum number of wake messages.
        MaxWakeAttempts,
        /// The agent got its maximum number of wake messages of a day.
        WakesPaused,
        /// The agent has not called Muster's API for two heartbeat intervals.
        Stale,
        /// It is outside the active hours of the agent's heartbeat.
        OutsideActiveHours,
        /// The gateway runs no heartbeat for the agent.
        HeartbeatsOff,
        /// The gateway has no heartbeat job for the agent.
        HeartbeatNotScheduled,
        /// The gateway skips the heartbeats of the agent.
        HeartbeatSkipped,
        /// The last heartbeat of the agent failed.
        HeartbeatFailed,
        /// Heartbeat runs get no workspace files.
        FilesHidden,
        /// It is not known whether the heartbeat works.
        HeartbeatUnknown,
        /// The agent has checked in.
        CheckedIn,
        /// The agent is not woken and has not called Muster's API.
        NotWoken,
        /// The object is suspended.
        Suspended,
        /// The object is not suspended.
        Running,
        /// Muster is connected to the gateway.
        Connected,
        /// Muster connects to the gateway.
        Connecting,
        /// Muster cannot reach the gateway.
        Unreachable,
        /// The rules of the operator forbid the address of the gateway.
        AddressNotAllowed,
        /// The gateway sent more than Muster accepts.
        GatewayMisbehaves,
        /// The gateway refused the credential.
        BadCredentials,
        /// The gateway did not grant the required scopes.
        ScopesMissing,
        /// The gateway requires an approval of the device.
        PairingRequired,
        /// The gateway refused the device.
        DeviceRejected,
        /// Muster and the gateway have no common protocol version.
        ProtocolMismatch,
        /// The gateway does not offer required methods.
        MethodsMissing,
        /// Muster cannot read the gateway's config or roster.
        RosterUnreadable,
        /// The gateway refused the connection for another reason.
        Refused,
        /// The state is unknown without a connection.
        NotConnected,
        /// Nothing is known yet, because something before it is missing.
        NotObserved,
        /// The board has no lead.
        NoLead,
        /// The lead is not ready.
        LeadNotReady,
        /// The board exceeds its maximum number of agents.
        OverLimit,
        /// Agents are still bound to the gateway.
        AgentsBound,
        /// Agents that Muster did not create lost their heartbeats.
        HeartbeatsStopped,
        /// No credential and no token goes over the network in clear text.
        Encrypted,
        /// The connection to the gateway is not encrypted.
        GatewayUnencrypted,
        /// The gateway's certificate is not checked.
        GatewayUnverified,
        /// The calls of the agents are not encrypted.
        ApiUnencrypted,
    }
}

/// How long the cause of a reason lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// The cause lasts until a person changes something: kstatus `Stalled`.
    Lasting,
    /// The cause may pass without a change: kstatus `Reconciling`.
    Passing,
    /// The error behind the reason decides.
    OfTheError,
}

impl Reason {
    /// Whether the spec or an object that it names is the cause, which shows before a gateway is asked.
    #[must_use]
    pub fn is_of_the_spec(self) -> bool {
        matches!(
            self,
            Self::BoardNotFound
                | Self::GatewayNotFound
                | Self::NamespaceNotWatched
                | Self::NotAdmitted
                | Self::NotPermitted
                | Self::NamespaceFull
                | Self::RoleTaken
                | Self::BoardFull
                | Self::WorkspaceTaken
                | Self::ConfigMapNotFound
                | Self::TemplateError
                | Self::SecretNotFound
                | Self::SecretInvalid
                | Self::InvalidSpec
        )
    }

    /// How long the cause of the reason lasts. kstatus follows from it, for all three resources.
    #[must_use]
    pub fn persistence(self) -> Persistence {
        match self {
            Self::BoardNotFound
            | Self::GatewayNotFound
            | Self::NamespaceNotWatched
            | Self::NotAdmitted
            | Self::NotPermitted
            | Self::NamespaceFull
            | Self::RoleTaken
            | Self::BoardFull
            | Self::AgentIdTaken
            | Self::AgentMissing
            | Self::ClaimUnproven
            | Self::WorkspaceTaken
            | Self::ConfigMapNotFound
            | Self::TemplateError
            | Self::SecretNotFound
            | Self::SecretConflict
            | Self::SecretInvalid
            | Self::InvalidSpec
            | Self::EntryRefused
            | Self::ConfigNotWritable
            | Self::FileTooLarge
            | Self::FileRefused
            | Self::LabelRefused
            | Self::MaxWakeAttempts
            | Self::WakesPaused
            | Self::HeartbeatsOff
            | Self::HeartbeatSkipped
            | Self::FilesHidden
            | Self::AddressNotAllowed
            | Self::GatewayMisbehaves
            | Self::BadCredentials
            | Self::ScopesMissing
            | Self::PairingRequired
            | Self::DeviceRejected
            | Self::ProtocolMismatch
            | Self::MethodsMissing
            | Self::RosterUnreadable
            | Self::Refused
            | Self::NoLead
            | Self::OverLimit
            | Self::HeartbeatsStopped
            | Self::GatewayUnencrypted
            | Self::GatewayUnverified
            | Self::ApiUnencrypted => Persistence::Lasting,
            Self::DeletionBlocked
            | Self::DeletionIncomplete
            | Self::RepeatedWrite
            | Self::GatewayError
            | Self::KubernetesError => Persistence::OfTheError,
            Self::Reconciled
            | Self::Progressing
            | Self::Deleting
            | Self::GatewayNotReady
            | Self::EntryDelayed
            | Self::WaitingForConfigWrite
            | Self::NotSettled
            | Self::RestartRequired
            | Self::ConfigOverwritten
            | Self::RateLimited
            | Self::Drifted
            | Self::WaitingForCheckIn
            | Self::DeadlineExceeded
            | Self::Stale
            | Self::OutsideActiveHours
            | Self::HeartbeatNotScheduled
            | Self::HeartbeatFailed
            | Self::HeartbeatUnknown
            | Self::CheckedIn
            | Self::NotWoken
            | Self::Suspended
            | Self::Running
            | Self::Encrypted
            | Self::Connected
            | Self::Connecting
            | Self::Unreachable
            | Self::NotConnected
            | Self::NotObserved
            | Self::Observed
            | Self::NotManaged
            | Self::LeadNotReady
            | Self::AgentsBound => Persistence::Passing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reasons_of_a_gateway_that_needs_a_person_are_lasting() {
        for reason in [
            Reason::AddressNotAllowed,
            Reason::GatewayMisbehaves,
            Reason::BadCredentials,
            Reason::ScopesMissing,
            Reason::PairingRequired,
            Reason::DeviceRejected,
            Reason::ProtocolMismatch,
            Reason::MethodsMissing,
            Reason::RosterUnreadable,
            Reason::Refused,
            Reason::ConfigNotWritable,
            Reason::SecretNotFound,
            Reason::SecretInvalid,
            Reason::InvalidSpec,
        ] {
            assert_eq!(reason.persistence(), Persistence::Lasting, "{reason}");
        }
    }

    #[test]
    fn the_reasons_of_a_gateway_that_may_pass_without_a_change_are_not_lasting() {
        for reason in [
            Reason::AgentsBound,
            Reason::Connecting,
            Reason::Deleting,
            Reason::NotSettled,
            Reason::RestartRequired,
            Reason::ConfigOverwritten,
            Reason::RateLimited,
            Reason::Suspended,
            Reason::Unreachable,
        ] {
            assert_eq!(reason.persistence(), Persistence::Passing, "{reason}");
        }
    }
}
