use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;
use crate::api::shared::ActiveHours;
use crate::core::agent::blocked::Blocker;
use crate::core::agent::fixtures::{AgentFixture, applied, at};
use crate::core::agent::observed::Observed;
use crate::core::agent::plan::Plan;

fn status_and_reason(status: &AgentStatus, kind: ConditionType) -> String {
    find(&status.conditions, kind).map(|c| format!("{} {}", c.status, c.reason)).unwrap_or_default()
}

/// The status while the gateway is unreachable.
fn without_gateway(fixture: &AgentFixture, error: ReconcileError) -> AgentStatus {
    let blocker = Blocker::Failed(error);
    status(&StatusInput {
        old: &fixture.status,
        generation: fixture.desired.generation,
        desired: Some(&fixture.desired),
        observed: None,
        observer: None,
        token: Some(&fixture.token),
        blocker: Some(&blocker),
        heartbeat: None,
        woken: None,
        labelled: None,
        confirmed: None,
        fulfilled: &std::collections::BTreeSet::new(),
        begins_reset: false,
        revocation: None,
        now: at(fixture.now),
    })
}

#[test]
fn the_same_input_gives_the_same_status() {
    for mut fixture in
        [applied(), applied().bound().with_token().registered(), applied().provisioned(), applied().working()]
    {
        fixture.record(&fixture.plan(), None);
        let before = fixture.status.clone();
        fixture.now += 1;
        fixture.record(&fixture.plan(), None);
        assert_eq!(fixture.status, before);
    }
}

#[test]
fn the_phase_follows_from_the_conditions() {
    let mut starting = applied();
    starting.record(&starting.plan(), None);
    assert_eq!(starting.status.phase, Some(Phase::Provisioning));
    assert_eq!(applied().provisioned().status.phase, Some(Phase::Ready));
    let mut silent = applied().working();
    silent.now += 10_000;
    silent.record(&Plan::default(), None);
    assert_eq!(silent.status.phase, Some(Phase::Offline));
    let mut paused = applied().working();
    paused.desired.paused = Some("spec.suspend is true".into());
    paused.record(&Plan::default(), None);
    assert_eq!(paused.status.phase, Some(Phase::Paused));
    let failed = without_gateway(&applied(), ReconcileError::permanent(Reason::TemplateError, "no"));
    assert_eq!(failed.phase, Some(Phase::Failed));
    let terminating = terminating(&applied().working().status, 1, None, at(2000));
    assert_eq!(
        (terminating.phase, status_and_reason(&terminating, ConditionType::Ready)),
        (Some(Phase::Deleting), "False Deleting".into())
    );
}

#[test]
fn a_suspension_keeps_what_the_gateway_showed_and_no_fault_of_the_spec() {
    let ready_after = |error: ReconcileError| {
        let mut fixture = applied();
        fixture.status = without_gateway(&fixture, error);
        let suspended = ReconcileError::transient(Reason::Suspended, "AgentGateway own/gw is suspended");
        let status = without_gateway(&fixture, suspended);
        let stalled = find(&status.conditions, ConditionType::Stalled).is_some();
        (status_and_reason(&status, ConditionType::Ready), stalled)
    };
    let of_the_spec = ready_after(ReconcileError::permanent(Reason::BoardNotFound, "no board"));
    assert_eq!(of_the_spec, ("Unknown Suspended".to_owned(), false));
    let of_the_gateway = ready_after(ReconcileError::permanent(Reason::AgentIdTaken, "taken"));
    assert_eq!(of_the_gateway, ("False AgentIdTaken".to_owned(), true));
}

#[test]
fn an_agent_that_has_run_and_never_checked_in_is_ready_and_not_idle() {
    let mut fixture = applied().provisioned();
    fixture.status.last_run = Some(RunStatus { started_at: Some(Time(at(900))), ended_at: Some(Time(at(905))) });
    fixture.record(&Plan::default(), None);
    assert!(fixture.status.last_run.is_some());
    assert_eq!(fixture.status.phase, Some(Phase::Ready));
}

#[test]
fn an_agent_without_a_heartbeat_says_why_and_how_to_get_one() {
    let mut fixture = applied().working();
    fixture.desired.heartbeat_interval = std::time::Duration::ZERO;
    for (every, paused, words) in [
        (Some("0m"), None, "set it to true for a heartbeat"),
        (None, None, "keeps the heartbeat of its config entry"),
        (Some("0m"), Some("spec.suspend is true"), "the agent is suspended"),
    ] {
        fixture.desired.entry.heartbeat.every = every.map(str::to_owned);
        fixture.desired.paused = paused.map(str::to_owned);
        fixture.record(&Plan::default(), None);
        let message = &find(&fixture.status.conditions, ConditionType::HeartbeatConfigured).unwrap().message;
        assert!(message.contains(words), "{words}: {message}");
    }
}

#[test]
fn the_phase_of_a_checked_in_agent_is_its_reported_status() {
    for (said, phase) in [(CheckIn::Active, Phase::Active), (CheckIn::Idle, Phase::Idle)] {
        let mut fixture = applied().working();
        fixture.status.heartbeat.as_mut().unwrap().status = Some(said);
        fixture.seen = None;
        fixture.record(&Plan::default(), None);
        assert_eq!(fixture.status.phase, Some(phase));
    }
}

#[test]
fn an_unreachable_gateway_makes_ready_unknown_and_keeps_the_rest() {
    let working = applied().working();
    let status = without_gateway(&working, ReconcileError::transient(Reason::GatewayNotReady, "away"));
    assert_eq!(status_and_reason(&status, ConditionType::Ready), "Unknown GatewayNotReady");
    assert_eq!(status_and_reason(&status, ConditionType::FilesSynced), "True Reconciled");
    assert_eq!(status.files, working.status.files);
}

#[test]
fn stalled_and_reconciling_are_present_only_while_true() {
    let permanent = without_gateway(&applied(), ReconcileError::permanent(Reason::TemplateError, "no"));
    assert_eq!(status_and_reason(&permanent, ConditionType::Stalled), "True TemplateError");
    assert_eq!(status_and_reason(&permanent, ConditionType::Reconciling), "");
    let ready = applied().provisioned().status;
    assert_eq!(
        status_and_reason(&ready, ConditionType::Stalled) + &status_and_reason(&ready, ConditionType::Reconciling),
        ""
    );
}

#[test]
fn an_error_of_the_gateway_keeps_its_code() {
    let error = ReconcileError::transient(Reason::GatewayError, "no").with_code("UNAVAILABLE");
    let status = without_gateway(&applied(), error);
    let error = status.last_error.unwrap();
    assert_eq!((error.code.as_str(), error.transient), ("UNAVAILABLE", true));
}

#[test]
fn another_identity_clears_the_files_and_the_wakes_of_the_previous_one() {
    let mut fixture = applied().working();
    fixture.desired.identity.agent_id = "lead-b1".into();
    fixture.observed = Observed { settled: true, ..Observed::default() };
    fixture.seen = None;
    fixture.record(&Plan::default(), None);
    assert!(fixture.status.files.is_empty() && fixture.status.wake.is_none());
}

#[test]
fn a_refused_file_is_named_with_the_next_step() {
    let mut fixture = applied().working();
    fixture.refuse("AGENTS.md");
    fixture.record(&fixture.plan(), None);
    let status = fixture.status.clone();
    for kind in [ConditionType::FilesSynced, ConditionType::Ready] {
        assert_eq!(status_and_reason(&status, kind), "False FileRefused", "{kind}");
        let message = &find(&status.conditions, kind).unwrap().message;
        for word in ["AGENTS.md in /data/", "link", "unsafe workspace file AGENTS.md", "Unmanaged"] {
            assert!(message.contains(word), "{word}: {message}");
        }
    }
    assert_eq!(status_and_reason(&status, ConditionType::Stalled), "True FileRefused");
    assert_eq!(status_and_reason(&status, ConditionType::SessionReady), "True Reconciled");
    assert_eq!(find(&status.conditions, ConditionType::Reconciling), None);
    fixture.now += 1;
    fixture.record(&fixture.plan(), None);
    assert_eq!(fixture.status, status);
}

#[test]
fn an_agent_that_was_not_due_for_two_intervals_is_not_said_to_have_called_within_them() {
    let message = |change: &dyn Fn(&mut AgentFixture)| {
        let mut fixture = applied().working();
        fixture.status.last_run = None;
        change(&mut fixture);
        fixture.record(&Plan::default(), None);
        let checked_in = find(&fixture.status.conditions, ConditionType::CheckedIn).unwrap().clone();
        assert_eq!(checked_in.status, "True", "{checked_in:?}");
        checked_in.message
    };
    let in_time = "calls Muster's API within two heartbeat intervals";
    let not_due = "no further call is due, see HeartbeatConfigured";
    // The last call was at 1001 s, and the interval is 300 s.
    let skipped = |fixture: &mut AgentFixture| fixture.observed.heartbeat.skipped_at = Some(at(1500));
    let quiet = |fixture: &mut AgentFixture| {
        skipped(fixture);
        fixture.observed.heartbeat.is_quiet = true;
    };
    let outside = |fixture: &mut AgentFixture| {
        let hours = ActiveHours { start: "00:00".into(), end: "00:20".into(), timezone: Some("UTC".into()) };
        fixture.observed.heartbeat.hours = Some(hours);
    };
    for (now, change, words) in [
        (1600, &skipped as &dyn Fn(&mut AgentFixture), in_time),
        (1601, &skipped, not_due),
        (1700, &quiet, not_due),
        (1199, &outside, in_time),
        (1201, &outside, not_due),
        (1700, &outside, not_due),
    ] {
        let message = message(&|fixture| {
            change(fixture);
            fixture.now = now;
        });
        assert!(message.contains(words), "{now}: {message}");
    }
    let ran = message(&|fixture| {
        fixture.observed.activity.rested = Some((at(1100), at(1650)));
        fixture.now = 1700;
    });
    assert!(ran.contains("less than two heartbeat intervals in which a call was due"), "{ran}");
}

#[test]
fn an_agent_that_is_managed_again_keeps_no_condition_of_its_time_as_an_observer() {
    let mut fixture = applied().working();
    fixture.status.conditions.clear();
    for (kind, status, reason) in [
        (ConditionType::Ready, ConditionStatus::True, Reason::Observed),
        (ConditionType::Registered, ConditionStatus::True, Reason::Observed),
        (ConditionType::FilesSynced, ConditionStatus::Unknown, Reason::NotManaged),
    ] {
        set(&mut fixture.status.conditions, &ConditionUpdate::new(kind, status, reason, ""), 1, at(1));
    }
    for (error, ready) in [
        (ReconcileError::permanent(Reason::AgentIdTaken, "taken"), "False AgentIdTaken"),
        (ReconcileError::transient(Reason::Suspended, "the gateway is suspended"), "Unknown Suspended"),
    ] {
        let status = without_gateway(&fixture, error);
        assert_eq!(status_and_reason(&status, ConditionType::Ready), ready);
        for kind in [ConditionType::Registered, ConditionType::FilesSynced] {
            assert_eq!(status_and_reason(&status, kind), "Unknown NotObserved", "{kind}");
        }
    }
}
