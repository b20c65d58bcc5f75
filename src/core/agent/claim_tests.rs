use serde_json::{Value, json};

use super::*;
use crate::core::agent::fixtures::binding;

fn agent(spec: &Value, annotation: Option<&str>) -> Agent {
    let meta = json!({ "name": "one", "namespace": "fleet", "uid": "u",
        "annotations": annotation.map(|id| json!({ keys::AGENT_ID: id })) });
    let agent = json!({ "apiVersion": "muster.dev/v1alpha1", "kind": "Agent", "metadata": meta, "spec": spec });
    serde_json::from_value(agent).unwrap()
}

#[test]
fn an_annotation_claims_only_an_id_of_the_form_of_the_role_or_the_chosen_id() {
    let claimed = |spec: Value, id| claimed_id(&agent(&spec, Some(id))).is_some();
    for (role, own) in [("Worker", "mc-old"), ("Lead", "lead-old"), ("Main", "mc-gateway-old")] {
        for id in ["mc-old", "lead-old", "mc-gateway-old", "gateway-old", "nova", "main", "mc-"] {
            assert_eq!(claimed(json!({ "role": role }), id), id == own, "{role} {id}");
        }
    }
    assert!(claimed(json!({ "agentId": "nova" }), "nova"));
    assert!(!claimed(json!({ "agentId": "nova" }), "mc-old"), "the spec counts");
    let long = format!("mc-{}", "a".repeat(62));
    for text in ["", "mc-../x", "mc-A", "mc-a b", "mc-a/b", "mc-é", "-mc-a", &long] {
        assert!(!claimed(json!({}), text), "{text:?}");
    }
    assert_eq!(claimed_id(&agent(&json!({}), None)), None);
}

#[test]
fn a_bound_agent_claims_nothing_by_its_annotation() {
    let mut bound = agent(&json!({}), Some("mc-old"));
    bound.status.get_or_insert_default().binding = Some(binding("/w").to_status());
    assert_eq!((claimed_id(&bound), annotated_id(&bound)), (None, Some("mc-old")));
    bound.metadata.uid = Some("other".into());
    assert_eq!(claimed_id(&bound), Some("mc-old"), "the binding is of another object, from a backup");
}

fn found(workspace: &str, is_proven: bool) -> FoundAgent {
    FoundAgent { workspace: workspace.into(), is_proven }
}

#[test]
fn a_proof_takes_an_agent_up_and_without_one_only_a_permission_adopts_it() {
    let own = "/w/workspace-mc-old";
    let decide = |found: Option<FoundAgent>, is_permitted| {
        let found = found.as_ref();
        let input = ClaimInput { found, own_workspace: own, is_permitted, is_usual_id: false, has_own_secret: false };
        super::decide(&input)
    };
    for permitted in [true, false] {
        assert_eq!(decide(Some(found(own, true)), permitted), ClaimDecision::TakeUp);
        assert_eq!(decide(Some(found("/w/workspace-mc-old/", true)), permitted), ClaimDecision::TakeUp);
        assert_eq!(decide(Some(found("/elsewhere", true)), permitted), ClaimDecision::Adopt, "its folder is not ours");
    }
    assert_eq!(decide(Some(found(own, false)), true), ClaimDecision::Adopt);
    assert_eq!(decide(None, true), ClaimDecision::Create);
    assert_eq!(decide(Some(found(own, false)), false), ClaimDecision::Refuse);
    assert_eq!(decide(None, false), ClaimDecision::Refuse, "the answer does not show whether there is such an agent");
}

#[test]
fn the_usual_id_that_muster_has_just_written_adopts_nothing_without_a_proof() {
    let decide = |found: Option<&FoundAgent>, has_own_secret| {
        let (own_workspace, is_permitted, is_usual_id) = ("/w/workspace-nova", true, true);
        super::decide(&ClaimInput { found, own_workspace, is_permitted, is_usual_id, has_own_secret })
    };
    let (unproven, proven) = (found("/w/workspace-nova", false), found("/w/workspace-nova", true));
    assert_eq!(decide(Some(&unproven), true), ClaimDecision::Ignore, "the usual rules find the id taken");
    assert_eq!(decide(Some(&unproven), false), ClaimDecision::Adopt, "a backup has no Secret of this Agent");
    assert_eq!(decide(Some(&proven), true), ClaimDecision::TakeUp, "a crash interrupted the taking up");
    assert_eq!((decide(None, true), decide(None, false)), (ClaimDecision::Ignore, ClaimDecision::Ignore));
}
