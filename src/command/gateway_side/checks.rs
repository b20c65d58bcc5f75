//! The checks of what a gateway shows. Pure.

use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::Instant;
use url::Url;

use super::agent_reads::{AgentAnswers, SeenFile, is_recorded};
use super::target::AgentTarget;
use crate::api::agent_status::FileState;
use crate::api::conditions::{ConditionStatus, ConditionUpdate};
use crate::api::{AgentGateway, ConditionType, Reason};
use crate::command::age;
use crate::command::checks::{Check, CheckResult, of_update, without_repeats};
use crate::core::gateway::conditions::{ObservedConnection, from_connection};
use crate::gateway_connection::GatewayView;
use crate::openclaw::model::{
    ConfigWrites, ConnectionState, HeartbeatJob, HeartbeatJobs, HeartbeatResult, Inventory, SessionInfo, SkipReason,
    StoredEntry,
};

/// The conditions that a connection shows.
const SHOWN: [ConditionType; 5] = [
    ConditionType::Reachable,
    ConditionType::Paired,
    ConditionType::Authenticated,
    ConditionType::Compatible,
    ConditionType::Settled,
];

/// The checks of a gateway by a connection, with the messages of the AgentGateway's conditions.
pub(super) fn of_gateway(object: &Value, mut gateway: AgentGateway, url: &Url, view: &GatewayView) -> Vec<Check> {
    let seen_version = gateway.status.as_ref().and_then(|status| status.server_version.clone());
    url.as_str().clone_into(&mut gateway.spec.url);
    let seen = ObservedConnection {
        state: view.connection.clone(),
        inventory: view.inventory.clone(),
        read_failure: view.read_failure.clone(),
        writes: ConfigWrites::default(),
        device_id: None,
        interrupted_removals: Vec::new(),
        shared_heartbeats: None,
    };
    let conditions = from_connection(&gateway, None, &seen);
    let is_shown = |one: &ConditionUpdate| {
        let cannot_write = one.kind == ConditionType::ConfigSynced && one.reason == Reason::ConfigNotWritable;
        SHOWN.contains(&one.kind) || cannot_write
    };
    let mut shown: Vec<_> = conditions.iter().filter(|one| is_shown(one)).collect();
    shown.sort_by_key(|one| SHOWN.iter().position(|kind| *kind == one.kind).unwrap_or(SHOWN.len()));
    let mut checks: Vec<_> = shown.into_iter().map(|one| of_condition(object, one)).collect();
    checks.extend(version(view, seen_version.as_deref()));
    without_repeats(checks)
}

fn of_condition(object: &Value, update: &ConditionUpdate) -> Check {
    let mut check = of_update(object, update);
    let own = match update.reason {
        Reason::Unreachable => {
            "The connection comes from the host of this command, and not from the operator. To an address within the cluster, \
             run kubectl port-forward, and give --gateway ws://127.0.0.1:PORT. Otherwise check spec.url, the network, and whether \
             the gateway runs."
        }
        Reason::PairingRequired => {
            "The command has a device of its own, which the gateway has to approve while the command waits (--timeout). A \
             connection from the gateway's own host needs no approval: run kubectl port-forward to its pod, and give --gateway \
             ws://127.0.0.1:PORT."
        }
        _ => "",
    };
    if update.status == ConditionStatus::False && !own.is_empty() {
        own.clone_into(&mut check.next_step);
    }
    check
}

/// What is wrong if the command did not see the roster and the config of the gateway, and no other check says so.
pub(super) fn unread(view: &GatewayView, limit: Duration, others: &[Check]) -> Option<Check> {
    let is_said = others.iter().any(|check| check.result == CheckResult::Wrong);
    if view.inventory.is_some() || is_said {
        return None;
    }
    let (found, next_step) = match (&view.connection, view.read_failure.as_deref()) {
        (ConnectionState::Up(_), Some(failure)) => (
            format!("the config and the roster cannot be read: {} ({})", failure.message, failure.code),
            "Read the answer and the gateway's log.",
        ),
        _ => (
            format!("the gateway did not answer within {} s", limit.as_secs()),
            "Check that the address is that of the gateway, and that nothing between holds the connection. See --timeout.",
        ),
    };
    Some(Check::new("answer", CheckResult::Wrong, found, next_step))
}

/// Whether Muster saw another version.
fn version(view: &GatewayView, seen: Option<&str>) -> Option<Check> {
    let ConnectionState::Up(hello) = &view.connection else { return None };
    let seen = seen.filter(|seen| *seen != hello.server_version)?;
    let found = format!("the gateway is OpenClaw {}, and Muster last saw {seen}", hello.server_version);
    let next_step =
        "Check that this address is that of the AgentGateway. After an upgrade, Muster sees it when it connects.";
    Some(Check::new("version", CheckResult::Notice, found, next_step))
}

/// The checks of an Agent on its gateway.
pub(super) fn of_agent(target: &AgentTarget, inventory: &Inventory, answers: Option<&AgentAnswers>) -> Vec<Check> {
    let Some(id) = target.id() else {
        let next_step = "See the condition Ready of the Agent.";
        return vec![Check::new("roster", CheckResult::Pending, "Muster has not registered the agent yet", next_step)];
    };
    let sync = format!("muster sync agent {}", name_of(target));
    let mut checks = vec![roster(id, inventory, &sync)];
    checks.extend(entry(id, target, inventory, &sync));
    if let Some(answers) = answers {
        checks.extend(files(target, answers, &sync));
        checks.extend(session(target, answers, &sync));
        checks.extend(heartbeat(id, target, answers));
    }
    checks
}

fn name_of(target: &AgentTarget) -> &str {
    target.agent.metadata.name.as_deref().unwrap_or_default()
}

fn roster(id: &str, inventory: &Inventory, sync: &str) -> Check {
    match inventory.agents.get(id) {
        Some(row) if row.in_roster => Check::new("roster", CheckResult::Good, format!("the gateway serves {id}"), ""),
        Some(_) => {
            let found = format!("the gateway's config has {id}, and its roster does not");
            Check::new(
                "roster",
                CheckResult::Wrong,
                found,
                "See Settled of the gateway: it has not applied its config.",
            )
        }
        None => {
            let found = format!("the gateway has no agent {id}");
            let next_step =
                format!("Check that this is the gateway of spec.url. Then {sync}: Muster creates the agent again.");
            Check::new("roster", CheckResult::Wrong, found, &next_step)
        }
    }
}

/// The entry in the gateway's config, by the rule of Muster's config writer.
fn entry(id: &str, target: &AgentTarget, inventory: &Inventory, sync: &str) -> Option<Check> {
    let row = inventory.agents.get(id)?;
    let Some(stored) = row.entry.as_ref().map(StoredEntry::tree) else {
        let is_own = id == "main";
        let result = if is_own { CheckResult::Good } else { CheckResult::Wrong };
        let next_step = if is_own { String::new() } else { format!("{sync}: Muster writes the entry again.") };
        return Some(Check::new("entry", result, "the gateway's config has no entry of the agent", &next_step));
    };
    let Some(patch) = target.entry(id, inventory).patch(Some(&stored)) else {
        return Some(Check::new("entry", CheckResult::Good, shown(&stored), ""));
    };
    let next_step =
        format!("{sync}: Muster writes the entry again. If that does not last, another program writes openclaw.json.");
    let found = format!("{}; Muster wants {}", shown(&stored), shown(&patch));
    Some(Check::new("entry", CheckResult::Wrong, found, &next_step))
}

/// The fields of an entry that the checks are about. Others may hold secrets.
fn shown(entry: &Map<String, Value>) -> String {
    let model = entry.get("model").and_then(|model| model.as_str().or_else(|| model["primary"].as_str()));
    let every = entry.get("heartbeat").and_then(|heartbeat| heartbeat["every"].as_str());
    let fields =
        [("workspace", entry.get("workspace").and_then(Value::as_str)), ("model", model), ("a heartbeat every", every)];
    let fields: Vec<_> = fields.iter().filter_map(|(word, value)| Some(format!("{word} {}", (*value)?))).collect();
    if fields.is_empty() { "other fields".to_owned() } else { fields.join(", ") }
}

fn files(target: &AgentTarget, answers: &AgentAnswers, sync: &str) -> Vec<Check> {
    let recorded = target.status().map(|status| status.files.as_slice()).unwrap_or_default();
    let recorded: Vec<_> = recorded.iter().filter(|file| is_recorded(file)).collect();
    let seen = match &answers.files {
        Ok(seen) => seen,
        Err(error) => {
            return vec![Check::new("files", CheckResult::Pending, error, "Read the answer and the gateway's log.")];
        }
    };
    let mut checks = Vec::new();
    for file in &recorded {
        let name = format!("file {}", file.name);
        match seen.get(&*file.name) {
            Some(SeenFile::Missing) => {
                let next_step = format!("{sync}: Muster writes it again.");
                checks.push(Check::new(&name, CheckResult::Wrong, "the gateway does not have it", &next_step));
            }
            Some(SeenFile::Differs) => {
                let found = "somebody changed it after Muster wrote it";
                let next_step =
                    format!("Wait for the next comparison (resyncInterval, contentCheckInterval), or {sync}.");
                checks.push(Check::new(&name, CheckResult::Notice, found, &next_step));
            }
            Some(SeenFile::Unreadable(error)) => {
                checks.push(Check::new(&name, CheckResult::Pending, error, "Read the answer and the gateway's log."));
            }
            Some(SeenFile::Same) | None => {}
        }
    }
    if checks.is_empty() {
        let synced = recorded.iter().filter(|file| file.state == FileState::Synced).count();
        let found = format!("{} are there, and the hashes of {synced} are as Muster wrote them", recorded.len());
        checks.push(Check::new("files", CheckResult::Good, found, ""));
    }
    checks
}

fn session(target: &AgentTarget, answers: &AgentAnswers, sync: &str) -> Vec<Check> {
    let session = match &answers.session {
        None => return vec![Check::new("session", CheckResult::Pending, "the status names no session yet", "")],
        Some(Err(error)) => return vec![Check::new("session", CheckResult::Pending, error, "See the gateway's log.")],
        Some(Ok(None)) => {
            let next_step = format!("{sync}: Muster makes it again.");
            return vec![Check::new("session", CheckResult::Wrong, "the gateway does not have it", &next_step)];
        }
        Some(Ok(Some(session))) => session,
    };
    let label = session.label.as_deref().map(|label| format!(" with the label {label:?}")).unwrap_or_default();
    vec![
        Check::new("session", CheckResult::Good, format!("it is there{label}"), ""),
        last_run(target, session, answers.read_at),
    ]
}

fn last_run(target: &AgentTarget, session: &SessionInfo, now: Instant) -> Check {
    let ago = |ms: i64| match &session.clock {
        Some(clock) => format!("{} ago", age::text(seconds(clock.age(ms, now)))),
        None => "at an unknown time".to_owned(),
    };
    let Some(run) = &session.run else {
        let next_step = format!("Wait for a heartbeat, or muster wake agent {} starts one.", name_of(target));
        return Check::new("last run", CheckResult::Notice, "there was none since the last reset", &next_step);
    };
    let found = match run.ended_ms {
        Some(ended) => format!("it began {} and ended {}", ago(run.started_ms), ago(ended)),
        None => format!("it began {} and goes on", ago(run.started_ms)),
    };
    Check::new("last run", CheckResult::Good, found, "")
}

fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

/// The heartbeat job of the agent.
fn heartbeat(id: &str, target: &AgentTarget, answers: &AgentAnswers) -> Option<Check> {
    if target.every() == Some(Duration::ZERO) {
        return Some(Check::new("heartbeat", CheckResult::Good, "it is off, as the specs say", ""));
    }
    let (result, reason, found) = match answers.jobs.as_ref() {
        None => (CheckResult::Pending, Reason::HeartbeatUnknown, "the gateway's jobs were not read in time".to_owned()),
        Some(HeartbeatJobs::NoJobs) => return None,
        Some(HeartbeatJobs::Unreadable(error)) => (CheckResult::Pending, Reason::HeartbeatUnknown, error.clone()),
        Some(HeartbeatJobs::SchedulerOff) => {
            (CheckResult::Wrong, Reason::HeartbeatsOff, "the gateway's scheduler is off".to_owned())
        }
        Some(HeartbeatJobs::Listed(jobs)) => match jobs.get(id) {
            Some(job) => of_job(job),
            None => (CheckResult::Wrong, Reason::HeartbeatNotScheduled, "the gateway has no job for it".to_owned()),
        },
    };
    let condition = ConditionType::HeartbeatConfigured;
    Some(Check::new("heartbeat", result, found, "").with_remedy("Agent", condition.as_str(), reason.as_str()))
}

fn of_job(job: &HeartbeatJob) -> (CheckResult, Reason, String) {
    if !job.enabled {
        return (CheckResult::Wrong, Reason::HeartbeatsOff, "its job is disabled".to_owned());
    }
    match job.last.as_ref().map(|last| (&last.result, last.skips)) {
        None => (CheckResult::Good, Reason::Reconciled, "its job is there and has not run yet".to_owned()),
        Some((HeartbeatResult::Ran, _)) => (CheckResult::Good, Reason::Reconciled, "the last one ran".to_owned()),
        Some((HeartbeatResult::Skipped(cause), skips)) => {
            let found = format!("the gateway skipped the last {skips}: {}", skipped(cause));
            (CheckResult::Notice, Reason::HeartbeatSkipped, found)
        }
        Some((HeartbeatResult::Failed(cause), _)) => {
            (CheckResult::Wrong, Reason::HeartbeatFailed, format!("the last one failed: {cause}"))
        }
    }
}

fn skipped(cause: &SkipReason) -> &str {
    match cause {
        SkipReason::NoRoute => "their answers have no route",
        SkipReason::EmptyScratch => "the scratch of the job has no task",
        SkipReason::Disabled => "heartbeats are turned off",
        SkipReason::QuietHours => "it is outside the active hours",
        SkipReason::Other(text) => text,
    }
}
