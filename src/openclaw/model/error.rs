//! The errors of requests to the gateway.

use std::time::Duration;

use serde::Deserialize;

use super::file::{FileInfo, UnlistedFile};
use super::readers::lax;
use super::text::{clean, cleaned, code, lax_code};
use crate::openclaw::limits;

/// An error in the gateway's form.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorShape {
    /// `INVALID_REQUEST`, `UNAVAILABLE`, `FORBIDDEN`, `NOT_PAIRED`.
    #[serde(default, deserialize_with = "code")]
    pub code: String,
    /// The text for people.
    #[serde(default, deserialize_with = "cleaned")]
    pub message: String,
    /// Details, often with a more specific `code`.
    #[serde(default, deserialize_with = "lax")]
    pub details: Option<ErrorDetails>,
    /// Whether the gateway marks the error as retryable.
    #[serde(default)]
    pub retryable: bool,
    /// The requested wait, in milliseconds.
    #[serde(default)]
    pub retry_after_ms: Option<u64>,
}

/// The details of an error that Muster reads.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ErrorDetails {
    /// A more specific code.
    #[serde(deserialize_with = "lax_code")]
    pub code: Option<String>,
    /// The type of the error, such as `agent_file_conflict`.
    #[serde(rename = "type", deserialize_with = "lax_code")]
    pub kind: Option<String>,
    /// The id of the pairing request of this device.
    #[serde(deserialize_with = "lax")]
    pub request_id: Option<String>,
    /// The reason of the pairing request.
    #[serde(deserialize_with = "lax_code")]
    pub reason: Option<String>,
    /// The protocol version that the gateway expects.
    #[serde(deserialize_with = "lax")]
    pub expected_protocol: Option<u64>,
    /// The requested wait, in milliseconds.
    #[serde(deserialize_with = "lax")]
    pub retry_after_ms: Option<u64>,
    /// The size of a file, in bytes.
    #[serde(deserialize_with = "lax")]
    pub size: Option<i64>,
}

/// Words in the answers of a gateway that does not write its config through an `$include`.
const FLATTENED_INCLUDE: &str = "flatten $include-owned config";
/// Words in the answers of a gateway that cannot write its config, whatever the request was (`docs/gateway-facts.md#config-layouts`).
const UNWRITABLE_CONFIG: [&str; 4] = [
    FLATTENED_INCLUDE,
    "external $include target",
    "treats openclaw.json as immutable",
    "cannot write to the config directory",
];
/// Codes of a file that cannot be written: read-only file system, permissions, a file that is mounted by itself.
const UNWRITABLE_FILE: [&str; 4] = ["EROFS: ", "EACCES: ", "EPERM: ", "EBUSY: "];
/// Words about a lock that nobody releases (`docs/gateway-facts.md#kills`).
const LOCKED_FILE: &str = "file lock timeout for ";

impl ErrorShape {
    /// The wait that the gateway asks for.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let requested = self.retry_after_ms.or_else(|| self.details.as_ref()?.retry_after_ms);
        requested.map(Duration::from_millis)
    }

    /// The bound that the requested wait exceeds.
    pub(crate) fn exceeded_wait(&self) -> Option<String> {
        let wait = self.retry_after().filter(|wait| *wait > limits::RETRY_AFTER)?;
        let most = limits::RETRY_AFTER.as_secs() / 3600;
        Some(format!("the gateway asked for a wait of {} s, and Muster waits for at most {most} h", wait.as_secs()))
    }
}

/// The effect of a failed request on the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// The request had no effect.
    NotApplied,
    /// The effect is unknown. The caller must read the state before it repeats the request.
    Unknown,
}

/// The error of a request to the gateway.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CallError {
    /// The gateway answered with an error.
    #[error("the gateway answered {}: {}", .0.code, .0.message)]
    Gateway(Box<ErrorShape>),
    /// There is no connection. The request was not sent.
    #[error("there is no connection")]
    NotConnected,
    /// The connection was lost before the answer came.
    #[error("the connection was lost before the answer came")]
    Interrupted,
    /// The answer did not come in time.
    #[error("no answer within {} s", .0.as_secs())]
    Deadline(Duration),
    /// The request exceeds the gateway's limit. The request was not sent.
    #[error("the request has {size} bytes and the gateway takes at most {limit}")]
    TooLarge {
        /// The length of the request, in bytes.
        size: usize,
        /// The gateway's limit, in bytes.
        limit: usize,
    },
    /// The answer does not have the form of the method's answers.
    #[error("the answer of {method} could not be read: {detail}")]
    Unreadable {
        /// The method.
        method: &'static str,
        /// The error of the reader.
        detail: String,
    },
    /// A workspace file changed since it was read. Muster compares the file itself on gateways without `expectedHash`.
    #[error("{0} changed since it was read")]
    Changed(String),
    /// The write guard delays a write that was sent too often.
    #[error(
        "the same {method} was sent {} times and did not last; find what undoes the write on the gateway. Until then the write is sent \
         once in 5 minutes",
        crate::openclaw::limits::IDENTICAL_WRITE_BURST
    )]
    Repeated {
        /// The method.
        method: &'static str,
        /// The delay of the write.
        wait: Duration,
    },
    /// The gateway's answer contradicts its config. The caller has to repeat the request later.
    #[error("{0}")]
    Unsettled(String),
}

impl CallError {
    /// The gateway's most specific code, or a code of Muster.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Gateway(error) => error.details.as_ref().and_then(|d| d.code.as_deref()).unwrap_or(&error.code),
            Self::NotConnected => "NOT_CONNECTED",
            Self::Interrupted => "INTERRUPTED",
            Self::Deadline(_) => "DEADLINE_EXCEEDED",
            Self::TooLarge { .. } => "REQUEST_TOO_LARGE",
            Self::Unreadable { .. } => "UNREADABLE_ANSWER",
            Self::Changed(_) => "FILE_CHANGED",
            Self::Repeated { .. } => "REPEATED_WRITE",
            Self::Unsettled(_) => "NOT_SETTLED",
        }
    }

    /// The gateway's message, or the text of the error.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::Gateway(error) => error.message.clone(),
            other => other.to_string(),
        }
    }

    /// Whether the same request may succeed later without a change by a person.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Gateway(error) => {
                !self.is_rejected_write()
                    && (error.retryable
                        || error.code == "UNAVAILABLE"
                        || self.is_conflict()
                        || self.is_not_found()
                        || self.is_stale_config())
            }
            Self::NotConnected
            | Self::Interrupted
            | Self::Deadline(_)
            | Self::Changed(_)
            | Self::Repeated { .. }
            | Self::Unsettled(_) => true,
            Self::TooLarge { .. } | Self::Unreadable { .. } => false,
        }
    }

    /// The effect of the request. A restart of the gateway ends requests with `UNAVAILABLE`, whatever their effect (2026.9.6,
    /// `docs/gateway-facts.md#restarts`).
    #[must_use]
    pub fn outcome(&self) -> CallOutcome {
        match self {
            Self::Gateway(error)
                if error.code == "UNAVAILABLE"
                    && !error.message.starts_with("rate limit")
                    && !self.is_rejected_write() =>
            {
                CallOutcome::Unknown
            }
            Self::Gateway(_)
            | Self::NotConnected
            | Self::TooLarge { .. }
            | Self::Changed(_)
            | Self::Repeated { .. } => CallOutcome::NotApplied,
            Self::Interrupted | Self::Deadline(_) | Self::Unreadable { .. } | Self::Unsettled(_) => {
                CallOutcome::Unknown
            }
        }
    }

    fn gateway_message(&self) -> Option<&str> {
        match self {
            Self::Gateway(error) => Some(&error.message),
            _ => None,
        }
    }

    /// Whether the gateway does not know the agent: `agent "X" not found`, up to 2026.7 also `unknown agent id`
    /// (`docs/gateway-facts.md#versions`).
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.gateway_message()
            .is_some_and(|m| m.starts_with("agent \"") && m.ends_with("not found") || m.contains("unknown agent id"))
    }

    /// Whether the gateway cannot write its config. `config_alone` says that the request writes nothing else.
    pub(crate) fn is_unwritable_config(&self, config_alone: bool) -> bool {
        self.gateway_message().is_some_and(|message| {
            let is_named = message.contains("openclaw.json");
            UNWRITABLE_CONFIG.iter().any(|words| message.contains(words))
                || (config_alone || is_named) && UNWRITABLE_FILE.iter().any(|code| message.contains(code))
                || is_named && message.contains(LOCKED_FILE)
        })
    }

    /// Whether the gateway does not write its config through an `$include` (`docs/gateway-facts.md#config-layouts`).
    pub(crate) fn is_include_refusal(&self) -> bool {
        self.gateway_message().is_some_and(|message| message.contains(FLATTENED_INCLUDE))
    }

    /// Whether the gateway removes no agent because its config has no `agents.defaults.systemAgent`
    /// (`docs/gateway-facts.md#config-layouts`).
    pub(crate) fn lacks_system_agent(&self) -> bool {
        self.gateway_message().is_some_and(|message| message.contains("Agent-less cron job has no resolvable owner"))
    }

    /// Whether a guard of the gateway rejects the new content of its config. The same write is rejected again
    /// (`docs/gateway-facts.md#rejected-config-writes`).
    fn is_rejected_write(&self) -> bool {
        self.gateway_message().is_some_and(|message| message.contains("Config write rejected: "))
    }

    /// Whether the gateway rejects a write because its config would become less than half as long
    /// (`docs/gateway-facts.md#rejected-config-writes`).
    #[must_use]
    pub fn is_size_drop(&self) -> bool {
        self.is_rejected_write() && self.gateway_message().is_some_and(is_size_drop)
    }

    /// Whether a workspace file changed since it was read.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::Gateway(error) => {
                error.details.as_ref().and_then(|d| d.kind.as_deref()) == Some("agent_file_conflict")
            }
            Self::Changed(_) => true,
            _ => false,
        }
    }

    /// A workspace file that `agents.workspace.get` does not return, because the file is missing or too long.
    pub(crate) fn unlisted_file(&self, name: &str) -> Option<UnlistedFile> {
        let Self::Gateway(error) = self else { return None };
        let details = error.details.as_ref()?;
        match details.kind.as_deref()? {
            "workspace_file_not_found" => Some(UnlistedFile::Missing),
            "workspace_file_too_large" => {
                Some(UnlistedFile::Long(FileInfo { name: name.to_owned(), size: details.size?, ..FileInfo::default() }))
            }
            _ => None,
        }
    }

    /// Whether a config write met another change, of the config, of a file that it includes or of the gateway's environment. It did nothing
    /// (`docs/gateway-facts.md#config-writes`).
    #[must_use]
    pub fn is_stale_config(&self) -> bool {
        self.gateway_message()
            .is_some_and(|m| m.contains("; re-run config.get and retry") || m.ends_with("changed since last load"))
    }

    /// Whether the gateway wants the arrays named that a patch shortens (`docs/gateway-facts.md#config-writes`).
    pub(crate) fn asks_for_replaced_arrays(&self) -> bool {
        self.gateway_message().is_some_and(|m| m.starts_with("config.patch would remove entries from array"))
    }

    /// Whether the gateway refuses the name of a workspace file.
    #[must_use]
    pub fn is_unsupported_file(&self) -> bool {
        self.gateway_message().is_some_and(|m| m.starts_with("unsupported file"))
    }

    /// Whether the gateway refuses to read and write a workspace file, because it is a link, has a second name, is not a
    /// regular file or is too large (`docs/gateway-facts.md#workspace-files`).
    #[must_use]
    pub fn is_unsafe_file(&self) -> bool {
        self.gateway_message().is_some_and(|m| m.starts_with("unsafe workspace file"))
    }

    /// Whether the gateway refuses to delete a main session (from 2026.8.1 on, `docs/gateway-facts.md#sessions-and-messages`).
    #[must_use]
    pub fn is_main_session_refusal(&self) -> bool {
        self.gateway_message().is_some_and(|m| m.starts_with("Cannot delete the main session"))
    }

    /// Whether the gateway already has an agent of this id.
    #[must_use]
    pub fn is_already_there(&self) -> bool {
        self.gateway_message().is_some_and(|m| m.starts_with("agent \"") && m.ends_with("already exists"))
    }

    /// Whether the gateway answered `UNAVAILABLE` without a more specific code.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        self.code() == "UNAVAILABLE"
    }

    /// Whether the gateway did nothing and asks for an immediate retry. 2026.9.6 does so for reads of sessions while it makes
    /// the store of another agent (`docs/gateway-facts.md#sessions-and-messages`).
    pub(crate) fn asks_for_retry(&self) -> bool {
        self.is_unavailable() && self.gateway_message().is_some_and(|text| text.ends_with("Retry the request."))
    }

    /// The wait that the gateway asks for. A connection ends at a wait of more than 24 h.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Gateway(error) => error.retry_after(),
            _ => None,
        }
    }

    pub(crate) fn unreadable(method: &'static str, detail: &dyn std::fmt::Display) -> Self {
        Self::Unreadable { method, detail: clean(&detail.to_string()) }
    }
}

/// Whether the message of a gateway names its guard against a config that becomes much shorter.
#[must_use]
pub fn is_size_drop(message: &str) -> bool {
    message.contains("size-drop:")
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
