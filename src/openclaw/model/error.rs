//! Why a request to the gateway did not give its answer.

use std::time::Duration;

use serde::Deserialize;

use super::file::{FileInfo, UnlistedFile};
use super::readers::lax;
use super::text::{clean, cleaned, code, lax_code};
use crate::openclaw::limits;

/// An error as the gateway writes it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorShape {
    /// `INVALID_REQUEST`, `UNAVAILABLE`, `FORBIDDEN`, `NOT_PAIRED`.
    #[serde(default, deserialize_with = "code")]
    pub code: String,
    /// A sentence.
    #[serde(default, deserialize_with = "cleaned")]
    pub message: String,
    /// Further facts, among them often a finer `code`.
    #[serde(default, deserialize_with = "lax")]
    pub details: Option<ErrorDetails>,
    /// Whether the gateway itself says that it may work later.
    #[serde(default)]
    pub retryable: bool,
    /// How long it asks to wait, in milliseconds.
    #[serde(default)]
    pub retry_after_ms: Option<u64>,
}

/// What is read of the further facts of an error.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ErrorDetails {
    /// A finer code.
    #[serde(deserialize_with = "lax_code")]
    pub code: Option<String>,
    /// A word for what happened.
    #[serde(rename = "type", deserialize_with = "lax_code")]
    pub kind: Option<String>,
    /// The request for approval of this device.
    #[serde(deserialize_with = "lax")]
    pub request_id: Option<String>,
    /// Why that is needed.
    #[serde(deserialize_with = "lax_code")]
    pub reason: Option<String>,
    /// The protocol version that the gateway expects.
    #[serde(deserialize_with = "lax")]
    pub expected_protocol: Option<u64>,
    /// How long it asks to wait, in milliseconds.
    #[serde(deserialize_with = "lax")]
    pub retry_after_ms: Option<u64>,
    /// The size of a file, in bytes.
    #[serde(deserialize_with = "lax")]
    pub size: Option<i64>,
}

impl ErrorShape {
    /// How long the gateway asks to wait.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let told = self.retry_after_ms.or_else(|| self.details.as_ref()?.retry_after_ms);
        told.map(|time| Duration::from_millis(time).min(limits::WAIT))
    }
}

/// What became of a request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// It had no effect.
    NotApplied,
    /// Nobody knows. It is never repeated blindly: look first.
    Unknown,
}

/// Why a request to the gateway did not give its answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CallError {
    /// The gateway answered with an error.
    #[error("the gateway answered {}: {}", .0.code, .0.message)]
    Gateway(Box<ErrorShape>),
    /// There is no connection; the request was not sent.
    #[error("there is no connection")]
    NotConnected,
    /// The connection was lost before the answer came.
    #[error("the connection was lost before the answer came")]
    Interrupted,
    /// The answer did not come in time.
    #[error("no answer within {} s", .0.as_secs())]
    Deadline(Duration),
    /// The request is longer than the gateway takes.
    #[error("the request has {size} bytes and the gateway takes at most {limit}")]
    TooLarge {
        /// Its length in bytes.
        size: usize,
        /// The gateway's limit in bytes.
        limit: usize,
    },
    /// The answer is not what this method answers.
    #[error("the answer of {method} could not be read: {detail}")]
    Unreadable {
        /// The method.
        method: &'static str,
        /// What is wrong with the answer.
        detail: String,
    },
    /// A file of a gateway that takes no preconditions is not what it was read as.
    #[error("{0} is not what it was read as")]
    Changed(String),
    /// The same write was made as often as it may be, and is held back.
    #[error(
        "the same {method} was sent {} times and did not last; find what undoes it on the gateway. It is made once in five minutes until then",
        crate::openclaw::limits::FREE
    )]
    Repeated {
        /// The method.
        method: &'static str,
        /// How long it is held back.
        wait: Duration,
    },
    /// The gateway says something that its config contradicts, so that it has to be asked again.
    #[error("{0}")]
    Unsettled(String),
}

impl CallError {
    /// The gateway's own code, or a word of ours.
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

    /// What the gateway said, or what happened.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::Gateway(error) => error.message.clone(),
            other => other.to_string(),
        }
    }

    /// Whether the same request may work later although nobody changes anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Gateway(error) => {
                error.retryable
                    || error.code == "UNAVAILABLE"
                    || self.is_conflict()
                    || self.is_not_found()
                    || self.is_stale_config()
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

    /// What became of the request. A restart of the gateway cuts requests off with `UNAVAILABLE` (measured).
    #[must_use]
    pub fn outcome(&self) -> CallOutcome {
        match self {
            Self::Gateway(error) if error.code == "UNAVAILABLE" && !error.message.starts_with("rate limit") => {
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

    fn said(&self) -> Option<&str> {
        match self {
            Self::Gateway(error) => Some(&error.message),
            _ => None,
        }
    }

    /// The agent is not known: `agent "X" not found`, on older gateways also `unknown agent id`.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.said()
            .is_some_and(|m| m.starts_with("agent \"") && m.ends_with("not found") || m.contains("unknown agent id"))
    }

    /// The file changed since it was read.
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

    /// What the gateway says of a workspace file that it does not show: it is missing, or too long.
    pub(crate) fn unshown_file(&self, name: &str) -> Option<UnlistedFile> {
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

    /// The config changed since it was read.
    #[must_use]
    pub fn is_stale_config(&self) -> bool {
        self.said().is_some_and(|m| {
            m.starts_with("config changed since last load") || m.starts_with("config base hash required")
        })
    }

    /// The gateway takes no file of that name.
    #[must_use]
    pub fn is_unsupported_file(&self) -> bool {
        self.said().is_some_and(|m| m.starts_with("unsupported file"))
    }

    /// The gateway neither reads nor writes what stands in the place of a file: a link, a file with a second name, no plain
    /// file, or a file that is too large to be read.
    #[must_use]
    pub fn is_unsafe_file(&self) -> bool {
        self.said().is_some_and(|m| m.starts_with("unsafe workspace file"))
    }

    /// The gateway does not delete main sessions (from 2026.8.1).
    #[must_use]
    pub fn is_main_session_refusal(&self) -> bool {
        self.said().is_some_and(|m| m.starts_with("Cannot delete the main session"))
    }

    /// An agent of that id is there.
    #[must_use]
    pub fn is_already_there(&self) -> bool {
        self.said().is_some_and(|m| m.starts_with("agent \"") && m.ends_with("already exists"))
    }

    /// The gateway could not do it, and says no more than that: `UNAVAILABLE`.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        self.code() == "UNAVAILABLE"
    }

    /// The gateway asks to be asked again at once, and has done nothing: 2026.9.6 does not read sessions in the moment in
    /// which the store of another agent is made.
    pub(crate) fn asks_again(&self) -> bool {
        self.is_unavailable() && self.said().is_some_and(|text| text.ends_with("Retry the request."))
    }

    /// How long the gateway asks to wait.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: &str, message: &str) -> CallError {
        CallError::Gateway(Box::new(ErrorShape { code: code.into(), message: message.into(), ..ErrorShape::default() }))
    }

    #[test]
    fn an_unknown_agent_is_recognised_in_the_words_of_every_version() {
        assert!(said("INVALID_REQUEST", "agent \"mc-1\" not found").is_not_found());
        assert!(said("INVALID_REQUEST", "unknown agent id \"mc-1\"").is_not_found());
        assert!(!said("INVALID_REQUEST", "agent \"mc-1\" already exists").is_not_found());
    }

    #[test]
    fn an_unsafe_file_is_recognised_in_the_words_of_every_version_and_does_not_pass_by_itself() {
        for words in ["unsafe workspace file \"SOUL.md\"", "unsafe workspace file \"SOUL.md\" (hardlinked path)"] {
            let error = said("INVALID_REQUEST", words);
            assert!(error.is_unsafe_file() && !error.is_transient(), "{words}");
        }
        assert!(!said("INVALID_REQUEST", "unsupported file \"SOUL.md\"").is_unsafe_file());
    }

    #[test]
    fn what_a_restart_cut_off_has_an_unknown_outcome_and_a_rate_limit_has_none() {
        assert_eq!(
            said("UNAVAILABLE", "agents.create unavailable during gateway restart").outcome(),
            CallOutcome::Unknown
        );
        assert_eq!(
            said("UNAVAILABLE", "rate limit exceeded for config.patch; retry after 9s").outcome(),
            CallOutcome::NotApplied
        );
        assert_eq!(CallError::Interrupted.outcome(), CallOutcome::Unknown);
        assert_eq!(said("INVALID_REQUEST", "x").outcome(), CallOutcome::NotApplied);
    }
}
