//! Sessions as a gateway shows them.

use serde::Deserialize;

use super::limits;
use super::payload::{List, first};
use super::runs::{GatewayClock, Run};

/// A session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionInfo {
    /// Its key.
    pub key: String,
    /// Its label.
    pub label: Option<String>,
    /// Its id. A reset changes it before 2026.9, and not on 2026.9.6.
    pub id: String,
    /// Time of its last change, in milliseconds since 1970.
    pub updated_ms: i64,
    /// Its latest run, if there was one since the last reset.
    pub run: Option<Run>,
    /// The gateway's clock when it showed the session, where it tells it.
    pub clock: Option<GatewayClock>,
}

#[derive(Deserialize)]
pub(super) struct Sessions {
    #[serde(default)]
    ts: Option<i64>,
    sessions: List<RawSession, { limits::SESSIONS }>,
}

#[derive(Deserialize)]
pub(super) struct Patched {
    entry: RawSession,
}

impl Sessions {
    /// The session of a key, as it is now.
    pub(super) fn of(self, key: &str) -> Option<SessionInfo> {
        let found = self.sessions.0.into_iter().find(|session| session.key == key)?;
        Some(SessionInfo { clock: self.ts.map(GatewayClock::shows), ..found.info() })
    }
}

impl Patched {
    /// The session, whose key the answer does not tell.
    pub(super) fn of(self, key: &str) -> SessionInfo {
        RawSession { key: key.to_owned(), ..self.entry }.info()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawSession {
    #[serde(default)]
    key: String,
    #[serde(default)]
    label: Option<String>,
    #[serde(default)]
    session_id: String,
    #[serde(default)]
    updated_at: i64,
    #[serde(default)]
    has_active_run: bool,
    #[serde(default)]
    last_run_id: Option<String>,
    #[serde(default, rename = "activeRunIds", deserialize_with = "first")]
    active_run_id: Option<String>,
    #[serde(default)]
    started_at: Option<i64>,
    #[serde(default)]
    ended_at: Option<i64>,
}

impl RawSession {
    fn info(self) -> SessionInfo {
        let active = self.has_active_run;
        let run_id = if active { self.active_run_id } else { self.last_run_id };
        // In the first moments of a run 2026.9.6 tells neither its id nor its start (measured).
        let run = self.started_at.or(active.then_some(self.updated_at)).map(|started_ms| Run {
            id: run_id.unwrap_or_default(),
            started_ms,
            ended_ms: self.ended_at.or(Some(started_ms)).filter(|_| !active),
        });
        let (key, label, id) = (self.key, self.label, self.session_id);
        SessionInfo { key, label, id, updated_ms: self.updated_at, run, clock: None }
    }
}
