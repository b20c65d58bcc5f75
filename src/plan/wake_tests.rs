use super::*;
use crate::plan::situation::{Situation, applied, at};

fn next(situation: &Situation) -> Waking {
    waking(&situation.desired, situation.status.wake.as_ref(), situation.seen.map(at), at(situation.now))
}

/// An agent that was woken so often and never answered.
fn woken(times: i32) -> Situation {
    let mut situation = applied().provisioned();
    for attempt in 1..=times {
        situation.record(&crate::plan::Plan::default(), Some(attempt));
        situation.now += 300;
    }
    situation
}

fn attempt(waking: &Waking) -> Option<i32> {
    match waking {
        Waking::Send { attempt, .. } => Some(*attempt),
        Waking::Rest | Waking::Until(_) | Waking::Exhausted => None,
    }
}

#[test]
fn a_wake_has_until_its_deadline_and_is_then_followed_by_another() {
    let mut situation = woken(1);
    situation.now -= 1;
    assert_eq!(next(&situation), Waking::Until(at(1300)));
    situation.now += 1;
    assert_eq!(attempt(&next(&situation)), Some(2));
}

#[test]
fn who_never_answers_is_left_alone_after_the_last_attempt() {
    assert_eq!(attempt(&next(&woken(2))), Some(3));
    assert_eq!(next(&woken(3)), Waking::Exhausted);
}

#[test]
fn a_new_generation_starts_over() {
    let mut situation = woken(3);
    situation.desired.generation = 2;
    assert_eq!(attempt(&next(&situation)), Some(1));
}

#[test]
fn a_wake_that_was_sent_and_not_recorded_has_the_same_key_again() {
    let situation = woken(1);
    assert_eq!(next(&situation), next(&situation.clone()));
    let Waking::Send { key, .. } = next(&situation) else { panic!() };
    assert_eq!(key, "muster-u1-1-1000-2");
}

#[test]
fn who_answers_rests_and_is_woken_again_only_after_two_silent_intervals() {
    let mut situation = applied().working();
    assert_eq!(next(&situation), Waking::Rest);
    situation.now += 597;
    assert_eq!(next(&situation), Waking::Rest);
    situation.now += 10;
    assert_eq!(attempt(&next(&situation)), Some(1));
}

#[test]
fn who_is_not_to_be_woken_never_is() {
    let mut situation = applied().provisioned();
    situation.desired.wake = None;
    assert_eq!(next(&situation), Waking::Rest);
}

#[test]
fn without_a_heartbeat_nobody_goes_stale() {
    let mut situation = applied().working();
    situation.desired.heartbeat_interval = std::time::Duration::ZERO;
    situation.now += 1_000_000;
    assert_eq!(next(&situation), Waking::Rest);
}

#[test]
fn an_answer_to_a_wake_that_was_not_recorded_does_not_change_its_key() {
    let mut situation = applied().provisioned();
    let before = next(&situation);
    situation.seen = Some(situation.now + 1);
    situation.now += 2;
    assert_eq!(next(&situation), before);
}
