//! The status of an agent, derived from what was seen.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::conditions::{AgentConditions, PARTS, judge};
use super::desired::{Desired, DesiredFile};
use super::liveness::Liveness;
use super::observed::{ObservedRun, Registration};
use super::plan::records;
use super::status_input::StatusInput;
use super::token::rules::{TokenState, TokenStatusInput, is_recorded};
use crate::api::agent::{AgentStatus, CheckIn, FileState, LastError, Phase, RunStatus};
use crate::api::conditions::{ConditionStatus, ConditionUpdate, clear, find, is_true, set};
use crate::api::requests::RequestKind;
use crate::api::{ConditionType, Reason};
use crate::core::agent::{files, label, session, wake};
use crate::core::error::ReconcileError;

/// The status of an agent that is not being deleted.
#[must_use]
pub fn status(report: &StatusInput<'_>) -> AgentStatus {
    let mut new = report.old.clone();
    new.observed_generation = report.generation;
    if let Some(heartbeat) = report.heartbeat {
        new.heartbeat = Some(heartbeat.clone());
    }
    if let Some(desired) = report.desired {
        describe(&mut new, desired, report);
    }
    let AgentConditions { verdicts, ready } = judge(&new, report);
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
pub fn deleting(old: &AgentStatus, generation: i64, wait: Option<&ReconcileError>, now: Timestamp) -> AgentStatus {
    let mut new = old.clone();
    new.observed_generation = generation;
    new.phase = Some(Phase::Deleting);
    let (reason, message) = match wait {
        Some(trouble) => (trouble.reason, trouble.message.as_str()),
        None => (Reason::Deleting, "the agent is being removed from its gateway"),
    };
    for (kind, truth) in
        [(ConditionType::Ready, ConditionStatus::False), (ConditionType::Reconciling, ConditionStatus::True)]
    {
        set(&mut new.conditions, &ConditionUpdate::new(kind, truth, reason, message), generation, now);
    }
    clear(&mut new.conditions, ConditionType::Stalled);
    new.last_error = wait.map(last_error);
    new
}

fn last_error(trouble: &ReconcileError) -> LastError {
    LastError {
        code: trouble.code.clone().unwrap_or_else(|| trouble.reason.as_str().into()),
        message: trouble.message.clone(),
        transient: trouble.transient,
    }
}

/// Ids, files, token, session, wake and requests.
fn describe(new: &mut AgentStatus, desired: &Desired, report: &StatusInput<'_>) {
    let old_files = records(desired, report.old);
    let other_agent = old_files.is_empty() && new.agent_id.as_ref().is_some_and(|id| *id != desired.identity.agent_id);
    if other_agent {
        new.files.clear();
        new.rewritten.clear();
        new.wake = None;
        new.session = None;
        new.session_label = None;
        new.last_run = None;
    }
    let registered = report.observed.filter(|observed| observed.registration == Registration::Current);
    // Files are rendered with a token that the agent is given once the status knows it.
    let given = report.token.is_none_or(|state| is_recorded(state, report.old.token.as_ref()));
    if let (Some(files), Some(observed), true) = (&desired.files, registered, given) {
        let status = |f| files::status(f, files::record(old_files, &f.name), observed.files.get(&f.name));
        new.files = files.iter().map(status).chain(files::left(desired, old_files, &observed.files)).collect();
    }
    new.soul.clone_from(&desired.soul);
    new.agent_id = Some(desired.identity.agent_id.clone());
    new.session_key = Some(desired.identity.session_key.clone());
    new.workspace_path = Some(desired.identity.workspace.clone());
    new.gateway = Some(desired.gateway.clone());
    if let Some(state) = report.token {
        let written = |file: &DesiredFile| {
            !file.carries_token
                || new
                    .files
                    .iter()
                    .any(|f| f.name == file.name && matches!(f.state, FileState::Synced | FileState::Ignored))
        };
        let delivered = given && registered.is_some() && desired.files.as_ref().is_some_and(|f| f.iter().all(written));
        let tokens = TokenStatusInput {
            state,
            old: report.old.token.as_ref(),
            confirmed: report.confirmed,
            delivered: delivered || desired.secret_only,
            now: report.now,
        };
        new.token = tokens.status(desired);
    }
    if let Some(observed) = registered {
        let reset = report.fulfilled.contains(&RequestKind::ResetSession);
        new.rewritten.clone_from(&observed.rewritten);
        new.session = session::status(desired, new, observed, report.begins_reset, reset);
        new.last_run = observed.activity.run.map(run).or(new.last_run.take());
    }
    new.session_label = label::status(desired, new.session_label.as_ref(), report.labelled, report.now);
    new.wake = wake::status(desired, new.wake.as_ref(), report.observed, report.woken, report.now);
    desired.requests.record(new, &fulfilled(desired, report), report.now);
}

/// What was done of the one-shot requests. A token is replaced when the one in the Secret was issued for the request.
fn fulfilled(desired: &Desired, report: &StatusInput<'_>) -> BTreeSet<RequestKind> {
    let mut done = report.fulfilled.clone();
    if let Some(TokenState::Held(held)) = report.token
        && held.issued_for.is_some()
        && held.issued_for >= desired.requests.due(RequestKind::Rotate)
    {
        done.insert(RequestKind::Rotate);
    }
    done
}

fn run(run: ObservedRun) -> RunStatus {
    RunStatus { started_at: Some(Time(run.started)), ended_at: run.ended.map(Time) }
}

/// The kstatus conditions, present only while true.
fn progress(new: &mut AgentStatus, report: &StatusInput<'_>, ready: &ConditionUpdate) {
    clear(&mut new.conditions, ConditionType::Reconciling);
    clear(&mut new.conditions, ConditionType::Stalled);
    if ready.status == ConditionStatus::True {
        return;
    }
    let kind = match report.wait {
        Some(wait) if !wait.trouble().transient => ConditionType::Stalled,
        // Everything else is done.
        None if ready.reason == Reason::FileRefused => ConditionType::Stalled,
        Some(_) | None => ConditionType::Reconciling,
    };
    let since = find(&report.old.conditions, kind).map_or(report.now, |c| c.last_transition_time.0);
    set(
        &mut new.conditions,
        &ConditionUpdate::new(kind, true, ready.reason, ready.message.clone()),
        report.generation,
        since,
    );
}

fn phase(new: &AgentStatus, report: &StatusInput<'_>) -> Phase {
    if report.desired.is_some_and(|d| d.paused.is_some()) {
        return Phase::Paused;
    }
    if is_true(&new.conditions, ConditionType::Stalled) {
        return Phase::Failed;
    }
    if !PARTS.iter().all(|part| is_true(&new.conditions, *part)) {
        return Phase::Provisioning;
    }
    if report.observed.is_some_and(|shown| Liveness::of(None, new, Some(shown)).running_until(report.now).is_some()) {
        return Phase::Active;
    }
    let checked_in = find(&new.conditions, ConditionType::CheckedIn);
    let silent = checked_in.is_some_and(|c| c.status != "True" && report.desired.is_some());
    let given_up = checked_in.is_some_and(|c| c.reason == Reason::MaxWakeAttempts.as_str());
    if given_up || silent && new.heartbeat.is_some() {
        return Phase::Offline;
    }
    match new.heartbeat.as_ref().and_then(|h| h.status) {
        Some(CheckIn::Active) => Phase::Active,
        Some(CheckIn::Idle) => Phase::Idle,
        None if new.last_run.is_some() => Phase::Idle,
        None => Phase::Ready,
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
