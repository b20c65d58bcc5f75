//! The gateway's events about sessions, runs and jobs.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::heartbeat_jobs::{JobOutcome, RawJob};
use super::readers::{lax, optional};
use super::text::word;
use crate::openclaw::limits::{self, Exceeded};

/// An event about a session or a run of an agent.
#[derive(Debug)]
pub(crate) struct RunEvent {
    pub(crate) agent: String,
    pub(crate) kind: RunEventKind,
}

/// The kind of a [`RunEvent`].
#[derive(Debug)]
pub(crate) enum RunEventKind {
    /// A client labelled a session.
    Labelled(LabelEvent),
    /// A client reset or deleted a session, or the event does not specify the change.
    SessionChanged,
    /// A run started or ended.
    Run {
        id: String,
        phase: RunPhase,
        at_ms: i64,
        /// Whether the run belongs to the gateway's heartbeat job.
        job: bool,
        /// The outcome of a heartbeat that is over.
        outcome: Option<JobOutcome>,
    },
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum RunPhase {
    Start,
    End,
}

/// The label of a session after a client set it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelEvent {
    /// The session's key.
    pub key: String,
    /// The session's id.
    pub id: String,
    /// The session's label.
    pub label: Option<String>,
}

/// The fields of `sessions.changed`, `agent` and `cron` that Muster reads.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawEvent {
    #[serde(deserialize_with = "word")]
    agent_id: Option<String>,
    #[serde(deserialize_with = "word")]
    session_key: Option<String>,
    #[serde(deserialize_with = "word")]
    session_id: Option<String>,
    #[serde(deserialize_with = "lax")]
    label: Option<String>,
    #[serde(deserialize_with = "lax")]
    session: Option<RawSessionFields>,
    #[serde(deserialize_with = "lax")]
    reason: Option<String>,
    #[serde(deserialize_with = "lax")]
    phase: Option<String>,
    #[serde(deserialize_with = "word")]
    run_id: Option<String>,
    #[serde(deserialize_with = "lax")]
    ts: Option<i64>,
    #[serde(deserialize_with = "lax")]
    stream: Option<String>,
    #[serde(deserialize_with = "lax")]
    data: Option<RawLifecycle>,
    #[serde(deserialize_with = "lax")]
    action: Option<String>,
    #[serde(deserialize_with = "word")]
    job_id: Option<String>,
    #[serde(deserialize_with = "lax")]
    job: Option<RawJob>,
    #[serde(deserialize_with = "lax")]
    run_at_ms: Option<i64>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawSessionFields {
    #[serde(deserialize_with = "word")]
    session_id: Option<String>,
    #[serde(deserialize_with = "lax")]
    label: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawLifecycle {
    #[serde(deserialize_with = "lax")]
    phase: Option<String>,
    #[serde(deserialize_with = "lax")]
    started_at: Option<i64>,
    #[serde(deserialize_with = "lax")]
    ended_at: Option<i64>,
}

impl RunEvent {
    /// Reads an event; `None` for an event without a session change or a run.
    ///
    /// # Errors
    /// The bound that the event exceeds.
    pub(crate) fn read(event: &str, payload: &RawValue) -> Result<Option<Self>, Exceeded> {
        let kind = match event {
            "sessions.changed" => RawEvent::session_event,
            "agent" => RawEvent::lifecycle,
            "cron" => RawEvent::job,
            _ => return Ok(None),
        };
        Ok(optional(payload)?.and_then(kind))
    }

    /// The estimated memory of the event's strings, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.agent.len()
            + match &self.kind {
                RunEventKind::Labelled(LabelEvent { key, id, label }) => {
                    key.len() + id.len() + label.as_ref().map_or(0, String::len)
                }
                RunEventKind::SessionChanged => 0,
                RunEventKind::Run { id, outcome, .. } => id.len() + outcome.as_ref().map_or(0, JobOutcome::bytes),
            }
    }
}

impl RawEvent {
    /// The agent of the event. Older gateways send only the session key.
    fn agent(&self) -> Option<String> {
        let from_key = || self.session_key.as_deref()?.strip_prefix("agent:")?.split(':').next();
        self.agent_id.as_deref().or_else(from_key).map(str::to_owned)
    }

    fn session_event(self) -> Option<RunEvent> {
        let changed = matches!(self.reason.as_deref(), Some("patch" | "reset" | "delete"));
        if let Some(agent) = self.agent().filter(|_| changed) {
            let labelled = self.labelled().filter(|_| self.reason.as_deref() == Some("patch"));
            return Some(RunEvent {
                agent,
                kind: labelled.map_or(RunEventKind::SessionChanged, RunEventKind::Labelled),
            });
        }
        self.run(self.phase.as_deref()?, self.ts)
    }

    /// The label of the session: in the field `session`, or on older gateways at the top of the payload.
    fn labelled(&self) -> Option<LabelEvent> {
        let (id, label) = match &self.session {
            Some(session) => (&session.session_id, &session.label),
            None => (&self.session_id, &self.label),
        };
        let label = label.clone().filter(|label| label.len() <= limits::LABEL);
        Some(LabelEvent { key: self.session_key.clone()?, id: id.clone()?, label })
    }

    fn lifecycle(self) -> Option<RunEvent> {
        let data = self.data.as_ref().filter(|_| self.stream.as_deref() == Some("lifecycle"))?;
        let phase = data.phase.as_deref()?;
        let at = if phase == "start" { data.started_at } else { data.ended_at };
        self.run(phase, at.or(self.ts))
    }

    fn run(&self, phase: &str, at_ms: Option<i64>) -> Option<RunEvent> {
        let phase = match phase {
            "start" => RunPhase::Start,
            "end" | "error" => RunPhase::End,
            _ => return None,
        };
        let kind = RunEventKind::Run { id: self.run_id.clone()?, phase, at_ms: at_ms?, job: false, outcome: None };
        Some(RunEvent { agent: self.agent()?, kind })
    }

    fn job(self) -> Option<RunEvent> {
        let phase = match self.action.as_deref()? {
            "started" => RunPhase::Start,
            "finished" => RunPhase::End,
            _ => return None,
        };
        let job = self.job?;
        let agent = job.heartbeat_agent()?.to_owned();
        let id = format!("cron:{}", self.job_id.as_deref()?);
        let at_ms = self.run_at_ms.unwrap_or_default();
        let outcome = if matches!(phase, RunPhase::End) { job.outcome() } else { None };
        Some(RunEvent { agent, kind: RunEventKind::Run { id, phase, at_ms, job: true, outcome } })
    }
}
