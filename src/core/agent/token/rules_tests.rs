use super::*;
use crate::core::agent::desired::Delivery;
use crate::core::agent::fixtures::{AgentFixture, applied, at, issued_token};
use crate::core::agent::plan::Plan;
use crate::core::agent::step::Step;

/// Plans, applies the first Step and records, until no Step remains. Returns the Steps.
fn settle(fixture: &mut AgentFixture) -> Vec<&'static str> {
    let mut done = Vec::new();
    for _ in 0..20 {
        let plan = fixture.plan();
        fixture.record(&Plan { fulfils: std::collections::BTreeSet::new(), ..plan.clone() }, None);
        let Some(step) = plan.steps.first() else {
            if !plan.again && change_now(fixture).is_none() {
                return done;
            }
            continue;
        };
        done.push(step.name());
        fixture.apply(step);
    }
    panic!("the plan does not settle: {done:?}");
}

fn token(fixture: &AgentFixture) -> TokenStatus {
    fixture.status.token.clone().unwrap()
}

/// A working agent after a requested rotation of its token.
fn rotated() -> AgentFixture {
    let mut fixture = applied().working();
    fixture.now += 10;
    fixture.own.insert(RequestKind::Rotate, fixture.now);
    settle(&mut fixture);
    fixture
}

#[test]
fn a_rotation_keeps_the_previous_token_until_the_agent_uses_the_new_one() {
    let mut fixture = applied().working();
    let before = token(&fixture);
    fixture.now += 10;
    fixture.own.insert(RequestKind::Rotate, fixture.now);
    assert_eq!(settle(&mut fixture), ["rotate_token"]);
    let during = token(&fixture);
    assert_eq!((during.sha256.as_str(), during.revision), ("t2", before.revision + 1));
    assert_eq!(during.previous.as_ref().map(|p| p.sha256.as_str()), Some("t1"));
    fixture.confirmed = Some(("t2".into(), at(fixture.now)));
    assert_eq!(settle(&mut fixture), ["retire_token"], "the status drops the token before the Secret does");
    let after = token(&fixture);
    assert_eq!((after.previous, after.confirmed_at.is_some()), (None, true));
}

#[test]
fn the_previous_token_expires_after_the_grace_period_without_a_use_of_the_new_one() {
    let mut fixture = rotated();
    fixture.desired.wake = None;
    let until = token(&fixture).previous.unwrap().valid_until.unwrap().0;
    assert_eq!(until, at(fixture.now + 3600));
    assert_eq!(due(&fixture.desired, fixture.status.token.as_ref()), Some(until), "the expiry is the next due time");
    fixture.now += 3599;
    assert_eq!(settle(&mut fixture), Vec::<&str>::new());
    fixture.now += 1;
    assert_eq!(settle(&mut fixture), ["retire_token"]);
    assert_eq!(token(&fixture).previous, None);
}

#[test]
fn the_grace_period_begins_with_the_delivery_of_the_new_token() {
    let mut fixture = applied().working();
    fixture.now += 10;
    fixture.own.insert(RequestKind::Rotate, fixture.now);
    let plan = fixture.plan();
    fixture.apply(&plan.steps[0]);
    fixture.observed.files.clear();
    fixture.now += 100_000;
    fixture.record(&Plan::default(), None);
    assert_eq!(token(&fixture).previous.unwrap().valid_until, None, "the agent has only the previous token");
    settle(&mut fixture);
    assert_eq!(token(&fixture).previous.unwrap().valid_until.unwrap().0, at(fixture.now + 3600));
}

#[test]
fn a_token_is_accepted_before_it_is_written_to_any_file() {
    let mut fixture = applied().working();
    fixture.now += 10;
    fixture.own.insert(RequestKind::Rotate, fixture.now);
    fixture.apply(&Step::Token(TokenChange::Rotate));
    fixture.observed.files.clear();
    let plan = fixture.plan();
    assert!(plan.steps.is_empty() && plan.again, "the status records the token first: {plan:?}");
    fixture.record(&plan, None);
    assert_eq!(fixture.plan().steps.first().map(Step::name), Some("write_files"));
}

#[test]
fn a_request_rotates_once_despite_a_crash_before_its_record() {
    let mut fixture = applied().working();
    fixture.now += 10;
    fixture.own.insert(RequestKind::Rotate, fixture.now);
    fixture.apply(&Step::Token(TokenChange::Rotate));
    assert_eq!(settle(&mut fixture), Vec::<&str>::new(), "the Secret records the request of its token");
    assert_eq!(token(&fixture).sha256, "t2");
    assert!(fixture.status.requests.iter().any(|r| r.kind == RequestKind::Rotate && r.handled_at.is_some()));
}

#[test]
fn a_token_is_rotated_at_the_age_of_the_rotation_interval() {
    let mut fixture = applied().working();
    fixture.desired.rotation.interval = Some(std::time::Duration::from_hours(2));
    let issued = token(&fixture).issued_at.unwrap().0.as_second();
    fixture.now = issued + 7199;
    assert_eq!(change_now(&fixture), None);
    fixture.now += 1;
    assert_eq!(change_now(&fixture), Some(TokenChange::Rotate));
}

fn change_now(fixture: &AgentFixture) -> Option<TokenChange> {
    change(&fixture.desired, &fixture.token, fixture.status.token.as_ref(), at(fixture.now))
}

#[test]
fn one_rotation_ends_before_the_next_begins() {
    let mut fixture = rotated();
    fixture.now += 5;
    fixture.own.insert(RequestKind::Rotate, fixture.now);
    assert_eq!(settle(&mut fixture), Vec::<&str>::new());
    fixture.confirmed = Some(("t2".into(), at(fixture.now)));
    assert_eq!(settle(&mut fixture), ["rotate_token"]);
}

#[test]
fn a_token_removed_or_changed_by_hand_is_refused_at_once_and_replaced() {
    for state in [TokenState::Missing, TokenState::Tampered] {
        let mut fixture = applied().working();
        fixture.token = state;
        fixture.record(&Plan::default(), None);
        assert_eq!(token(&fixture).sha256, "", "no token is accepted");
        assert_eq!(settle(&mut fixture), ["issue_token"]);
        let new = token(&fixture);
        assert_eq!((new.previous, new.revision), (None, 2));
    }
}

#[test]
fn outdated_keys_are_corrected_and_the_token_stays() {
    let mut fixture = applied().working();
    if let TokenState::Issued(issued_token) = &mut fixture.token {
        issued_token.is_current = false;
    }
    assert_eq!(settle(&mut fixture), ["repair_token"]);
    assert_eq!(fixture.token, issued_token("t1"));
    assert_eq!(token(&fixture).revision, 1);
}

#[test]
fn a_secret_only_token_counts_as_delivered_with_its_secret() {
    let mut fixture = applied().working();
    fixture.desired.secret_only = true;
    fixture.now += 10;
    fixture.own.insert(RequestKind::Rotate, fixture.now);
    fixture.apply(&Step::Token(TokenChange::Rotate));
    fixture.record(&Plan::default(), None);
    fixture.record(&Plan::default(), None);
    assert_eq!(token(&fixture).previous.unwrap().valid_until.unwrap().0, at(fixture.now + 3600));
}

#[test]
fn a_call_with_another_token_confirms_nothing() {
    let mut fixture = rotated();
    fixture.confirmed = Some(("t1".into(), at(fixture.now)));
    fixture.record(&Plan::default(), None);
    assert_eq!(token(&fixture).confirmed_at, None);
}

#[test]
fn a_foreign_secret_revokes_the_token() {
    let mut fixture = applied().working();
    fixture.token = TokenState::Foreign;
    settle(&mut fixture);
    assert_eq!(token(&fixture).sha256, "");
}

#[test]
fn the_token_of_the_old_secret_is_accepted_until_the_agent_has_the_new_token() {
    let mut fixture = applied().working();
    fixture.desired.token_secret = "another".into();
    fixture.token = TokenState::Missing;
    let plan = fixture.plan();
    fixture.record(&plan, None);
    assert_eq!(token(&fixture).sha256, "t1", "the agent has no other token yet");
    fixture.apply(&plan.steps[0]);
    let plan = fixture.plan();
    fixture.record(&plan, None);
    let moved = token(&fixture);
    assert_eq!((moved.secret_name.as_str(), moved.previous.map(|p| p.sha256)), ("another", Some("t1".into())));
    assert_ne!(moved.sha256, "t1");
}

#[test]
fn an_unmanaged_file_does_not_deliver_a_token() {
    let mut fixture = rotated();
    fixture.desired.files.as_mut().unwrap()[0].delivery = Delivery::Unmanaged;
    fixture.status.token.as_mut().unwrap().previous.as_mut().unwrap().valid_until = None;
    settle(&mut fixture);
    assert_eq!(token(&fixture).previous.unwrap().valid_until, None, "the agent has no other token");
}
