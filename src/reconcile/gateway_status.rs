//! The status of an AgentGateway, derived from its connection.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::conditions::{Truth, Verdict, clear, is_true, set};
use crate::api::gateway::{AgentCounts, GatewayCapabilities, Pairing};
use crate::api::{AgentGateway, AgentGatewayStatus, ConditionType, Reason};
use crate::gateway::{Credential, Hello, Inventory, Link, Refusal, RefusalKind, RosterShape, Writes};
use crate::plan::Trouble;
use crate::plan::removal::advice;

/// What was seen of a gateway.
#[derive(Debug)]
pub enum Seen<'a> {
    /// A reference or a field does not hold.
    Trouble(&'a Trouble),
    /// It is suspended.
    Suspended,
    /// It is being deleted and so many Agents are bound to it.
    Bound(usize),
    /// Its connection.
    Link {
        /// The connection's state.
        link: &'a Link,
        /// What the gateway has, when that was read.
        inventory: Option<Arc<Inventory>>,
        /// The config writes.
        writes: Arc<Writes>,
        /// Muster's device id.
        device_id: String,
        /// Agents in the middle of whose removal it may have been killed.
        cut_off: Vec<String>,
    },
}

use ConditionType as C;

/// The conditions that Ready is made of, in the order in which a flaw is told.
const PARTS: [C; 5] = [C::Reachable, C::Paired, C::Authenticated, C::Compatible, C::Settled];

/// The status of a gateway.
#[must_use]
pub fn status(
    gateway: &AgentGateway,
    old: &AgentGatewayStatus,
    seen: &Seen<'_>,
    counts: AgentCounts,
    now: Timestamp,
) -> AgentGatewayStatus {
    let generation = gateway.metadata.generation.unwrap_or_default();
    let mut new = AgentGatewayStatus { observed_generation: generation, agents: Some(counts), ..old.clone() };
    new.pairing = None;
    let verdicts = match seen {
        Seen::Trouble(trouble) => troubled(trouble),
        Seen::Suspended => suspended(),
        Seen::Bound(bound) => vec![Verdict::new(C::Ready, false, Reason::AgentsBound, bound_message(*bound))],
        Seen::Link { link, inventory, writes, device_id, cut_off } => {
            new.device_id = Some(device_id.clone());
            new.device_secret = Some(gateway.device_secret_name());
            describe(&mut new, old, link, inventory.as_deref(), now);
            let address = Address { url: &gateway.spec.url, unchecked: is_unchecked(gateway) };
            let mut verdicts = connected(address, new.pairing.as_ref(), link, inventory.as_deref(), writes);
            advise(&mut verdicts, cut_off);
            verdicts
        }
    };
    for verdict in &verdicts {
        set(&mut new.conditions, verdict, generation, now);
    }
    progress(&mut new, generation, now);
    new
}

fn bound_message(bound: usize) -> String {
    format!(
        "{bound} agents are still bound to this gateway and are being removed from it; an Agent with deletionPolicy Orphan lets go at once"
    )
}

fn describe(
    new: &mut AgentGatewayStatus,
    old: &AgentGatewayStatus,
    link: &Link,
    inventory: Option<&Inventory>,
    now: Timestamp,
) {
    match link {
        Link::Up(hello) => {
            new.server_version = Some(hello.server_version.clone());
            new.protocol = i32::try_from(hello.protocol).ok();
            new.granted_scopes = hello.scopes.iter().cloned().collect();
            if !is_true(&old.conditions, C::Reachable) || old.last_connected.is_none() {
                new.last_connected = Some(Time(now));
            }
        }
        Link::Refused(refusal) => new.pairing = pairing(refusal, old.pairing.as_ref(), now),
        Link::Connecting | Link::Down { .. } => {}
    }
    if let Some(inventory) = inventory {
        let capabilities = &inventory.capabilities;
        new.capabilities = Some(GatewayCapabilities {
            roster: match capabilities.roster {
                RosterShape::List => "list".into(),
                RosterShape::Entries => "entries".into(),
            },
            accepted_files: capabilities.accepted_files.iter().cloned().collect(),
            // Only an answer about a file shows them, and nothing may have been asked since the operator's start.
            file_hashes: capabilities.file_hashes || known_to_hash(new, old),
        });
    }
}

/// Whether the same version of the gateway was seen to tell the hashes of files.
fn known_to_hash(new: &AgentGatewayStatus, old: &AgentGatewayStatus) -> bool {
    new.server_version == old.server_version && old.capabilities.as_ref().is_some_and(|c| c.file_hashes)
}

/// How long a gateway keeps a request for approval (GATEWAY section 5).
const REQUEST_LIFE: Duration = Duration::from_mins(5);

fn pairing(refusal: &Refusal, old: Option<&Pairing>, now: Timestamp) -> Option<Pairing> {
    let RefusalKind::PairingRequired(request) = &refusal.kind else { return None };
    let same = old.filter(|old| old.request_id == request.request_id);
    Some(same.cloned().unwrap_or_else(|| Pairing {
        request_id: request.request_id.clone(),
        command: format!("openclaw devices approve {}", request.request_id),
        expires_at: now.checked_add(REQUEST_LIFE).ok().map(Time),
    }))
}

fn troubled(trouble: &Trouble) -> Vec<Verdict> {
    let ready = Verdict::new(C::Ready, false, trouble.reason, trouble.message.clone());
    match trouble.reason {
        Reason::SecretNotFound | Reason::SecretInvalid => {
            vec![Verdict::new(C::Authenticated, false, trouble.reason, trouble.message.clone()), ready]
        }
        _ => vec![ready],
    }
}

fn suspended() -> Vec<Verdict> {
    let message = "spec.suspend is true: there is no connection and nothing on the gateway is changed";
    let unknown = |kind| Verdict::new(kind, Truth::Unknown, Reason::Suspended, message);
    let mut verdicts: Vec<_> = PARTS.into_iter().chain([C::ConfigSynced]).map(unknown).collect();
    verdicts.push(Verdict::new(C::Suspended, true, Reason::Suspended, message));
    verdicts.push(Verdict::new(C::Ready, false, Reason::Suspended, message));
    verdicts
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
}

fn connected(
    address: Address<'_>,
    pairing: Option<&Pairing>,
    link: &Link,
    inventory: Option<&Inventory>,
    writes: &Writes,
) -> Vec<Verdict> {
    let url = address.url;
    let mut verdicts = match link {
        Link::Up(hello) => up(address, hello, inventory),
        Link::Connecting => {
            unknown_but(Verdict::new(C::Reachable, Truth::Unknown, Reason::Connecting, format!("connecting to {url}")))
        }
        Link::Down { error, .. } => unknown_but(Verdict::new(
            C::Reachable,
            false,
            Reason::Unreachable,
            format!("{url} cannot be reached: {error}; check spec.url, the network and whether the gateway runs"),
        )),
        Link::Refused(refusal) => refused(url, pairing, refusal),
    };
    verdicts.push(Verdict::new(C::Suspended, false, Reason::Running, "spec.suspend is false"));
    verdicts.push(config_synced(link, writes));
    // What is known to be wrong explains what is not known.
    let with = |truth| PARTS.iter().find_map(|part| verdicts.iter().find(|v| v.kind == *part && v.truth == truth));
    let flaw = with(Truth::False).or_else(|| with(Truth::Unknown));
    let ready = match flaw {
        Some(flaw) => Verdict::new(C::Ready, false, flaw.reason, flaw.message.clone()),
        None => Verdict::new(C::Ready, true, Reason::Connected, address.connected()),
    };
    verdicts.push(ready);
    verdicts
}

fn up(address: Address<'_>, hello: &Hello, inventory: Option<&Inventory>) -> Vec<Verdict> {
    let settled = match inventory {
        None => Verdict::new(C::Settled, Truth::Unknown, Reason::Connecting, "the gateway's roster is being read"),
        Some(inventory) if inventory.settled => {
            Verdict::new(C::Settled, true, Reason::Reconciled, "the gateway has applied its own last config")
        }
        Some(_) => Verdict::new(
            C::Settled,
            false,
            Reason::NotSettled,
            "the gateway has not applied its own last config; after a crash this can take 5 minutes, in which it takes no changes",
        ),
    };
    let scopes: Vec<_> = hello.scopes.iter().map(String::as_str).collect();
    let granted = match hello.credential {
        Credential::Shared => format!("the gateway granted {}", scopes.join(", ")),
        Credential::Device => format!(
            "the gateway refuses what is in the Secret that spec.auth names, and let Muster in by the token of its own device, with {}; put the Secret right",
            scopes.join(", ")
        ),
    };
    vec![
        Verdict::new(C::Reachable, true, Reason::Connected, address.connected()),
        Verdict::new(C::Authenticated, true, Reason::Connected, granted),
        Verdict::new(C::Paired, true, Reason::Connected, "the gateway asks for no approval of this device"),
        Verdict::new(
            C::Compatible,
            true,
            Reason::Connected,
            format!("OpenClaw {}, protocol {}", hello.server_version, hello.protocol),
        ),
        settled,
    ]
}

/// Says beside that the gateway cannot be reached what helps, where it may have been killed in the middle of a removal.
fn advise(verdicts: &mut [Verdict], cut_off: &[String]) {
    let Some(advice) = advice(cut_off) else { return };
    for verdict in verdicts.iter_mut().filter(|v| v.reason == Reason::Unreachable) {
        verdict.message = format!("{}; {advice}", verdict.message);
    }
}

/// One part is known, the others are not.
fn unknown_but(known: Verdict) -> Vec<Verdict> {
    let rest = PARTS.into_iter().filter(|part| *part != known.kind);
    let mut verdicts: Vec<_> = rest
        .map(|kind| Verdict::new(kind, Truth::Unknown, Reason::NotConnected, "not known without a connection"))
        .collect();
    verdicts.push(known);
    verdicts
}

fn refused(url: &str, pairing: Option<&Pairing>, refusal: &Refusal) -> Vec<Verdict> {
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
                None => format!("approve the request {} where the gateway runs", request.request_id),
            },
        ),
        RefusalKind::DeviceRejected => (
            C::Paired,
            Reason::DeviceRejected,
            "approve the device again, or name another Secret in spec.device.secretName for a new identity".to_owned(),
        ),
        RefusalKind::Protocol { .. } => (
            C::Compatible,
            Reason::ProtocolMismatch,
            "Muster speaks protocol 3 and 4; use a gateway version that does".to_owned(),
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
    let mut verdicts =
        unknown_but(Verdict::new(kind, false, reason, format!("the gateway refused the connection: {said}; {advice}")));
    verdicts.retain(|v| v.kind != C::Reachable);
    verdicts.push(Verdict::new(C::Reachable, true, Reason::Connected, format!("{url} answers")));
    verdicts
}

fn config_synced(link: &Link, writes: &Writes) -> Verdict {
    if !matches!(link, Link::Up(_)) {
        return Verdict::new(C::ConfigSynced, Truth::Unknown, Reason::NotConnected, "not known without a connection");
    }
    if let Some((id, error)) = writes.refused.iter().next() {
        let message = format!(
            "the gateway refuses the entries of {} agents; the first: {id}: {} ({})",
            writes.refused.len(),
            error.message,
            error.code
        );
        return Verdict::new(C::ConfigSynced, false, Reason::EntryRefused, message);
    }
    if writes.pending.is_empty() {
        return Verdict::new(C::ConfigSynced, true, Reason::Reconciled, "no config write is waiting");
    }
    if let Some(error) = &writes.failed {
        let message = format!(
            "the last config write failed and is tried again, at least once a minute: {} ({})",
            error.message, error.code
        );
        return Verdict::new(C::ConfigSynced, false, Reason::GatewayError, message);
    }
    let reason = if writes.budget_until.is_some() { Reason::RateLimited } else { Reason::WaitingForConfigWrite };
    Verdict::new(C::ConfigSynced, false, reason, "agents' entries wait for the next config write")
}

/// The kstatus conditions, present only while true.
fn progress(new: &mut AgentGatewayStatus, generation: i64, now: Timestamp) {
    let ready = crate::api::conditions::find(&new.conditions, C::Ready).cloned();
    let Some(ready) = ready.filter(|c| c.status != "True") else {
        clear(&mut new.conditions, C::Reconciling);
        clear(&mut new.conditions, C::Stalled);
        return;
    };
    let lasting = [
        Reason::BadCredentials,
        Reason::ScopesMissing,
        Reason::PairingRequired,
        Reason::DeviceRejected,
        Reason::ProtocolMismatch,
        Reason::MethodsMissing,
        Reason::Refused,
        Reason::SecretNotFound,
        Reason::SecretInvalid,
        Reason::InvalidSpec,
    ];
    let found = lasting.into_iter().find(|r| r.as_str() == ready.reason);
    let (kind, other) = if found.is_some() { (C::Stalled, C::Reconciling) } else { (C::Reconciling, C::Stalled) };
    clear(&mut new.conditions, other);
    set(
        &mut new.conditions,
        &Verdict::new(kind, true, found.unwrap_or(Reason::Progressing), ready.message),
        generation,
        now,
    );
}
