//! The plan of one agent: the next Steps, in an order that is safe to be interrupted anywhere.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use jiff::Timestamp;

use super::binding::{AgentIdentity, Binding};
use super::blocked::{Blocker, entry_blocker, id_taken, no_entry, secret_conflict, too_large};
use super::desired::{Delivery, Desired, DesiredFile, Origin, RenderedText};
use super::files::{self, FileDecision, UnwantedFile};
use super::label::{self, LabelDecision};
use super::liveness::Liveness;
use super::observed::{Observed, OwnershipConflict, Registration};
use super::session::{self, SessionChange};
use super::token::rules as token;
use super::token::rules::{TokenChange, TokenState};
use super::wake::{self, WakeDecision, WakeMessage, possibly_lost};
use crate::api::agent::{AgentStatus, FilePolicy, FileStatus};
use crate::api::requests::RequestKind;
use crate::api::{ConditionType, Reason, conditions};
use crate::openclaw::model::AgentEntry;

/// One side effect. Each Step is idempotent and carries what it writes, except for the token: its value is made by the Step, so
/// that no plan holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Undo an earlier binding: remove that agent from its gateway, then forget the binding.
    Release(Binding),
    /// Claim the agent: its finalizer, then the binding in its status.
    Bind(Binding),
    /// Change the token Secret.
    Token(TokenChange),
    /// Create the agent by itself, since its id was in use before: a config write does not open such an id again.
    Create(AgentIdentity),
    /// Leave the entry for the gateway's next config write.
    SubmitEntry(Box<AgentEntry>),
    /// Write workspace files.
    WriteFiles(Vec<FileWrite>),
    /// Put a label on its session. The Steps after it are done whatever its outcome is.
    LabelSession {
        /// The label.
        label: String,
    },
    /// Start the session anew, unless another session than that of this version is there already.
    ResetSession {
        /// The version of the session that is to end.
        version: String,
    },
    /// Send the wake message.
    Wake(WakeMessage),
}

/// One file to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileWrite {
    /// Its name.
    pub name: String,
    /// Its content.
    pub content: RenderedText,
    /// SHA-256 of the content that is to be replaced, when that was read.
    pub expected: Option<String>,
    /// Whether the file belongs to the agent as soon as it is there, so that it is looked at once more before the write.
    pub only_if_missing: bool,
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
            Self::Create(_) => "create",
            Self::SubmitEntry(_) => "submit_entry",
            Self::WriteFiles(_) => "write_files",
            Self::LabelSession { .. } => "label_session",
            Self::ResetSession { .. } => "reset_session",
            Self::Wake(_) => "wake",
        }
    }
}

/// What to do next, and why not more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The Steps, to be done in this order, up to the first failure.
    pub steps: Vec<Step>,
    /// Why the agent is not complete after these Steps.
    pub blocker: Option<Blocker>,
    /// Whether there is more to do at once after these Steps.
    pub again: bool,
    /// The one-shot requests that are done when the Steps are.
    pub fulfils: BTreeSet<RequestKind>,
    /// Whether the status is to record that a reset of the session is begun.
    pub begins_reset: bool,
}

impl Plan {
    /// The Steps to run while peers on the gateway are still being set up; `None` if all may run. A new agent is claimed and leaves its
    /// entry, which goes into one config write with those of its peers; a Ready agent does nothing.
    #[must_use]
    pub fn while_peers_are_set_up(&self) -> Option<Self> {
        let late = |step: &Step| matches!(step, Step::LabelSession { .. } | Step::Wake(_));
        let first = match &self.steps[..] {
            [first @ .., Step::Token(_)] if matches!(first, [Step::Bind(_), Step::SubmitEntry(_)]) => first,
            [_, ..] if self.steps.iter().all(late) => &[],
            _ => return None,
        };
        Some(Self { steps: first.to_vec(), ..Self::default() })
    }
}

/// What is known of the agent in the cluster.
#[derive(Clone, Copy, Debug)]
pub struct ClusterState<'a> {
    /// The binding that the Agent carries.
    pub binding: Option<&'a Binding>,
    /// Its token Secret.
    pub token: &'a TokenState,
    /// Its status.
    pub status: &'a AgentStatus,
    /// When it last called Muster's API.
    pub last_seen: Option<Timestamp>,
}

/// What a rule goes by.
struct RuleInput<'a> {
    desired: &'a Desired,
    cluster: ClusterState<'a>,
    observed: &'a Observed,
    now: Timestamp,
    /// The binding that the agent should have.
    wanted: Binding,
    token_change: Option<TokenChange>,
    liveness: Liveness,
}

/// A rule adds its Steps to the plan. `Break` ends the plan: the rules after it are for an agent that is further on.
type Rule = fn(&RuleInput<'_>, &mut Plan) -> ControlFlow<()>;

/// The rules in their order, which is the safety argument of [`plan`]. The names are those of the functions.
const RULES: &[(&str, Rule)] = &[
    ("release_earlier_binding", release_earlier_binding),
    ("leave_taken_id", leave_taken_id),
    ("bind", bind),
    ("leave_foreign_secret", leave_foreign_secret),
    ("wait_for_an_entry", wait_for_an_entry),
    ("create_anew", create_anew),
    ("submit_entry", submit_entry),
    ("change_token", change_token),
    ("wait_for_the_roster", wait_for_the_roster),
    ("record_token", record_token),
    ("write_files", write_files),
    ("fulfil_requests", fulfil_requests),
    ("reset_session", reset_session),
    ("refuse_long_files", refuse_long_files),
    ("label_session", label_session),
    ("send_wake", send_wake),
    ("record_ready_first", record_ready_first),
];

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
///    orphan on the gateway (`docs/gateway-facts.md#sessions-and-messages`);
/// 5. the session is reset after the files are written, so that the new one begins with them, and the reset is recorded
///    before it is done, so that a lost answer does not end a second session;
/// 6. Ready is recorded before the session is labelled and the wake is sent, so that the agent finds everything in place. Both
///    are work for the gateway (a session's store takes 0.15 s of its one thread, measured on 2026.9.6) and can wait for other
///    agents. A wake waits for the end of a run, and for no label;
/// 7. what the gateway does with one file holds up no other file, and nothing that follows: a refused file is left until
///    the files are listed again;
/// 8. when all is as it should be there is no Step.
#[must_use]
pub fn plan(desired: &Desired, cluster: ClusterState<'_>, observed: &Observed, now: Timestamp) -> Plan {
    let input = RuleInput {
        desired,
        cluster,
        observed,
        now,
        wanted: Binding {
            uid: desired.uid.clone(),
            gateway: desired.gateway.clone(),
            identity: desired.identity.clone(),
            adopted: desired.origin == Origin::Adopted,
        },
        token_change: token::change(desired, cluster.token, cluster.status.token.as_ref(), now),
        liveness: Liveness::of(cluster.last_seen, cluster.status, Some(observed)),
    };
    let mut plan = Plan::default();
    for (_, rule) in RULES {
        if rule(&input, &mut plan).is_break() {
            break;
        }
    }
    plan
}

/// Ends the plan with these Steps, and there is more to do at once after them.
fn again(plan: &mut Plan) -> ControlFlow<()> {
    plan.again = true;
    ControlFlow::Break(())
}

/// Ends the plan with these Steps, and nothing goes on before the blocker is gone.
fn blocked(plan: &mut Plan, blocker: Blocker) -> ControlFlow<()> {
    plan.blocker = Some(blocker);
    ControlFlow::Break(())
}

const CONTINUE: ControlFlow<()> = ControlFlow::Continue(());

fn release_earlier_binding(input: &RuleInput<'_>, plan: &mut Plan) -> ControlFlow<()> {
    match input.cluster.binding.filter(|bound| !bound.is_same_agent(&input.wanted)) {
        Some(earlier) => {
            plan.steps.push(Step::Release(earlier.clone()));
            again(plan)
        }
        None => CONTINUE,
    }
}

/// An agent that somebody else made is left to them.
fn leave_taken_id(input: &RuleInput<'_>, plan: &mut Plan) -> ControlFlow<()> {
    let RuleInput { desired, observed, .. } = input;
    let may_be_foreign = || may_be_foreign_agent(desired, input.cluster.status);
    let error = match input.cluster.binding {
        // The same agent in another workspace: only its entry and its files change.
        Some(bound) if *bound != input.wanted => return CONTINUE,
        Some(_) => {
            (observed.conflict == Some(OwnershipConflict::Elsewhere) && may_be_foreign()).then(|| id_taken(desired))
        }
        None if observed.conflict == Some(OwnershipConflict::NoEntry) => Some(no_entry(desired)),
        None => (observed.registration != Registration::Absent && may_be_foreign()).then(|| id_taken(desired)),
    };
    match error {
        Some(error) => blocked(plan, Blocker::Blocked(error)),
        None => CONTINUE,
    }
}

fn bind(input: &RuleInput<'_>, plan: &mut Plan) -> ControlFlow<()> {
    if input.cluster.binding != Some(&input.wanted) {
        plan.steps.push(Step::Bind(input.wanted.clone()));
    }
    CONTINUE
}

fn leave_foreign_secret(input: &RuleInput<'_>, plan: &mut Plan) -> ControlFlow<()> {
    if *input.cluster.token == TokenState::Foreign {
        return blocked(plan, Blocker::Blocked(secret_conflict(input.desired)));
    }
    CONTINUE
}

/// The roster shows the id, and the config has no entry of it: nothing is written beside it.
fn wait_for_an_entry(input: &RuleInput<'_>, plan: &mut Plan) -> ControlFlow<()> {
    let absent = input.observed.registration == Registration::Absent;
    if absent && input.observed.conflict == Some(OwnershipConflict::NoEntry) {
        plan.steps.extend(input.token_change.map(Step::Token));
        return blocked(plan, Blocker::Blocked(no_entry(input.desired)));
    }
    CONTINUE
}

fn create_anew(input: &RuleInput<'_>, plan: &mut Plan) -> ControlFlow<()> {
    let RuleInput { desired, observed, .. } = input;
    let absent = observed.registration == Registration::Absent && observed.settled;
    if absent && used_before(desired, input.cluster.status) {
        plan.steps.extend(input.token_change.map(Step::Token));
        plan.steps.push(Step::Create(desired.identity.clone()));
        return again(plan);
    }
    CONTINUE
}

fn submit_entry(input: &RuleInput<'_>, plan: &mut Plan) -> ControlFlow<()> {
    match input.observed.registration {
        Registration::Absent | Registration::Outdated => {
            plan.steps.push(Step::SubmitEntry(Box::new(input.desired.entry.clone())));
        }
        Registration::Invisible | Registration::Current => {}
    }
    CONTINUE
}

fn change_token(input: &RuleInput<'_>, plan: &mut Plan) -> ControlFlow<()> {
    plan.steps.extend(input.token_change.map(Step::Token));
    CONTINUE
}

/// A token that is in its Secret is recorded at once, whatever the entry waits for: the Secret may be mounted.
fn wait_for_the_roster(input: &RuleInput<'_>, plan: &mut Plan) -> ControlFlow<()> {
    match (input.observed.registration, input.token_change) {
        (Registration::Current, _) => CONTINUE,
        (_, Some(_)) => again(plan),
        (_, None) => blocked(plan, entry_blocker(input.observed)),
    }
}

fn record_token(input: &RuleInput<'_>, plan: &mut Plan) -> ControlFlow<()> {
    let is_recorded = token::is_recorded(input.cluster.token, input.cluster.status.token.as_ref());
    if plan.steps.is_empty() && is_recorded { CONTINUE } else { again(plan) }
}

fn write_files(input: &RuleInput<'_>, plan: &mut Plan) -> ControlFlow<()> {
    let writes = writes(input.desired, input.cluster.status, input.observed);
    if !writes.is_empty() {
        plan.steps.push(Step::WriteFiles(writes));
    }
    CONTINUE
}

/// The requests that are done by writing files.
const BY_WRITING: [RequestKind; 3] = [RequestKind::Sync, RequestKind::Overwrite, RequestKind::Bootstrap];

fn fulfil_requests(input: &RuleInput<'_>, plan: &mut Plan) -> ControlFlow<()> {
    plan.fulfils = BY_WRITING.into_iter().filter(|kind| input.desired.requests.due(*kind).is_some()).collect();
    if plan.steps.is_empty() && plan.fulfils.is_empty() { CONTINUE } else { again(plan) }
}

fn reset_session(input: &RuleInput<'_>, plan: &mut Plan) -> ControlFlow<()> {
    let is_running = input.liveness.running_until(input.now).is_some();
    match session::change(input.desired, input.cluster.status, is_running) {
        SessionChange::Begin => plan.begins_reset = true,
        SessionChange::Reset { version } => {
            plan.fulfils = [RequestKind::ResetSession].into();
            plan.steps.push(Step::ResetSession { version });
        }
        SessionChange::Nothing => return CONTINUE,
    }
    again(plan)
}

fn refuse_long_files(input: &RuleInput<'_>, plan: &mut Plan) -> ControlFlow<()> {
    match too_large(input.desired) {
        Some(error) => blocked(plan, Blocker::Blocked(error)),
        None => CONTINUE,
    }
}

fn label_session(input: &RuleInput<'_>, plan: &mut Plan) -> ControlFlow<()> {
    let record = input.cluster.status.session_label.as_ref();
    match label::decide(input.desired, record, input.observed, input.now) {
        LabelDecision::Send(label) => plan.steps.push(Step::LabelSession { label }),
        LabelDecision::Nothing | LabelDecision::RetryAt(_) => {}
    }
    CONTINUE
}

fn send_wake(input: &RuleInput<'_>, plan: &mut Plan) -> ControlFlow<()> {
    let RuleInput { desired, observed, liveness, now, .. } = input;
    // The run of the last wake may have ended just now.
    let record = wake::status(desired, input.cluster.status.wake.as_ref(), Some(observed), None, *now);
    let is_running = liveness.running_until(*now).is_some();
    let message = match wake::decide(desired, record.as_ref(), liveness, *now) {
        WakeDecision::Send { attempt, key } => Some(WakeMessage::new(desired, attempt, key, false)),
        WakeDecision::AwaitCheckIn(_) | WakeDecision::RetryAt(_) => possibly_lost(record.as_ref(), observed)
            .filter(|_| !is_running)
            .map(|(attempt, key)| WakeMessage::new(desired, attempt, key, true)),
        WakeDecision::Nothing | WakeDecision::Busy(_) | WakeDecision::Exhausted => None,
    };
    // What became of the label is looked at once more, unless a wake says more about the agent.
    plan.again = message.is_none() && !plan.steps.is_empty();
    plan.steps.extend(message.map(Step::Wake));
    CONTINUE
}

fn record_ready_first(input: &RuleInput<'_>, plan: &mut Plan) -> ControlFlow<()> {
    if !plan.steps.is_empty() && !recorded_ready(input.desired, input.cluster.status) {
        plan.steps.clear();
        return again(plan);
    }
    CONTINUE
}

/// Whether the gateway may have had an agent of this id and removed it: one that this Agent had registered, an earlier lead or
/// main agent, or one of a chosen id, which may have had other lives.
fn used_before(desired: &Desired, status: &AgentStatus) -> bool {
    let same = status.agent_id.as_deref() == Some(desired.identity.agent_id.as_str())
        && status.gateway.as_ref() == Some(&desired.gateway);
    let is_reusable = match desired.origin {
        Origin::Chosen | Origin::Adopted | Origin::ParentReused => true,
        Origin::Derived | Origin::ParentDerived => false,
    };
    is_reusable || same && conditions::is_true(&status.conditions, ConditionType::Registered)
}

/// Whether an agent of this id may be somebody else's: this Agent has not set it up, and others can have the id.
fn may_be_foreign_agent(desired: &Desired, status: &AgentStatus) -> bool {
    match desired.origin {
        Origin::Chosen | Origin::ParentDerived | Origin::ParentReused => records(desired, status).is_empty(),
        Origin::Derived | Origin::Adopted => false,
    }
}

/// The files to be written, each with its content. A file that is no longer wanted is emptied.
fn writes(desired: &Desired, status: &AgentStatus, observed: &Observed) -> Vec<FileWrite> {
    let files = desired.files.as_deref().unwrap_or_default();
    let records = records(desired, status);
    let write = |file: &DesiredFile| {
        let force = files::force(desired, &file.name);
        let decision = files::decide(file, files::record(records, &file.name), observed.files.get(&file.name), force);
        let (policy, content) = match &file.delivery {
            Delivery::Write { policy, content, .. } | Delivery::Held { policy, content, .. } => (*policy, content),
            Delivery::Folded { .. } | Delivery::TooLarge { .. } | Delivery::Unmanaged => return None,
        };
        let is_agent_owned = matches!(policy, FilePolicy::IfMissing | FilePolicy::Once) && !force.overwrite;
        match decision {
            FileDecision::Write { expected } => Some(FileWrite {
                name: file.name.clone(),
                content: content.clone(),
                expected,
                only_if_missing: is_agent_owned,
            }),
            FileDecision::Nothing(_) | FileDecision::Read => None,
        }
    };
    let emptied = files::unwanted(desired, records, &observed.files)
        .filter(|(_, outcome)| *outcome == UnwantedFile::Emptied)
        .map(|(record, _)| FileWrite {
            name: record.name.clone(),
            content: RenderedText::of(String::new()),
            expected: record.sha256.clone(),
            only_if_missing: false,
        });
    files.iter().filter_map(write).chain(emptied).collect()
}

/// What the status records of this agent's files: nothing, when it is about another id.
#[must_use]
pub fn records<'a>(desired: &Desired, status: &'a AgentStatus) -> &'a [FileStatus] {
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

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
