//! The status of an AgentGateway, derived from its connection.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::census::Census;
use super::conditions::{ALL, ObservedConnection, from_connection, from_error, suspended};
use super::transport::{self, ServedApi};
use crate::api::agent::{Agent, Role};
use crate::api::conditions::{ConditionUpdate, fill, is_true, set};
use crate::api::gateway::{GatewayCapabilities, Pairing};
use crate::api::soul::SoulDirectoryStatus;
use crate::api::{AgentGateway, AgentGatewayStatus, ConditionType, Reason};
use crate::core::agent::protection;
use crate::core::agent::status::parent_derived_id;
use crate::core::error::ReconcileError;
use crate::core::kstatus::{ProgressInput, set_progress};
use crate::core::request_progress::progress;
use crate::core::requests::{RequestTimes, handled_reconcile};
use crate::openclaw::model::{ConnectionState, PairingRequestId, Refusal, RefusalKind, RosterShape};

/// The observed state of a gateway.
#[derive(Debug)]
pub enum GatewayObservation<'a> {
    /// A reference or a field of the spec is invalid.
    Error(&'a ReconcileError),
    /// The gateway is suspended.
    Suspended,
    /// The AgentGateway is being deleted.
    Deleting {
        /// The number of Agents that are bound to it. With none, its gateway still has heartbeat blocks that it recorded.
        bound: usize,
        /// Its connection.
        connection: Option<ObservedConnection>,
    },
    /// The connection to the gateway.
    Connection(ObservedConnection),
}

use ConditionType as C;

/// The facts about an AgentGateway outside its connection.
#[derive(Debug)]
pub struct GatewayFacts<'a> {
    /// The Agents that are bound to it.
    pub bound: &'a [Arc<Agent>],
    /// The Agents that only observe an agent of it, without a binding.
    pub observers: &'a [Arc<Agent>],
    /// The numbers of its agents.
    pub census: Census,
    /// The state of its directory of souls.
    pub soul_directory: Option<SoulDirectoryStatus>,
    /// The HTTP API for agents, as the operator serves it.
    pub served_api: &'a ServedApi,
    /// The time.
    pub now: Timestamp,
}

/// The status of a gateway.
#[must_use]
pub fn status(gateway: &AgentGateway, seen: &GatewayObservation<'_>, facts: GatewayFacts<'_>) -> AgentGatewayStatus {
    let now = facts.now;
    let old = &gateway.status.clone().unwrap_or_default();
    let generation = gateway.metadata.generation.unwrap_or_default();
    let requests = RequestTimes::read(gateway.metadata.annotations.as_ref(), now);
    let main = facts.bound.iter().find(|agent| agent.spec.role == Role::Main);
    let asked = [facts.bound, facts.observers].concat();
    let mut new = AgentGatewayStatus {
        observed_generation: generation,
        last_handled_reconcile_at: handled_reconcile(&gateway.metadata, old.last_handled_reconcile_at.as_ref()),
        agents: Some(facts.census.counts),
        unmanaged: facts.census.unmanaged,
        main_agent_id: main
            .and_then(|main| parent_derived_id(main, gateway.metadata.uid.as_deref()))
            .or_else(|| old.main_agent_id.clone()),
        last_sync: progress(&requests, &asked).or_else(|| old.last_sync.clone()),
        soul_directory: facts.soul_directory,
        invalid_requests: requests.invalid,
        ..old.clone()
    };
    new.pairing = None;
    let mut conditions = match seen {
        GatewayObservation::Error(error) => from_error(error),
        GatewayObservation::Suspended => suspended(gateway),
        GatewayObservation::Deleting { bound, connection } => {
            let seen = connection.as_ref().map(|connection| connected(gateway, &mut new, connection, now));
            let mut conditions = seen.unwrap_or_default();
            conditions.retain(|condition| condition.kind != C::Ready);
            conditions.push(deleting_condition(*bound, protection::waits_for(facts.bound)));
            conditions
        }
        GatewayObservation::Connection(connection) => connected(gateway, &mut new, connection, now),
    };
    conditions.push(transport::condition(gateway, facts.served_api));
    for condition in &conditions {
        set(&mut new.conditions, condition, generation, now);
    }
    let error = match seen {
        GatewayObservation::Error(error) => Some(*error),
        GatewayObservation::Suspended | GatewayObservation::Deleting { .. } | GatewayObservation::Connection(_) => None,
    };
    if let Some(ready) = conditions.iter().find(|condition| condition.kind == C::Ready) {
        let is_suspended = matches!(seen, GatewayObservation::Suspended);
        let reconciling = Some(Reason::Progressing);
        set_progress(&mut new.conditions, &ProgressInput { ready, error, reconciling, is_suspended, generation, now });
    }
    fill(&mut new.conditions, &ALL, generation, now);
    new
}

/// Takes the observed connection into the status, and returns its conditions.
fn connected(
    gateway: &AgentGateway,
    new: &mut AgentGatewayStatus,
    seen: &ObservedConnection,
    now: Timestamp,
) -> Vec<ConditionUpdate> {
    if let Some(device_id) = &seen.device_id {
        new.device_id = Some(device_id.clone());
        new.device_secret = Some(gateway.device_secret_name());
    }
    let old = gateway.status.clone().unwrap_or_default();
    describe(new, &old, seen, now);
    if let Some(shared) = &seen.shared_heartbeats {
        new.shared_heartbeats = shared.record();
    }
    from_connection(gateway, new.pairing.as_ref(), seen)
}

fn deleting_condition(bound: usize, waits_for: Option<String>) -> ConditionUpdate {
    if bound == 0 {
        let message = "no agent is bound to this gateway; Muster removes the empty heartbeat blocks in status.sharedHeartbeats from its config";
        return ConditionUpdate::new(C::Ready, false, Reason::Deleting, message);
    }
    let waits_for = waits_for.map(|sentence| format!("; {sentence}")).unwrap_or_default();
    let message = format!(
        "{bound} agents are still bound to this gateway and are being removed from it; an Agent with deletionPolicy Orphan is released at once{waits_for}"
    );
    ConditionUpdate::new(C::Ready, false, Reason::AgentsBound, message)
}

fn describe(new: &mut AgentGatewayStatus, old: &AgentGatewayStatus, seen: &ObservedConnection, now: Timestamp) {
    match &seen.state {
        ConnectionState::Up(hello) => {
            new.server_version = Some(hello.server_version.clone());
            new.protocol = i32::try_from(hello.protocol).ok();
            new.granted_scopes = hello.scopes.iter().cloned().collect();
            if !is_true(&old.conditions, C::Reachable) || old.last_connected.is_none() {
                new.last_connected = Some(Time(now));
            }
        }
        ConnectionState::Refused(refusal) => new.pairing = pairing(refusal, old.pairing.as_ref(), now),
        // A pairing request outlives a failed connection.
        ConnectionState::Connecting | ConnectionState::Down { .. } => {
            new.pairing = old.pairing.clone().filter(is_safe_to_show);
        }
    }
    if let Some(inventory) = seen.inventory.as_deref() {
        let capabilities = &inventory.capabilities;
        new.capabilities = Some(GatewayCapabilities {
            roster: match capabilities.roster {
                RosterShape::List => "list".into(),
                RosterShape::Entries => "entries".into(),
            },
            accepted_files: capabilities.accepted_files.iter().cloned().collect(),
            // Only an answer about a file shows hashes, and the operator may have read no file since its start.
            file_hashes: capabilities.file_hashes || had_file_hashes(new, old),
            main_session_delete: capabilities.main_session_delete,
            loses_writes: inventory.loses_writes(),
        });
    }
}

/// Whether the same version of the gateway has returned hashes of files before.
fn had_file_hashes(new: &AgentGatewayStatus, old: &AgentGatewayStatus) -> bool {
    new.server_version == old.server_version && old.capabilities.as_ref().is_some_and(|c| c.file_hashes)
}

/// The lifetime of a pairing request on a gateway (`docs/gateway-facts.md#devices-and-pairing`).
///
/// A new connect extends the request for the same time on 2026.3.2, 2026.7.1 and 2026.9.6, and does not on 2026.5.28 (from their
/// sources). The status keeps a request for as long as the gateway names it.
const PAIRING_REQUEST_LIFETIME: Duration = Duration::from_mins(5);

fn pairing(refusal: &Refusal, old: Option<&Pairing>, now: Timestamp) -> Option<Pairing> {
    let RefusalKind::PairingRequired(request) = &refusal.kind else { return None };
    let id = request.id.as_ref()?;
    let (request_id, command) = (id.to_string(), id.command());
    let same = |old: &&Pairing| old.request_id == request_id && old.command == command;
    let lasts = |old: &&Pairing| old.expires_at.as_ref().is_some_and(|until| until.0 > now);
    let expires_at = || now.checked_add(PAIRING_REQUEST_LIFETIME).ok().map(Time);
    let known = old.filter(same).filter(lasts).cloned();
    Some(known.unwrap_or_else(|| Pairing { request_id, command, expires_at: expires_at() }))
}

/// Whether the request in a status has the form that Muster writes. Older versions of Muster wrote the gateway's text unchecked.
fn is_safe_to_show(pairing: &Pairing) -> bool {
    PairingRequestId::parse(&pairing.request_id).is_some_and(|id| id.command() == pairing.command)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::conditions::find;

    #[test]
    fn a_gateway_is_stalled_by_an_error_only_when_a_retry_does_not_help() {
        let spec = json!({
            "url": "ws://gateway:18789", "auth": { "tokenSecretRef": { "name": "gateway", "key": "token" } },
            "workspaceRoot": "~/agents", "apiUrl": "http://muster:8080",
        });
        let gateway = AgentGateway::new("main", serde_json::from_value(spec).unwrap());
        let present = |error: &ReconcileError| {
            let facts = GatewayFacts {
                bound: &[],
                observers: &[],
                census: Census::default(),
                soul_directory: None,
                served_api: &ServedApi::default(),
                now: Timestamp::UNIX_EPOCH,
            };
            let status = status(&gateway, &GatewayObservation::Error(error), facts);
            [C::Stalled, C::Reconciling].map(|kind| find(&status.conditions, kind).is_some())
        };
        assert_eq!(present(&ReconcileError::permanent(Reason::KubernetesError, "forbidden")), [true, false]);
        assert_eq!(present(&ReconcileError::transient(Reason::KubernetesError, "timeout")), [false, true]);
        assert_eq!(present(&ReconcileError::permanent(Reason::InvalidSpec, "spec.url")), [true, false]);
    }
}
