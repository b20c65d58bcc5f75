//! Applies the Steps of a plan.

use tracing::info;

use super::work::{CarriedToken, StepContext, Work};
use super::{cleanup, token_secret, wake};
use crate::api::agent::Agent;
use crate::api::object_key::ObjectKey;
use crate::api::{Reason, keys};
use crate::controllers::gateway_handle::FileWriteResult;
use crate::core::agent::blocked::config_unwritable;
use crate::core::agent::conclude::Outcome;
use crate::core::agent::desired::Desired;
use crate::core::agent::found_files;
use crate::core::agent::label::LabelResult;
use crate::core::agent::observed::{Observed, Registration};
use crate::core::agent::step::{FileWrite, Step};
use crate::core::agent::token::rules::TokenChange;
use crate::core::error::ReconcileError;
use crate::openclaw::model::{CallError, clean};
use crate::state::store::{AgentIdChange, EventTarget, MetadataChange, StoreError};

/// Applies the Steps in order, up to the first failure. A failed label does not end the plan. The changes of a Step are recorded in
/// `work` and `observed`.
pub(crate) async fn run(step: &StepContext<'_>, work: &mut Work, observed: &mut Observed, steps: &[Step]) -> Outcome {
    let mut outcome = Outcome::default();
    for next in steps {
        let name = next.name();
        match apply(step, work, observed, next, &mut outcome).await {
            Ok(()) => info!(agent = %ObjectKey::of(&work.agent.metadata), step = name, "applied"),
            Err(error) => {
                if let Step::LabelSession { label } = next {
                    info!(agent = %ObjectKey::of(&work.agent.metadata), step = name, %error, "not applied");
                    outcome.labelled = Some(LabelResult { sent: label.clone(), outcome: Err(error) });
                    continue;
                }
                outcome.failed = Some(error);
                break;
            }
        }
    }
    outcome
}

async fn apply(
    step: &StepContext<'_>,
    work: &mut Work,
    observed: &mut Observed,
    next: &Step,
    outcome: &mut Outcome,
) -> Result<(), ReconcileError> {
    let (ctx, gateway) = (step.ctx, step.gateway);
    match next {
        Step::Release(binding) => {
            work.agent = Box::pin(cleanup::release(ctx, &work.agent, binding)).await?;
            work.token = None;
        }
        Step::Claim { agent_id } => {
            let change = MetadataChange {
                add_finalizer: Some(keys::AGENT_FINALIZER),
                agent_id: Some(AgentIdChange::Set(agent_id.clone())),
                ..MetadataChange::default()
            };
            work.agent = ctx.state.store.patch_agent_metadata(&work.agent, &change).await?;
            work.is_confirmed = true;
        }
        Step::Token(change) => change_token(step, work, *change).await?,
        Step::Create(identity) => {
            confirm(step, work).await?;
            // A queued entry would be written concurrently.
            gateway.client().withdraw(&identity.agent_id);
            let created = gateway.client().agent_create(&identity.agent_id, &identity.workspace).await;
            created.map_err(|error| not_created(step.desired, &error))?;
        }
        Step::SubmitEntry(entry) => {
            if observed.registration == Registration::Absent {
                confirm(step, work).await?;
            }
            gateway.client().submit((**entry).clone());
        }
        Step::WriteFiles(files) => {
            let status = work.agent.status.clone().unwrap_or_default();
            if let Some(event) = found_files::event(step.desired, &status, &observed.files) {
                ctx.state.store.publish(EventTarget::Agent(&work.agent), &event).await;
            }
            write_files(step, observed, files).await?;
        }
        Step::LabelSession { label } => {
            let stored = gateway.label(step.desired, label, observed).await.map_err(|e| label_refusal(&e))?;
            outcome.labelled = Some(LabelResult { sent: label.clone(), outcome: Ok(stored.as_deref().map(clean)) });
        }
        Step::ResetSession { version } => {
            let reset = gateway.reset(step.desired, version).await;
            reset.map_err(|e| ReconcileError::gateway("to reset its session", &e))?;
        }
        Step::Wake(message) => {
            confirm(step, work).await?;
            outcome.woken = wake::send(step, &work.agent, message).await?;
        }
    }
    Ok(())
}

/// Confirms that the Agent is the one of the API server, before its agent is created or woken. A cache that lags behind would bring back the
/// agent of an Agent that is deleted, and nothing would remove it again; or it would wake an agent that has checked in since.
async fn confirm(step: &StepContext<'_>, work: &mut Work) -> Result<(), ReconcileError> {
    if work.is_confirmed {
        return Ok(());
    }
    let key = ObjectKey::of(&work.agent.metadata);
    let now = step.ctx.state.store.fresh_agent(&key).await?;
    let version = |agent: &Agent| (agent.metadata.uid.clone(), agent.metadata.resource_version.clone());
    let is_same = |now: &Agent| version(now) == version(&work.agent);
    work.is_confirmed = now.as_deref().is_some_and(is_same);
    if work.is_confirmed { Ok(()) } else { Err(StoreError::Conflict(key.to_string()).into()) }
}

/// The error of a creation that failed.
fn not_created(desired: &Desired, error: &CallError) -> ReconcileError {
    if error.is_unwritable_config(false) {
        return config_unwritable(desired);
    }
    ReconcileError::gateway("to create the agent", error)
}

/// Changes the token Secret, and records its new content.
async fn change_token(step: &StepContext<'_>, work: &mut Work, change: TokenChange) -> Result<(), ReconcileError> {
    let token = token_secret::write(&step.ctx.state, &work.agent, step.token, step.desired, change).await?;
    let (secret, api_url) = (token_secret::key(&work.agent), step.desired.api_url.clone());
    work.token = Some(CarriedToken { secret, api_url, token });
    Ok(())
}

/// The error of a refused label: the message of the gateway, unless the gateway may accept the same label later.
fn label_refusal(error: &CallError) -> ReconcileError {
    if error.is_transient() {
        return ReconcileError::gateway("to label its session", error);
    }
    ReconcileError::permanent(Reason::GatewayError, error.message()).with_code(error.code())
}

/// Writes files. A file that belongs to the agent is written only if it is missing or empty: the pass listed it within the last two
/// seconds, or it is read just before the write, or the write carries the hash of the replaced content.
///
/// # Caveats
/// A gateway has no precondition for a missing file. A file that another client creates between the listing and the write, at most two
/// seconds and the time that the write takes, is overwritten.
async fn write_files(
    step: &StepContext<'_>,
    observed: &mut Observed,
    files: &[FileWrite],
) -> Result<(), ReconcileError> {
    let id = step.desired.identity.agent_id.as_str();
    let mut writes = Vec::new();
    for file in files {
        let is_checked = file.expected.is_some() || step.gateway.cache.was_just_seen(id, &file.name, step.began);
        if !file.only_if_missing || is_checked {
            writes.push(file.clone());
        } else if let Some(expected) = step.gateway.reread_missing(id, &file.name, observed).await? {
            writes.push(FileWrite { expected, ..file.clone() });
        }
    }
    first_failure(step.gateway.write(id, &writes, observed).await)
}

fn first_failure(written: Vec<FileWriteResult>) -> Result<(), ReconcileError> {
    match written.into_iter().find_map(Result::err) {
        None => Ok(()),
        Some((name, error)) if error.is_conflict() => {
            let text = format!("another client changed {name} during the write; Muster reads it again and retries");
            Err(ReconcileError::transient(Reason::GatewayError, text).with_code(error.code()))
        }
        Some((name, error)) => Err(ReconcileError::gateway(&format!("to write workspace file {name}"), &error)),
    }
}
