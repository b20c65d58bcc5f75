use super::*;
use crate::api::Reason;
use crate::core::agent::fixtures::{Situation, applied, at};

fn next(situation: &Situation) -> LabelDecision {
    let record = situation.status.session_label.as_ref();
    labelling(&situation.desired, record, &situation.observed, at(situation.now))
}

/// The gateway shows this label.
fn show(situation: &mut Situation, label: &str) {
    let session = situation.observed.session.get_or_insert_default();
    (session.label, session.shown_label) = (Some(label.to_owned()), Some(label.to_owned()));
}

/// The gateway answers a label so, and stores it when it took it.
fn answer(situation: &mut Situation, outcome: Result<&str, ReconcileError>) {
    let LabelDecision::Send(sent) = next(situation) else { panic!("{:?}", next(situation)) };
    if let Ok(stored) = outcome {
        show(situation, stored);
    }
    let labelled = LabelResult { sent, outcome: outcome.map(|stored| Some(stored.to_owned())) };
    let record = situation.status.session_label.take();
    situation.status.session_label = status(&situation.desired, record.as_ref(), Some(&labelled), at(situation.now));
}

fn in_use() -> ReconcileError {
    ReconcileError::permanent(Reason::GatewayError, "label already in use: One").with_code("INVALID_REQUEST")
}

fn named(name: &str) -> Situation {
    let mut situation = applied().bound().with_token().registered();
    name.clone_into(&mut situation.desired.label);
    situation.desired.identity.agent_id = "mc-1234abcd-1111-4111-8111-111111111111".into();
    situation
}

fn send(label: &str) -> LabelDecision {
    LabelDecision::Send(label.to_owned())
}

#[test]
fn a_label_that_the_gateway_stores_otherwise_is_sent_once() {
    let mut situation = named("One");
    answer(&mut situation, Ok("one!"));
    situation.now += 3600;
    assert_eq!(next(&situation), LabelDecision::Rest);
    show(&mut situation, "another's");
    assert_eq!(next(&situation), send("One"), "somebody changed it");
    show(&mut situation, "one!");
    situation.desired.label = "Two".into();
    assert_eq!(next(&situation), send("Two"), "the name changed");
}

#[test]
fn a_gateway_that_shows_a_label_other_than_it_says_is_sent_one_every_ten_seconds() {
    let mut situation = named("One");
    answer(&mut situation, Ok("One"));
    show(&mut situation, "???");
    assert_eq!(next(&situation), LabelDecision::Later(at(situation.now + 10)));
    situation.now += 10;
    assert_eq!(next(&situation), send("One"));
}

#[test]
fn a_label_that_another_session_has_gets_a_suffix_and_keeps_it() {
    let mut situation = named("One");
    answer(&mut situation, Err(in_use()));
    assert_eq!(next(&situation), send("One (mc-1234abcd)"));
    answer(&mut situation, Ok("One (mc-1234abcd)"));
    situation.now += 86_400;
    assert_eq!(next(&situation), LabelDecision::Rest);
    show(&mut situation, "mine");
    assert_eq!(next(&situation), send("One (mc-1234abcd)"));
    let record = situation.status.session_label.as_ref().unwrap();
    assert_eq!(record.refusal.as_deref(), Some("label already in use: One"));
}

#[test]
fn a_gateway_that_refuses_every_label_is_asked_again_after_ten_minutes() {
    let mut situation = named("One");
    answer(&mut situation, Err(in_use()));
    answer(&mut situation, Err(in_use()));
    assert_eq!(next(&situation), LabelDecision::Later(at(situation.now + 600)));
    situation.now += 600;
    assert_eq!(next(&situation), send("One"));
}

#[test]
fn trouble_that_passes_is_not_recorded_as_a_refusal() {
    let mut situation = named("One");
    answer(&mut situation, Err(ReconcileError::transient(Reason::GatewayError, "busy")));
    assert_eq!((next(&situation), situation.status.session_label), (send("One"), None));
}

#[test]
fn a_long_name_is_cut_to_what_every_gateway_takes() {
    let long = alternative(&"🦀".repeat(100), "mc-1234abcd-1111-4111-8111-111111111111");
    assert!(long.ends_with("🦀 (mc-1234abcd)"), "{long}");
    assert!((63..=64).contains(&long.encode_utf16().count()), "{long}");
    assert_eq!(alternative("Ops", "lead-1234abcd-1111-4111-8111-111111111111"), "Ops (lead-1234abcd)");
    assert_eq!(alternative("Ops", "chosen"), "Ops (chosen)");
    assert_eq!(alternative("Ops", &"x".repeat(64)), format!("Ops ({})", "x".repeat(32)));
}

#[test]
fn the_label_of_an_adopted_agent_is_left_alone() {
    let mut situation = named("One");
    situation.desired.origin = Origin::Adopted;
    assert_eq!(next(&situation), LabelDecision::Rest);
}
