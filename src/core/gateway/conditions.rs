//! What the conditions of an AgentGateway say.

use std::sync::Arc;

use ConditionType as C;

use crate::api::conditions::{ConditionStatus, ConditionUpdate};
use crate::api::gateway::Pairing;
use crate::api::{AgentGateway, ConditionType, Reason};
use crate::core::agent::cleanup::advice;
use crate::core::error::ReconcileError;
use crate::core::gateway::shared_heartbeats::{self, SharedHeartbeatPlan};
use crate::openclaw::model::{
    ConfigWrites, ConnectionState, Credential, Hello, Inventory, ReadFailure, Refusal, RefusalKind,
};

/// The conditions that Ready is made of, in the order in which a flaw is told.
const READY_CONDITIONS: [C; 5] = [C::Reachable, C::Paired, C::Authenticated, C::Compatible, C::Settled];

/// Those of a gateway of which a reference or a field does not hold.
pub(crate) fn from_error(error: &ReconcileError) -> Vec<ConditionUpdate> {
    let ready = ConditionUpdate::new(C::Ready, false, error.reason, error.message.clone());
    match error.reason {
        Reason::SecretNotFound | Reason::SecretInvalid => {
            vec![ConditionUpdate::new(C::Authenticated, false, error.reason, error.message.clone()), ready]
        }
        _ => vec![ready],
    }
}

/// Those of a gateway that is suspended.
pub(crate) fn suspended() -> Vec<ConditionUpdate> {
    let message = "spec.suspend is true: there is no connection and nothing on the gateway is changed";
    let unknown = |kind| ConditionUpdate::new(kind, ConditionStatus::Unknown, Reason::Suspended, message);
    let mut conditions: Vec<_> =
        READY_CONDITIONS.into_iter().chain([C::ConfigSynced, C::HeartbeatsShared]).map(unknown).collect();
    conditions.push(ConditionUpdate::new(C::Suspended, true, Reason::Suspended, message));
    conditions.push(ConditionUpdate::new(C::Ready, false, Reason::Suspended, message));
    conditions
}

/// What was seen of a gateway by its connection.
#[derive(Debug)]
pub struct ObservedConnection {
    /// The connection's state.
    pub state: ConnectionState,
    /// What the gateway has, when that was read.
    pub inventory: Option<Arc<Inventory>>,
    /// Why that cannot be read, while it fails time and again.
    pub read_failure: Option<Arc<ReadFailure>>,
    /// The config writes.
    pub writes: Arc<ConfigWrites>,
    /// Muster's device id, when that was read.
    pub device_id: Option<String>,
    /// Agents in the middle of whose removal it may have been killed.
    pub interrupted_removals: Vec<String>,
    /// What it means for the heartbeats of agents that Muster did not make, when the config was read.
    pub shared_heartbeats: Option<SharedHeartbeatPlan>,
}

/// Where a gateway is, and whether its certificate is taken as it is.
#[derive(Clone, Copy)]
struct Address<'a> {
    url: &'a str,
    unchecked: bool,
}

fn is_unchecked(gateway: &AgentGateway) -> bool {
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

    fn unreachable(self, error: &str) -> String {
        let url = self.url;
        let tls = if url.starts_with("wss:") { "spec.tls (caSecretRef, fingerprint), " } else { "" };
        format!("no connection to {url}: {error}; check spec.url, {tls}the network and whether the gateway runs")
    }
}

/// How far roster and config are read.
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

/// Those that follow from a gateway's connection.
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
        ConnectionState::Down { error, .. } => {
            others_unknown(ConditionUpdate::new(C::Reachable, false, Reason::Unreachable, address.unreachable(error)))
        }
        ConnectionState::Refused(refusal) => refused(url, pairing, refusal, seen.device_id.as_deref()),
    };
    conditions.push(ConditionUpdate::new(C::Suspended, false, Reason::Running, "spec.suspend is false"));
    conditions.push(config_synced(&seen.state, &seen.writes));
    conditions
        .push(seen.shared_heartbeats.as_ref().map_or_else(shared_heartbeats::unknown, SharedHeartbeatPlan::condition));
    // What is known to be wrong explains what is not known.
    let with = |status| {
        READY_CONDITIONS.iter().find_map(|kind| conditions.iter().find(|v| v.kind == *kind && v.status == status))
    };
    let flaw = with(ConditionStatus::False).or_else(|| with(ConditionStatus::Unknown));
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
        InventoryRead::Done(inventory) if inventory.settled => {
            ConditionUpdate::new(C::Settled, true, Reason::Reconciled, "the gateway has applied its own last config")
        }
        InventoryRead::Done(_) => ConditionUpdate::new(
            C::Settled,
            false,
            Reason::NotSettled,
            "the gateway has not applied its own last config; after a crash this can take 5 minutes, in which it takes no changes",
        ),
    }
}

fn unreadable(failure: &ReadFailure) -> String {
    format!("the gateway's config and roster cannot be read: {} ({})", failure.message, failure.code)
}

/// Whether Muster can work with the gateway: one that answers what it is asked with an error that does not pass is none
/// that it can work with.
fn compatible(hello: &Hello, read: InventoryRead<'_>) -> ConditionUpdate {
    match read {
        InventoryRead::Failed(failure) if !failure.transient => {
            let message = format!(
                "OpenClaw {}: {}; use a gateway version that Muster works with",
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
            "the gateway refuses what is in the Secret that spec.auth names, and let Muster in by the token of its own device, with {}; put the Secret right",
            scopes.join(", ")
        ),
        Credential::Former => format!(
            "the gateway refuses what is in the Secret that spec.auth names, and let Muster in by what was in it before, with {}; give the gateway the new one, or put the Secret right",
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

/// Says beside that the gateway cannot be reached what helps, where it may have been killed in the middle of a removal.
fn append_advice(conditions: &mut [ConditionUpdate], interrupted_removals: &[String]) {
    let Some(advice) = advice(interrupted_removals) else { return };
    for condition in conditions.iter_mut().filter(|v| v.reason == Reason::Unreachable) {
        condition.message = format!("{}; {advice}", condition.message);
    }
}

/// One kind is known, the others are not.
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
    let (kind, reason, advice) = match &refusal.kind {
        RefusalKind::BadCredentials => {
            (C::Authenticated, Reason::BadCredentials, "check the Secret that spec.auth names".to_owned())
        }
        RefusalKind::ScopesMissing { missing } => (
            C::Authenticated,
            Reason::ScopesMissing,
            format!(
                "it did not grant {}; approve this device at the gateway, or connect from where the shared credential carries these scopes",
                missing.iter().cloned().collect::<Vec<_>>().join(", ")
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
            "it takes another form of connect than Muster's; use a gateway version that Muster works with".to_owned(),
        ),
        RefusalKind::MethodsMissing { missing } => (
            C::Compatible,
            Reason::MethodsMissing,
            format!(
                "it does not offer {}; use a gateway version that does",
                missing.iter().cloned().collect::<Vec<_>>().join(", ")
            ),
        ),
        RefusalKind::RateLimited { .. } => {
            (C::Authenticated, Reason::RateLimited, "it is tried again when the gateway allows it".to_owned())
        }
        RefusalKind::Other => (C::Authenticated, Reason::Refused, "see the gateway's log".to_owned()),
    };
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

fn config_synced(state: &ConnectionState, writes: &ConfigWrites) -> ConditionUpdate {
    if !matches!(state, ConnectionState::Up(_)) {
        return ConditionUpdate::new(
            C::ConfigSynced,
            ConditionStatus::Unknown,
            Reason::NotConnected,
            "not known without a connection",
        );
    }
    if let Some((id, error)) = writes.refused.iter().next() {
        let message = format!(
            "the gateway refuses the entries of {} agents; the first: {id}: {} ({})",
            writes.refused.len(),
            error.message,
            error.code
        );
        return ConditionUpdate::new(C::ConfigSynced, false, Reason::EntryRefused, message);
    }
    if let Some((id, error)) = writes.delayed.iter().next().filter(|_| writes.failed.is_none()) {
        let message = format!(
            "the entries of {} agents came to nothing and are retried; the first: {id}: {} ({})",
            writes.delayed.len(),
            error.message,
            error.code
        );
        return ConditionUpdate::new(C::ConfigSynced, false, Reason::EntryDelayed, message);
    }
    if writes.pending.is_empty() {
        return ConditionUpdate::new(C::ConfigSynced, true, Reason::Reconciled, "no config write is waiting");
    }
    if let Some(error) = &writes.failed {
        let message = format!(
            "the last config write failed and is tried again, at least once a minute: {} ({})",
            error.message, error.code
        );
        return ConditionUpdate::new(C::ConfigSynced, false, Reason::GatewayError, message);
    }
    let reason = if writes.budget_until.is_some() { Reason::RateLimited } else { Reason::WaitingForConfigWrite };
    ConditionUpdate::new(C::ConfigSynced, false, reason, "agents' entries wait for the next config write")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused_condition(kind: RefusalKind, of: C) -> ConditionUpdate {
        let refusal = Refusal { code: "CODE".into(), message: "its own words".into(), kind };
        refused("ws://gw:18789", None, &refusal, None).into_iter().find(|condition| condition.kind == of).unwrap()
    }

    #[test]
    fn who_cannot_connect_by_tls_is_pointed_to_what_says_whom_to_trust() {
        let said = |url| Address { url, unchecked: false }.unreachable("its words");
        assert!(
            said("wss://gw").contains("its words; check spec.url, spec.tls (caSecretRef, fingerprint), the network")
        );
        assert!(!said("ws://gw").contains("spec.tls"));
    }

    #[test]
    fn scopes_that_were_asked_for_and_not_granted_are_named_with_what_to_do() {
        let condition = refused_condition(
            RefusalKind::ScopesMissing { missing: ["operator.admin".to_owned()].into() },
            C::Authenticated,
        );
        assert_eq!((condition.status, condition.reason), (ConditionStatus::False, Reason::ScopesMissing));
        for words in ["its own words", "CODE", "did not grant operator.admin", "approve this device"] {
            assert!(condition.message.contains(words), "{}", condition.message);
        }
    }

    #[test]
    fn a_device_that_is_not_accepted_is_told_with_what_to_do_and_the_gateway_is_reachable() {
        let condition = refused_condition(RefusalKind::DeviceRejected, C::Paired);
        assert_eq!((condition.status, condition.reason), (ConditionStatus::False, Reason::DeviceRejected));
        assert!(condition.message.contains("spec.device.secretName"), "{}", condition.message);
        assert_eq!(refused_condition(RefusalKind::DeviceRejected, C::Reachable).status, ConditionStatus::True);
    }
}
