//! How the client introduces itself and what the gateway makes of it.

use std::collections::BTreeSet;
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::ErrorShape;
use super::pairing::{PairingRequest, PairingRequestId};
use super::readers::{lax, words};
use super::text::{clean, is_clean, lax_code};
use crate::openclaw::limits;

/// The scope without which nothing works.
const NEEDED: &str = "operator.admin";
/// The methods that no agent can be set up and removed without. Those that only some versions have, and those whose lack
/// makes news later, are not here.
const METHODS: [&str; 12] = [
    "agents.list",
    "agents.create",
    "agents.delete",
    "agents.files.list",
    "agents.files.get",
    "agents.files.set",
    "config.get",
    "config.patch",
    "sessions.list",
    "sessions.patch",
    "chat.send",
    "chat.history",
];

/// What a connection presents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Credential {
    /// The shared token or password.
    #[default]
    Shared,
    /// The token that the gateway issued for this device.
    Device,
    /// The shared token or password that worked last.
    Former,
}

/// What the gateway says when it lets a client in.
#[derive(Clone, Debug, Default)]
pub struct Hello {
    /// The protocol version in use.
    pub protocol: u32,
    /// The gateway's version; 2026.3.2 says `dev`.
    pub server_version: String,
    /// The methods that it offers.
    pub methods: BTreeSet<String>,
    /// The scopes that it granted.
    pub scopes: BTreeSet<String>,
    /// What it issued for this device.
    pub device_token: Option<SecretString>,
    /// By what it let the client in.
    pub credential: Credential,
    /// The longest frame that it takes, in bytes.
    pub max_payload: usize,
    /// How often it sends a tick.
    pub tick: Duration,
}

impl Hello {
    /// Reads the answer to `connect`; a grant or a gateway that lacks what is needed is a refusal.
    pub(crate) fn read(payload: &RawValue) -> Result<Self, Refusal> {
        let said: Said = serde_json::from_str(payload.get()).map_err(|error| Refusal {
            code: "UNREADABLE_ANSWER".into(),
            message: clean(&format!("the answer to connect could not be read: {error}")),
            kind: RefusalKind::Other,
        })?;
        let tells_scopes = said.auth.scopes.is_some();
        let hello = Self {
            protocol: said.protocol.unwrap_or_default(),
            server_version: said.server.version.unwrap_or_default(),
            methods: said.features.methods.unwrap_or_default(),
            scopes: said.auth.scopes.unwrap_or_default().into_iter().filter(|scope| is_clean(scope)).collect(),
            credential: Credential::Shared,
            device_token: said.auth.device_token.map(SecretString::from),
            max_payload: said.policy.max_payload.unwrap_or(512 * 1024),
            tick: Duration::from_millis(said.policy.tick_interval_ms.unwrap_or(30_000)).min(limits::TICK),
        };
        // 2026.3.2 says nothing about scopes to a client without a paired device and grants all of them (measured).
        if tells_scopes && !hello.scopes.contains(NEEDED) {
            let granted: Vec<_> = hello.scopes.iter().map(String::as_str).collect();
            return Err(Refusal {
                code: "MISSING_SCOPE".into(),
                message: clean(&format!("the scopes that it granted, [{}], lack {NEEDED}", granted.join(", "))),
                kind: RefusalKind::ScopesMissing { missing: [NEEDED.to_owned()].into() },
            });
        }
        let missing = hello.missing_methods();
        if missing.is_empty() {
            return Ok(hello);
        }
        Err(Refusal {
            code: "MISSING_METHOD".into(),
            message: format!("OpenClaw {} lacks methods that Muster needs", hello.server_version),
            kind: RefusalKind::MethodsMissing { missing },
        })
    }

    /// Whether the same version said this; one that says `dev` is known by its methods.
    pub(crate) fn is_of_the_version_of(&self, other: &Self) -> bool {
        (self.protocol, &self.server_version, &self.methods) == (other.protocol, &other.server_version, &other.methods)
    }

    /// What it lacks of what is needed. One that lists no methods at all does not tell.
    fn missing_methods(&self) -> BTreeSet<String> {
        if self.methods.is_empty() {
            return BTreeSet::new();
        }
        METHODS.into_iter().filter(|method| !self.methods.contains(*method)).map(str::to_owned).collect()
    }
}

/// What is read of the answer to `connect`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Said {
    #[serde(deserialize_with = "lax")]
    protocol: Option<u32>,
    server: SaidServer,
    features: SaidFeatures,
    auth: SaidAuth,
    policy: SaidPolicy,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SaidServer {
    #[serde(deserialize_with = "lax_code")]
    version: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SaidFeatures {
    #[serde(deserialize_with = "words::<_, { limits::METHODS }>")]
    methods: Option<BTreeSet<String>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct SaidAuth {
    #[serde(deserialize_with = "words::<_, { limits::SCOPES }>")]
    scopes: Option<BTreeSet<String>>,
    #[serde(deserialize_with = "lax")]
    device_token: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct SaidPolicy {
    #[serde(deserialize_with = "lax")]
    max_payload: Option<usize>,
    #[serde(deserialize_with = "lax")]
    tick_interval_ms: Option<u64>,
}

/// Why the gateway did not let this client in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The gateway's own code, the finer one where there are two.
    pub code: String,
    /// What it said.
    pub message: String,
    /// What that means.
    pub kind: RefusalKind,
}

/// What a refusal means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The shared credential is wrong or missing.
    BadCredentials,
    /// This device has to be approved first.
    PairingRequired(PairingRequest),
    /// The credential is right and the scopes granted are too few.
    ScopesMissing {
        /// The scopes that are missing.
        missing: BTreeSet<String>,
    },
    /// The gateway does not offer methods that are needed.
    MethodsMissing {
        /// Their names.
        missing: BTreeSet<String>,
    },
    /// The gateway takes another form of `connect`.
    Incompatible,
    /// No protocol version is common.
    Protocol {
        /// The version that the gateway expects.
        expected: Option<u64>,
    },
    /// Too many wrong credentials came from this address.
    RateLimited {
        /// How long the gateway asks to wait.
        retry_after: Option<Duration>,
    },
    /// This device, its signature or its token is not accepted.
    DeviceRejected,
    /// Something else.
    Other,
}

impl Refusal {
    /// Whether it says the same: how long a limit still lasts is another number each time.
    pub(crate) fn is_the_same_as(&self, other: &Self) -> bool {
        let limited = |refusal: &Self| matches!(refusal.kind, RefusalKind::RateLimited { .. });
        self == other || limited(self) && limited(other)
    }

    /// Reads the error of `connect`; `None` when it says that the gateway is not ready, which is no refusal.
    pub(crate) fn read(error: &ErrorShape) -> Option<Self> {
        if error.code == "UNAVAILABLE" {
            return None;
        }
        let details = error.details.clone().unwrap_or_default();
        let code = details.code.unwrap_or_else(|| error.code.clone());
        let kind = match code.as_str() {
            "AUTH_TOKEN_MISSING" | "AUTH_TOKEN_MISMATCH" | "AUTH_PASSWORD_MISSING" | "AUTH_PASSWORD_MISMATCH" => {
                RefusalKind::BadCredentials
            }
            "PAIRING_REQUIRED" | "NOT_PAIRED" => {
                let id = details.request_id.as_deref().and_then(PairingRequestId::parse);
                RefusalKind::PairingRequired(PairingRequest { id, reason: details.reason.unwrap_or_default() })
            }
            "PROTOCOL_MISMATCH" => RefusalKind::Protocol { expected: details.expected_protocol },
            "AUTH_RATE_LIMITED" => RefusalKind::RateLimited { retry_after: error.retry_after() },
            code if code.starts_with("DEVICE_AUTH_") || code == "AUTH_DEVICE_TOKEN_MISMATCH" => {
                RefusalKind::DeviceRejected
            }
            "AUTH_SCOPE_MISMATCH" => RefusalKind::ScopesMissing { missing: [NEEDED.to_owned()].into() },
            "CLIENT_VERSION_MISMATCH" => RefusalKind::Incompatible,
            _ if error.message.starts_with("invalid connect params") => RefusalKind::Incompatible,
            _ if error.message.starts_with("protocol mismatch") => RefusalKind::Protocol { expected: None },
            _ if error.message.starts_with("unauthorized") => RefusalKind::BadCredentials,
            _ => RefusalKind::Other,
        };
        Some(Self { code, message: error.message.clone(), kind })
    }
}
