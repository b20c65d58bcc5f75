use super::*;
use crate::api::Reason;
use crate::core::agent::fixtures::{AgentFixture, applied, at};

fn next(fixture: &AgentFixture) -> LabelDecision {
    let record = fixture.status.session_label.as_ref();
    decide(&fixture.desired, record, &fixture.observed, at(fixture.now))
}

/// The gateway shows this label.
fn show(fixture: &mut AgentFixture, label: &str) {
    let session = fixture.observed.session.get_or_insert_default();
    (session.label, session.shown_label) = (Some(label.to_owned()), Some(label.to_owned()));
}

/// Answers the next label with this outcome. An accepted label is stored.
fn answer(fixture: &mut AgentFixture, outcome: Result<&str, ReconcileError>) {
    let LabelDecision::Send(sent) = next(fixture) else { panic!("{:?}", next(fixture)) };
    if let Ok(stored) = outcome {
        show(fixture, stored);
    }
    let labelled = LabelResult { sent, outcome: outcome.map(|stored| Some(stored.to_owned())) };
    let record = fixture.status.session_label.take();
    fixture.status.session_label = status(&fixture.desired, record.as_ref(), Some(&labelled), at(fixture.now));
}

fn in_use() -> ReconcileError {
    ReconcileError::permanent(Reason::GatewayError, "label already in use: One").with_code("INVALID_REQUEST")
}

fn named(name: &str) -> AgentFixture {
    let mut fixture = applied().bound().with_token().registered();
    name.clone_into(&mut fixture.desired.label);
    fixture.desired.identity.agent_id = "mc-1234abcd-1111-4111-8111-111111111111".into();
    fixture
}

fn send(label: &str) -> LabelDecision {
    LabelDecision::Send(label.to_owned())
}

#[test]
fn a_label_that_the_gateway_stores_in_another_form_is_sent_once() {
    let mut fixture = named("One");
    answer(&mut fixture, Ok("one!"));
    fixture.now += 3600;
    assert_eq!(next(&fixture), LabelDecision::Nothing);
    show(&mut fixture, "another's");
    assert_eq!(next(&fixture), send("One"), "another client changed the label");
    show(&mut fixture, "one!");
    fixture.desired.label = "Two".into();
    assert_eq!(next(&fixture), send("Two"), "the name changed");
}

#[test]
fn a_label_that_is_not_the_stored_one_is_sent_every_ten_seconds() {
    let mut fixture = named("One");
    answer(&mut fixture, Ok("One"));
    show(&mut fixture, "???");
    assert_eq!(next(&fixture), LabelDecision::RetryAt(at(fixture.now + 10)));
    fixture.now += 10;
    assert_eq!(next(&fixture), send("One"));
}

#[test]
fn a_label_of_another_session_gets_a_suffix_and_keeps_the_suffix() {
    let mut fixture = named("One");
    answer(&mut fixture, Err(in_use()));
    assert_eq!(next(&fixture), send("One (mc-1234abcd)"));
    answer(&mut fixture, Ok("One (mc-1234abcd)"));
    fixture.now += 86_400;
    assert_eq!(next(&fixture), LabelDecision::Nothing);
    show(&mut fixture, "mine");
    assert_eq!(next(&fixture), send("One (mc-1234abcd)"));
    let record = fixture.status.session_label.as_ref().unwrap();
    assert_eq!(record.refusal.as_deref(), Some("label already in use: One"));
}

#[test]
fn a_gateway_that_refuses_every_label_is_retried_after_ten_minutes() {
    let mut fixture = named("One");
    answer(&mut fixture, Err(in_use()));
    answer(&mut fixture, Err(in_use()));
    assert_eq!(next(&fixture), LabelDecision::RetryAt(at(fixture.now + 600)));
    fixture.now += 600;
    assert_eq!(next(&fixture), send("One"));
}

#[test]
fn a_transient_error_is_not_recorded_as_a_refusal() {
    let mut fixture = named("One");
    answer(&mut fixture, Err(ReconcileError::transient(Reason::GatewayError, "busy")));
    assert_eq!((next(&fixture), fixture.status.session_label), (send("One"), None));
}

#[test]
fn a_long_name_is_cut_to_the_limit_of_every_gateway() {
    let long = suffixed_label(&"🦀".repeat(100), "mc-1234abcd-1111-4111-8111-111111111111");
    assert!(long.ends_with("🦀 (mc-1234abcd)"), "{long}");
    assert!((63..=64).contains(&long.encode_utf16().count()), "{long}");
    assert_eq!(suffixed_label("Ops", "lead-1234abcd-1111-4111-8111-111111111111"), "Ops (lead-1234abcd)");
    assert_eq!(suffixed_label("Ops", "chosen"), "Ops (chosen)");
    assert_eq!(suffixed_label("Ops", &"x".repeat(64)), format!("Ops ({})", "x".repeat(32)));
}

#[test]
fn the_label_of_an_adopted_agent_is_left_alone() {
    let mut fixture = named("One");
    fixture.desired.origin = Origin::Adopted;
    assert_eq!(next(&fixture), LabelDecision::Nothing);
}
