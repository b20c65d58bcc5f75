use serde_json::json;

use super::*;
use crate::core::agent::desired::Origin;
use crate::core::agent::fixtures::{AgentFixture, applied};
use crate::core::agent::observed::OwnershipConflict;

fn preview_of(fixture: &AgentFixture) -> AgentPreview {
    let mut agent: Agent =
        serde_json::from_value(json!({ "metadata": { "name": "one", "uid": "u1", "generation": 1 }, "spec": {} }))
            .unwrap();
    let status = AgentStatus { binding: fixture.binding.as_ref().map(Binding::to_status), ..fixture.status.clone() };
    agent.status = Some(status);
    let meta = &mut agent.metadata;
    meta.finalizers = fixture.is_claimed.then(|| vec![keys::AGENT_FINALIZER.to_owned()]);
    meta.annotations = fixture.annotated_id.clone().map(|id| [(keys::AGENT_ID.to_owned(), id)].into());
    let now = Timestamp::from_second(fixture.now).unwrap();
    preview(&agent, &fixture.desired, &fixture.token, fixture.observed.clone(), now)
}

fn names(preview: &AgentPreview) -> Vec<&'static str> {
    preview.steps.iter().map(Step::name).collect()
}

#[test]
fn a_new_agent_gets_all_steps_of_its_passes_in_order() {
    let preview = preview_of(&applied());
    let expected = ["claim", "issue_token", "submit_entry", "write_files", "label_session", "wake"];
    assert_eq!((names(&preview).as_slice(), &preview.blocker), (&expected[..], &None));
    assert!(preview.binds.is_some());
}

#[test]
fn an_agent_in_its_desired_state_gets_no_step() {
    let preview = preview_of(&applied().working());
    assert_eq!((names(&preview), preview.blocker, preview.binds), (Vec::new(), None, None));
}

#[test]
fn a_changed_file_of_an_agent_is_the_only_step() {
    let mut fixture = applied().working();
    fixture.observed.files.get_mut("AGENTS.md").unwrap().sha256 = Some("changed".into());
    assert_eq!(names(&preview_of(&fixture)), ["write_files"]);
}

#[test]
fn an_agent_of_another_client_blocks_and_gets_no_step() {
    let mut fixture = applied();
    fixture.desired.origin = Origin::Chosen;
    fixture.observed.registration = Registration::Outdated;
    fixture.observed.conflict = Some(OwnershipConflict::Elsewhere);
    let preview = preview_of(&fixture);
    assert_eq!(preview.steps, Vec::new());
    assert_eq!(preview.blocker.map(|blocker| blocker.error().reason), Some(Reason::AgentIdTaken));
}

#[test]
fn an_agent_that_moves_is_released_and_then_claimed_again() {
    let mut fixture = applied().working();
    fixture.desired.gateway.name = "other".into();
    fixture.observed = Observed { settled: true, ..Observed::default() };
    let preview = preview_of(&fixture);
    let expected = ["release", "claim", "create", "submit_entry"];
    assert_eq!((&names(&preview)[..4], &preview.blocker), (&expected[..], &None));
    assert_eq!(preview.binds.map(|binding| binding.gateway.name), Some("other".into()));
}
