//! What was last seen of agents' workspaces and sessions.

use std::collections::BTreeMap;
use std::fmt;

use tokio::time::Instant;

use crate::core::agent::observed::{ObservedFile, ObservedSession};
use crate::openclaw::model::{self, CallError, LabelEvent, SessionInfo};

/// What was last seen of an agent's workspace and session, which change without any event.
#[derive(Clone, Debug)]
pub(crate) struct CachedWorkspace {
    /// When the files were listed.
    pub(crate) files_at: Instant,
    pub(crate) files: BTreeMap<String, ObservedFile>,
    pub(crate) session: Option<SessionInfo>,
    pub(crate) heard: EventEpoch,
}

/// When the contents of an agent's files are compared next: after a part of the interval, which may change meanwhile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ContentCheck {
    pub(crate) since: Instant,
    pub(crate) thousandths: u32,
}

/// How much of the gateway's news was heard when a session was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EventEpoch {
    pub(crate) epoch: u64,
    pub(crate) changes: u64,
}

/// What tells one life of a session from the next: its id, which resets change before 2026.9, and the time of its last
/// change, which every entry of its history since is later than.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionVersion {
    /// The session's id.
    pub(crate) id: String,
    /// Milliseconds since 1970 by the gateway's clock.
    pub(crate) updated_ms: i64,
}

impl SessionVersion {
    pub(crate) fn of(session: &SessionInfo) -> Self {
        Self { id: session.id.clone(), updated_ms: session.updated_ms }
    }

    pub(crate) fn parse(text: &str) -> Self {
        let (id, time) = text.rsplit_once('@').unwrap_or((text, "0"));
        Self { id: id.to_owned(), updated_ms: time.parse().unwrap_or_default() }
    }
}

impl fmt::Display for SessionVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id, self.updated_ms)
    }
}

impl CachedWorkspace {
    /// Whether the session is as it was told.
    pub(crate) fn shows(&self, told: &LabelEvent) -> bool {
        self.session.as_ref().is_some_and(|session| session.id == told.id && session.label == told.label)
    }
}

pub(crate) fn observed_session(session: &SessionInfo) -> ObservedSession {
    ObservedSession {
        label: session.label.clone(),
        shown_label: session.label.as_deref().map(model::clean),
        mark: SessionVersion::of(session).to_string(),
    }
}

pub(crate) fn content_seen(content: &model::FileContent) -> ObservedFile {
    ObservedFile { sha256: Some(content.sha256()), ..observed_file(&content.info) }
}

pub(crate) fn observed_file(info: &model::FileInfo) -> ObservedFile {
    ObservedFile { size: info.size, modified_ms: info.modified_ms, ..ObservedFile::default() }
}

/// A file in whose place stands something that the gateway neither reads nor writes.
///
/// # Errors
/// The error, when it is another one.
pub(crate) fn refused_file(error: CallError) -> Result<ObservedFile, CallError> {
    if !error.is_unsafe_file() {
        return Err(error);
    }
    Ok(ObservedFile { refused: Some(error.message()), ..ObservedFile::default() })
}
