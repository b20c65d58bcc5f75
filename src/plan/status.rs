//! The status of an agent, derived from what was seen.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::agent::{Wait, records};
use super::desired::Desired;
use super::files;
use super::observed::{Observed, Registration, TokenState};
use super::trouble::Trouble;
use super::wake::{Waking, fresh, waking};
use crate::api::agent::{AgentStatus, CheckIn, FileState, HeartbeatStatus, LastError, Phase, TokenStatus, WakeStatus};
use crate::api::conditions::{Truth, Verdict, clear, find, is_true, set};
use crate::api::{ConditionType, Reason};

/// Everything that a status is derived from.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// The status so far.
    pub old: &'a AgentStatus,
    /// The generation of the spec.
    pub generation: i64,
    /// What the agent is to be, when that could be said.
    pub desired: Option<&'a Desired>,
    /// What was seen on the gateway, when it could be asked.
    pub observed: Option<&'a Observed>,
    /// The token Secret, when it was read.
    pub token: Option<&'a TokenState>,
    /// Why the agent is not complete.
    pub wait: Option<&'a Wait>,
    /// What the agent last reported, when that is newer than the status.
    pub heartbeat: Option<&'a HeartbeatStatus>,
    /// The wake that was sent just now: attempt and time.
    pub woken: Option<(i32, Timestamp)>,
    /// The time.
    pub now: Timestamp,
}

/// The status of an agent that is not being deleted.
#[must_use]
pub fn status(report: &Report<'_>) -> AgentStatus {
    let mut new = report.old.clone();
    new.observed_generation = report.generation;
    if let Some(heartbeat) = report.heartbeat {
        new.heartbeat = Some(heartbeat.clone());
    }
    if let Some(desired) = report.desired {
        describe(&mut new, desired, report);
    }
    let Judgement { verdicts, ready } = judge(&new, report);
    for verdict in verdicts.iter().chain([&ready]) {
        set(&mut new.conditions, verdict, report.generation, report.now);
    }
    progress(&mut new, report, &ready);
    new.last_error = report.wait.map(|wait| last_error(wait.trouble()));
    new.phase = Some(phase(&new, report));
    new
}

/// The status of an agent that is being deleted.
#[must_use]
pub fn deleting(old: &AgentStatus, generation: i64, wait: Option<&Trouble>, now: Timestamp) -> AgentStatus {
    let mut new = old.clone();
    new.observed_generation = generation;
    new.phase = Some(Phase::Deleting);
    let (reason, message) = match wait {
        Some(trouble) => (trouble.reason, trouble.message.as_str()),
        None => (Reason::Deleting, "the agent is being removed from its gateway"),
    };
    for (kind, truth) in [(ConditionType::Ready, Truth::False), (ConditionType::Reconciling, Truth::True)] {
        set(&mut new.conditions, &Verdict::new(kind, truth, reason, message), generation, now);
    }
    clear(&mut new.conditions, ConditionType::Stalled);
    new.last_error = wait.map(last_error);
    new
}

fn last_error(trouble: &Trouble) -> LastError {
    LastError {
        code: trouble.code.clone().unwrap_or_else(|| trouble.reason.as_str().into()),
        message: trouble.message.clone(),
        transient: trouble.transient,
    }
}

/// Ids, files, token and wake.
fn describe(new: &mut AgentStatus, desired: &Desired, report: &Report<'_>) {
    let old_files = records(desired, report.old);
    let other_agent = old_files.is_empty() && new.agent_id.as_ref().is_some_and(|id| *id != desired.identity.agent_id);
    if other_agent {
        new.files.clear();
        new.wake = None;
    }
    if let (Some(files), Some(observed)) = (&desired.files, report.observed) {
        let status = |f| files::status(f, files::record(old_files, &f.name), observed.files.get(&f.name));
        if observed.registration == Registration::Current {
            new.files = files.iter().map(status).collect();
        }
    }
    new.agent_id = Some(desired.identity.agent_id.clone());
    new.session_key = Some(desired.identity.session_key.clone());
    new.workspace_path = Some(desired.identity.workspace.clone());
    new.gateway = Some(desired.gateway.clone());
    if let Some(TokenState::Valid(sha256)) = report.token {
        new.token = Some(TokenStatus {
            secret_name: desired.token_secret.clone(),
            sha256: sha256.clone(),
            ..TokenStatus::default()
        });
    }
    if let (Some((attempt, at)), Some(wake)) = (report.woken, desired.wake) {
        new.wake = Some(WakeStatus {
            generation: desired.generation,
            attempts: attempt,
            last_sent_at: Some(Time(at)),
            deadline: at.saturating_add(wake.deadline).ok().map(Time),
            key: None,
            answered_at: None,
        });
    }
}

struct Judgement {
    verdicts: Vec<Verdict>,
    ready: Verdict,
}

fn judge(new: &AgentStatus, report: &Report<'_>) -> Judgement {
    let mut verdicts = Vec::new();
    if let Some(desired) = report.desired {
        verdicts.push(paused(desired));
        verdicts.push(checked_in(desired, new, report.now));
        if let Some(token) = report.token {
            verdicts.push(token_issued(desired, token));
        }
        if let Some(observed) = report.observed {
            verdicts.extend(on_gateway(desired, new, observed, report.wait));
        }
    }
    let missing = || verdicts.iter().find(|v| PARTS.contains(&v.kind) && v.truth != Truth::True);
    let ready = match (report.wait, report.desired, missing()) {
        (Some(wait), _, _) => not_ready(wait.trouble()),
        (None, Some(_), Some(part)) => Verdict::new(ConditionType::Ready, false, part.reason, part.message.clone()),
        (None, Some(_), None) if report.observed.is_some() => {
            Verdict::new(ConditionType::Ready, true, Reason::Reconciled, "the agent is provisioned as specified")
        }
        (None, _, _) => Verdict::new(ConditionType::Ready, false, Reason::Progressing, "the agent is being set up"),
    };
    Judgement { verdicts, ready }
}

/// The conditions that Ready is made of.
const PARTS: [ConditionType; 5] = [
    ConditionType::TokenIssued,
    ConditionType::Registered,
    ConditionType::HeartbeatConfigured,
    ConditionType::FilesSynced,
    ConditionType::SessionReady,
];

/// While the gateway is away nobody knows whether the agent is still as specified.
fn not_ready(trouble: &Trouble) -> Verdict {
    let truth = if trouble.reason == Reason::GatewayNotReady { Truth::Unknown } else { Truth::False };
    Verdict::new(ConditionType::Ready, truth, trouble.reason, trouble.message.clone())
}

fn paused(desired: &Desired) -> Verdict {
    match desired.paused {
        Some(why) => Verdict::new(ConditionType::Paused, true, Reason::Suspended, why),
        None => Verdict::new(ConditionType::Paused, false, Reason::Running, "the agent is not suspended"),
    }
}

fn token_issued(desired: &Desired, token: &TokenState) -> Verdict {
    let secret = &desired.token_secret;
    let (so, reason, message) = match token {
        TokenState::Valid(_) => (true, Reason::Reconciled, format!("the token is in Secret {secret:?}")),
        TokenState::Missing | TokenState::Damaged => {
            (false, Reason::Progressing, format!("the token is being written to Secret {secret:?}"))
        }
        TokenState::Foreign => {
            (false, Reason::SecretConflict, format!("Secret {secret:?} exists and does not belong to this Agent"))
        }
    };
    Verdict::new(ConditionType::TokenIssued, so, reason, message)
}

fn on_gateway(desired: &Desired, new: &AgentStatus, observed: &Observed, wait: Option<&Wait>) -> Vec<Verdict> {
    let registered = observed.registration == Registration::Current;
    let because = |message: &str| match wait {
        Some(wait) => (wait.trouble().reason, wait.trouble().message.clone()),
        None => (Reason::Progressing, message.to_owned()),
    };
    let say = |kind, so: bool, yes: &str, no: &str| {
        let (reason, message) = if so { (Reason::Reconciled, yes.to_owned()) } else { because(no) };
        Verdict::new(kind, so, reason, message)
    };
    let unsynced: Vec<_> = new.files.iter().filter(|f| !settled(f.state)).map(|f| f.name.as_str()).collect();
    let synced = registered && desired.files.is_some() && !new.files.is_empty() && unsynced.is_empty();
    let labelled = registered && observed.label.as_deref() == Some(desired.label.as_str());
    let waiting = format!("to be written: {}", unsynced.join(", "));
    vec![
        say(
            ConditionType::Registered,
            registered,
            "the gateway's roster shows the agent as specified",
            "the agent is being registered",
        ),
        say(
            ConditionType::HeartbeatConfigured,
            registered,
            "the gateway's heartbeat is set up as specified",
            "the heartbeat is being set up",
        ),
        say(ConditionType::FilesSynced, synced, "the workspace files are as rendered", &waiting),
        say(
            ConditionType::SessionReady,
            labelled,
            "the session carries the agent's name",
            "the session is being set up",
        ),
    ]
}

fn settled(state: FileState) -> bool {
    match state {
        FileState::Synced | FileState::Kept | FileState::Folded | FileState::Unmanaged => true,
        FileState::Pending | FileState::TooLarge => false,
    }
}

fn checked_in(desired: &Desired, new: &AgentStatus, now: Timestamp) -> Verdict {
    let seen = new.heartbeat.as_ref().map(|h| h.last_seen.0);
    if fresh(desired, seen, now) {
        return Verdict::new(
            ConditionType::CheckedIn,
            true,
            Reason::CheckedIn,
            "the agent calls Muster's API as it should",
        );
    }
    let (reason, message) = match waking(desired, new.wake.as_ref(), seen, now) {
        Waking::Until(deadline) => (Reason::WaitingForCheckIn, format!("the agent was woken and has until {deadline} to check in")),
        Waking::Exhausted => (
            Reason::MaxWakeAttempts,
            "the agent was woken as often as spec.wake.maxAttempts allows and did not check in; look at its session on the gateway, and whether it can reach spec.apiUrl".to_owned(),
        ),
        Waking::Send { .. } => (Reason::WaitingForCheckIn, "the agent is about to be woken".to_owned()),
        Waking::Rest if seen.is_some() => (Reason::Stale, "the agent has not called for two heartbeat intervals".to_owned()),
        Waking::Rest => (Reason::NotWoken, "the agent is not woken and has not called yet".to_owned()),
    };
    Verdict::new(ConditionType::CheckedIn, false, reason, message)
}

/// The kstatus conditions, present only while true.
fn progress(new: &mut AgentStatus, report: &Report<'_>, ready: &Verdict) {
    clear(&mut new.conditions, ConditionType::Reconciling);
    clear(&mut new.conditions, ConditionType::Stalled);
    if ready.truth == Truth::True {
        return;
    }
    let kind = match report.wait {
        Some(wait) if !wait.trouble().transient => ConditionType::Stalled,
        Some(_) | None => ConditionType::Reconciling,
    };
    let since = find(&report.old.conditions, kind).map_or(report.now, |c| c.last_transition_time.0);
    set(&mut new.conditions, &Verdict::new(kind, true, ready.reason, ready.message.clone()), report.generation, since);
}

fn phase(new: &AgentStatus, report: &Report<'_>) -> Phase {
    if report.desired.is_some_and(|d| d.paused.is_some()) {
        return Phase::Paused;
    }
    if is_true(&new.conditions, ConditionType::Stalled) {
        return Phase::Failed;
    }
    let provisioned = PARTS.iter().all(|part| is_true(&new.conditions, *part));
    if !provisioned {
        return Phase::Provisioning;
    }
    let Some(heartbeat) = &new.heartbeat else { return Phase::Ready };
    if report.desired.is_some() && !is_true(&new.conditions, ConditionType::CheckedIn) {
        return Phase::Offline;
    }
    match heartbeat.status {
        Some(CheckIn::Active) => Phase::Active,
        Some(CheckIn::Idle) => Phase::Idle,
        None => Phase::Ready,
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
