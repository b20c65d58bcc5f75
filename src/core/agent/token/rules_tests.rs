use super::*;
use crate::core::agent::desired::Delivery;
use crate::core::agent::fixtures::{Situation, applied, at, held};
use crate::core::agent::plan::{Plan, Step};

/// Plans, does the first Step and records, until nothing is left to do. The Steps.
fn settle(situation: &mut Situation) -> Vec<&'static str> {
    let mut done = Vec::new();
    for _ in 0..20 {
        let plan = situation.plan();
        situation.record(&Plan { fulfils: std::collections::BTreeSet::new(), ..plan.clone() }, None);
        let Some(step) = plan.steps.first() else {
            if !plan.again && change_now(situation).is_none() {
                return done;
            }
            continue;
        };
        done.push(step.name());
        situation.apply(step);
    }
    panic!("no end: {done:?}");
}

fn token(situation: &Situation) -> TokenStatus {
    situation.status.token.clone().unwrap()
}

/// An agent that works, and was asked for a new token, which it was given.
fn rotated() -> Situation {
    let mut situation = applied().working();
    situation.now += 10;
    situation.own.insert(RequestKind::Rotate, situation.now);
    settle(&mut situation);
    situation
}

#[test]
fn a_rotation_keeps_the_old_token_until_the_agent_has_used_the_new_one() {
    let mut situation = applied().working();
    let before = token(&situation);
    situation.now += 10;
    situation.own.insert(RequestKind::Rotate, situation.now);
    assert_eq!(settle(&mut situation), ["rotate_token"]);
    let during = token(&situation);
    assert_eq!((during.sha256.as_str(), during.revision), ("t2", before.revision + 1));
    assert_eq!(during.previous.as_ref().map(|p| p.sha256.as_str()), Some("t1"));
    situation.confirmed = Some(("t2".into(), at(situation.now)));
    assert_eq!(settle(&mut situation), ["retire_token"], "from the Secret, once the status has dropped it");
    let after = token(&situation);
    assert_eq!((after.previous, after.confirmed_at.is_some()), (None, true));
}

#[test]
fn the_old_token_ends_with_the_grace_period_when_the_agent_never_uses_the_new_one() {
    let mut situation = rotated();
    situation.desired.wake = None;
    let until = token(&situation).previous.unwrap().valid_until.unwrap().0;
    assert_eq!(until, at(situation.now + 3600));
    assert_eq!(due(&situation.desired, situation.status.token.as_ref()), Some(until), "it is looked at then");
    situation.now += 3599;
    assert_eq!(settle(&mut situation), Vec::<&str>::new());
    situation.now += 1;
    assert_eq!(settle(&mut situation), ["retire_token"]);
    assert_eq!(token(&situation).previous, None);
}

#[test]
fn the_grace_period_does_not_begin_before_the_new_token_was_delivered() {
    let mut situation = applied().working();
    situation.now += 10;
    situation.own.insert(RequestKind::Rotate, situation.now);
    let plan = situation.plan();
    situation.apply(&plan.steps[0]);
    situation.observed.files.clear();
    situation.now += 100_000;
    situation.record(&Plan::default(), None);
    assert_eq!(token(&situation).previous.unwrap().valid_until, None, "the agent has no other");
    settle(&mut situation);
    assert_eq!(token(&situation).previous.unwrap().valid_until.unwrap().0, at(situation.now + 3600));
}

#[test]
fn a_token_is_accepted_before_it_is_written_to_any_file() {
    let mut situation = applied().working();
    situation.now += 10;
    situation.own.insert(RequestKind::Rotate, situation.now);
    situation.apply(&Step::Token(TokenChange::Rotate));
    situation.observed.files.clear();
    let plan = situation.plan();
    assert!(plan.steps.is_empty() && plan.again, "the status first: {plan:?}");
    situation.record(&plan, None);
    assert_eq!(situation.plan().steps.first().map(Step::name), Some("write_files"));
}

#[test]
fn a_request_rotates_once_although_the_operator_crashes_before_it_is_recorded() {
    let mut situation = applied().working();
    situation.now += 10;
    situation.own.insert(RequestKind::Rotate, situation.now);
    situation.apply(&Step::Token(TokenChange::Rotate));
    assert_eq!(settle(&mut situation), Vec::<&str>::new(), "the Secret tells what its token was issued for");
    assert_eq!(token(&situation).sha256, "t2");
    assert!(situation.status.requests.iter().any(|r| r.kind == RequestKind::Rotate && r.handled_at.is_some()));
}

#[test]
fn a_token_is_replaced_when_it_is_old() {
    let mut situation = applied().working();
    situation.desired.rotation.interval = Some(std::time::Duration::from_hours(2));
    let issued = token(&situation).issued_at.unwrap().0.as_second();
    situation.now = issued + 7199;
    assert_eq!(change_now(&situation), None);
    situation.now += 1;
    assert_eq!(change_now(&situation), Some(TokenChange::Rotate));
}

fn change_now(situation: &Situation) -> Option<TokenChange> {
    change(&situation.desired, &situation.token, situation.status.token.as_ref(), at(situation.now))
}

#[test]
fn one_rotation_is_ended_before_the_next_is_begun() {
    let mut situation = rotated();
    situation.now += 5;
    situation.own.insert(RequestKind::Rotate, situation.now);
    assert_eq!(settle(&mut situation), Vec::<&str>::new());
    situation.confirmed = Some(("t2".into(), at(situation.now)));
    assert_eq!(settle(&mut situation), ["rotate_token"]);
}

#[test]
fn a_token_that_was_removed_or_changed_by_hand_is_refused_at_once_and_replaced() {
    for state in [TokenState::Missing, TokenState::Tampered] {
        let mut situation = applied().working();
        situation.token = state;
        situation.record(&Plan::default(), None);
        assert_eq!(token(&situation).sha256, "", "nothing is accepted");
        assert_eq!(settle(&mut situation), ["issue_token"]);
        let new = token(&situation);
        assert_eq!((new.previous, new.revision), (None, 2));
    }
}

#[test]
fn keys_that_are_out_of_date_are_put_right_and_the_token_stays() {
    let mut situation = applied().working();
    if let TokenState::Held(held) = &mut situation.token {
        held.is_current = false;
    }
    assert_eq!(settle(&mut situation), ["repair_token"]);
    assert_eq!(situation.token, held("t1"));
    assert_eq!(token(&situation).revision, 1);
}

#[test]
fn a_token_that_is_kept_out_of_the_files_counts_as_delivered_with_its_secret() {
    let mut situation = applied().working();
    situation.desired.secret_only = true;
    situation.now += 10;
    situation.own.insert(RequestKind::Rotate, situation.now);
    situation.apply(&Step::Token(TokenChange::Rotate));
    situation.record(&Plan::default(), None);
    situation.record(&Plan::default(), None);
    assert_eq!(token(&situation).previous.unwrap().valid_until.unwrap().0, at(situation.now + 3600));
}

#[test]
fn a_call_with_another_token_confirms_nothing() {
    let mut situation = rotated();
    situation.confirmed = Some(("t1".into(), at(situation.now)));
    situation.record(&Plan::default(), None);
    assert_eq!(token(&situation).confirmed_at, None);
}

#[test]
fn a_secret_that_somebody_put_in_the_place_of_ours_ends_the_token() {
    let mut situation = applied().working();
    situation.token = TokenState::Foreign;
    settle(&mut situation);
    assert_eq!(token(&situation).sha256, "");
}

#[test]
fn the_token_of_another_secret_works_until_the_agent_has_the_new_one() {
    let mut situation = applied().working();
    situation.desired.token_secret = "another".into();
    situation.token = TokenState::Missing;
    let plan = situation.plan();
    situation.record(&plan, None);
    assert_eq!(token(&situation).sha256, "t1", "nobody has another one yet");
    situation.apply(&plan.steps[0]);
    let plan = situation.plan();
    situation.record(&plan, None);
    let moved = token(&situation);
    assert_eq!((moved.secret_name.as_str(), moved.previous.map(|p| p.sha256)), ("another", Some("t1".into())));
    assert_ne!(moved.sha256, "t1");
}

#[test]
fn a_token_is_not_delivered_by_a_file_that_does_not_carry_it() {
    let mut situation = rotated();
    situation.desired.files.as_mut().unwrap()[0].delivery = Delivery::Unmanaged;
    situation.status.token.as_mut().unwrap().previous.as_mut().unwrap().valid_until = None;
    settle(&mut situation);
    assert_eq!(token(&situation).previous.unwrap().valid_until, None, "it has no other token");
}
