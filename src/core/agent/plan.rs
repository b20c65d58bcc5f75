//! The plan of one agent: the next Steps, in an order that is safe after a crash at any point.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use jiff::Timestamp;

use super::binding::Binding;
use super::blocked::{Blocker, config_unwritable, entry_blocker, id_taken, no_entry, secret_conflict, too_large};
use super::desired::{Desired, Origin};
use super::file_writes::file_writes;
use super::id_history::{may_be_foreign_agent, used_before};
use super::label::{self, LabelDecision};
use super::liveness::Liveness;
use super::observed::{ConfigAccess, Observed, OwnershipConflict, Registration};
use super::session::{self, SessionChange};
use super::step::Step;
use super::token::rules as token;
use super::token::rules::{TokenChange, TokenState};
use super::wake::{self, WakeStatusInput};
use crate::api::agent::AgentStatus;
use crate::api::requests::RequestKind;
use crate::api::{ConditionType, Reason, conditions};

/// The next Steps, and the reason for an end before the agent is complete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The Steps. They run in this order, up to the first failure.
    pub steps: Vec<Step>,
    /// The reason for an incomplete agent after these Steps.
    pub blocker: Option<Blocker>,
    /// Whether another pass follows these Steps at once.
    pub again: bool,
    /// The one-shot requests that these Steps fulfil.
    pub fulfils: BTreeSet<RequestKind>,
    /// Whether the status records the begin of a session reset.
    pub begins_reset: bool,
    /// The binding that the status records.
    pub binds: Option<Binding>,
}

impl Plan {
    /// Whether all Steps are late: they can wait until the peers on the gateway are set up. A label and a wake are.
    #[must_use]
    pub fn waits_for_peers(&self) -> bool {
        let is_late = |step: &Step| matches!(step, Step::LabelSession { .. } | Step::Wake(_));
        !self.steps.is_empty() && self.steps.iter().all(is_late)
    }
}

/// The state of the agent in the cluster.
#[derive(Clone, Copy, Debug)]
pub struct ClusterState<'a> {
    /// Whether the Agent has the finalizer.
    pub is_claimed: bool,
    /// The id in the annotation of the Agent.
    pub annotated_id: Option<&'a str>,
    /// The binding that the Agent carries.
    pub binding: Option<&'a Binding>,
    /// Its token Secret.
    pub token: &'a TokenState,
    /// Its status.
    pub status: &'a AgentStatus,
    /// When it last called Muster's API.
    pub last_seen: Option<Timestamp>,
}

/// The input of a rule.
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

impl<'a> RuleInput<'a> {
    fn new(desired: &'a Desired, cluster: ClusterState<'a>, observed: &'a Observed, now: Timestamp) -> Self {
        let wanted = Binding {
            uid: desired.uid.clone(),
            gateway: desired.gateway.clone(),
            address: desired.address.clone(),
            identity: desired.identity.clone(),
            adopted: desired.origin == Origin::Adopted,
            deletion_policy: Some(desired.deletion_policy),
            taken_up: desired.origin == Origin::TakenUp,
            claimed_for: desired.claimed_for.clone(),
        };
        let token_change = token::change(desired, cluster.token, cluster.status.token.as_ref(), now);
        let liveness = Liveness::of(cluster.last_seen, cluster.status, Some(observed));
        Self { desired, cluster, observed, now, wanted, token_change, liveness }
    }
}

/// A rule adds its Steps to the plan. `Break` ends the plan: the later rules require that this rule is satisfied.
type Rule = fn(&RuleInput<'_>, &mut Plan) -> ControlFlow<()>;

/// The rules with the names of their functions. Their order is the safety argument of [`plan`].
const RULES: &[(&str, Rule)] = &[
    ("release_earlier_binding", release_earlier_binding),
    ("leave_taken_id", leave_taken_id),
    ("leave_foreign_secret", leave_foreign_secret),
    ("wait_for_a_writable_config", wait_for_a_writable_config),
    ("claim", claim),
    ("bind", bind),
    ("record_config_keys", record_config_keys),
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
/// The order is the safety argument.
///
/// 1. An earlier binding is released before a new binding is written, so that the status records every agent on a gateway.
/// 2. An agent that already exists on the gateway is bound only if no other client can have its id, or if it is adopted. The finalizer is
///    there before the binding, and the binding is recorded before the first change on the gateway, so that a crash leaves a trace for
///    the cleanup. The same holds for the keys of `spec.config`.
/// 3. A token is in its Secret before it is in the status, and in the status before it is in a file. The previous token is removed in
///    the same order. So no agent holds a token that is not accepted, and every accepted token can be replaced. The first token is
///    recorded with the binding, in one write.
/// 4. The entry holds no token. It is in the roster and applied before files and session are touched: a session of an unknown agent
///    leaves an orphan store on the gateway (`docs/gateway-facts.md#sessions-and-messages`).
/// 5. The session is reset after the files are written, so that the new session begins with the new files. The reset is recorded before
///    it runs, so that a lost answer does not end a second session.
/// 6. Ready is recorded before the session is labelled and the wake is sent, so that a woken agent is complete. Both cost the gateway
///    time (0.15 s for the store of a session, `docs/gateway-facts.md#sessions-and-messages`) and can wait for other agents. A wake
///    waits for the end of a run, and for no label.
/// 7. A file that the gateway refuses blocks no other file and no later Step. The file is left until the files are listed again.
/// 8. An agent in its desired state gets no Step.
#[must_use]
pub fn plan(desired: &Desired, cluster: ClusterState<'_>, observed: &Observed, now: Timestamp) -> Plan {
    let input = RuleInput::new(desired, cluster, observed, now);
    let mut plan = Plan::default();
    for (_, rule) in RULES {
        if rule(&input, &mut plan).is_break() {
            break;
        }
    }
    plan
}

/// Ends the plan with these Steps. Another pass follows at once.
fn again(plan: &mut Plan) -> ControlFlow<()> {
    plan.again = true;
    ControlFlow::Break(())
}

/// Ends the plan with these Steps until the blocker is gone.
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

/// An agent of another client stays untouched. At another address than before, an agent of the same id in another workspace belongs to
/// another client.
fn leave_taken_id(input: &RuleInput<'_>, plan: &mut Plan) -> ControlFlow<()> {
    let RuleInput { desired, observed, .. } = input;
    let may_be_foreign = || may_be_foreign_agent(desired, input.cluster.status);
    let error = match input.cluster.binding {
        Some(bound) if !bound.is_at(&input.wanted.address) => {
            let can_be_chosen = !matches!(desired.origin, Origin::Derived | Origin::Adopted);
            (observed.conflict == Some(OwnershipConflict::Elsewhere) && can_be_chosen).then(|| id_taken(desired))
        }
        // The agent is the same in another workspace. Only its entry and its files change.
        Some(bound) if *bound != input.wanted => return CONTINUE,
        Some(_) => {
            (observed.conflict == Some(OwnershipConflict::Elsewhere) && may_be_foreign()).then(|| id_taken(desired))
        }
        None if observed.conflict == Some(OwnershipConflict::NoEntry) => Some(no_entry(desired)),
        None => (observed.registration != Registration::Absent && may_be_foreign()).then(|| id_taken(desired)),
    };
    match error {
        Some(error) => blocked(plan, Blocker::Failed(error)),
        None => CONTINUE,
    }
}

/// Nothing is made for an agent that the gateway cannot register.
fn wait_for_a_writable_config(input: &RuleInput<'_>, plan: &mut Plan) -> ControlFlow<()> {
    let RuleInput { desired, observed, .. } = input;
    let needs_write = matches!(observed.registration, Registration::Absent | Registration::Outdated);
    if observed.config == ConfigAccess::Obstructed && needs_write && input.cluster.binding.is_none() {
        return blocked(plan, Blocker::Pending(config_unwritable(desired)));
    }
    CONTINUE
}

/// The finalizer and the token Secret come before the binding, so that one write of the status records both.
fn claim(input: &RuleInput<'_>, plan: &mut Plan) -> ControlFlow<()> {
    let id = input.wanted.identity.agent_id.as_str();
    if !input.cluster.is_claimed || input.cluster.annotated_id != Some(id) {
        plan.steps.push(Step::Claim { agent_id: id.to_owned() });
    }
    if input.cluster.binding != Some(&input.wanted) {
        plan.steps.extend(input.token_change.map(Step::Token));
    }
    if plan.steps.is_empty() { CONTINUE } else { again(plan) }
}

fn bind(input: &RuleInput<'_>, plan: &mut Plan) -> ControlFlow<()> {
    if input.cluster.binding == Some(&input.wanted) {
        return CONTINUE;
    }
    plan.binds = Some(input.wanted.clone());
    if input.observed.registration != Registration::Current {
        // The same status as in the next pass, which submits the entry.
        plan.blocker = Some(entry_blocker(input.desired, input.observed));
    }
    again(plan)
}

/// The keys of `spec.config` are in the status before they are in the entry, so that each is found again when it has to go.
fn record_config_keys(input: &RuleInput<'_>, plan: &mut Plan) -> ControlFlow<()> {
    let recorded = &input.cluster.status.config_keys;
    if input.desired.entry.passed.keys().all(|key| recorded.contains(key)) {
        return CONTINUE;
    }
    again(plan)
}

fn leave_foreign_secret(input: &RuleInput<'_>, plan: &mut Plan) -> ControlFlow<()> {
    if *input.cluster.token == TokenState::Foreign {
        return blocked(plan, Blocker::Failed(secret_conflict(input.desired)));
    }
    CONTINUE
}

/// The roster shows the id, and the config has no entry of the id. Muster writes no second entry.
fn wait_for_an_entry(input: &RuleInput<'_>, plan: &mut Plan) -> ControlFlow<()> {
    let absent = input.observed.registration == Registration::Absent;
    if absent && input.observed.conflict == Some(OwnershipConflict::NoEntry) {
        plan.steps.extend(input.token_change.map(Step::Token));
        return blocked(plan, Blocker::Failed(no_entry(input.desired)));
    }
    CONTINUE
}

/// Whether only `agents.create` may bring the agent back: an entry alone opens no id that the gateway has closed, and a gateway that reads one
/// may not start any more (`docs/gateway-facts.md#ids-that-were-deleted`).
fn must_be_created(input: &RuleInput<'_>) -> bool {
    input.observed.registration == Registration::Absent && used_before(input.desired, input.cluster.status)
}

fn create_anew(input: &RuleInput<'_>, plan: &mut Plan) -> ControlFlow<()> {
    let RuleInput { desired, observed, .. } = input;
    if must_be_created(input) && observed.settled && observed.config != ConfigAccess::Obstructed {
        plan.steps.extend(input.token_change.map(Step::Token));
        if observed.creation_in.is_some() {
            return blocked(plan, Blocker::Pending(config_unwritable(desired)));
        }
        plan.steps.push(Step::Create(desired.identity.clone()));
        return again(plan);
    }
    CONTINUE
}

fn submit_entry(input: &RuleInput<'_>, plan: &mut Plan) -> ControlFlow<()> {
    match input.observed.registration {
        Registration::Absent if must_be_created(input) => {}
        Registration::Absent | Registration::Outdated if input.observed.config != ConfigAccess::Obstructed => {
            plan.steps.push(Step::SubmitEntry(Box::new(input.desired.entry.clone())));
        }
        Registration::Absent | Registration::Outdated | Registration::Invisible | Registration::Current => {}
    }
    CONTINUE
}

fn change_token(input: &RuleInput<'_>, plan: &mut Plan) -> ControlFlow<()> {
    plan.steps.extend(input.token_change.map(Step::Token));
    CONTINUE
}

/// A token in its Secret is recorded at once, even while the entry waits: the Secret may be mounted.
fn wait_for_the_roster(input: &RuleInput<'_>, plan: &mut Plan) -> ControlFlow<()> {
    match (input.observed.registration, input.token_change) {
        (Registration::Current, _) => CONTINUE,
        (_, Some(_)) => again(plan),
        (_, None) => blocked(plan, entry_blocker(input.desired, input.observed)),
    }
}

fn record_token(input: &RuleInput<'_>, plan: &mut Plan) -> ControlFlow<()> {
    let is_recorded = token::is_recorded(input.cluster.token, input.cluster.status.token.as_ref());
    if plan.steps.is_empty() && is_recorded { CONTINUE } else { again(plan) }
}

fn write_files(input: &RuleInput<'_>, plan: &mut Plan) -> ControlFlow<()> {
    let writes = file_writes(input.desired, input.cluster.status, input.observed);
    if !writes.is_empty() {
        plan.steps.push(Step::WriteFiles(writes));
    }
    CONTINUE
}

/// The requests that file writes fulfil.
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
        Some(error) => blocked(plan, Blocker::Failed(error)),
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
    let wakes =
        WakeStatusInput { old: input.cluster.status.wake.as_ref(), observed: Some(*observed), woken: None, now: *now };
    let record = wakes.status(desired);
    let message = wake::next_message(desired, record.as_ref(), liveness, observed, *now);
    // The next pass reads the stored label. With a wake, a later pass does.
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

/// Whether the status records that the agent is ready. A file that the gateway refuses does not count.
fn recorded_ready(desired: &Desired, status: &AgentStatus) -> bool {
    let refused = Reason::FileRefused.as_str();
    status.observed_generation == desired.generation
        && conditions::find(&status.conditions, ConditionType::Ready)
            .is_some_and(|ready| ready.status == "True" || ready.reason == refused)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
