//! Sessions in the gateway's form.

use serde::Deserialize;
use tokio::time::Instant;

use super::activity::{GatewayClock, Run};
use super::readers::{List, first, short};
use super::text::{cleaned, is_clean, word};
use crate::openclaw::limits;

/// A session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionInfo {
    /// The key.
    pub key: String,
    /// The label.
    pub label: Option<String>,
    /// The id. A reset changes the id before 2026.9, and not on 2026.9.6 (`docs/gateway-facts.md#sessions-and-messages`).
    pub id: String,
    /// The time of the last change, in milliseconds since 1970 by the gateway's clock.
    pub updated_ms: i64,
    /// The latest run since the last reset.
    pub run: Option<Run>,
    /// The gateway's clock at the time of the list.
    pub clock: Option<GatewayClock>,
}

/// The answer of `sessions.list`.
#[derive(Deserialize)]
pub(crate) struct SessionList {
    #[serde(default)]
    ts: Option<i64>,
    sessions: List<RawSession, { limits::SESSIONS }>,
}

/// The answer of `sessions.patch`.
#[derive(Deserialize)]
pub(crate) struct PatchedSession {
    entry: RawSession,
}

impl SessionList {
    /// The number of sessions.
    pub(crate) fn len(&self) -> usize {
        self.sessions.0.len()
    }

    /// The session of a key in a list that was read at `now`.
    pub(crate) fn of(self, key: &str, now: Instant) -> Option<SessionInfo> {
        let found = self.sessions.0.into_iter().find(|session| session.key == key)?;
        Some(SessionInfo { clock: self.ts.map(|ts| GatewayClock::observed(ts, now)), ..found.info() })
    }
}

impl PatchedSession {
    /// The session. The answer does not contain the key.
    pub(crate) fn with_key(self, key: &str) -> SessionInfo {
        RawSession { key: key.to_owned(), ..self.entry }.info()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawSession {
    #[serde(default)]
    key: String,
    #[serde(default, deserialize_with = "short::<_, { limits::LABEL }>")]
    label: Option<String>,
    #[serde(default, deserialize_with = "cleaned")]
    session_id: String,
    #[serde(default)]
    updated_at: i64,
    #[serde(default)]
    has_active_run: bool,
    #[serde(default, deserialize_with = "word")]
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
        let run_id = if active { self.active_run_id.filter(|id| is_clean(id)) } else { self.last_run_id };
        // 2026.9.6 lists a run in preparation without its id and its start (docs/gateway-facts.md#runs).
        let run = self.started_at.or(active.then_some(self.updated_at)).map(|started_ms| Run {
            id: run_id.unwrap_or_default(),
            started_ms,
            ended_ms: self.ended_at.or(Some(started_ms)).filter(|_| !active),
        });
        let (key, label, id) = (self.key, self.label, self.session_id);
        SessionInfo { key, label, id, updated_ms: self.updated_at, run, clock: None }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn listed(row: &serde_json::Value) -> SessionInfo {
        let answer = json!({ "ts": 9_000, "sessions": [{ "key": "other" }, row] });
        serde_json::from_str::<SessionList>(&answer.to_string()).unwrap().of("k", Instant::now()).unwrap()
    }

    #[test]
    fn an_active_run_is_read_before_its_id_and_its_start_are_listed() {
        let row = json!({ "key": "k", "updatedAt": 8_000, "hasActiveRun": true, "lastRunId": "before" });
        let run = listed(&row).run.unwrap();
        assert_eq!((run.id.as_str(), run.started_ms, run.ended_ms), ("", 8_000, None));
    }

    #[test]
    fn the_age_of_a_run_follows_from_the_gateways_own_clock() {
        let row = json!({ "key": "k", "updatedAt": 8_000, "startedAt": 3_000, "endedAt": 5_000, "lastRunId": "r" });
        let (run, clock) = (listed(&row).run.unwrap(), listed(&row).clock.unwrap());
        assert_eq!(run, Run { id: "r".into(), started_ms: 3_000, ended_ms: Some(5_000) });
        assert!(clock.age(5_000, Instant::now()) >= std::time::Duration::from_secs(4));
    }
}
