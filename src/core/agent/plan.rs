//! The plan of one agent: the next Steps, in an order that is safe to be interrupted anywhere.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::binding::Binding;
use super::blocked::{Blocker, id_taken, no_entry, registering, secret_conflict, too_large};
use super::desired::{Desired, Origin};
use super::files::{FileDecision, UnwantedFile};
use super::label::{LabelDecision, labelling};
use super::liveness::Liveness;
use super::observed::{Observed, OwnershipConflict, Registration};
use super::session::SessionChange;
use super::token::rules::{self, TokenChange, TokenState};
use super::wake::{WakeDecision, perhaps_lost, waking};
use crate::api::agent::AgentStatus;
use crate::api::requests::RequestKind;
use crate::api::{ConditionType, Reason, conditions};
use crate::core::agent::{files, session, wake};
use crate::core::error::ReconcileError;

/// One side effect. Each is idempotent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Undo an earlier binding: remove that agent from its gateway, then forget the binding.
    Release(Binding),
    /// Claim the agent: its finalizer, then the binding in its status.
    Bind(Binding),
    /// Change the token Secret.
    Token(TokenChange),
    /// Create the agent by itself, since its id was in use before: a config write does not open such an id again.
    Create,
    /// Leave the entry for the gateway's next config write.
    SubmitEntry,
    /// Write workspace files; with each the hash of what is to be replaced.
    WriteFiles(Vec<(String, Option<String>)>),
    /// Put a label on its session. Whatever becomes of it, the Steps after it are done.
    LabelSession {
        /// The label.
        label: String,
    },
    /// Start the session anew, unless it is another one already than the one of this mark.
    ResetSession {
        /// The mark of the session that is to end.
        mark: String,
    },
    /// Send the wake message.
    Wake {
        /// The number of the attempt, from 1.
        attempt: i32,
        /// The key by which the gateway knows a repeated request.
        key: String,
        /// Whether it was sent before, and the gateway may have lost it.
        repeated: bool,
    },
}

impl Step {
    /// A word for logs and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Release(_) => "release",
            Self::Bind(_) => "bind",
            Self::Token(TokenChange::Issue) => "issue_token",
            Self::Token(TokenChange::Rotate) => "rotate_token",
            Self::Token(TokenChange::Repair) => "repair_token",
            Self::Token(TokenChange::Retire) => "retire_token",
            Self::Create => "create",
            Self::SubmitEntry => "submit_entry",
            Self::WriteFiles(_) => "write_files",
            Self::LabelSession { .. } => "label_session",
            Self::ResetSession { .. } => "reset_session",
            Self::Wake { .. } => "wake",
        }
    }
}

/// What to do next, and why not more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The Steps, to be done in this order, up to the first failure.
    pub steps: Vec<Step>,
    /// Why the agent is not complete after these Steps.
    pub wait: Option<Blocker>,
    /// Look again at once after these Steps: there is more to do.
    pub again: bool,
    /// The one-shot requests that are done when the Steps are.
    pub fulfils: BTreeSet<RequestKind>,
    /// Whether the status is to record that a reset of the session is begun.
    pub begins_reset: bool,
}

impl Plan {
    fn again(steps: Vec<Step>) -> Self {
        Self { steps, again: true, ..Self::default() }
    }

    fn waiting(steps: Vec<Step>, wait: Blocker) -> Self {
        Self { steps, wait: Some(wait), ..Self::default() }
    }

    /// What of it is done while other agents are not as far, when that is not all: a new agent is claimed and leaves its entry, which
    /// goes into one config write with theirs; one that is Ready does nothing.
    #[must_use]
    pub fn first_part(&self) -> Option<Self> {
        let late = |step: &Step| matches!(step, Step::LabelSession { .. } | Step::Wake { .. });
        let first = match &self.steps[..] {
            [first @ .., Step::Token(_)] if matches!(first, [Step::Bind(_), Step::SubmitEntry]) => first,
            [_, ..] if self.steps.iter().all(late) => &[],
            _ => return None,
        };
        Some(Self { steps: first.to_vec(), ..Self::default() })
    }
}

/// What is known of the agent on the Kubernetes side.
#[derive(Clone, Copy, Debug)]
pub struct ClusterState<'a> {
    /// The binding that the Agent carries.
    pub binding: Option<&'a Binding>,
    /// Its token Secret.
    pub token: &'a TokenState,
    /// Its status.
    pub status: &'a AgentStatus,
    /// When it was last heard of.
    pub last_seen: Option<Timestamp>,
}

/// Decides the next Steps of an agent.
///
/// # Guarantees
/// The order is the safety argument:
/// 1. an earlier binding is released before a new one is made, so that there is never a second agent unrecorded;
/// 2. an agent that the gateway has already is bound only when nobody else can have its id, or it is to be adopted, and the
///    binding is recorded before anything reaches the gateway, so that a crash leaves a trace to clean up by;
/// 3. a token is in its Secret before it is in the status, there before it is in any file, and dropped in that order
///    too, so that no agent holds a token that is not accepted, and none is accepted that nobody can replace;
/// 4. the entry, which has no word of the token, is left for the next config write before that, since the write takes long; it
///    is in the roster and applied before files and session are touched, since a session of an unknown agent leaves an
///    orphan on the gateway (GATEWAY section 1);
/// 5. the session is reset after the files are written, so that the new one begins with them, and the reset is recorded
///    before it is done, so that a lost answer does not end a second session;
/// 6. Ready is recorded before the session is labelled and the wake is sent, so that the agent finds everything in place. Both
///    are work for the gateway (a session's store is 0.15 s of its one thread, measured) and can wait for other agents. A wake
///    waits for the end of a run, and for no label;
/// 7. what the gateway does with one file holds up no other file, and nothing that follows: one that it refuses is left until
///    the files are listed again;
/// 8. when all is as it should be there is no Step.
#[must_use]
pub fn plan(desired: &Desired, known: ClusterState<'_>, observed: &Observed, now: Timestamp) -> Plan {
    let wanted = Binding {
        uid: desired.uid.clone(),
        gateway: desired.gateway.clone(),
        identity: desired.identity.clone(),
        adopted: desired.origin == Origin::Adopted,
    };
    let mut steps = Vec::new();
    match known.binding {
        Some(bound) if !bound.is_same_agent(&wanted) => {
            return Plan::again(vec![Step::Release(bound.clone())]);
        }
        // The same agent in another workspace: only its entry and its files change.
        Some(bound) if *bound != wanted => steps.push(Step::Bind(wanted)),
        Some(_) if observed.doubt == Some(OwnershipConflict::Elsewhere) && may_be_anothers(desired, known.status) => {
            return blocked(id_taken(desired));
        }
        Some(_) => {}
        None if observed.doubt == Some(OwnershipConflict::NoEntry) => return blocked(no_entry(desired)),
        None if observed.registration != Registration::Absent && may_be_anothers(desired, known.status) => {
            return blocked(id_taken(desired));
        }
        None => steps.push(Step::Bind(wanted)),
    }
    if *known.token == TokenState::Foreign {
        return Plan::waiting(steps, Blocker::Blocked(secret_conflict(desired)));
    }
    let change = rules::change(desired, known.token, known.status.token.as_ref(), now);
    let token = change.map(Step::Token);
    match observed.registration {
        Registration::Absent if observed.doubt == Some(OwnershipConflict::NoEntry) => {
            steps.extend(token);
            return Plan::waiting(steps, Blocker::Blocked(no_entry(desired)));
        }
        Registration::Absent if observed.settled && used_before(desired, known.status) => {
            steps.extend(token.into_iter().chain([Step::Create]));
            return Plan::again(steps);
        }
        Registration::Absent | Registration::Outdated => steps.extend([Step::SubmitEntry].into_iter().chain(token)),
        Registration::Invisible | Registration::Current => steps.extend(token),
    }
    if observed.registration != Registration::Current {
        // A token that is in its Secret is recorded at once: the Secret may be mounted.
        let plan = Plan::waiting(steps, registering(observed));
        return if change.is_some() { Plan { again: true, wait: None, ..plan } } else { plan };
    }
    if !steps.is_empty() || !rules::is_recorded(known.token, known.status.token.as_ref()) {
        return Plan::again(steps);
    }
    provisioned(desired, known, observed, now)
}

/// Whether the gateway may have had an agent of this id and removed it: one that this Agent had registered, an earlier lead or
/// main agent, or one of a chosen id, which may have had other lives.
fn used_before(desired: &Desired, status: &AgentStatus) -> bool {
    let same = status.agent_id.as_deref() == Some(desired.identity.agent_id.as_str())
        && status.gateway.as_ref() == Some(&desired.gateway);
    let other_lives = match desired.origin {
        Origin::Chosen | Origin::Adopted | Origin::Successor => true,
        Origin::Derived | Origin::Inherited => false,
    };
    other_lives || same && conditions::is_true(&status.conditions, ConditionType::Registered)
}

/// Whether an agent of this id may be somebody else's: this Agent has not set it up, and others can have the id.
fn may_be_anothers(desired: &Desired, status: &AgentStatus) -> bool {
    match desired.origin {
        Origin::Chosen | Origin::Inherited | Origin::Successor => records(desired, status).is_empty(),
        Origin::Derived | Origin::Adopted => false,
    }
}

/// The part of the plan for an agent that is bound, registered and has a token.
fn provisioned(desired: &Desired, known: ClusterState<'_>, observed: &Observed, now: Timestamp) -> Plan {
    let mut steps = Vec::new();
    let writes = writes(desired, known.status, observed);
    if !writes.is_empty() {
        steps.push(Step::WriteFiles(writes));
    }
    let fulfils: BTreeSet<_> = BY_WRITING.into_iter().filter(|kind| desired.requests.due(*kind).is_some()).collect();
    if !steps.is_empty() || !fulfils.is_empty() {
        return Plan { fulfils, ..Plan::again(steps) };
    }
    let signs = Liveness::of(known.last_seen, known.status, Some(observed));
    match session::change(desired, known.status, signs.running_until(now).is_some()) {
        SessionChange::Begin => return Plan { begins_reset: true, ..Plan::again(steps) },
        SessionChange::Reset { mark } => {
            let fulfils = [RequestKind::ResetSession].into();
            return Plan { fulfils, ..Plan::again(vec![Step::ResetSession { mark }]) };
        }
        SessionChange::Rest => {}
    }
    if let Some(trouble) = too_large(desired) {
        return blocked(trouble);
    }
    awake(desired, known, (observed, &signs), now)
}

/// The requests that are done by writing files.
const BY_WRITING: [RequestKind; 3] = [RequestKind::Sync, RequestKind::Overwrite, RequestKind::Bootstrap];

/// The part of the plan for an agent that has everything.
fn awake(
    desired: &Desired,
    known: ClusterState<'_>,
    (observed, signs): (&Observed, &Liveness),
    now: Timestamp,
) -> Plan {
    let label = match labelling(desired, known.status.session_label.as_ref(), observed, now) {
        LabelDecision::Send(label) => Some(Step::LabelSession { label }),
        LabelDecision::Rest | LabelDecision::Later(_) => None,
    };
    // The run of the last wake may have ended just now.
    let record = wake::status(desired, known.status.wake.as_ref(), Some(observed), None, now);
    let runs = signs.running_until(now).is_some();
    let wake = match waking(desired, record.as_ref(), signs, now) {
        WakeDecision::Send { attempt, key } => Some(Step::Wake { attempt, key, repeated: false }),
        WakeDecision::Until(_) | WakeDecision::Again(_) => perhaps_lost(record.as_ref(), observed)
            .filter(|_| !runs)
            .map(|(attempt, key)| Step::Wake { attempt, key, repeated: true }),
        WakeDecision::Rest | WakeDecision::Busy(_) | WakeDecision::Exhausted => None,
    };
    let again = label.is_some() && wake.is_none();
    let steps: Vec<_> = label.into_iter().chain(wake).collect();
    if !steps.is_empty() && !recorded_ready(desired, known.status) {
        return Plan::again(Vec::new());
    }
    Plan { steps, again, ..Plan::default() }
}

fn writes(desired: &Desired, status: &AgentStatus, observed: &Observed) -> Vec<(String, Option<String>)> {
    let files = desired.files.as_deref().unwrap_or_default();
    let records = records(desired, status);
    let write = |file: &super::desired::DesiredFile| {
        let force = files::force(desired, &file.name);
        let decision = files::decide(file, files::record(records, &file.name), observed.files.get(&file.name), force);
        match decision {
            FileDecision::Write { expected } => Some((file.name.clone(), expected)),
            FileDecision::Rest(_) | FileDecision::Read => None,
        }
    };
    let emptied = files::unwanted(desired, records, &observed.files)
        .filter(|(_, fate)| *fate == UnwantedFile::Emptied)
        .map(|(record, _)| (record.name.clone(), record.sha256.clone()));
    files.iter().filter_map(write).chain(emptied).collect()
}

/// What the status records of this agent's files: nothing, when it is about another id.
#[must_use]
pub fn records<'a>(desired: &Desired, status: &'a AgentStatus) -> &'a [crate::api::agent::FileStatus] {
    let same = status.agent_id.as_deref() == Some(desired.identity.agent_id.as_str())
        && status.gateway.as_ref() == Some(&desired.gateway);
    if same { &status.files } else { &[] }
}

/// Whether the status says that everything is in place. A file that the gateway refuses holds up nothing else.
fn recorded_ready(desired: &Desired, status: &AgentStatus) -> bool {
    let refused = Reason::FileRefused.as_str();
    status.observed_generation == desired.generation
        && conditions::find(&status.conditions, ConditionType::Ready)
            .is_some_and(|ready| ready.status == "True" || ready.reason == refused)
}

fn blocked(trouble: ReconcileError) -> Plan {
    Plan::waiting(Vec::new(), Blocker::Blocked(trouble))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
