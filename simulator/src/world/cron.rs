//! Cron jobs: one heartbeat and one skill review per agent, from the applied configuration.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    clock::IdGenerator,
    config::{heartbeats, roster},
    profile::Profile,
};

const SKILL_REVIEW_INTERVAL_MS: u64 = 604_800_000;
const DEFAULT_HEARTBEAT_INTERVAL_MS: u64 = 1_800_000;

/// A changed job, and the action that the event reports.
#[derive(Debug)]
pub(crate) struct JobChange {
    pub(crate) action: &'static str,
    pub(crate) job: Value,
}

/// The kind of a job. Each agent has at most one job of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JobKind {
    Heartbeat,
    SkillReview,
}

/// Every job by its agent.
#[derive(Debug, Default)]
pub(crate) struct Cron {
    heartbeats: BTreeMap<String, Value>,
    skill_reviews: BTreeMap<String, Value>,
}

impl Cron {
    /// Every job, ordered by declaration key.
    pub(crate) fn jobs(&self) -> impl Iterator<Item = &Value> {
        self.heartbeats.values().chain(self.skill_reviews.values())
    }

    /// The heartbeat job of an agent.
    pub(crate) fn heartbeat_mut(&mut self, agent: &str) -> Option<&mut Value> {
        self.heartbeats.get_mut(agent)
    }

    /// Updates the jobs from the applied configuration; returns the changes.
    pub(crate) fn sync(
        &mut self,
        applied: &Value,
        profile: &Profile,
        ids: &mut IdGenerator,
        now_ms: i64,
    ) -> Vec<JobChange> {
        if !profile.heartbeat_jobs {
            return Vec::new();
        }
        let agents = roster::entries(applied, profile.roster);
        let enrolled = heartbeats::enrolled(applied, profile);
        let review = JobSpec { kind: JobKind::SkillReview, every_ms: SKILL_REVIEW_INTERVAL_MS, enabled: true };
        let reviews = agents.keys().map(|agent| (*agent, review)).collect();
        let enrolled_agents = agents.into_iter().filter(|(agent, _)| enrolled.contains(agent));
        let heartbeats = enrolled_agents.map(|(agent, entry)| (agent, heartbeat_of(applied, entry))).collect();
        let mut changes = JobChanges { ids, now_ms, made: Vec::new(), removed: Vec::new() };
        changes.update(&mut self.heartbeats, &heartbeats);
        changes.update(&mut self.skill_reviews, &reviews);
        changes.made.extend(changes.removed);
        changes.made
    }
}

/// The configured values of one job.
#[derive(Clone, Copy)]
struct JobSpec {
    kind: JobKind,
    every_ms: u64,
    enabled: bool,
}

fn heartbeat_of(applied: &Value, entry: &Value) -> JobSpec {
    let every_ms = heartbeats::every_ms(applied, entry);
    JobSpec {
        kind: JobKind::Heartbeat,
        every_ms: every_ms.unwrap_or(DEFAULT_HEARTBEAT_INTERVAL_MS),
        enabled: every_ms.is_some(),
    }
}

/// The changes of one update. Removals are reported after all other changes.
struct JobChanges<'a> {
    ids: &'a mut IdGenerator,
    now_ms: i64,
    made: Vec<JobChange>,
    removed: Vec<JobChange>,
}

impl JobChanges<'_> {
    /// Updates the jobs of one kind.
    fn update(&mut self, jobs: &mut BTreeMap<String, Value>, declared: &BTreeMap<&str, JobSpec>) {
        let gone = jobs.extract_if(.., |agent, _| !declared.contains_key(agent.as_str()));
        self.removed.extend(gone.map(|(_, job)| JobChange { action: "removed", job }));
        for (agent, declared) in declared {
            match jobs.get_mut(*agent) {
                None => {
                    let job = new_job(agent, declared, self.ids, self.now_ms);
                    jobs.insert((*agent).to_owned(), job.clone());
                    self.made.push(JobChange { action: "added", job });
                }
                Some(job) if job["schedule"]["everyMs"] != declared.every_ms || job["enabled"] != declared.enabled => {
                    job["schedule"]["everyMs"] = json!(declared.every_ms);
                    job["enabled"] = json!(declared.enabled);
                    job["updatedAtMs"] = json!(self.now_ms);
                    job["state"] = job_state(declared, self.now_ms);
                    self.made.push(JobChange { action: "updated", job: job.clone() });
                }
                Some(_) => {}
            }
        }
    }
}

fn new_job(agent: &str, declared: &JobSpec, ids: &mut IdGenerator, now_ms: i64) -> Value {
    let heartbeat = declared.kind == JobKind::Heartbeat;
    let (key, title, name) = match declared.kind {
        JobKind::Heartbeat => {
            (format!("heartbeat:{agent}"), format!("Heartbeat ({agent})"), format!("heartbeat-{agent}"))
        }
        JobKind::SkillReview => (
            format!("skill-collection-review:{agent}"),
            format!("Skill collection review ({agent})"),
            format!("skill-collection-review-{agent}"),
        ),
    };
    json!({
        "id": ids.uuid(),
        "declarationKey": key,
        "displayName": title,
        "agentId": agent,
        "name": name,
        "enabled": declared.enabled,
        "createdAtMs": now_ms,
        "updatedAtMs": now_ms,
        "schedule": {"kind": "every", "everyMs": declared.every_ms, "anchorMs": 0},
        "sessionTarget": if heartbeat { "main" } else { "isolated" },
        "wakeMode": "next-heartbeat",
        "payload": {"kind": if heartbeat { "heartbeat" } else { "agentTurn" }},
        "state": job_state(declared, now_ms),
    })
}

fn job_state(declared: &JobSpec, now_ms: i64) -> Value {
    if declared.enabled {
        let every = i64::try_from(declared.every_ms).unwrap_or(i64::MAX);
        json!({"nextRunAtMs": now_ms.saturating_add(every)})
    } else {
        json!({})
    }
}
