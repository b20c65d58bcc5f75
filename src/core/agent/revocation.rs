//! What happens to an agent whose AgentGateway in another namespace no longer admits the namespace of the Agent. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::Reason;
use crate::api::agent::{DeletionPolicy, RevocationStatus};
use crate::api::object_key::ObjectKey;
use crate::api::shared::duration_text;
use crate::core::error::ReconcileError;
use crate::core::event::Event;

/// The reason of the event that a release of an agent causes.
pub const RELEASED: &str = "AgentsReleased";

/// The record of a revocation: the recorded one, or one that begins now.
#[must_use]
pub fn record(old: Option<&RevocationStatus>, gateway: &ObjectKey, now: Timestamp) -> RevocationStatus {
    let is_same = |old: &&RevocationStatus| old.gateway == *gateway && old.removed_at.is_none();
    let begins = || RevocationStatus { gateway: gateway.clone(), since: Time(now), removed_at: None };
    old.filter(is_same).cloned().unwrap_or_else(begins)
}

/// The time until the agent is removed. `None` when the time is over.
#[must_use]
pub fn remaining(revocation: &RevocationStatus, grace_period: Duration, now: Timestamp) -> Option<Duration> {
    let end = revocation.since.0.saturating_add(grace_period).unwrap_or(Timestamp::MAX);
    Duration::try_from(end.duration_since(now)).ok().filter(|time| !time.is_zero())
}

/// The error of an Agent whose namespace is no longer admitted. `policy` is the deletion policy that holds for its agent.
#[must_use]
pub fn error(
    revocation: &RevocationStatus,
    namespace: &str,
    grace_period: Duration,
    policy: DeletionPolicy,
) -> ReconcileError {
    let RevocationStatus { gateway, since, removed_at } = revocation;
    let since = since.0;
    let message = match removed_at {
        None => {
            let end = since.saturating_add(grace_period).unwrap_or(Timestamp::MAX);
            let then = match policy {
                DeletionPolicy::Delete => "is removed from the gateway",
                DeletionPolicy::RetainFiles => "is removed from the gateway, without its files,",
                DeletionPolicy::Orphan => {
                    "stays on the gateway, by its deletionPolicy Orphan, and is no longer managed"
                }
            };
            format!(
                "AgentGateway {gateway} no longer admits namespace {namespace:?}: the agent's token is refused since {since}, and the agent {then} after {end}; to keep the agent, admit the namespace in spec.allowedNamespaces of the AgentGateway"
            )
        }
        Some(at) => format!(
            "AgentGateway {gateway} no longer admits namespace {namespace:?}: the agent was released from the gateway at {}, by its deletionPolicy; admit the namespace in spec.allowedNamespaces of the AgentGateway to set the agent up again, or delete the Agent",
            at.0
        ),
    };
    ReconcileError::permanent(Reason::NotAdmitted, message)
}

/// The event of the AgentGateway that follows from a change of the record. Kubernetes counts the events of one reason, so that the
/// message is the same for all agents of a namespace.
#[must_use]
pub fn event(
    old: Option<&RevocationStatus>,
    new: Option<&RevocationStatus>,
    namespace: &str,
    grace_period: Duration,
) -> Option<Event> {
    let is_removed = |revocation: Option<&RevocationStatus>| revocation.is_some_and(|r| r.removed_at.is_some());
    let (warning, reason, message) = match (old, new) {
        (_, Some(_)) if is_removed(new) && !is_removed(old) => (
            true,
            RELEASED,
            format!(
                "agents of namespace {namespace:?} were released from the gateway: the namespace is no longer admitted"
            ),
        ),
        (_, Some(_)) if old.is_none() => (
            true,
            "AdmissionRevoked",
            format!(
                "namespace {namespace:?} is no longer admitted: the tokens of its agents are refused now, and its agents are released from the gateway by their deletionPolicy after {}",
                duration_text(grace_period)
            ),
        ),
        (Some(_), None) if !is_removed(old) => {
            (false, "AdmissionRestored", format!("namespace {namespace:?} is admitted again: its agents stay"))
        }
        (_, _) => return None,
    };
    Some(Event { warning, reason: reason.into(), action: "Admit", message })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn gateway(name: &str) -> ObjectKey {
        ObjectKey::new("shared", name)
    }

    #[test]
    fn a_revocation_keeps_its_beginning_for_one_gateway() {
        let first = record(None, &gateway("gw"), at(5));
        assert_eq!(record(Some(&first), &gateway("gw"), at(9)), first);
        assert_eq!(record(Some(&first), &gateway("other"), at(9)).since.0, at(9));
        let removed = RevocationStatus { removed_at: Some(Time(at(7))), ..first };
        assert_eq!(record(Some(&removed), &gateway("gw"), at(9)).since.0, at(9), "the agent was set up again");
    }

    #[test]
    fn the_grace_period_ends_at_its_end() {
        let revocation = record(None, &gateway("gw"), at(5));
        let left = |second| remaining(&revocation, Duration::from_secs(10), at(second));
        assert_eq!(left(5), Some(Duration::from_secs(10)));
        assert_eq!((left(14), left(15), left(99)), (Some(Duration::from_secs(1)), None, None));
        assert_eq!(remaining(&revocation, Duration::ZERO, at(5)), None);
    }

    #[test]
    fn the_message_says_what_the_deletion_policy_of_the_agent_does() {
        let revocation = record(None, &gateway("gw"), at(5));
        let text = |policy| error(&revocation, "team", Duration::from_mins(1), policy).message;
        assert!(text(DeletionPolicy::Delete).contains("the agent is removed from the gateway after"));
        assert!(text(DeletionPolicy::RetainFiles).contains("without its files"));
        let orphan = text(DeletionPolicy::Orphan);
        assert!(orphan.contains("stays on the gateway") && !orphan.contains("removed from"), "{orphan}");
    }

    #[test]
    fn the_gateway_has_an_event_at_the_beginning_at_the_end_and_at_the_return() {
        let begun = record(None, &gateway("gw"), at(5));
        let removed = RevocationStatus { removed_at: Some(Time(at(7))), ..begun.clone() };
        let reason = |old, new| event(old, new, "team", Duration::from_mins(1)).map(|event| event.reason);
        assert_eq!(reason(None, Some(&begun)).as_deref(), Some("AdmissionRevoked"));
        assert_eq!(reason(Some(&begun), Some(&removed)).as_deref(), Some("AgentsReleased"));
        assert_eq!(reason(Some(&begun), None).as_deref(), Some("AdmissionRestored"));
        assert_eq!((reason(Some(&begun), Some(&begun)), reason(Some(&removed), None)), (None, None));
    }
}
