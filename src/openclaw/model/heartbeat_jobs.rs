//! The heartbeats of a gateway as jobs of its scheduler, from `cron.status` and `cron.list`. Gateways with `agents.list` run heartbeats
//! without jobs (`docs/gateway-facts.md#heartbeat-jobs`).

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::readers::{List, lax};
use super::text::{clean, clean_code, lax_code, word};
use crate::openclaw::limits;

/// The beginning of the `declarationKey` of a heartbeat job. The id of the agent follows.
const HEARTBEAT: &str = "heartbeat:";

/// The heartbeat jobs of a gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HeartbeatJobs {
    /// The gateway runs heartbeats without jobs.
    #[default]
    NoJobs,
    /// The jobs could not be read, with the error.
    Unreadable(String),
    /// The scheduler is off, and runs no job.
    SchedulerOff,
    /// The jobs by the id of the agent.
    Listed(BTreeMap<String, HeartbeatJob>),
}

/// The heartbeat job of an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeartbeatJob {
    /// Whether the scheduler runs the job.
    pub enabled: bool,
    /// The last run that is over.
    pub last: Option<JobOutcome>,
}

/// The outcome of a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobOutcome {
    /// The start, in milliseconds since 1970 by the gateway's clock.
    pub started_ms: i64,
    /// The result.
    pub result: HeartbeatResult,
    /// The number of heartbeats in a row that the gateway skipped, up to this one.
    pub skips: u32,
}

/// The outcomes of the heartbeats of one agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeartbeatHistory {
    /// The last outcome.
    pub last: Option<JobOutcome>,
    /// The last outcome that says whether heartbeats work.
    pub verdict: Option<JobOutcome>,
    /// The start of the last heartbeat that the gateway skipped, in milliseconds since 1970 by its clock.
    pub skipped_ms: Option<i64>,
}

/// The result of a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeartbeatResult {
    /// The agent ran.
    Ran,
    /// The gateway skipped the run, with its reason.
    Skipped(SkipReason),
    /// The run failed, with the reason or the message of the gateway.
    Failed(String),
}

/// Why a gateway skipped a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// The target of the answers has no route.
    NoRoute,
    /// The scratch of the job has no text besides comments, headings and empty items.
    EmptyScratch,
    /// Heartbeats were turned off on the gateway.
    Disabled,
    /// The heartbeat was outside the active hours.
    QuietHours,
    /// Another reason, which may pass, such as a run in progress.
    Other(String),
}

/// A page of `cron.list`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct JobPage {
    jobs: List<RawJob, { limits::JOBS }>,
    #[serde(deserialize_with = "lax")]
    has_more: Option<bool>,
    #[serde(deserialize_with = "lax")]
    next_offset: Option<u32>,
}

/// The answer of `cron.status`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SchedulerStatus {
    #[serde(deserialize_with = "lax")]
    pub(crate) enabled: Option<bool>,
}

/// A job of `cron.list`, or of the event `cron`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct RawJob {
    #[serde(deserialize_with = "word")]
    declaration_key: Option<String>,
    #[serde(deserialize_with = "lax")]
    enabled: Option<bool>,
    #[serde(deserialize_with = "lax")]
    state: Option<RawJobState>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawJobState {
    #[serde(deserialize_with = "lax")]
    last_run_at_ms: Option<i64>,
    #[serde(deserialize_with = "lax")]
    last_run_status: Option<String>,
    #[serde(deserialize_with = "lax")]
    last_error: Option<String>,
    #[serde(deserialize_with = "lax_code")]
    last_error_reason: Option<String>,
    #[serde(deserialize_with = "lax")]
    consecutive_skipped: Option<u32>,
}

impl HeartbeatJobs {
    /// The number of jobs.
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::NoJobs | Self::Unreadable(_) | Self::SchedulerOff => 0,
            Self::Listed(jobs) => jobs.len(),
        }
    }

    /// The estimated memory, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        const PER_JOB: usize = 128;
        match self {
            Self::NoJobs | Self::SchedulerOff => 0,
            Self::Unreadable(error) => error.len(),
            Self::Listed(jobs) => {
                let outcome = |job: &HeartbeatJob| job.last.as_ref().map_or(0, JobOutcome::bytes);
                jobs.iter().map(|(id, job)| PER_JOB + id.len() + outcome(job)).sum()
            }
        }
    }

    /// The agents whose jobs differ, with no regard to the time of a run; `None` if all agents are concerned.
    pub(crate) fn differing(&self, new: &Self) -> Option<BTreeSet<String>> {
        match (self, new) {
            (Self::Listed(old), Self::Listed(new)) => {
                let result = |job: Option<&HeartbeatJob>| {
                    job.map(|job| (job.enabled, job.last.as_ref().map(|last| last.result.clone())))
                };
                let ids = old.keys().chain(new.keys());
                Some(ids.filter(|id| result(old.get(*id)) != result(new.get(*id))).cloned().collect())
            }
            (old, new) if old == new => Some(BTreeSet::new()),
            _ => None,
        }
    }
}

impl JobPage {
    /// The heartbeat jobs of the page by the id of the agent.
    pub(crate) fn heartbeats(&self) -> impl Iterator<Item = (String, HeartbeatJob)> {
        self.jobs.0.iter().filter_map(|job| Some((job.heartbeat_agent()?.to_owned(), job.heartbeat())))
    }

    /// The offset of the next page, if there is one.
    pub(crate) fn next(&self) -> Option<u32> {
        self.next_offset.filter(|_| self.has_more == Some(true))
    }
}

impl RawJob {
    /// The agent of a heartbeat job.
    pub(crate) fn heartbeat_agent(&self) -> Option<&str> {
        self.declaration_key.as_deref()?.strip_prefix(HEARTBEAT)
    }

    fn heartbeat(&self) -> HeartbeatJob {
        HeartbeatJob { enabled: self.enabled != Some(false), last: self.outcome() }
    }

    /// The outcome of the last run that is over; `None` without one, for an unknown status, and without the reason of a skip or a
    /// failure, which the gateway clears when the next run starts (`docs/gateway-facts.md#heartbeat-jobs`).
    pub(crate) fn outcome(&self) -> Option<JobOutcome> {
        let state = self.state.as_ref()?;
        let error = || state.last_error.as_deref().filter(|error| !error.is_empty());
        let result = match state.last_run_status.as_deref()? {
            "ok" => HeartbeatResult::Ran,
            "skipped" => HeartbeatResult::Skipped(SkipReason::read(error()?)),
            "error" => HeartbeatResult::Failed(match &state.last_error_reason {
                Some(reason) => reason.clone(),
                None => clean(error()?.trim_start_matches("heartbeat failed: ")),
            }),
            _ => return None,
        };
        Some(JobOutcome {
            started_ms: state.last_run_at_ms?,
            result,
            skips: state.consecutive_skipped.unwrap_or_default(),
        })
    }
}

impl HeartbeatHistory {
    /// Records an outcome, unless a later one is known.
    pub fn record(&mut self, outcome: JobOutcome) {
        if self.last.as_ref().is_some_and(|last| last.started_ms > outcome.started_ms) {
            return;
        }
        if matches!(outcome.result, HeartbeatResult::Skipped(_)) {
            self.skipped_ms = Some(outcome.started_ms);
        }
        if outcome.is_verdict() {
            self.verdict = Some(outcome.clone());
        }
        self.last = Some(outcome);
    }

    /// The history with the later outcomes of another one.
    #[must_use]
    pub fn then(mut self, later: &Self) -> Self {
        for outcome in later.verdict.iter().chain(&later.last) {
            self.record(outcome.clone());
        }
        self.skipped_ms = self.skipped_ms.max(later.skipped_ms);
        self
    }

    /// The estimated memory of its texts, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.last.iter().chain(&self.verdict).map(JobOutcome::bytes).sum()
    }
}

/// The number of skipped heartbeats in a row from which on a reason that may pass counts.
const SKIPS_THAT_COUNT: u32 = 3;

impl JobOutcome {
    /// Whether the outcome says whether heartbeats work. A heartbeat in quiet hours says nothing, and neither do a few that were
    /// skipped for a reason that may pass.
    fn is_verdict(&self) -> bool {
        match &self.result {
            HeartbeatResult::Skipped(SkipReason::QuietHours) => false,
            HeartbeatResult::Skipped(SkipReason::Other(_)) => self.skips >= SKIPS_THAT_COUNT,
            HeartbeatResult::Ran | HeartbeatResult::Failed(_) | HeartbeatResult::Skipped(_) => true,
        }
    }

    /// The estimated memory of its text, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        match &self.result {
            HeartbeatResult::Failed(message) => message.len(),
            HeartbeatResult::Skipped(SkipReason::Other(reason)) => reason.len(),
            HeartbeatResult::Ran | HeartbeatResult::Skipped(_) => 0,
        }
    }
}

impl SkipReason {
    fn read(error: &str) -> Self {
        match error.trim_start_matches("heartbeat skipped: ") {
            "no-route" => Self::NoRoute,
            "empty-heartbeat-file" => Self::EmptyScratch,
            "disabled" => Self::Disabled,
            "quiet-hours" => Self::QuietHours,
            other => Self::Other(clean_code(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heartbeat_jobs_of_a_page_are_read_and_other_jobs_are_not() {
        let page: JobPage = serde_json::from_str(
            r#"{"jobs": [
                {"declarationKey": "heartbeat:a", "enabled": true, "state": {"lastRunAtMs": 7, "lastRunStatus": "ok"}},
                {"declarationKey": "heartbeat:b", "enabled": false, "state": {}},
                {"declarationKey": "heartbeat:c", "state": {"lastRunAtMs": 8, "lastRunStatus": "skipped", "lastError": "heartbeat skipped: no-route"}},
                {"declarationKey": "skill-collection-review:a", "enabled": true},
                {"id": 1, "state": 3}
            ], "hasMore": true, "nextOffset": 5, "total": 9}"#,
        )
        .unwrap();
        let jobs: BTreeMap<_, _> = page.heartbeats().collect();
        let last = |started_ms, result| Some(JobOutcome { started_ms, result, skips: 0 });
        assert_eq!(jobs["a"], HeartbeatJob { enabled: true, last: last(7, HeartbeatResult::Ran) });
        assert_eq!(jobs["b"], HeartbeatJob { enabled: false, last: None });
        assert_eq!(jobs["c"].last, last(8, HeartbeatResult::Skipped(SkipReason::NoRoute)));
        assert_eq!((jobs.len(), page.next()), (3, Some(5)));
    }

    #[test]
    fn the_last_page_has_no_next_one() {
        let page: JobPage = serde_json::from_str(r#"{"jobs": [], "hasMore": false, "nextOffset": 5}"#).unwrap();
        assert_eq!(page.next(), None);
    }

    #[test]
    fn the_outcome_of_a_heartbeat_is_read_without_control_characters() {
        let outcome = |status: &str, more: &str| {
            let job = format!(r#"{{"state": {{"lastRunAtMs": 1, "lastRunStatus": "{status}"{more}}}}}"#);
            serde_json::from_str::<RawJob>(&job).unwrap().outcome()
        };
        let result = |status, more| outcome(status, more).map(|outcome| outcome.result);
        let failed = |message: &str| Some(HeartbeatResult::Failed(message.into()));
        assert_eq!(result("error", r#", "lastError": "heartbeat failed: rate\nlimit""#), failed("rate limit"));
        assert_eq!(result("error", r#", "lastErrorReason": "timeout""#), failed("timeout"));
        assert_eq!(outcome("new", ""), None);
        let skipped = r#", "lastError": "heartbeat skipped: cron-in-progress", "consecutiveSkipped": 3"#;
        let skipped = outcome("skipped", skipped).unwrap();
        assert_eq!(skipped.result, HeartbeatResult::Skipped(SkipReason::Other("cron-in-progress".into())));
        assert_eq!(skipped.skips, 3);
    }

    #[test]
    fn a_skip_or_a_failure_without_its_reason_is_no_outcome() {
        // 2026.9.6 clears `lastError` when the next run starts.
        let running = r#"{"lastRunAtMs": 1, "runningAtMs": 2, "lastRunStatus": "STATUS", "consecutiveSkipped": 9}"#;
        for status in ["skipped", "error"] {
            let job = format!(r#"{{"state": {}}}"#, running.replace("STATUS", status));
            assert_eq!(serde_json::from_str::<RawJob>(&job).unwrap().outcome(), None, "{status}");
        }
    }
}
