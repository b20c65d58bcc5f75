//! The gateway's answer to `connect`: a hello or a refusal.

use std::collections::BTreeSet;
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::ErrorShape;
use super::pairing::{PairingRequest, PairingRequestId};
use super::readers::{lax, short, words};
use super::text::{clean, is_clean, lax_code};
use crate::openclaw::limits;

/// The scope that Muster's requests need.
const REQUIRED_SCOPE: &str = "operator.admin";
/// The methods that the setup and the removal of an agent need. Methods that only some versions have, and methods whose absence
/// only delays events, are not in the list.
const REQUIRED_METHODS: [&str; 12] = [
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

/// The kind of credential that a connection presents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Credential {
    /// The shared token or password.
    #[default]
    Shared,
    /// The token that the gateway issued for this device.
    Device,
    /// The shared token or password that the gateway accepted last.
    Previous,
}

/// The gateway's answer to an accepted `connect`.
#[derive(Clone, Debug, Default)]
pub struct Hello {
    /// The protocol version in use.
    pub protocol: u32,
    /// The gateway's version; `dev` on 2026.3.2 (`docs/gateway-facts.md#versions`).
    pub server_version: String,
    /// The methods that the gateway offers.
    pub methods: BTreeSet<String>,
    /// The granted scopes.
    pub scopes: BTreeSet<String>,
    /// The token that the gateway issued for this device.
    pub device_token: Option<SecretString>,
    /// The credential that the gateway accepted.
    pub credential: Credential,
    /// The longest frame that the gateway accepts, in bytes.
    pub max_payload: usize,
    /// The interval between two ticks.
    pub tick: Duration,
}

impl Hello {
    /// Reads the answer to `connect`.
    ///
    /// # Errors
    /// The answer is unreadable, or lacks the scope or a method that Muster needs.
    pub(crate) fn read(payload: &RawValue) -> Result<Self, Refusal> {
        let raw: RawHello = serde_json::from_str(payload.get()).map_err(|error| Refusal {
            code: "UNREADABLE_ANSWER".into(),
            message: clean(&format!("the answer to connect could not be read: {error}")),
            kind: RefusalKind::Other,
        })?;
        let lists_scopes = raw.auth.scopes.is_some();
        let hello = Self {
            protocol: raw.protocol.unwrap_or_default(),
            server_version: raw.server.version.unwrap_or_default(),
            methods: raw.features.methods.unwrap_or_default(),
            scopes: raw.auth.scopes.unwrap_or_default().into_iter().filter(|scope| is_clean(scope)).collect(),
            credential: Credential::Shared,
            device_token: raw.auth.device_token.map(SecretString::from),
            max_payload: raw.policy.max_payload.unwrap_or(512 * 1024),
            tick: Duration::from_millis(raw.policy.tick_interval_ms.unwrap_or(30_000)).min(limits::TICK_INTERVAL),
        };
        // 2026.3.2 lists no scopes for a client without a paired device and grants all scopes
        // (docs/gateway-facts.md#authentication).
        if lists_scopes && !hello.scopes.contains(REQUIRED_SCOPE) {
            let granted: Vec<_> = hello.scopes.iter().map(String::as_str).collect();
            return Err(Refusal {
                code: "MISSING_SCOPE".into(),
                message: clean(&format!("the granted scopes [{}] lack {REQUIRED_SCOPE}", granted.join(", "))),
                kind: RefusalKind::ScopesMissing { missing: [REQUIRED_SCOPE.to_owned()].into() },
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

    /// Whether both hellos come from the same version. The methods tell versions apart that announce `dev`.
    pub(crate) fn same_version_as(&self, other: &Self) -> bool {
        (self.protocol, &self.server_version, &self.methods) == (other.protocol, &other.server_version, &other.methods)
    }

    /// The required methods that the gateway does not offer; empty when the hello lists no methods.
    fn missing_methods(&self) -> BTreeSet<String> {
        if self.methods.is_empty() {
            return BTreeSet::new();
        }
        REQUIRED_METHODS.into_iter().filter(|method| !self.methods.contains(*method)).map(str::to_owned).collect()
    }
}

/// The fields of a hello that Muster reads.
#[derive(Default, Deserialize)]
#[serde(default)]
struct RawHello {
    #[serde(deserialize_with = "lax")]
    protocol: Option<u32>,
    server: RawServer,
    features: RawFeatures,
    auth: RawAuth,
    policy: RawPolicy,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawServer {
    #[serde(deserialize_with = "lax_code")]
    version: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawFeatures {
    #[serde(deserialize_with = "words::<_, { limits::METHODS }>")]
    methods: Option<BTreeSet<String>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawAuth {
    #[serde(deserialize_with = "words::<_, { limits::SCOPES }>")]
    scopes: Option<BTreeSet<String>>,
    #[serde(deserialize_with = "short::<_, { limits::ISSUED_TOKEN }>")]
    device_token: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawPolicy {
    #[serde(deserialize_with = "lax")]
    max_payload: Option<usize>,
    #[serde(deserialize_with = "lax")]
    tick_interval_ms: Option<u64>,
}

/// The gateway's refusal of this client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The gateway's most specific code, or a code of Muster.
    pub code: String,
    /// The gateway's message, or the text of the error.
    pub message: String,
    /// The kind of refusal.
    pub kind: RefusalKind,
}

/// The kind of a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The shared credential is wrong or missing.
    BadCredentials,
    /// A person has to approve this device first.
    PairingRequired(PairingRequest),
    /// The credential is correct and grants too few scopes.
    ScopesMissing {
        /// The scopes that are missing.
        missing: BTreeSet<String>,
    },
    /// The gateway does not offer methods that Muster needs.
    MethodsMissing {
        /// The names of the missing methods.
        missing: BTreeSet<String>,
    },
    /// The gateway does not accept the form of Muster's `connect`.
    Incompatible,
    /// The gateway and Muster have no protocol version in common.
    Protocol {
        /// The version that the gateway expects.
        expected: Option<u64>,
    },
    /// The gateway received too many wrong credentials from this address.
    RateLimited {
        /// The wait that the gateway asks for.
        retry_after: Option<Duration>,
    },
    /// The gateway does not accept this device, its signature or its token.
    DeviceRejected,
    /// Any other refusal.
    Other,
}

impl Refusal {
    /// Whether both refusals have the same cause. The remaining time of a rate limit differs in each answer.
    pub(crate) fn same_cause_as(&self, other: &Self) -> bool {
        let limited = |refusal: &Self| matches!(refusal.kind, RefusalKind::RateLimited { .. });
        self == other || limited(self) && limited(other)
    }

    /// Reads the error of `connect`; `None` for `UNAVAILABLE`, which is a gateway that is not ready.
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
            "AUTH_SCOPE_MISMATCH" => RefusalKind::ScopesMissing { missing: [REQUIRED_SCOPE.to_owned()].into() },
            "CLIENT_VERSION_MISMATCH" => RefusalKind::Incompatible,
            _ if error.message.starts_with("invalid connect params") => RefusalKind::Incompatible,
            _ if error.message.starts_with("protocol mismatch") => RefusalKind::Protocol { expected: None },
            _ if error.message.starts_with("unauthorized") => RefusalKind::BadCredentials,
            _ => RefusalKind::Other,
        };
        Some(Self { code, message: error.message.clone(), kind })
    }
}
