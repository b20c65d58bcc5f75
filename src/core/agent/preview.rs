//! The preview of an agent: the Steps that the operator would run, pass after pass, if each Step succeeded. Pure.
//!
//! The Steps come from [`plan`], the status between two passes from [`conclude`]: the preview has no rule of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use secrecy::SecretString;

use super::admission::check_role_and_quota;
use super::binding::Binding;
use super::blocked::Blocker;
use super::claim::annotated_id;
use super::conclude::{AppliedPlan, Outcome, PassEnd, conclude};
use super::desired::Desired;
use super::observed::{Observed, ObservedFile, ObservedSession, Registration};
use super::observer;
use super::offline::{PLACEHOLDER_TOKEN, board, gateway};
use super::offline_objects::OfflineObjects;
use super::permissions;
use super::plan::{ClusterState, plan};
use super::references::References;
use super::resolved_names::resolve;
use super::soul_files::RoleSoul;
use super::status_input::StatusInput;
use super::step::Step;
use super::templates::{collect, origins};
use super::token::rules::{IssuedToken, TokenChange, TokenState, revoked};
use super::token::secret::Token;
use super::wake::WakeResult;
use crate::api::agent::{Agent, AgentStatus};
use crate::api::allowed_namespaces::NamespacesFrom;
use crate::api::object_key::ObjectKey;
use crate::api::requests::RequestKind;
use crate::api::{AgentGateway, Board, Reason, keys};
use crate::core::error::ReconcileError;
use crate::core::gateway_ref::{address, admits_labels, api_url};
use crate::core::requests::Requests;
use crate::core::{names, ownership};

/// The most passes of a preview. An agent is complete after half of them.
const MAX_PASSES: usize = 24;
/// The hash of a token that is not issued yet.
const FUTURE_TOKEN: &str = "a token that is not issued yet";

static NO_REQUESTS: BTreeSet<RequestKind> = BTreeSet::new();

/// What the operator would do for an agent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AgentPreview {
    /// The Steps, in their order.
    pub steps: Vec<Step>,
    /// The binding that the status would record.
    pub binds: Option<Binding>,
    /// Why the agent would not be complete.
    pub blocker: Option<Blocker>,
    /// The workspace files on the gateway, by name.
    pub files: BTreeMap<String, ObservedFile>,
}

/// The Board and the AgentGateway of an Agent in manifests.
struct OfflineParents {
    board: Option<Arc<Board>>,
    gateway: Arc<AgentGateway>,
    gateway_key: ObjectKey,
}

/// The parents of an Agent in manifests, with the checks of the operator. A namespace that an AgentGateway selects by labels counts as admitted.
///
/// # Errors
/// The reference or the check that does not hold, with what to do.
fn parents(objects: &OfflineObjects, agent: &Agent) -> Result<OfflineParents, ReconcileError> {
    names::of_agent(agent)?;
    let namespace = agent.metadata.namespace.clone().unwrap_or_default();
    let board = board(objects, agent, &namespace)?;
    board.as_deref().map_or(Ok(()), names::of_board)?;
    let (gateway_key, gateway) = gateway(objects, agent, board.as_deref())?;
    check_namespace(&gateway, &gateway_key, &namespace)?;
    permissions::check(objects, agent, &gateway, &gateway_key)?;
    check_role_and_quota(objects, agent, board.as_deref(), &gateway_key)?;
    Ok(OfflineParents { board, gateway, gateway_key })
}

/// The references of an Agent in manifests. The token has a placeholder, and a soul directory is not read.
///
/// # Errors
/// The reference or the check that does not hold, with what to do.
pub fn references(objects: &OfflineObjects, agent: &Agent, now: Timestamp) -> Result<References, ReconcileError> {
    let OfflineParents { board, gateway, gateway_key } = parents(objects, agent)?;
    Ok(References {
        address: address(&gateway.spec.url),
        api_url: api_url(&gateway, objects.api_url.as_deref())?.to_owned(),
        names: resolve(objects, agent, board.as_deref(), &gateway)?,
        templates: collect(&origins(agent, board.as_deref(), Some(&gateway)), &objects.config_maps)?,
        token: recorded_token(agent),
        requests: Requests::of(agent, board.as_deref(), &gateway, now),
        soul: RoleSoul::Off,
        silence_counts_from: Timestamp::MIN,
        board,
        gateway,
        gateway_key,
    })
}

/// The id of the agent that an Agent with `spec.managementPolicy: Observe` shows. Nothing would be done for it.
///
/// # Errors
/// The reference or the check that does not hold, with what to do.
pub fn observed_id(objects: &OfflineObjects, agent: &Agent) -> Result<String, ReconcileError> {
    let parents = parents(objects, agent)?;
    Ok(observer::identity(objects, agent, &parents.gateway)?.agent_id)
}

fn check_namespace(gateway: &AgentGateway, key: &ObjectKey, namespace: &str) -> Result<(), ReconcileError> {
    let from = gateway.spec.allowed_namespaces.as_ref().map(|allowed| allowed.from);
    let is_selected = from == Some(NamespacesFrom::Selector);
    if key.namespace == namespace || is_selected || admits_labels(gateway, &BTreeMap::new()) {
        return Ok(());
    }
    let message = format!(
        "AgentGateway {key} does not admit namespace {namespace:?}; allow it in that gateway's spec.allowedNamespaces"
    );
    Err(ReconcileError::permanent(Reason::NotAdmitted, message))
}

/// The token of an Agent by its status. The files show a placeholder until the token is known.
fn recorded_token(agent: &Agent) -> Token {
    let mut token = Token::missing();
    let status = agent.status.as_ref().and_then(|status| status.token.as_ref());
    if let Some(recorded) = status.filter(|recorded| !recorded.sha256.is_empty()) {
        token.state = TokenState::Issued(IssuedToken {
            sha256: recorded.sha256.clone(),
            previous: recorded.previous.as_ref().map(|previous| previous.sha256.clone()),
            issued_for: agent
                .status
                .iter()
                .flat_map(|status| &status.requests)
                .find_map(|request| (request.kind == RequestKind::Rotate).then_some(request.requested_at.0)),
            is_current: true,
        });
    }
    token.value = Some(SecretString::from(PLACEHOLDER_TOKEN));
    token
}

/// The preview of an agent. `observed` has the files and the session of an agent that exists, whatever its registration is.
#[must_use]
pub fn preview(
    agent: &Agent,
    desired: &Desired,
    token: &TokenState,
    observed: Observed,
    now: Timestamp,
) -> AgentPreview {
    let mut desired = desired.clone();
    let mut result = AgentPreview { files: observed.files.clone(), ..AgentPreview::default() };
    let mut world = PreviewedWorld {
        is_claimed: ownership::has_finalizer(&agent.metadata, keys::AGENT_FINALIZER),
        annotated_id: annotated_id(agent).map(str::to_owned),
        binding: Binding::of(agent),
        token: token.clone(),
        status: agent.status.clone().unwrap_or_default(),
        observed,
    };
    for _ in 0..MAX_PASSES {
        let plan = plan(&desired, world.cluster(), &world.observed, now);
        result.blocker.clone_from(&plan.blocker);
        if plan.steps.is_empty() && !plan.again {
            break;
        }
        let (mut outcome, token) = (Outcome::default(), world.token.clone());
        for step in &plan.steps {
            world.apply(step, &mut outcome, now);
        }
        result.steps.extend(plan.steps.iter().cloned());
        if let Some(binding) = &plan.binds {
            result.binds = Some(binding.clone());
            world.binding = Some(binding.clone());
        }
        let end = PassEnd::Applied(Box::new(AppliedPlan { plan, deferred: None, outcome }));
        world.record(agent, &desired, &token, &end, now);
        desired.requests = desired.requests.with_status(&world.status);
    }
    result
}

/// The world as it would be after the Steps so far.
struct PreviewedWorld {
    is_claimed: bool,
    annotated_id: Option<String>,
    binding: Option<Binding>,
    token: TokenState,
    status: AgentStatus,
    observed: Observed,
}

impl PreviewedWorld {
    fn cluster(&self) -> ClusterState<'_> {
        ClusterState {
            is_claimed: self.is_claimed,
            annotated_id: self.annotated_id.as_deref(),
            binding: self.binding.as_ref(),
            token: &self.token,
            status: &self.status,
            last_seen: self.status.heartbeat.as_ref().map(|heartbeat| heartbeat.last_seen.0),
        }
    }

    fn apply(&mut self, step: &Step, outcome: &mut Outcome, now: Timestamp) {
        match step {
            Step::Release(_) => self.release(),
            Step::Claim { agent_id } => {
                self.is_claimed = true;
                self.annotated_id = Some(agent_id.clone());
            }
            Step::Token(change) => self.change_token(*change),
            Step::Create(_) => self.observed.registration = Registration::Outdated,
            Step::SubmitEntry(_) => self.observed.registration = Registration::Current,
            Step::WriteFiles(files) => {
                for file in files {
                    let sha256 = Some(file.content.sha256.clone());
                    let size = i64::try_from(file.content.expose().len()).unwrap_or(i64::MAX);
                    let written = ObservedFile { size, sha256, ..ObservedFile::default() };
                    self.observed.files.insert(file.name.clone(), written);
                }
            }
            Step::LabelSession { label } => {
                self.observed.session.get_or_insert_default().label = Some(label.clone());
            }
            Step::ResetSession { .. } => {
                let version = "after the reset".to_owned();
                let session = self.observed.session.take().unwrap_or_default();
                self.observed.session = Some(ObservedSession { version, ..session });
            }
            Step::Wake(message) => {
                let (attempt, key) = (message.attempt, message.key.clone());
                outcome.woken = Some(WakeResult { attempt, key, at: now, answered: false });
            }
        }
    }

    /// A release removes the annotation with the id too, and replaces a token.
    fn release(&mut self) {
        (self.binding, self.status.binding, self.annotated_id) = (None, None, None);
        if let TokenState::Issued(old) = &mut self.token {
            (old.sha256, old.previous) = (FUTURE_TOKEN.into(), None);
        }
        if let Some(token) = &mut self.status.token {
            *token = revoked(token);
        }
    }

    fn change_token(&mut self, change: TokenChange) {
        let old = match &self.token {
            TokenState::Issued(old) => old.clone(),
            TokenState::Missing | TokenState::Foreign | TokenState::Tampered => IssuedToken::default(),
        };
        let fresh = IssuedToken { sha256: FUTURE_TOKEN.into(), is_current: true, ..IssuedToken::default() };
        self.token = TokenState::Issued(match change {
            TokenChange::Issue => fresh,
            TokenChange::Rotate => IssuedToken { previous: Some(old.sha256), ..fresh },
            TokenChange::Repair => IssuedToken { is_current: true, ..old },
            TokenChange::Retire => IssuedToken { previous: None, ..old },
        });
    }

    /// Records the status that the operator would write after a pass that began with this token.
    fn record(&mut self, agent: &Agent, desired: &Desired, token: &TokenState, end: &PassEnd, now: Timestamp) {
        let input = StatusInput {
            old: &self.status,
            generation: agent.metadata.generation.unwrap_or_default(),
            desired: Some(desired),
            observed: Some(&self.observed),
            token: Some(token),
            blocker: None,
            heartbeat: None,
            woken: None,
            labelled: None,
            confirmed: None,
            fulfilled: &NO_REQUESTS,
            begins_reset: false,
            revocation: None,
            observer: None,
            now,
        };
        self.status = conclude(&input, end).status;
    }
}

#[cfg(test)]
#[path = "preview_tests.rs"]
mod tests;
