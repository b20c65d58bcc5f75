//! The conditions of an AgentGateway.

use std::collections::BTreeSet;
use std::sync::Arc;

use ConditionType as C;

use crate::api::conditions::{ConditionStatus, ConditionUpdate, kept_ready};
use crate::api::gateway::Pairing;
use crate::api::text::with_reason;
use crate::api::{AgentGateway, ConditionType, Reason};
use crate::core::agent::interrupted::advice;
use crate::core::error::ReconcileError;
use crate::core::gateway::config_synced::config_synced;
use crate::core::gateway::shared_heartbeats::{self, SharedHeartbeatPlan};
use crate::openclaw::model::{
    ConfigWrites, ConnectionState, Credential, DownCause, Hello, Inventory, ReadFailure, Refusal, RefusalKind,
};

/// The conditions that Ready depends on. Ready shows the first one that is not true, in this order.
const READY_CONDITIONS: [C; 5] = [C::Reachable, C::Paired, C::Authenticated, C::Compatible, C::Settled];

/// The conditions of a gateway with an invalid reference or field.
pub(crate) fn from_error(error: &ReconcileError) -> Vec<ConditionUpdate> {
    let ready = ConditionUpdate::new(C::Ready, false, error.reason, error.message.clone());
    match error.reason {
        Reason::SecretNotFound | Reason::SecretInvalid => {
            vec![ConditionUpdate::new(C::Authenticated, false, error.reason, error.message.clone()), ready, runs()]
        }
        _ => vec![ready, runs()],
    }
}

/// The conditions of every AgentGateway.
pub(crate) const ALL: [C; 10] = [
    C::Ready,
    C::Reachable,
    C::Paired,
    C::Authenticated,
    C::Compatible,
    C::Settled,
    C::ConfigSynced,
    C::HeartbeatsShared,
    C::TransportSecure,
    C::Suspended,
];

fn runs() -> ConditionUpdate {
    ConditionUpdate::new(C::Suspended, false, Reason::Running, "spec.suspend is false")
}

/// The conditions of a suspended gateway. Ready stays as it was.
pub(crate) fn suspended(gateway: &AgentGateway) -> Vec<ConditionUpdate> {
    let reason = gateway.spec.suspend_reason.as_deref();
    let message =
        &with_reason("spec.suspend is true: there is no connection and nothing on the gateway is changed", reason);
    let unknown = |kind| ConditionUpdate::new(kind, ConditionStatus::Unknown, Reason::Suspended, message);
    let mut conditions: Vec<_> =
        READY_CONDITIONS.into_iter().chain([C::ConfigSynced, C::HeartbeatsShared]).map(unknown).collect();
    conditions.push(ConditionUpdate::new(C::Suspended, true, Reason::Suspended, message));
    let before = gateway.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    conditions.push(kept_ready(before, &with_reason("spec.suspend is true", reason)));
    conditions
}

/// The observed state of a gateway's connection.
#[derive(Debug)]
pub struct ObservedConnection {
    /// The connection's state.
    pub state: ConnectionState,
    /// The inventory of the gateway, if it was read.
    pub inventory: Option<Arc<Inventory>>,
    /// The failure to read the inventory, while reads fail repeatedly.
    pub read_failure: Option<Arc<ReadFailure>>,
    /// The config writes.
    pub writes: ConfigWrites,
    /// Muster's device id, if it was read.
    pub device_id: Option<String>,
    /// The ids of agents whose removal may have been interrupted by a kill of the gateway.
    pub interrupted_removals: Vec<String>,
    /// The heartbeats of agents that Muster did not create, if the config was read.
    pub shared_heartbeats: Option<SharedHeartbeatPlan>,
}

/// The URL of a gateway, and whether its certificate is accepted without a check.
#[derive(Clone, Copy)]
struct Address<'a> {
    url: &'a str,
    unchecked: bool,
}

pub(crate) fn is_unchecked(gateway: &AgentGateway) -> bool {
    gateway.spec.url.starts_with("wss:") && gateway.spec.tls.as_ref().is_some_and(|tls| tls.insecure_skip_verify)
}

impl Address<'_> {
    fn connected(self) -> String {
        let Self { url, unchecked } = self;
        if unchecked {
            return format!("connected to {url}; its certificate is not checked, as spec.tls.insecureSkipVerify asks");
        }
        format!("connected to {url}")
    }

    /// The condition without a connection.
    fn down(self, cause: DownCause, error: &str) -> ConditionUpdate {
        let url = self.url;
        let (reason, message) = match cause {
            DownCause::Unreachable => {
                let tls = if url.starts_with("wss:") { "spec.tls (caSecretRef, fingerprint), " } else { "" };
                let message = format!(
                    "no connection to {url}: {error}; check spec.url, {tls}the network and whether the gateway runs"
                );
                (Reason::Unreachable, message)
            }
            DownCause::Forbidden => (Reason::AddressNotAllowed, format!("Muster does not connect to {url}: {error}")),
            DownCause::Misbehaves => (
                Reason::GatewayMisbehaves,
                format!(
                    "Muster closed the connection to {url}: {error}; check that spec.url names an OpenClaw gateway, and look there for the agent or the program that causes this. Muster connects again within 5 minutes"
                ),
            ),
        };
        ConditionUpdate::new(C::Reachable, false, reason, message)
    }
}

/// The progress of the read of roster and config.
#[derive(Clone, Copy)]
enum InventoryRead<'a> {
    UnderWay,
    Failed(&'a ReadFailure),
    Done(&'a Inventory),
}

impl ObservedConnection {
    fn read(&self) -> InventoryRead<'_> {
        match (&self.read_failure, &self.inventory) {
            (Some(failure), _) => InventoryRead::Failed(failure),
            (None, Some(inventory)) => InventoryRead::Done(inventory),
            (None, None) => InventoryRead::UnderWay,
        }
    }
}

/// The conditions from the state of a gateway's connection.
pub(crate) fn from_connection(
    gateway: &AgentGateway,
    pairing: Option<&Pairing>,
    seen: &ObservedConnection,
) -> Vec<ConditionUpdate> {
    let address = Address { url: &gateway.spec.url, unchecked: is_unchecked(gateway) };
    let url = address.url;
    let mut conditions = match &seen.state {
        ConnectionState::Up(hello) => up(address, hello, seen.read()),
        ConnectionState::Connecting => others_unknown(ConditionUpdate::new(
            C::Reachable,
            ConditionStatus::Unknown,
            Reason::Connecting,
            format!("connecting to {url}"),
        )),
        ConnectionState::Down { error, cause, .. } => others_unknown(address.down(*cause, error)),
        ConnectionState::Refused(refusal) => refused(url, pairing, refusal, seen.device_id.as_deref()),
    };
    conditions.push(runs());
    let synced = config_synced(&seen.state, seen.inventory.as_deref(), &seen.writes);
    conditions.push(synced.clone());
    conditions
        .push(seen.shared_heartbeats.as_ref().map_or_else(shared_heartbeats::unknown, SharedHeartbeatPlan::condition));
    // A false condition explains the unknown conditions, so that it comes first.
    let with = |status| {
        READY_CONDITIONS.iter().find_map(|kind| conditions.iter().find(|v| v.kind == *kind && v.status == status))
    };
    let unwritable = Some(&synced).filter(|condition| condition.reason == Reason::ConfigNotWritable);
    let flaw = with(ConditionStatus::False).or_else(|| with(ConditionStatus::Unknown)).or(unwritable);
    let ready = match flaw {
        Some(flaw) => ConditionUpdate::new(C::Ready, false, flaw.reason, flaw.message.clone()),
        None => ConditionUpdate::new(C::Ready, true, Reason::Connected, address.connected()),
    };
    conditions.push(ready);
    append_advice(&mut conditions, &seen.interrupted_removals);
    conditions
}

fn settled(read: InventoryRead<'_>) -> ConditionUpdate {
    match read {
        InventoryRead::UnderWay => ConditionUpdate::new(
            C::Settled,
            ConditionStatus::Unknown,
            Reason::Connecting,
            "the gateway's roster is being read",
        ),
        InventoryRead::Failed(failure) => {
            ConditionUpdate::new(C::Settled, ConditionStatus::Unknown, Reason::RosterUnreadable, unreadable(failure))
        }
        InventoryRead::Done(inventory) if inventory.settled && !inventory.awaits_restart() => {
            ConditionUpdate::new(C::Settled, true, Reason::Reconciled, "the gateway has applied its own last config")
        }
        InventoryRead::Done(inventory) if inventory.awaits_restart() => ConditionUpdate::new(
            C::Settled,
            false,
            Reason::RestartRequired,
            "the gateway has not applied its last config, because its gateway.reload.mode is off; a restart of the gateway applies it, which some versions do by themselves after a patch",
        ),
        InventoryRead::Done(_) => ConditionUpdate::new(
            C::Settled,
            false,
            Reason::NotSettled,
            "the gateway has not applied its own last config; after a crash, the gateway takes no changes for up to 5 minutes",
        ),
    }
}

fn unreadable(failure: &ReadFailure) -> String {
    format!("the gateway's config and roster cannot be read: {} ({})", failure.message, failure.code)
}

/// Whether Muster supports the gateway. A gateway that answers a read with a permanent error is not supported.
fn compatible(hello: &Hello, read: InventoryRead<'_>) -> ConditionUpdate {
    match read {
        InventoryRead::Failed(failure) if !failure.transient => {
            let message = format!(
                "OpenClaw {}: {}; use a gateway version that Muster supports",
                hello.server_version,
                unreadable(failure)
            );
            ConditionUpdate::new(C::Compatible, false, Reason::RosterUnreadable, message)
        }
        InventoryRead::UnderWay | InventoryRead::Failed(_) | InventoryRead::Done(_) => {
            let message = format!("OpenClaw {}, protocol {}", hello.server_version, hello.protocol);
            ConditionUpdate::new(C::Compatible, true, Reason::Connected, message)
        }
    }
}

fn up(address: Address<'_>, hello: &Hello, read: InventoryRead<'_>) -> Vec<ConditionUpdate> {
    let scopes: Vec<_> = hello.scopes.iter().map(String::as_str).collect();
    let granted = match hello.credential {
        Credential::Shared => format!("the gateway granted {}", scopes.join(", ")),
        Credential::Device => format!(
            "the gateway refuses the credential in the Secret that spec.auth names, and accepted Muster by the token of its own device, with {}; correct the Secret",
            scopes.join(", ")
        ),
        Credential::Previous => format!(
            "the gateway refuses the credential in the Secret that spec.auth names, and accepted the credential before it with {}; give the gateway the new credential, or correct the Secret",
            scopes.join(", ")
        ),
    };
    vec![
        ConditionUpdate::new(C::Reachable, true, Reason::Connected, address.connected()),
        ConditionUpdate::new(C::Authenticated, true, Reason::Connected, granted),
        ConditionUpdate::new(C::Paired, true, Reason::Connected, "the gateway asks for no approval of this device"),
        compatible(hello, read),
        settled(read),
    ]
}

/// Adds the recovery steps to the conditions of an unreachable gateway that may have been killed during a removal.
fn append_advice(conditions: &mut [ConditionUpdate], interrupted_removals: &[String]) {
    let Some(advice) = advice(interrupted_removals) else { return };
    for condition in conditions.iter_mut().filter(|v| v.reason == Reason::Unreachable) {
        condition.message = format!("{}; {advice}", condition.message);
    }
}

/// One known condition; the other conditions that Ready depends on are unknown.
fn others_unknown(known: ConditionUpdate) -> Vec<ConditionUpdate> {
    let rest = READY_CONDITIONS.into_iter().filter(|kind| *kind != known.kind);
    let mut conditions: Vec<_> = rest
        .map(|kind| {
            ConditionUpdate::new(kind, ConditionStatus::Unknown, Reason::NotConnected, "not known without a connection")
        })
        .collect();
    conditions.push(known);
    conditions
}

fn refused(url: &str, pairing: Option<&Pairing>, refusal: &Refusal, device_id: Option<&str>) -> Vec<ConditionUpdate> {
    let said = format!("{} ({})", refusal.message, refusal.code);
    let (kind, reason, advice) = refusal_advice(pairing, refusal, device_id);
    let mut conditions = others_unknown(ConditionUpdate::new(
        kind,
        false,
        reason,
        format!("the gateway refused the connection: {said}; {advice}"),
    ));
    conditions.retain(|v| v.kind != C::Reachable);
    conditions.push(ConditionUpdate::new(C::Reachable, true, Reason::Connected, format!("{url} answers")));
    conditions
}

/// The condition that a refusal makes false, its reason, and the next step.
fn refusal_advice(pairing: Option<&Pairing>, refusal: &Refusal, device_id: Option<&str>) -> (C, Reason, String) {
    match &refusal.kind {
        RefusalKind::BadCredentials => {
            (C::Authenticated, Reason::BadCredentials, "check the Secret that spec.auth names".to_owned())
        }
        RefusalKind::ScopesMissing { missing } => (
            C::Authenticated,
            Reason::ScopesMissing,
            format!(
                "the gateway did not grant {}; approve this device at the gateway, or connect from an address where the shared credential carries these scopes",
                joined(missing)
            ),
        ),
        RefusalKind::PairingRequired(request) => (
            C::Paired,
            Reason::PairingRequired,
            match pairing.and_then(|pairing| Some((&pairing.command, pairing.expires_at.as_ref()?.0))) {
                Some((command, until)) => format!("run this where the gateway runs, until {until}: {command}"),
                None => request.advice(device_id.unwrap_or("of Muster")),
            },
        ),
        RefusalKind::DeviceRejected => (
            C::Paired,
            Reason::DeviceRejected,
            "approve the device again, or name another Secret in spec.device.secretName for a new identity".to_owned(),
        ),
        RefusalKind::Protocol { expected } => {
            let spoken = expected.map(|version| format!("the gateway speaks protocol {version} and "));
            let advice =
                format!("{}Muster speaks 3 and 4; use a gateway version that does", spoken.unwrap_or_default());
            (C::Compatible, Reason::ProtocolMismatch, advice)
        }
        RefusalKind::Incompatible => (
            C::Compatible,
            Reason::ProtocolMismatch,
            "the gateway does not accept Muster's form of connect; use a gateway version that Muster supports"
                .to_owned(),
        ),
        RefusalKind::MethodsMissing { missing } => (
            C::Compatible,
            Reason::MethodsMissing,
            format!("the gateway does not offer {}; use a gateway version that does", joined(missing)),
        ),
        RefusalKind::RateLimited { .. } => {
            (C::Authenticated, Reason::RateLimited, "Muster retries when the gateway allows it".to_owned())
        }
        RefusalKind::Other => (C::Authenticated, Reason::Refused, "see the gateway's log".to_owned()),
    }
}

fn joined(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[path = "conditions_tests.rs"]
mod tests;
