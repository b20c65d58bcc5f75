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

/// Every job by its declaration key.
#[derive(Debug, Default)]
pub(crate) struct Cron {
    pub(crate) jobs: BTreeMap<String, Value>,
}

impl Cron {
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
        let wanted = declared_jobs(applied, profile);
        let gone: Vec<String> = self.jobs.keys().filter(|key| !wanted.contains_key(*key)).cloned().collect();
        let mut changes: Vec<JobChange> = Vec::new();
        for (key, declared) in wanted {
            match self.jobs.get_mut(&key) {
                None => {
                    let job = new_job(&key, &declared, ids, now_ms);
                    self.jobs.insert(key, job.clone());
                    changes.push(JobChange { action: "added", job });
                }
                Some(job) if job["schedule"]["everyMs"] != declared.every_ms || job["enabled"] != declared.enabled => {
                    job["schedule"]["everyMs"] = json!(declared.every_ms);
                    job["enabled"] = json!(declared.enabled);
                    job["updatedAtMs"] = json!(now_ms);
                    job["state"] = job_state(&declared, now_ms);
                    changes.push(JobChange { action: "updated", job: job.clone() });
                }
                Some(_) => {}
            }
        }
        let removed = gone.into_iter().filter_map(|key| self.jobs.remove(&key));
        changes.extend(removed.map(|job| JobChange { action: "removed", job }));
        changes
    }
}

/// The configured values of one job.
struct JobSpec {
    agent: String,
    every_ms: u64,
    enabled: bool,
    heartbeat: bool,
}

fn declared_jobs(applied: &Value, profile: &Profile) -> BTreeMap<String, JobSpec> {
    let agents = roster::entries(applied, profile.roster);
    let enrolled = heartbeats::enrolled(applied, profile);
    let mut jobs = BTreeMap::new();
    for (agent, entry) in &agents {
        jobs.insert(
            format!("skill-collection-review:{agent}"),
            JobSpec { agent: agent.clone(), every_ms: SKILL_REVIEW_INTERVAL_MS, enabled: true, heartbeat: false },
        );
        if !enrolled.contains(agent) {
            continue;
        }
        let every_ms = heartbeats::every_ms(applied, entry);
        jobs.insert(
            format!("heartbeat:{agent}"),
            JobSpec {
                agent: agent.clone(),
                every_ms: every_ms.unwrap_or(DEFAULT_HEARTBEAT_INTERVAL_MS),
                enabled: every_ms.is_some(),
                heartbeat: true,
            },
        );
    }
    jobs
}

fn new_job(key: &str, declared: &JobSpec, ids: &mut IdGenerator, now_ms: i64) -> Value {
    let agent = &declared.agent;
    let (title, name) = if declared.heartbeat {
        (format!("Heartbeat ({agent})"), format!("heartbeat-{agent}"))
    } else {
        (format!("Skill collection review ({agent})"), format!("skill-collection-review-{agent}"))
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
        "sessionTarget": if declared.heartbeat { "main" } else { "isolated" },
        "wakeMode": "next-heartbeat",
        "payload": {"kind": if declared.heartbeat { "heartbeat" } else { "agentTurn" }},
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
