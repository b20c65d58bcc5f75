//! The status of an agent, derived from the observed state.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::binding::{AgentIdentity, Binding};
use super::blocked::Blocker;
use super::conditions::{ALL, AgentConditions, READY_CONDITIONS, evaluate};
use super::desired::{Desired, DesiredFile};
use super::file_writes::records;
use super::liveness::Liveness;
use super::observed::Registration;
use super::session::ResetProgress;
use super::status_input::StatusInput;
use super::token::rules::{TokenState, TokenStatusInput, is_recorded};
use super::unanswered::{keeps_conditions, last_error};
use super::wake::WakeStatusInput;
use crate::api::agent::{Agent, AgentStatus, CheckIn, FileState, Phase, RunStatus};
use crate::api::condition::Condition;
use crate::api::conditions::{ConditionStatus, ConditionUpdate, clear, fill, find, is_true, set};
use crate::api::requests::RequestKind;
use crate::api::{ConditionType, Reason};
use crate::core::agent::{files, label, session};
use crate::core::error::ReconcileError;
use crate::core::kstatus::{ProgressInput, set_progress};
use crate::openclaw::model::AgentEntry;

/// The status of an agent that is not being deleted.
#[must_use]
pub fn status(input: &StatusInput<'_>) -> AgentStatus {
    let mut new = input.old.clone();
    new.observed_generation = input.generation;
    new.revocation = input.revocation.cloned().map(Box::new);
    if let Some(heartbeat) = input.heartbeat {
        new.heartbeat = Some(heartbeat.clone());
    }
    match (&input.observer, input.desired) {
        (Some(observer), _) => observer.describe(&mut new, input.now),
        (None, Some(desired)) => describe(&mut new, desired, input),
        (None, None) => {}
    }
    if input.observer.is_none() && is_of_an_observer(&new.conditions) {
        // Registered and Ready of the time say nothing about the entry that Muster wants.
        new.conditions.clear();
    }
    let AgentConditions { conditions, ready } = evaluate(&new, input);
    for condition in conditions.iter().chain([&ready]) {
        set(&mut new.conditions, condition, input.generation, input.now);
    }
    let error = input.blocker.map(Blocker::error);
    let (generation, now) = (input.generation, input.now);
    let is_suspended = input.blocker.is_some_and(Blocker::is_suspension);
    let progress = ProgressInput { ready: &ready, error, reconciling: None, is_suspended, generation, now };
    set_progress(&mut new.conditions, &progress);
    fill(&mut new.conditions, &ALL, generation, now);
    let failed = input.blocker.filter(|blocker| !blocker.is_suspension());
    new.last_error =
        failed.map(|blocker| last_error(blocker.error(), input.old.last_error.as_deref(), now)).map(Box::new);
    new.phase = Some(phase(&new, input));
    if keeps_conditions(input, new.last_error.as_deref()) {
        new.conditions.clone_from(&input.old.conditions);
        new.phase = input.old.phase;
    }
    new
}

/// Whether the conditions are of a time at which Muster only observed the agent.
fn is_of_an_observer(conditions: &[Condition]) -> bool {
    conditions.iter().any(|condition| condition.reason == Reason::NotManaged.as_str())
}

/// The status of an agent that is being deleted.
#[must_use]
pub fn terminating(old: &AgentStatus, generation: i64, error: Option<&ReconcileError>, now: Timestamp) -> AgentStatus {
    let mut new = old.clone();
    new.observed_generation = generation;
    new.phase = Some(Phase::Deleting);
    let (reason, message) = match error {
        Some(error) => (error.reason, error.message.as_str()),
        None => (Reason::Deleting, "the agent is being removed from its gateway"),
    };
    for (kind, status) in
        [(ConditionType::Ready, ConditionStatus::False), (ConditionType::Reconciling, ConditionStatus::True)]
    {
        set(&mut new.conditions, &ConditionUpdate::new(kind, status, reason, message), generation, now);
    }
    clear(&mut new.conditions, ConditionType::Stalled);
    new.last_error = error.map(|error| last_error(error, old.last_error.as_deref(), now)).map(Box::new);
    new
}

/// Whether an error, for which the deletion of an Agent waits until somebody corrects something, is not in its status yet.
#[must_use]
pub fn is_new_obstacle(agent: &Agent, error: &ReconcileError) -> bool {
    let shown = agent.status.as_ref().and_then(|status| find(&status.conditions, ConditionType::Ready));
    let is_shown = shown.is_some_and(|ready| ready.reason == error.reason.as_str() && ready.message == error.message);
    let waits = match error.reason {
        Reason::DeletionIncomplete => true,
        Reason::DeletionBlocked => !error.transient,
        _ => false,
    };
    waits && !is_shown
}

/// Whether the status of an Agent belongs to the current generation of its spec.
#[must_use]
pub fn is_observed(agent: &Agent) -> bool {
    agent.status.as_ref().map(|status| status.observed_generation) == agent.metadata.generation
}

/// Whether an Agent is Ready.
#[must_use]
pub fn is_ready(agent: &Agent) -> bool {
    agent.status.as_ref().is_some_and(|s| is_true(&s.conditions, ConditionType::Ready))
}

/// The id of a lead or main agent that derives from `parent_uid` and that the gateway has, or may still have during the removal. The
/// next lead or main agent gets the same id. An id that the Agent claimed is of another object, and no other agent gets it.
#[must_use]
pub fn parent_derived_id(agent: &Agent, parent_uid: Option<&str>) -> Option<String> {
    let derived = AgentIdentity::derive(agent.spec.role, None, parent_uid?, "").agent_id;
    let binding = Binding::of(agent).filter(|b| agent.spec.agent_id.is_none() && b.identity.agent_id == derived)?;
    let status = agent.status.as_ref()?;
    let same = (status.agent_id.as_ref(), status.gateway.as_ref())
        == (Some(&binding.identity.agent_id), Some(&binding.gateway));
    let registered = same && is_true(&status.conditions, ConditionType::Registered);
    (registered || agent.metadata.deletion_timestamp.is_some()).then_some(binding.identity.agent_id)
}

/// Sets ids, files, token, session, wake and requests.
fn describe(new: &mut AgentStatus, desired: &Desired, input: &StatusInput<'_>) {
    let old_files = records(desired, input.old);
    let other_agent = old_files.is_empty() && new.agent_id.as_ref().is_some_and(|id| *id != desired.identity.agent_id);
    if other_agent {
        new.files.clear();
        new.rewritten.clear();
        new.config_keys.clear();
        new.wake = None;
        new.session = None;
        new.session_label = None;
        new.last_run = None;
        new.active_hours = None;
    }
    let registered = input.observed.filter(|observed| observed.registration == Registration::Current);
    new.config_keys = config_keys(&desired.entry, &new.config_keys, registered.is_some());
    // Files are rendered with the token of the Secret. The agent gets that token once the status records it.
    let is_recorded_token = input.token.is_none_or(|state| is_recorded(state, input.old.token.as_ref()));
    if let (Some(files), Some(observed), true) = (&desired.files, registered, is_recorded_token) {
        let status = |f| files::status(f, files::record(old_files, &f.name), observed.files.get(&f.name));
        new.files =
            files.iter().map(status).chain(files::unwanted_statuses(desired, old_files, &observed.files)).collect();
    }
    new.soul = desired.soul.clone().map(Box::new);
    new.agent_id = Some(desired.identity.agent_id.clone());
    new.session_key = Some(desired.identity.session_key.clone());
    new.workspace_path = Some(desired.identity.workspace.clone());
    new.gateway = Some(desired.gateway.clone());
    if let Some(state) = input.token {
        let written = |file: &DesiredFile| {
            !file.carries_token
                || new
                    .files
                    .iter()
                    .any(|f| f.name == file.name && matches!(f.state, FileState::Synced | FileState::Ignored))
        };
        let delivered =
            is_recorded_token && registered.is_some() && desired.files.as_ref().is_some_and(|f| f.iter().all(written));
        let tokens = TokenStatusInput {
            state,
            old: input.old.token.as_ref(),
            confirmed: input.confirmed,
            delivered: delivered || desired.secret_only,
            now: input.now,
        };
        new.token = tokens.status(desired);
    }
    if let Some(observed) = registered {
        let reset = match input.fulfilled.contains(&RequestKind::ResetSession) {
            true => ResetProgress::Done,
            false if input.begins_reset => ResetProgress::Begins,
            false => ResetProgress::Unchanged,
        };
        new.rewritten.clone_from(&observed.rewritten);
        new.active_hours = observed.heartbeat.hours.clone().map(Box::new);
        new.session = session::status(desired, new, observed, reset);
        new.last_run = observed.activity.run.map(RunStatus::from).or(new.last_run.take());
    }
    new.session_label = label::status(desired, new.session_label.as_ref(), input.labelled, input.now);
    let wakes =
        WakeStatusInput { old: new.wake.as_ref(), observed: input.observed, woken: input.woken, now: input.now };
    new.wake = wakes.status(desired);
    desired.requests.record(new, &fulfilled(desired, input), input.now);
}

/// The record of the keys that `spec.config` brings into the entry. A key is recorded before it is written, and until it is removed.
fn config_keys(entry: &AgentEntry, recorded: &[String], is_current: bool) -> Vec<String> {
    let kept = recorded.iter().filter(|_| !is_current);
    kept.chain(entry.passed.keys()).cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

/// The one-shot requests that were fulfilled. A request to rotate is fulfilled once the token in the Secret was issued for it.
fn fulfilled(desired: &Desired, input: &StatusInput<'_>) -> BTreeSet<RequestKind> {
    let mut done = input.fulfilled.clone();
    if let Some(TokenState::Issued(issued)) = input.token
        && issued.issued_for.is_some()
        && issued.issued_for >= desired.requests.due(RequestKind::Rotate)
    {
        done.insert(RequestKind::Rotate);
    }
    done
}

fn phase(new: &AgentStatus, input: &StatusInput<'_>) -> Phase {
    if let Some(observer) = &input.observer {
        return observer.phase(new, input.now);
    }
    if input.desired.is_some_and(|d| d.paused.is_some()) {
        return Phase::Paused;
    }
    if is_true(&new.conditions, ConditionType::Stalled) {
        return Phase::Failed;
    }
    if !READY_CONDITIONS.iter().all(|kind| is_true(&new.conditions, *kind)) {
        return Phase::Provisioning;
    }
    if input.observed.is_some_and(|observed| Liveness::of(None, new, Some(observed)).running_until(input.now).is_some())
    {
        return Phase::Active;
    }
    let checked_in = find(&new.conditions, ConditionType::CheckedIn);
    let silent = checked_in.is_some_and(|c| c.status != "True" && input.desired.is_some());
    let given_up = checked_in.is_some_and(|c| c.reason == Reason::MaxWakeAttempts.as_str());
    if given_up || silent && new.heartbeat.is_some() {
        return Phase::Offline;
    }
    match new.heartbeat.as_ref().and_then(|h| h.status) {
        Some(CheckIn::Active) => Phase::Active,
        Some(CheckIn::Idle) => Phase::Idle,
        None if new.last_run.is_some() && new.heartbeat.is_some() => Phase::Idle,
        None => Phase::Ready,
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
