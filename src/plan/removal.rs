//! How an agent is removed, when its resource is deleted or stands for another agent now.

use std::time::Duration;

use jiff::Timestamp;

use super::binding::Binding;
use super::trouble::Trouble;
use crate::api::Reason;
use crate::api::agent::DeletionPolicy;

/// What there is of the AgentGateway that a binding names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// The resource does not exist.
    Gone,
    /// The resource is being deleted; cleanup may wait this long from then.
    Going {
        /// When its deletion was asked for.
        since: Timestamp,
        /// How long cleanup may wait.
        timeout: Duration,
    },
    /// The resource is there.
    Here,
}

/// What to do on the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// There is nothing of it on any gateway.
    Nothing,
    /// Remove the agent.
    Remove {
        /// Whether its workspace goes with it.
        delete_files: bool,
    },
    /// Leave the agent where it is and say so.
    Leave {
        /// What is left, where, and why.
        message: String,
        /// Whether somebody asked for that.
        asked: bool,
    },
    /// The gateway cannot be asked now.
    Wait(Trouble),
}

/// Decides what to do on the gateway about a binding that is to go.
///
/// # Guarantees
/// Needs no valid spec and no Board. An unreachable gateway delays the removal; it is given up only when the policy
/// says so, or when the AgentGateway itself is gone or has been going for its `cleanupTimeout`.
#[must_use]
pub fn removal(
    binding: Option<&Binding>,
    policy: DeletionPolicy,
    gateway: Presence,
    reachable: Result<(), &Trouble>,
    now: Timestamp,
) -> Removal {
    let Some(binding) = binding else { return Removal::Nothing };
    let id = &binding.identity.agent_id;
    let at = &binding.gateway;
    if policy == DeletionPolicy::Orphan {
        let message = format!("agent {id} stays on gateway {at}, as deletionPolicy Orphan asks");
        return Removal::Leave { message, asked: true };
    }
    if gateway == Presence::Gone {
        let message = format!(
            "agent {id} may still be on gateway {at}: that AgentGateway no longer exists, so that it could not be asked"
        );
        return Removal::Leave { message, asked: false };
    }
    let Err(trouble) = reachable else {
        return Removal::Remove { delete_files: policy == DeletionPolicy::Delete };
    };
    if let Presence::Going { since, timeout } = gateway
        && since.saturating_add(timeout).is_ok_and(|end| now >= end)
    {
        let message = format!(
            "agent {id} may still be on gateway {at}: the AgentGateway is being deleted and could not be reached for {} s ({trouble})",
            timeout.as_secs()
        );
        return Removal::Leave { message, asked: false };
    }
    let text = format!(
        "the agent {id} is to be removed from gateway {at}, which cannot be asked now ({trouble}); to let go of it, set spec.deletionPolicy to Orphan"
    );
    Removal::Wait(Trouble { message: text, reason: Reason::DeletionBlocked, ..trouble.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::agent::{GatewayKey, Role};
    use crate::plan::Identity;

    fn binding() -> Binding {
        Binding {
            uid: "u".into(),
            gateway: GatewayKey { namespace: "ns".into(), name: "gw".into() },
            identity: Identity::derive(Role::Worker, None, "u", "/w"),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn away() -> Trouble {
        Trouble::transient(Reason::GatewayNotReady, "connection refused")
    }

    #[test]
    fn an_agent_that_was_never_bound_needs_no_gateway() {
        let removal = removal(None, DeletionPolicy::Delete, Presence::Gone, Err(&away()), at(0));
        assert_eq!(removal, Removal::Nothing);
    }

    #[test]
    fn the_policy_decides_about_the_workspace() {
        for (policy, delete_files) in [(DeletionPolicy::Delete, true), (DeletionPolicy::RetainFiles, false)] {
            let removal = removal(Some(&binding()), policy, Presence::Here, Ok(()), at(0));
            assert_eq!(removal, Removal::Remove { delete_files });
        }
    }

    #[test]
    fn orphan_asks_no_gateway_even_one_that_is_there() {
        let removal = removal(Some(&binding()), DeletionPolicy::Orphan, Presence::Here, Ok(()), at(0));
        assert!(matches!(removal, Removal::Leave { asked: true, .. }), "{removal:?}");
    }

    #[test]
    fn an_unreachable_gateway_delays_and_the_message_says_how_to_let_go() {
        let Removal::Wait(trouble) =
            removal(Some(&binding()), DeletionPolicy::Delete, Presence::Here, Err(&away()), at(9_999_999))
        else {
            panic!("it must wait")
        };
        assert_eq!(trouble.reason, Reason::DeletionBlocked);
        assert!(trouble.message.contains("connection refused") && trouble.message.contains("Orphan"), "{trouble}");
    }

    #[test]
    fn a_gateway_that_is_going_bounds_the_wait() {
        let going = Presence::Going { since: at(100), timeout: Duration::from_mins(2) };
        let before = removal(Some(&binding()), DeletionPolicy::Delete, going, Err(&away()), at(219));
        assert!(matches!(before, Removal::Wait(_)));
        let after = removal(Some(&binding()), DeletionPolicy::Delete, going, Err(&away()), at(220));
        assert!(matches!(after, Removal::Leave { asked: false, .. }));
        let reachable = removal(Some(&binding()), DeletionPolicy::Delete, going, Ok(()), at(999));
        assert_eq!(reachable, Removal::Remove { delete_files: true });
    }
}
