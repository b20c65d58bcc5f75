use super::*;
use crate::core::agent::fixtures::{AgentFixture, applied};
use crate::core::agent::observed::{OwnershipConflict, Registration};

fn names(plan: &Plan) -> Vec<&'static str> {
    plan.steps.iter().map(Step::name).collect()
}

fn reason(plan: &Plan) -> Option<Reason> {
    plan.blocker.as_ref().map(|blocker| blocker.error().reason)
}

#[test]
fn a_new_agent_is_claimed_before_it_gets_an_entry_and_its_token_while_that_is_written() {
    let plan = applied().plan();
    assert_eq!(names(&plan), ["bind", "submit_entry", "issue_token"]);
    assert!(plan.again && plan.blocker.is_none(), "the token is recorded at once");
    let first = plan.while_peers_are_set_up().unwrap();
    assert_eq!((names(&first), first.again), (vec!["bind", "submit_entry"], false), "others come before its token");
    let mut later = applied().bound().with_token();
    later.observed.registration = Registration::Absent;
    assert_eq!(reason(&later.plan()), Some(Reason::WaitingForConfigWrite));
}

#[test]
fn a_token_that_is_replaced_is_recorded_although_the_entry_waits() {
    let mut fixture = applied().provisioned();
    fixture.observed.registration = Registration::Outdated;
    fixture.token = TokenState::Missing;
    let plan = fixture.plan();
    assert_eq!((names(&plan), plan.again), (vec!["submit_entry", "issue_token"], true));
    assert_eq!(plan.while_peers_are_set_up(), None, "what replaces a token waits for nobody");
}

#[test]
fn files_and_session_wait_for_the_roster() {
    for registration in [Registration::Absent, Registration::Outdated, Registration::Invisible] {
        let mut fixture = applied().bound().with_token();
        fixture.observed.registration = registration;
        let plan = fixture.plan();
        assert!(!names(&plan).iter().any(|n| ["write_files", "label_session", "wake"].contains(n)), "{registration:?}");
        assert!(plan.blocker.is_some());
    }
}

#[test]
fn a_registered_agent_gets_its_files_and_once_it_is_ready_its_label() {
    let mut fixture = applied().bound().with_token().registered();
    let plan = fixture.plan();
    assert_eq!((names(&plan), plan.again, plan.while_peers_are_set_up()), (vec!["write_files"], true, None));
    for step in &plan.steps {
        fixture.apply(step);
    }
    let plan = fixture.plan();
    assert_eq!((names(&plan), plan.again), (vec![], true), "Ready is recorded first");
    fixture.record(&plan, None);
    fixture.record(&Plan::default(), None);
    let plan = fixture.plan();
    let late = vec!["label_session", "wake"];
    assert_eq!((names(&plan), plan.again, plan.while_peers_are_set_up()), (late, false, Some(Plan::default())));
}

#[test]
fn nobody_is_woken_before_ready_is_recorded() {
    let mut fixture = applied().provisioned();
    fixture.status = AgentStatus::default();
    let plan = fixture.plan();
    assert_eq!((names(&plan), plan.again), (vec![], true));
    fixture.record(&plan, None);
    let plan = fixture.plan();
    assert_eq!((names(&plan), plan.again), (vec![], true), "its files are judged once its token is known");
    fixture.record(&plan, None);
    assert_eq!(names(&fixture.plan()), ["wake"]);
}

#[test]
fn an_agent_that_works_needs_nothing_whatever_the_gateways_list_shows() {
    assert_eq!(applied().working().plan(), Plan::default());
    assert_eq!(applied().working().listed().plan(), Plan::default());
}

#[test]
fn an_earlier_binding_is_undone_first_and_alone() {
    let mut fixture = applied().working();
    fixture.desired.gateway.name = "other".into();
    let plan = fixture.plan();
    assert_eq!((names(&plan), plan.again), (vec!["release"], true));
}

#[test]
fn an_id_that_others_can_have_and_somebody_uses_is_left_to_them() {
    for origin in [Origin::Chosen, Origin::ParentDerived, Origin::ParentReused] {
        for registration in [Registration::Outdated, Registration::Invisible, Registration::Current] {
            let mut fixture = applied();
            fixture.desired.origin = origin;
            fixture.observed.registration = registration;
            let plan = fixture.plan();
            assert_eq!((names(&plan), reason(&plan)), (vec![], Some(Reason::AgentIdTaken)), "{registration:?}");
        }
    }
}

#[test]
fn a_lead_that_was_set_up_for_this_agent_is_known_again() {
    let mut fixture = applied().working();
    fixture.desired.origin = Origin::ParentDerived;
    fixture.binding = None;
    assert_eq!(names(&fixture.plan()), ["bind"]);
}

#[test]
fn an_agent_that_somebody_made_between_the_binding_and_the_first_write_is_left_to_them() {
    for origin in [Origin::Chosen, Origin::ParentDerived, Origin::ParentReused] {
        let mut fixture = applied().bound().with_token();
        fixture.desired.origin = origin;
        fixture.observed = Observed {
            registration: Registration::Outdated,
            conflict: Some(OwnershipConflict::Elsewhere),
            ..fixture.observed
        };
        let plan = fixture.plan();
        assert_eq!((names(&plan), reason(&plan)), (vec![], Some(Reason::AgentIdTaken)));
        let mut moved = applied().working();
        moved.desired.origin = origin;
        moved.observed = Observed {
            registration: Registration::Outdated,
            conflict: Some(OwnershipConflict::Elsewhere),
            ..moved.observed
        };
        assert_eq!(names(&moved.plan()), ["submit_entry"], "its own, whose workspace changes");
    }
}

#[test]
fn an_agent_that_the_config_has_no_entry_of_is_neither_bound_nor_created() {
    for origin in [Origin::Chosen, Origin::ParentDerived, Origin::ParentReused, Origin::Adopted] {
        let mut unbound = applied();
        unbound.desired.origin = origin;
        unbound.observed.conflict = Some(OwnershipConflict::NoEntry);
        for fixture in [unbound.clone(), unbound.bound().with_token()] {
            let plan = fixture.plan();
            assert_eq!((names(&plan), reason(&plan)), (vec![], Some(Reason::AgentIdTaken)), "{origin:?}");
        }
    }
}

#[test]
fn an_id_that_may_have_had_another_life_is_created_and_not_only_written() {
    for origin in [Origin::Chosen, Origin::ParentReused] {
        let mut fixture = applied().bound().with_token();
        fixture.desired.origin = origin;
        assert_eq!(names(&fixture.plan()), ["create"], "{origin:?}");
    }
    let mut removed = applied().working();
    removed.observed = Observed { settled: true, ..Observed::default() };
    assert_eq!(names(&removed.plan()), ["create"]);
}

#[test]
fn a_secret_of_somebody_else_stops_everything_that_would_need_a_token() {
    let mut fixture = applied().bound();
    fixture.token = TokenState::Foreign;
    let plan = fixture.plan();
    assert_eq!((names(&plan), reason(&plan)), (vec![], Some(Reason::SecretConflict)));
    assert!(!plan.blocker.unwrap().error().transient, "it waits for a person");
}

#[test]
fn what_the_entry_waits_for_is_told() {
    let waiting = |change: fn(&mut Observed)| {
        let mut fixture = applied().bound().with_token();
        change(&mut fixture.observed);
        reason(&fixture.plan())
    };
    assert_eq!(waiting(|o| o.refused = Some(("INVALID".into(), "no".into()))), Some(Reason::EntryRefused));
    assert_eq!(waiting(|o| o.over_budget = true), Some(Reason::RateLimited));
    assert_eq!(waiting(|o| o.settled = false), Some(Reason::NotSettled));
    assert_eq!(waiting(|_| ()), Some(Reason::WaitingForConfigWrite));
}

#[test]
fn a_file_that_is_too_long_is_told_after_the_others_are_written() {
    let long = crate::core::agent::desired::DesiredFile {
        existed_before: false,
        carries_token: false,
        name: "SOUL.md".into(),
        delivery: crate::core::agent::desired::Delivery::TooLarge { characters: 20_001, limit: 20_000 },
    };
    let mut fixture = applied().bound().with_token().registered();
    fixture.desired.files.as_mut().unwrap().push(long.clone());
    assert_eq!(names(&fixture.plan()), ["write_files"]);
    let mut fixture = applied().provisioned();
    fixture.desired.files.as_mut().unwrap().push(long);
    let plan = fixture.plan();
    assert_eq!((names(&plan), reason(&plan)), (vec![], Some(Reason::FileTooLarge)), "and it is not woken");
}

/// The Steps, one at a time, with a crash after each of them: what is recorded is recorded, the rest is forgotten.
fn steps_to_the_end(mut fixture: AgentFixture) -> Vec<&'static str> {
    let mut done = Vec::new();
    for _ in 0..20 {
        let plan = fixture.plan();
        let Some(step) = plan.steps.first() else {
            if !plan.again && plan.blocker.is_none() {
                return done;
            }
            fixture.record(&plan, None);
            continue;
        };
        done.push(step.name());
        fixture.apply(step);
    }
    panic!("no end: {done:?}");
}

#[test]
fn a_crash_after_every_step_repeats_none_of_them() {
    assert_eq!(
        steps_to_the_end(applied()),
        ["bind", "submit_entry", "issue_token", "write_files", "label_session", "wake"]
    );
    let mut removed = applied().working();
    removed.observed = Observed { settled: true, ..Observed::default() };
    assert_eq!(steps_to_the_end(removed), ["create", "submit_entry", "write_files", "label_session"]);
}

#[test]
fn an_agent_that_moves_to_another_workspace_stays_the_same_agent() {
    let mut fixture = applied().working();
    fixture.desired.identity.workspace = "/other/workspace-mc-u1".into();
    fixture.observed.registration = Registration::Outdated;
    assert_eq!(names(&fixture.plan()), ["bind", "submit_entry"]);
}

#[test]
fn nothing_is_created_while_the_gateway_is_unsettled() {
    let mut fixture = applied().bound().with_token();
    fixture.desired.origin = Origin::Chosen;
    fixture.observed.settled = false;
    let plan = fixture.plan();
    assert_eq!((names(&plan), reason(&plan)), (vec!["submit_entry"], Some(Reason::NotSettled)));
}

#[test]
fn a_file_that_the_gateway_refuses_is_written_once_and_holds_up_neither_label_nor_wake() {
    let mut fixture = applied().bound().with_token().registered();
    assert_eq!(names(&fixture.plan()), ["write_files"]);
    fixture.refuse("AGENTS.md");
    let plan = fixture.plan();
    assert_eq!((names(&plan), plan.again), (vec![], true), "what is wrong is recorded first");
    fixture.record(&plan, None);
    let plan = fixture.plan();
    assert_eq!(names(&plan), ["label_session", "wake"]);
    for step in &plan.steps {
        fixture.apply(step);
    }
    fixture.record(&plan, Some(1));
    fixture.record(&Plan::default(), Some(1));
    assert_eq!(fixture.plan(), Plan::default());
    fixture.observed.files.clear();
    assert_eq!(names(&fixture.plan()), ["write_files"], "once the files are listed again");
}
