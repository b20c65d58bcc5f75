//! Concludes a pass of the reconcile: the status, and the time of the next pass.

use std::time::Duration;

use jiff::Timestamp;

use super::blocked::Blocker;
use super::cleanup::waits_for_permit;
use super::desired::Desired;
use super::label::{self, LabelDecision, LabelResult};
use super::liveness::Liveness;
use super::observed::{Observed, Registration};
use super::plan::Plan;
use super::status::status;
use super::status_input::StatusInput;
use super::step::Step;
use super::token::rules as token;
use super::wake::{self, WakeDecision, WakeResult};
use crate::api::Reason;
use crate::api::agent::AgentStatus;
use crate::api::requests::RequestKind;
use crate::core::error::ReconcileError;
use crate::core::requeue::Requeue;

/// The longest time until an agent whose gateway is not ready is reconciled again. A new connection triggers it earlier.
const GATEWAY_CHECK_INTERVAL: Duration = Duration::from_mins(1);
/// The longest time until an agent with an invalid spec or reference is reconciled again.
const SPEC_CHECK_INTERVAL: Duration = Duration::from_mins(10);

/// The outcome of the Steps of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The first failure. The Steps after it did not run.
    pub failed: Option<ReconcileError>,
    /// The wake that was sent.
    pub woken: Option<WakeResult>,
    /// The result of the label that was sent. A refusal is no failure.
    pub labelled: Option<LabelResult>,
}

/// A plan whose Steps ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppliedPlan {
    /// The plan.
    pub plan: Plan,
    /// How long some Steps wait at most until the peers on the gateway are set up. The last peer triggers the agent earlier.
    pub deferred: Option<Duration>,
    /// The outcome of its Steps.
    pub outcome: Outcome,
}

/// The end of a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PassEnd {
    /// The Steps of the plan ran, up to the first failure.
    Applied(Box<AppliedPlan>),
    /// A step before the plan failed.
    Failed(ReconcileError),
    /// The agent of an observer was looked at.
    Observed,
    /// An earlier binding was released.
    Released,
    /// The pass could do nothing. The status stays unchanged.
    Postponed(Requeue),
}

impl From<ReconcileError> for PassEnd {
    fn from(error: ReconcileError) -> Self {
        Self::Failed(error)
    }
}

/// The step after a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextPass {
    /// Another pass at once.
    Again,
    /// Another reconcile.
    Requeue(Requeue),
}

/// The conclusion of a pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Conclusion {
    /// The status to be written, if it differs from the recorded status.
    pub status: AgentStatus,
    /// The step after the pass.
    pub next: NextPass,
}

/// Concludes a pass. `input` holds the observations of the pass, without the results of its Steps.
#[must_use]
pub fn conclude(input: &StatusInput<'_>, end: &PassEnd) -> Conclusion {
    let unchanged = |next| Conclusion { status: input.old.clone(), next };
    match end {
        PassEnd::Applied(applied) if applied.outcome.failed.as_ref().is_some_and(ReconcileError::is_conflict) => {
            unchanged(NextPass::Requeue(Requeue::soon()))
        }
        PassEnd::Applied(applied) => conclude_applied(input, applied),
        PassEnd::Failed(error) if error.is_conflict() => unchanged(NextPass::Requeue(Requeue::soon())),
        PassEnd::Failed(error) => {
            let blocker = Blocker::Failed(error.clone());
            let status = status(&StatusInput { observed: None, blocker: Some(&blocker), ..*input });
            Conclusion { status, next: NextPass::Requeue(after_failure(error)) }
        }
        PassEnd::Observed => {
            let after = input.observer.map(|observer| observer.look_after(input.now)).unwrap_or_default();
            Conclusion { status: status(input), next: NextPass::Requeue(Requeue::after(after)) }
        }
        PassEnd::Released => {
            let status = status(&StatusInput { observed: None, blocker: None, ..*input });
            Conclusion { status, next: NextPass::Again }
        }
        PassEnd::Postponed(requeue) => unchanged(NextPass::Requeue(*requeue)),
    }
}

fn after_failure(error: &ReconcileError) -> Requeue {
    match error.reason {
        Reason::GatewayNotReady => Requeue::after(GATEWAY_CHECK_INTERVAL),
        Reason::Suspended => Requeue::on_change(),
        _ if waits_for_permit(error) => Requeue::on_change(),
        _ if error.is_retried() => Requeue::retry(),
        _ => Requeue::after(SPEC_CHECK_INTERVAL),
    }
}

fn conclude_applied(input: &StatusInput<'_>, applied: &AppliedPlan) -> Conclusion {
    let AppliedPlan { plan, deferred, outcome } = applied;
    let failed = outcome.failed.clone().map(Blocker::Failed);
    let blocker = failed.as_ref().or(plan.blocker.as_ref());
    let is_released = plan.steps.iter().any(|step| matches!(step, Step::Release(_)));
    let mut fulfilled = if blocker.is_none() { plan.fulfils.clone() } else { input.fulfilled.clone() };
    if outcome.woken.is_some() {
        fulfilled.insert(RequestKind::Wake);
    }
    let mut new = status(&StatusInput {
        // A release has replaced the token, so that the token in `input` is outdated.
        token: input.token.filter(|_| !is_released),
        blocker,
        woken: outcome.woken.as_ref(),
        labelled: outcome.labelled.as_ref(),
        fulfilled: &fulfilled,
        begins_reset: plan.begins_reset && blocker.is_none(),
        ..*input
    });
    if let Some(binding) = plan.binds.as_ref().filter(|_| outcome.failed.is_none()) {
        new.binding = Some(binding.to_status());
    }
    let next = next(input, &new, applied, blocker);
    // While an agent is being set up, the next pass writes a status with this information and more. It needs the keys that this pass
    // records.
    let registered = input.observed.is_some_and(|observed| observed.registration == Registration::Current);
    let records = new.config_keys != input.old.config_keys;
    let next_pass_reports = (plan.again || deferred.is_some()) && blocker.is_none() && !registered && !records;
    Conclusion { status: if next_pass_reports { input.old.clone() } else { new }, next }
}

fn next(input: &StatusInput<'_>, new: &AgentStatus, applied: &AppliedPlan, blocker: Option<&Blocker>) -> NextPass {
    let (Some(desired), Some(observed)) = (input.desired, input.observed) else { return NextPass::Again };
    // A previous token that the status no longer holds is removed from the Secret in the next pass.
    let token_is_due =
        input.token.is_some_and(|state| token::change(desired, state, new.token.as_ref(), input.now).is_some());
    let requeue = match blocker {
        // After a creation for which the gateway could not write its config.
        Some(Blocker::Failed(error)) if error.is_retried() || error.reason == Reason::ConfigNotWritable => {
            Requeue::retry()
        }
        Some(Blocker::Pending(_)) if applied.plan.binds.is_some() => return NextPass::Again,
        Some(Blocker::Failed(_) | Blocker::Pending(_)) => {
            Requeue::after(desired.resync_interval).no_later(observed.creation_in)
        }
        None if let Some(wait) = applied.deferred => Requeue::after(wait),
        None if applied.outcome.labelled.as_ref().is_some_and(LabelResult::may_work_later) => Requeue::retry(),
        None if applied.plan.again || token_is_due => return NextPass::Again,
        None => Requeue::after(requeue_after(desired, new, observed, input.now)),
    };
    NextPass::Requeue(requeue)
}

/// The time until the next deadline of this agent, at most its `resyncInterval`.
fn requeue_after(desired: &Desired, status: &AgentStatus, observed: &Observed, now: Timestamp) -> Duration {
    let seen = status.heartbeat.as_ref().map(|h| h.last_seen.0);
    let liveness = Liveness::of(seen, status, Some(observed));
    let wake_at = match wake::decide(desired, status.wake.as_ref(), &liveness, now) {
        WakeDecision::AwaitCheckIn(at)
        | WakeDecision::RetryAt(at)
        | WakeDecision::Busy(at)
        | WakeDecision::OutOfHours(at)
        | WakeDecision::Exhausted(at)
        | WakeDecision::OverBudget(at) => Some(at),
        WakeDecision::Nothing | WakeDecision::Send { .. } => None,
    };
    let stale = liveness.stale_at(desired).into_iter().chain(liveness.running_until(now)).filter(|at| *at > now);
    let label_at = match label::decide(desired, status.session_label.as_ref(), observed, now) {
        LabelDecision::RetryAt(at) => Some(at),
        LabelDecision::Send(_) => Some(now),
        LabelDecision::Nothing => None,
    };
    let token = token::due(desired, status.token.as_ref());
    let soonest = wake_at.into_iter().chain(stale).chain(label_at).chain(token).min();
    let until = soonest.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
    until.map_or(desired.resync_interval, |time| time.min(desired.resync_interval))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::agent::blocked::config_unwritable;
    use crate::core::agent::desired::Origin;
    use crate::core::agent::fixtures::{AgentFixture, applied as just_applied, issued_token};

    /// Concludes a pass that applied the plan of a fixture with this outcome of its Steps.
    fn pass(fixture: &AgentFixture, deferred: Option<Duration>, outcome: Outcome) -> Conclusion {
        let end = PassEnd::Applied(Box::new(AppliedPlan { plan: fixture.plan(), deferred, outcome }));
        fixture.conclude(&end)
    }

    fn requeue(conclusion: &Conclusion) -> Option<Requeue> {
        match conclusion.next {
            NextPass::Again => None,
            NextPass::Requeue(requeue) => Some(requeue),
        }
    }

    #[test]
    fn a_failure_before_the_plan_is_requeued_by_its_reason() {
        let fixture = just_applied().working();
        let after = |error: ReconcileError| {
            let conclusion = fixture.conclude(&PassEnd::Failed(error.clone()));
            assert_eq!(conclusion.status.last_error.as_ref().map(|e| e.message.as_str()), Some(error.message.as_str()));
            requeue(&conclusion)
        };
        let transient = |reason| ReconcileError::transient(reason, "x");
        assert_eq!(after(transient(Reason::KubernetesError)), Some(Requeue::retry()));
        assert_eq!(after(transient(Reason::GatewayNotReady)), Some(Requeue::after(GATEWAY_CHECK_INTERVAL)));
        assert_eq!(after(transient(Reason::Deleting)), Some(Requeue::on_change()));
        assert_eq!(
            after(ReconcileError::permanent(Reason::InvalidSpec, "x")),
            Some(Requeue::after(SPEC_CHECK_INTERVAL))
        );
    }

    #[test]
    fn a_postponed_pass_changes_no_status() {
        let fixture = just_applied().working();
        let next = NextPass::Requeue(Requeue::retry());
        let conclusion = fixture.conclude(&PassEnd::Postponed(Requeue::retry()));
        assert_eq!(conclusion, Conclusion { status: fixture.status.clone(), next });
    }

    #[test]
    fn an_unfinished_plan_is_followed_at_once_and_a_deferred_plan_after_its_longest_wait() {
        let fixture = just_applied().bound().with_token().registered();
        assert_eq!(pass(&fixture, None, Outcome::default()).next, NextPass::Again);
        let wait = Duration::from_secs(20);
        let deferred = pass(&just_applied().provisioned(), Some(wait), Outcome::default());
        assert_eq!(requeue(&deferred), Some(Requeue::after(wait)));
    }

    #[test]
    fn one_status_records_the_binding_and_the_token_and_is_the_status_of_the_waiting_entry() {
        let mut fixture = just_applied();
        fixture.is_claimed = true;
        fixture.annotated_id = Some(fixture.desired.identity.agent_id.clone());
        fixture.token = issued_token("t1");
        let bound = pass(&fixture, None, Outcome::default());
        assert_eq!(bound.next, NextPass::Again);
        let token = bound.status.token.as_ref().map(|token| token.sha256.as_str());
        assert_eq!((bound.status.binding.is_some(), token), (true, Some("t1")));
        fixture.binding = fixture.plan().binds;
        fixture.status = bound.status;
        let waiting = pass(&fixture, None, Outcome::default());
        assert_eq!(waiting.status, fixture.status, "the pass that submits the entry writes no status");
    }

    #[test]
    fn a_failed_step_blocks_and_fulfils_no_request() {
        let fixture = just_applied().bound().with_token().registered();
        let failed = ReconcileError::transient(Reason::GatewayError, "no answer");
        let conclusion = pass(&fixture, None, Outcome { failed: Some(failed), ..Outcome::default() });
        assert_eq!(requeue(&conclusion), Some(Requeue::retry()));
        assert_eq!(conclusion.status.last_error.map(|error| error.message), Some("no answer".into()));
    }

    #[test]
    fn a_step_that_kubernetes_denies_is_retried_with_the_growing_backoff() {
        let fixture = just_applied().bound();
        for kind in [ReconcileError::transient, ReconcileError::permanent] {
            let failed = kind(Reason::KubernetesError, "denied");
            let conclusion = pass(&fixture, None, Outcome { failed: Some(failed), ..Outcome::default() });
            assert_eq!(requeue(&conclusion), Some(Requeue::retry()));
        }
    }

    #[test]
    fn a_creation_for_which_the_config_could_not_be_written_is_retried_and_then_waits_for_its_time() {
        let mut fixture = just_applied().bound().with_token();
        fixture.desired.origin = Origin::Chosen;
        let failed = Some(config_unwritable(&fixture.desired));
        let retried = pass(&fixture, None, Outcome { failed, ..Outcome::default() });
        assert_eq!(requeue(&retried), Some(Requeue::retry()));
        fixture.observed.creation_in = Some(Duration::from_secs(9));
        let waits = pass(&fixture, None, Outcome::default());
        assert_eq!(requeue(&waits), Some(Requeue::after(Duration::from_secs(9))));
        assert_eq!(waits.status.conditions, retried.status.conditions, "the status does not change meanwhile");
    }

    #[test]
    fn a_working_agent_is_requeued_for_the_time_when_it_would_go_stale() {
        let fixture = just_applied().working();
        let conclusion = pass(&fixture, None, Outcome::default());
        assert_eq!(
            requeue(&conclusion),
            Some(Requeue::after(Duration::from_secs(599))),
            "two intervals after its last call"
        );
    }
}
