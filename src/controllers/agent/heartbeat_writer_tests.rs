use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;
use crate::api::Reason;
use crate::api::agent::{BindingStatus, ManagementPolicy, PreviousToken, TokenStatus};
use crate::api::conditions::{ConditionUpdate, set};

type Change = fn(&mut Agent);

fn at(second: i64) -> Time {
    Time(Timestamp::from_second(second).unwrap())
}

fn said(second: i64, status: CheckIn, task: Option<&str>) -> HeartbeatStatus {
    HeartbeatStatus { last_seen: at(second), status: Some(status), current_task: task.map(str::to_owned) }
}

/// Ready, idle, checked in at 0.
fn quiet_agent() -> Agent {
    let mut agent = Agent::default();
    agent.metadata.generation = Some(3);
    let token = TokenStatus { confirmed_at: Some(at(0)), ..TokenStatus::default() };
    let mut status = AgentStatus {
        observed_generation: 3,
        phase: Some(Phase::Idle),
        token: Some(token),
        heartbeat: Some(said(0, CheckIn::Idle, None)),
        ..AgentStatus::default()
    };
    for (kind, reason) in [(ConditionType::Ready, Reason::Reconciled), (ConditionType::CheckedIn, Reason::CheckedIn)] {
        set(&mut status.conditions, &ConditionUpdate::new(kind, true, reason, ""), 3, at(0).0);
    }
    agent.status = Some(status);
    agent
}

fn status(agent: &mut Agent) -> &mut AgentStatus {
    agent.status.as_mut().unwrap()
}

#[test]
fn a_quiet_agents_heartbeat_changes_the_time_and_nothing_else() {
    let agent = quiet_agent();
    let Decision::Write(written) = decide(&agent, Some(said(40, CheckIn::Idle, None))) else { panic!("not written") };
    let mut expected = agent.status.unwrap();
    expected.heartbeat.as_mut().unwrap().last_seen = at(40);
    assert_eq!(*written, expected);
}

#[test]
fn what_the_status_holds_already_is_not_written() {
    assert!(matches!(decide(&quiet_agent(), None), Decision::Nothing));
}

#[test]
fn a_changed_report_is_for_the_reconcile() {
    for reported in [said(40, CheckIn::Active, None), said(40, CheckIn::Idle, Some("T1"))] {
        assert!(matches!(decide(&quiet_agent(), Some(reported)), Decision::Reconcile));
    }
}

#[test]
fn an_agent_that_is_not_quiet_is_for_the_reconcile() {
    let changes: [(&str, Change); 9] = [
        ("another generation", |a| a.metadata.generation = Some(4)),
        ("a deletion", |a| a.metadata.deletion_timestamp = Some(at(1))),
        ("no status", |a| a.status = None),
        ("no conditions", |a| status(a).conditions.clear()),
        ("not checked in", |a| {
            let verdict = ConditionUpdate::new(ConditionType::CheckedIn, false, Reason::Stale, "");
            set(&mut status(a).conditions, &verdict, 3, at(1).0);
        }),
        ("a token that was not used yet", |a| status(a).token.as_mut().unwrap().confirmed_at = None),
        ("a token to be retired", |a| {
            status(a).token.as_mut().unwrap().previous = Some(PreviousToken::default());
        }),
        ("offline", |a| status(a).phase = Some(Phase::Offline)),
        ("a phase of its runs", |a| status(a).phase = Some(Phase::Active)),
    ];
    for (what, change) in changes {
        let mut agent = quiet_agent();
        change(&mut agent);
        let decision = decide(&agent, Some(said(40, CheckIn::Idle, None)));
        assert!(matches!(decision, Decision::Reconcile), "{what}");
    }
}

#[test]
fn a_paused_agent_that_calls_stays_paused() {
    let mut agent = quiet_agent();
    status(&mut agent).phase = Some(Phase::Paused);
    assert!(matches!(decide(&agent, Some(said(40, CheckIn::Idle, None))), Decision::Write(_)));
}

#[test]
fn each_call_of_a_settled_observer_that_is_bound_is_only_written() {
    let mut agent = quiet_agent();
    agent.spec.management_policy = ManagementPolicy::Observe;
    agent.metadata.uid = Some("u".into());
    status(&mut agent).conditions.retain(|condition| condition.type_ == ConditionType::Ready.as_str());
    assert!(matches!(decide(&agent, Some(said(40, CheckIn::Idle, None))), Decision::Reconcile), "it is not bound");
    status(&mut agent).binding = Some(BindingStatus { uid: "u".into(), ..BindingStatus::default() });
    assert!(matches!(decide(&agent, None), Decision::Nothing));
    for reported in [said(40, CheckIn::Idle, None), said(40, CheckIn::Active, Some("T1"))] {
        let Decision::Write(written) = decide(&agent, Some(reported.clone())) else { panic!("not written") };
        assert_eq!((written.heartbeat, written.phase), (Some(reported), Some(Phase::Idle)));
    }
    agent.metadata.generation = Some(4);
    assert!(matches!(decide(&agent, Some(said(40, CheckIn::Idle, None))), Decision::Reconcile));
}

#[test]
fn an_agent_waits_once_and_in_its_turn() {
    let mut waiting = Waiting::default();
    for name in ["b", "a", "b"] {
        waiting.put(ObjectKey::new("ns", name));
    }
    let order: Vec<_> = std::iter::from_fn(|| waiting.next()).map(|key| key.name).collect();
    assert_eq!(order, ["b", "a"]);
    waiting.put(ObjectKey::new("ns", "b"));
    assert_eq!(waiting.next(), Some(ObjectKey::new("ns", "b")), "an Agent can be queued again after its heartbeat");
}
