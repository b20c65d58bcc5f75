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
const PARTS: [C; 5] = [C::Reachable, C::Paired, C::Authenticated, C::Compatible, C::Settled];

/// Those of a gateway of which a reference or a field does not hold.
pub(crate) fn troubled(trouble: &ReconcileError) -> Vec<ConditionUpdate> {
    let ready = ConditionUpdate::new(C::Ready, false, trouble.reason, trouble.message.clone());
    match trouble.reason {
        Reason::SecretNotFound | Reason::SecretInvalid => {
            vec![ConditionUpdate::new(C::Authenticated, false, trouble.reason, trouble.message.clone()), ready]
        }
        _ => vec![ready],
    }
}

/// Those of a gateway that is suspended.
pub(crate) fn suspended() -> Vec<ConditionUpdate> {
    let message = "spec.suspend is true: there is no connection and nothing on the gateway is changed";
    let unknown = |kind| ConditionUpdate::new(kind, ConditionStatus::Unknown, Reason::Suspended, message);
    let mut verdicts: Vec<_> = PARTS.into_iter().chain([C::ConfigSynced, C::HeartbeatsShared]).map(unknown).collect();
    verdicts.push(ConditionUpdate::new(C::Suspended, true, Reason::Suspended, message));
    verdicts.push(ConditionUpdate::new(C::Ready, false, Reason::Suspended, message));
    verdicts
}

/// What was seen of a gateway by its connection.
#[derive(Debug)]
pub struct ObservedConnection {
    /// The connection's state.
    pub link: ConnectionState,
    /// What the gateway has, when that was read.
    pub inventory: Option<Arc<Inventory>>,
    /// Why that cannot be read, while it fails time and again.
    pub unread: Option<Arc<ReadFailure>>,
    /// The config writes.
    pub writes: Arc<ConfigWrites>,
    /// Muster's device id, when that was read.
    pub device_id: Option<String>,
    /// Agents in the middle of whose removal it may have been killed.
    pub cut_off: Vec<String>,
    /// What it means for the heartbeats of agents that Muster did not make, when the config was read.
    pub shared: Option<SharedHeartbeatPlan>,
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
enum Read<'a> {
    UnderWay,
    Failed(&'a ReadFailure),
    Done(&'a Inventory),
}

impl ObservedConnection {
    fn read(&self) -> Read<'_> {
        match (&self.unread, &self.inventory) {
            (Some(unread), _) => Read::Failed(unread),
            (None, Some(inventory)) => Read::Done(inventory),
            (None, None) => Read::UnderWay,
        }
    }
}

/// Those that follow from a gateway's connection.
pub(crate) fn verdicts(
    gateway: &AgentGateway,
    pairing: Option<&Pairing>,
    seen: &ObservedConnection,
) -> Vec<ConditionUpdate> {
    let address = Address { url: &gateway.spec.url, unchecked: is_unchecked(gateway) };
    let url = address.url;
    let mut verdicts = match &seen.link {
        ConnectionState::Up(hello) => up(address, hello, seen.read()),
        ConnectionState::Connecting => unknown_but(ConditionUpdate::new(
            C::Reachable,
            ConditionStatus::Unknown,
            Reason::Connecting,
            format!("connecting to {url}"),
        )),
        ConnectionState::Down { error, .. } => {
            unknown_but(ConditionUpdate::new(C::Reachable, false, Reason::Unreachable, address.unreachable(error)))
        }
        ConnectionState::Refused(refusal) => refused(url, pairing, refusal, seen.device_id.as_deref()),
    };
    verdicts.push(ConditionUpdate::new(C::Suspended, false, Reason::Running, "spec.suspend is false"));
    verdicts.push(config_synced(&seen.link, &seen.writes));
    verdicts.push(seen.shared.as_ref().map_or_else(shared_heartbeats::unknown, SharedHeartbeatPlan::verdict));
    // What is known to be wrong explains what is not known.
    let with = |status| PARTS.iter().find_map(|part| verdicts.iter().find(|v| v.kind == *part && v.status == status));
    let flaw = with(ConditionStatus::False).or_else(|| with(ConditionStatus::Unknown));
    let ready = match flaw {
        Some(flaw) => ConditionUpdate::new(C::Ready, false, flaw.reason, flaw.message.clone()),
        None => ConditionUpdate::new(C::Ready, true, Reason::Connected, address.connected()),
    };
    verdicts.push(ready);
    advise(&mut verdicts, &seen.cut_off);
    verdicts
}

fn settled(read: Read<'_>) -> ConditionUpdate {
    match read {
        Read::UnderWay => ConditionUpdate::new(
            C::Settled,
            ConditionStatus::Unknown,
            Reason::Connecting,
            "the gateway's roster is being read",
        ),
        Read::Failed(unread) => {
            ConditionUpdate::new(C::Settled, ConditionStatus::Unknown, Reason::RosterUnreadable, unreadable(unread))
        }
        Read::Done(inventory) if inventory.settled => {
            ConditionUpdate::new(C::Settled, true, Reason::Reconciled, "the gateway has applied its own last config")
        }
        Read::Done(_) => ConditionUpdate::new(
            C::Settled,
            false,
            Reason::NotSettled,
            "the gateway has not applied its own last config; after a crash this can take 5 minutes, in which it takes no changes",
        ),
    }
}

fn unreadable(unread: &ReadFailure) -> String {
    format!("the gateway's config and roster cannot be read: {} ({})", unread.message, unread.code)
}

/// Whether Muster can work with the gateway: one that answers what it is asked with an error that does not pass is none
/// that it can work with.
fn compatible(hello: &Hello, read: Read<'_>) -> ConditionUpdate {
    match read {
        Read::Failed(unread) if !unread.transient => {
            let message = format!(
                "OpenClaw {}: {}; use a gateway version that Muster works with",
                hello.server_version,
                unreadable(unread)
            );
            ConditionUpdate::new(C::Compatible, false, Reason::RosterUnreadable, message)
        }
        Read::UnderWay | Read::Failed(_) | Read::Done(_) => {
            let message = format!("OpenClaw {}, protocol {}", hello.server_version, hello.protocol);
            ConditionUpdate::new(C::Compatible, true, Reason::Connected, message)
        }
    }
}

fn up(address: Address<'_>, hello: &Hello, read: Read<'_>) -> Vec<ConditionUpdate> {
    let scopes: Vec<_> = hello.scopes.iter().map(String::as_str).collect();
    let granted = match hello.credential {
        Credential::Shared => format!("the gateway granted {}", scopes.join(", ")),
        Credential::Device => format!(
            "the gateway refuses what is in the Secret that spec.auth names, and let Muster in by the token of its own device, with {}; put the Secret right",
            scopes.join(", ")
        ),
        Credential::Previous => format!(
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
fn advise(verdicts: &mut [ConditionUpdate], cut_off: &[String]) {
    let Some(advice) = advice(cut_off) else { return };
    for verdict in verdicts.iter_mut().filter(|v| v.reason == Reason::Unreachable) {
        verdict.message = format!("{}; {advice}", verdict.message);
    }
}

/// One part is known, the others are not.
fn unknown_but(known: ConditionUpdate) -> Vec<ConditionUpdate> {
    let rest = PARTS.into_iter().filter(|part| *part != known.kind);
    let mut verdicts: Vec<_> = rest
        .map(|kind| {
            ConditionUpdate::new(kind, ConditionStatus::Unknown, Reason::NotConnected, "not known without a connection")
        })
        .collect();
    verdicts.push(known);
    verdicts
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
    let mut verdicts = unknown_but(ConditionUpdate::new(
        kind,
        false,
        reason,
        format!("the gateway refused the connection: {said}; {advice}"),
    ));
    verdicts.retain(|v| v.kind != C::Reachable);
    verdicts.push(ConditionUpdate::new(C::Reachable, true, Reason::Connected, format!("{url} answers")));
    verdicts
}

fn config_synced(link: &ConnectionState, writes: &ConfigWrites) -> ConditionUpdate {
    if !matches!(link, ConnectionState::Up(_)) {
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

    fn told(kind: RefusalKind, of: C) -> ConditionUpdate {
        let refusal = Refusal { code: "CODE".into(), message: "its own words".into(), kind };
        refused("ws://gw:18789", None, &refusal, None).into_iter().find(|verdict| verdict.kind == of).unwrap()
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
        let verdict =
            told(RefusalKind::ScopesMissing { missing: ["operator.admin".to_owned()].into() }, C::Authenticated);
        assert_eq!((verdict.status, verdict.reason), (ConditionStatus::False, Reason::ScopesMissing));
        for part in ["its own words", "CODE", "did not grant operator.admin", "approve this device"] {
            assert!(verdict.message.contains(part), "{}", verdict.message);
        }
    }

    #[test]
    fn a_device_that_is_not_accepted_is_told_with_what_to_do_and_the_gateway_is_reachable() {
        let verdict = told(RefusalKind::DeviceRejected, C::Paired);
        assert_eq!((verdict.status, verdict.reason), (ConditionStatus::False, Reason::DeviceRejected));
        assert!(verdict.message.contains("spec.device.secretName"), "{}", verdict.message);
        assert_eq!(told(RefusalKind::DeviceRejected, C::Reachable).status, ConditionStatus::True);
    }
}
