//! Doing the Steps of a plan.

use tracing::info;

use super::step_context::StepContext;
use crate::api::agent::{Agent, FilePolicy};
use crate::api::object_key::ObjectKey;
use crate::api::{Reason, keys};
use crate::controllers::agent::{cleanup, token_secret, wake};
use crate::controllers::gateway_handle::{FileWriteResult, trouble};
use crate::controllers::status_writer::{kubernetes, write_binding};
use crate::core::agent::binding::Binding;
use crate::core::agent::desired::{Delivery, Desired};
use crate::core::agent::files;
use crate::core::agent::label::LabelResult;
use crate::core::agent::observed::Observed;
use crate::core::agent::plan::Step;
use crate::core::agent::wake::WakeResult;
use crate::core::error::ReconcileError;
use crate::core::ownership::has_finalizer;
use crate::openclaw::model::{CallError, clean};
use crate::state::store::{FinalizerChange, Store};

/// What the Steps did.
#[derive(Debug, Default)]
pub struct ApplyOutcome {
    /// The first failure; the Steps after it were not tried.
    pub failed: Option<ReconcileError>,
    /// The wake that was sent.
    pub woken: Option<WakeResult>,
    /// What became of the label that was sent. A refusal is no failure.
    pub labelled: Option<LabelResult>,
}

/// Does the Steps in their order, up to the first failure, which a label's is not. The agent is replaced by what the API server has now.
pub async fn run<S: Store>(
    scene: &StepContext<'_, S>,
    agent: &mut Agent,
    observed: &mut Observed,
    steps: &[Step],
) -> ApplyOutcome {
    let mut outcome = ApplyOutcome::default();
    for step in steps {
        match apply(scene, agent, observed, step, &mut outcome).await {
            Ok(()) => info!(agent = %ObjectKey::of(&agent.metadata), step = step.name(), "applied"),
            Err(trouble) => {
                if let Step::LabelSession { label } = step {
                    info!(agent = %ObjectKey::of(&agent.metadata), step = step.name(), error = %trouble, "not applied");
                    outcome.labelled = Some(LabelResult { sent: label.clone(), outcome: Err(trouble) });
                    continue;
                }
                outcome.failed = Some(trouble);
                break;
            }
        }
    }
    outcome
}

async fn apply<S: Store>(
    scene: &StepContext<'_, S>,
    agent: &mut Agent,
    observed: &mut Observed,
    step: &Step,
    outcome: &mut ApplyOutcome,
) -> Result<(), ReconcileError> {
    match step {
        Step::Release(binding) => *agent = cleanup::step(scene.ctx, agent, binding).await?,
        Step::Bind(binding) => *agent = bind(&scene.ctx.state.store, agent, binding).await?,
        Step::Token(change) => {
            let store = &scene.ctx.state.store;
            let applied = token_secret::apply(store, agent, &scene.references.token, scene.desired, *change).await;
            applied.map_err(|e| kubernetes(&e))?;
        }
        Step::Create => {
            let identity = &scene.desired.identity;
            // An entry that was left before would be written beside it.
            scene.link.client().withdraw(&identity.agent_id);
            let created = scene.link.client().agent_create(&identity.agent_id, &identity.workspace).await;
            created.map_err(|e| trouble("to create the agent", &e))?;
        }
        Step::SubmitEntry => scene.link.submit(scene.desired),
        Step::WriteFiles(writes) => write_files(scene, observed, writes).await?,
        Step::LabelSession { label } => {
            let stored = scene.link.label(scene.desired, label, observed).await.map_err(|e| refusal(&e))?;
            outcome.labelled = Some(LabelResult { sent: label.clone(), outcome: Ok(stored.as_deref().map(clean)) });
        }
        Step::ResetSession { mark } => {
            let reset = scene.link.reset(scene.desired, mark).await;
            reset.map_err(|e| trouble("to start its session anew", &e))?;
        }
        Step::Wake { attempt, key, repeated } => {
            outcome.woken = wake::send(scene, agent, *attempt, key, *repeated).await?;
        }
    }
    Ok(())
}

/// Why a label was not put on the session: the gateway's own words, unless it may take the same label later.
fn refusal(error: &CallError) -> ReconcileError {
    if error.is_transient() {
        return trouble("to label its session", error);
    }
    ReconcileError::permanent(Reason::GatewayError, error.message()).with_code(error.code())
}

/// The finalizer first: what is recorded and could not be cleaned up would be of no use.
async fn bind<S: Store>(store: &S, agent: &Agent, binding: &Binding) -> Result<Agent, ReconcileError> {
    let claim = FinalizerChange { add_finalizer: Some(keys::AGENT_FINALIZER), ..FinalizerChange::default() };
    let claimed = if has_finalizer(&agent.metadata, keys::AGENT_FINALIZER) {
        agent.clone()
    } else {
        store.patch_agent_finalizers(agent, &claim).await.map_err(|e| kubernetes(&e))?
    };
    write_binding(store, &claimed, Some(binding)).await
}

async fn write_files<S: Store>(
    scene: &StepContext<'_, S>,
    observed: &mut Observed,
    writes: &[(String, Option<String>)],
) -> Result<(), ReconcileError> {
    // What is to be written and no longer wanted is emptied.
    let content = |name: &str| {
        let file = scene.desired.files.iter().flatten().find(|f| f.name == name);
        match file.map(|file| &file.delivery) {
            Some(Delivery::Write { content, .. } | Delivery::Held { content, .. }) => content.expose().to_owned(),
            Some(Delivery::Folded { .. } | Delivery::TooLarge { .. } | Delivery::Unmanaged) | None => String::new(),
        }
    };
    let id = scene.desired.identity.agent_id.as_str();
    let mut files = Vec::new();
    for (name, expected) in writes {
        let expected = match expected {
            None if !scene.link.were_just_listed(id) && is_the_agents(scene.desired, name) => {
                match scene.link.still_missing(id, name, observed).await? {
                    Some(expected) => expected,
                    None => continue,
                }
            }
            expected => expected.clone(),
        };
        files.push((name.clone(), content(name), expected));
    }
    first_failure(scene.link.write(id, &files, observed).await)
}

/// Whether what stands in a file is the agent's own, once there is anything, and nobody asks for it to be overwritten.
fn is_the_agents(desired: &Desired, name: &str) -> bool {
    let file = desired.files.iter().flatten().find(|file| file.name == name);
    let policy = file.and_then(|file| match &file.delivery {
        Delivery::Write { policy, .. } | Delivery::Held { policy, .. } => Some(*policy),
        Delivery::Folded { .. } | Delivery::TooLarge { .. } | Delivery::Unmanaged => None,
    });
    matches!(policy, Some(FilePolicy::IfMissing | FilePolicy::Once)) && !files::force(desired, name).overwrite
}

fn first_failure(written: Vec<FileWriteResult>) -> Result<(), ReconcileError> {
    match written.into_iter().find_map(Result::err) {
        None => Ok(()),
        Some((name, error)) if error.is_conflict() => {
            let text = format!("{name} was changed by somebody else at the same moment; it is looked at again");
            Err(ReconcileError::transient(Reason::GatewayError, text).with_code(error.code()))
        }
        Some((name, error)) => Err(trouble(&format!("to write workspace file {name}"), &error)),
    }
}
