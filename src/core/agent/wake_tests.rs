use super::*;
use crate::core::agent::fixtures::{AgentFixture, applied, at};
use crate::core::agent::step::Step;

fn next(fixture: &AgentFixture) -> WakeDecision {
    let liveness = Liveness::of(fixture.seen.map(at), &fixture.status, Some(&fixture.observed));
    decide(&fixture.desired, fixture.status.wake.as_ref(), &liveness, at(fixture.now))
}

/// An agent that was woken this many times and never answered.
fn woken(times: i32) -> AgentFixture {
    let mut fixture = applied().provisioned();
    for attempt in 1..=times {
        fixture.record(&crate::core::agent::plan::Plan::default(), Some(attempt));
        fixture.now += 300 + i64::try_from(backoff(attempt).as_secs()).unwrap();
    }
    fixture
}

fn attempt(decision: &WakeDecision) -> Option<i32> {
    match decision {
        WakeDecision::Send { attempt, .. } => Some(*attempt),
        WakeDecision::Nothing
        | WakeDecision::AwaitCheckIn(_)
        | WakeDecision::RetryAt(_)
        | WakeDecision::Busy(_)
        | WakeDecision::Exhausted(_)
        | WakeDecision::OutOfHours(_)
        | WakeDecision::OverBudget(_) => None,
    }
}

#[test]
fn a_missed_deadline_is_followed_by_another_wake_after_the_backoff() {
    let mut fixture = woken(1);
    fixture.now = 1299;
    assert_eq!(next(&fixture), WakeDecision::AwaitCheckIn(at(1300)));
    fixture.now = 1300;
    assert_eq!(next(&fixture), WakeDecision::RetryAt(at(1330)));
    fixture.now = 1330;
    assert_eq!(attempt(&next(&fixture)), Some(2));
}

#[test]
fn the_backoff_doubles_up_to_ten_minutes() {
    let backoffs = [1, 2, 3, 9].map(|attempt| backoff(attempt).as_secs());
    assert_eq!(backoffs, [30, 60, 120, 600]);
}

#[test]
fn the_wakes_of_a_silent_agent_are_paused_after_the_last_attempt_and_one_wake_follows_each_pause() {
    assert_eq!(attempt(&next(&woken(2))), Some(3));
    let mut fixture = woken(3);
    let deadline = fixture.status.wake.as_ref().unwrap().deadline.as_ref().unwrap().0.as_second();
    assert_eq!(next(&fixture), WakeDecision::Exhausted(at(deadline + 3600)));
    fixture.now = deadline + 3600;
    assert_eq!(attempt(&next(&fixture)), Some(4));
    fixture.record(&crate::core::agent::plan::Plan::default(), Some(4));
    assert_eq!(next(&fixture), WakeDecision::AwaitCheckIn(at(fixture.now + 300)));
    fixture.now += 300;
    assert_eq!(next(&fixture), WakeDecision::Exhausted(at(fixture.now + 2 * 3600)));
}

/// The number of wakes in each of these days. `answers` says whether the agent calls one second after each wake.
fn wakes_by_day(fixture: &mut AgentFixture, days: usize, answers: bool) -> Vec<i32> {
    let start = fixture.now;
    let mut wakes = vec![0; days];
    while let Some(count) = wakes.get_mut(usize::try_from((fixture.now - start) / 86_400).unwrap()) {
        let plan = fixture.plan();
        for step in &plan.steps {
            fixture.apply(step);
            *count += 1;
            if answers {
                fixture.seen = Some(fixture.now + 1);
            }
        }
        fixture.now += 10;
        fixture.record(&crate::core::agent::plan::Plan::default(), None);
    }
    wakes
}

#[test]
fn an_agent_that_never_answers_costs_a_few_wakes_a_day() {
    let mut fixture = applied().provisioned();
    let wakes = wakes_by_day(&mut fixture, 5, false);
    assert_eq!(wakes[0], 7, "three wakes, and one after 1 h, 2 h, 4 h and 8 h");
    assert!(wakes[1..].iter().all(|wakes| (0..=1).contains(wakes)) && wakes[1..].iter().sum::<i32>() >= 3, "{wakes:?}");
}

#[test]
fn an_agent_that_answers_each_wake_and_calls_at_no_heartbeat_costs_a_bounded_number_of_wakes_a_day() {
    let mut fixture = applied().provisioned();
    let wakes = wakes_by_day(&mut fixture, 3, true);
    assert!(wakes.iter().all(|wakes| (1..=MAX_WAKES_A_DAY).contains(wakes)), "{wakes:?}");
    assert_eq!(wakes[0], MAX_WAKES_A_DAY);
}

#[test]
fn a_gateway_that_restarts_without_end_costs_a_bounded_number_of_wakes_a_day() {
    let mut fixture = applied().provisioned();
    fixture.desired.wake.as_mut().unwrap().deadline = Duration::from_hours(24);
    fixture.record(&crate::core::agent::plan::Plan::default(), Some(1));
    let mut sent = 1;
    for _ in 0..1000 {
        fixture.now += 60;
        fixture.observed.connected_at = Some(at(fixture.now - 1));
        let plan = fixture.plan();
        for step in &plan.steps {
            fixture.apply(step);
            sent += 1;
        }
    }
    assert_eq!(sent, MAX_WAKES_A_DAY);
}

#[test]
fn a_changed_spec_ends_the_pause_and_begins_a_new_count_of_the_day() {
    let mut fixture = applied().provisioned();
    wakes_by_day(&mut fixture, 1, true);
    fixture.seen = Some(fixture.now - 5_000);
    assert!(matches!(next(&fixture), WakeDecision::OverBudget(_) | WakeDecision::Send { .. }));
    fixture.desired.generation = 2;
    assert_eq!(attempt(&next(&fixture)), Some(1));
    fixture.record(&crate::core::agent::plan::Plan::default(), Some(1));
    assert_eq!(fixture.status.wake.as_ref().unwrap().sent_in_day, 1);
}

#[test]
fn a_check_in_ends_the_pause_after_unanswered_wakes() {
    let mut fixture = woken(4);
    fixture.seen = Some(fixture.now);
    assert_eq!(next(&fixture), WakeDecision::Nothing);
    fixture.now += 700;
    assert_eq!(attempt(&next(&fixture)), Some(1));
}

#[test]
fn a_new_generation_starts_over() {
    let mut fixture = woken(3);
    fixture.desired.generation = 2;
    assert_eq!(attempt(&next(&fixture)), Some(1));
}

#[test]
fn an_unrecorded_wake_keeps_its_key() {
    let fixture = woken(1);
    assert_eq!(next(&fixture), next(&fixture.clone()));
    let WakeDecision::Send { key, .. } = next(&fixture) else { panic!() };
    assert_eq!(key, "muster-u1-1-1000-2");
}

#[test]
fn an_agent_that_answered_is_woken_only_after_two_silent_intervals() {
    let mut fixture = applied().working();
    assert_eq!(next(&fixture), WakeDecision::Nothing);
    fixture.now += 597;
    assert_eq!(next(&fixture), WakeDecision::Nothing);
    fixture.now += 10;
    assert_eq!(attempt(&next(&fixture)), Some(1));
}

#[test]
fn an_agent_without_wakes_is_never_woken() {
    let mut fixture = applied().provisioned();
    fixture.desired.wake = None;
    assert_eq!(next(&fixture), WakeDecision::Nothing);
}

#[test]
fn without_a_heartbeat_no_agent_goes_stale() {
    let mut fixture = applied().working();
    fixture.desired.heartbeat_interval = std::time::Duration::ZERO;
    fixture.now += 1_000_000;
    assert_eq!(next(&fixture), WakeDecision::Nothing);
}

#[test]
fn an_answer_to_an_unrecorded_wake_does_not_change_its_key() {
    let mut fixture = applied().provisioned();
    let before = next(&fixture);
    fixture.seen = Some(fixture.now + 1);
    fixture.now += 2;
    assert_eq!(next(&fixture), before);
}

/// Sets a run that goes on since `started`, or a run from `started` to `ended`.
fn ran(fixture: &mut AgentFixture, started: i64, ended: Option<i64>) {
    fixture.observed.activity.running = ended.is_none().then(|| (at(started), at(started)));
    fixture.observed.activity.rested = ended.map(|ended| (at(started), at(ended)));
}

/// Busy until six hours after the start of a run.
fn busy_since(started: i64) -> WakeDecision {
    WakeDecision::Busy(at(started + 6 * 3600))
}

#[test]
fn a_running_agent_is_not_woken_a_first_time() {
    let mut fixture = applied().provisioned();
    ran(&mut fixture, 900, None);
    assert_eq!((next(&fixture), fixture.plan().steps), (busy_since(900), Vec::new()));
    ran(&mut fixture, 900, Some(1000));
    assert_eq!(attempt(&next(&fixture)), Some(1));
}

#[test]
fn a_running_agent_is_not_woken_again_and_not_exhausted() {
    for times in 1..=3 {
        let mut fixture = woken(times);
        let began = fixture.now - 10;
        ran(&mut fixture, began, None);
        assert_eq!(next(&fixture), busy_since(began), "{times}");
    }
    let mut fixture = woken(3);
    fixture.status.wake.as_mut().unwrap().answered_at = Some(Time(at(1005)));
    let began = fixture.now - 10;
    ran(&mut fixture, began, None);
    assert!(
        matches!(next(&fixture), WakeDecision::Exhausted(_)),
        "the run of the wake is over, and another run goes on"
    );
}

#[test]
fn a_silent_agent_is_woken_two_intervals_after_its_run() {
    let mut fixture = applied().working();
    ran(&mut fixture, 1500, None);
    fixture.now = 5000;
    assert_eq!(next(&fixture), WakeDecision::Nothing);
    ran(&mut fixture, 1500, Some(5000));
    assert_eq!(next(&fixture), WakeDecision::Nothing);
    fixture.now = 5600;
    assert_eq!(attempt(&next(&fixture)), Some(1));
}

#[test]
fn a_run_that_never_ends_counts_as_over_after_six_hours() {
    let mut fixture = applied().provisioned();
    ran(&mut fixture, 900, None);
    fixture.now = 900 + 6 * 3600;
    assert_eq!(attempt(&next(&fixture)), Some(1));
}

#[test]
fn the_deadline_of_a_wake_counts_from_the_end_of_its_own_run() {
    let mut fixture = woken(1);
    ran(&mut fixture, 1001, None);
    fixture.now = 3000;
    assert_eq!(next(&fixture), busy_since(1001));
    ran(&mut fixture, 1001, Some(3000));
    fixture.observed.activity.ended.insert("k1".into());
    assert_eq!(fixture.plan().steps, [], "no Step at the end of the run");
    fixture.record(&crate::core::agent::plan::Plan::default(), None);
    assert_eq!(next(&fixture), WakeDecision::AwaitCheckIn(at(3300)));
    ran(&mut fixture, 3200, Some(3400));
    fixture.observed.activity.ended.insert("other".into());
    fixture.now = 3400;
    fixture.record(&crate::core::agent::plan::Plan::default(), None);
    assert_eq!(attempt(&next(&fixture)), Some(2));
}

#[test]
fn a_possibly_lost_wake_is_not_sent_into_a_run() {
    let mut fixture = woken(1);
    fixture.now = 1010;
    fixture.observed.connected_at = Some(at(1005));
    ran(&mut fixture, 1006, None);
    assert_eq!(fixture.plan().steps, []);
}

#[test]
fn a_changed_spec_resets_the_session_after_the_run_and_a_request_resets_it_at_once() {
    let mut fixture = applied().working();
    fixture.desired.reset_on_update = true;
    fixture.record(&crate::core::agent::plan::Plan::default(), None);
    fixture.desired.generation = 2;
    fixture.record(&crate::core::agent::plan::Plan::default(), None);
    let now = fixture.now;
    ran(&mut fixture, now, None);
    assert!(!fixture.plan().begins_reset);
    let mut asked = fixture.clone();
    asked.own.insert(crate::api::requests::RequestKind::ResetSession, asked.now);
    assert!(asked.plan().begins_reset);
    ran(&mut fixture, now, Some(now));
    assert!(fixture.plan().begins_reset);
}

fn lost(fixture: &AgentFixture) -> Option<i32> {
    possibly_lost(fixture.status.wake.as_ref(), &fixture.observed, at(fixture.now)).map(|(attempt, _)| attempt)
}

#[test]
fn a_wake_may_be_lost_before_a_newer_connection_without_an_end_of_its_run() {
    let mut fixture = woken(1);
    fixture.observed.connected_at = Some(at(999));
    assert_eq!(lost(&fixture), None, "the connection is older");
    fixture.observed.connected_at = Some(at(1005));
    assert_eq!(lost(&fixture), Some(1));
    fixture.observed.activity.ended.insert("k1".into());
    assert_eq!(lost(&fixture), None, "its run ended");
    fixture.record(&crate::core::agent::plan::Plan::default(), None);
    fixture.observed.activity.ended.clear();
    assert_eq!(lost(&fixture), None, "the end of its run is recorded");
}

#[test]
fn a_possibly_lost_wake_is_sent_again_with_its_key_as_the_same_attempt() {
    let mut fixture = woken(1);
    fixture.now = 1010;
    fixture.observed.connected_at = Some(at(1005));
    let plan = fixture.plan();
    assert_eq!(plan.steps, [Step::Wake(WakeMessage::new(&fixture.desired, 1, "k1".into(), true))]);
    fixture.apply(&plan.steps[0]);
    assert_eq!((lost(&fixture), fixture.plan().steps.len()), (None, 0), "once for a connection");
}

#[test]
fn a_repeated_wake_keeps_the_deadline_of_its_first_sending() {
    let mut fixture = woken(1);
    for reconnected in [1100, 1200, 1290] {
        fixture.observed.connected_at = Some(at(reconnected));
        fixture.now = reconnected + 5;
        let plan = fixture.plan();
        assert_eq!(plan.steps, [Step::Wake(WakeMessage::new(&fixture.desired, 1, "k1".into(), true))]);
        fixture.apply(&plan.steps[0]);
        assert_eq!(next(&fixture), WakeDecision::AwaitCheckIn(at(1300)), "the gateway restarted at {reconnected}");
    }
    fixture.now = 1330;
    assert_eq!(attempt(&next(&fixture)), Some(2));
}

#[test]
fn an_answer_in_the_history_counts_as_the_end_of_the_run() {
    let mut fixture = woken(1);
    let key = fixture.status.wake.clone().unwrap().key.unwrap();
    let found = WakeResult { attempt: 1, key, at: at(1200), answered: true };
    let input = WakeStatusInput {
        old: fixture.status.wake.as_ref(),
        observed: Some(&fixture.observed),
        woken: Some(&found),
        now: at(1200),
    };
    fixture.status.wake = input.status(&fixture.desired);
    fixture.now = 1210;
    assert_eq!(next(&fixture), WakeDecision::AwaitCheckIn(at(1500)));
}

fn said(role: &str, text: &str) -> ChatMessage {
    ChatMessage { role: role.into(), text: text.into(), ..ChatMessage::default() }
}

#[test]
fn the_history_shows_whether_a_wake_arrived_and_was_answered() {
    let ours = said("user", &text("One", 1, "k-1"));
    assert_eq!(in_history(&[], "k-1"), WakeInHistory::Absent);
    assert_eq!(in_history(&[said("user", "hi"), said("assistant", "ho")], "k-1"), WakeInHistory::Absent);
    assert_eq!(in_history(&[said("assistant", "ho"), ours.clone()], "k-1"), WakeInHistory::Unanswered);
    assert_eq!(in_history(&[ours, said("assistant", "Done.")], "k-1"), WakeInHistory::Answered);
}

#[test]
fn the_key_of_a_tenth_attempt_does_not_match_the_first_attempt() {
    let tenth = said("user", &text("One", 10, "k-10"));
    assert_eq!(in_history(&[tenth], "k-1"), WakeInHistory::Absent);
    let keyed = ChatMessage { idempotency_key: Some("k-1:user".into()), ..said("user", "x") };
    assert_eq!(in_history(&[keyed], "k-1"), WakeInHistory::Unanswered);
}
