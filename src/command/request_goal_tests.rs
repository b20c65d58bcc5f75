use serde_json::json;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn goal() -> RequestGoal {
    RequestGoal { kind: RequestKind::Rotate, requested_at: at("2026-03-01T10:00:00Z") }
}

fn board(sync: &Value) -> Value {
    json!({ "kind": "Board", "status": { "lastSync": sync } })
}

#[test]
fn a_request_is_later_than_those_that_the_objects_have() {
    let now = at("2026-03-01T10:00:00.7Z");
    let time = |objects: &[Value]| RequestGoal::new(RequestKind::Rotate, now, objects).requested_at;
    assert_eq!(time(&[]), at("2026-03-01T10:00:00Z"));
    let record = |when: &str| json!([{ "kind": "Rotate", "requestedAt": when }]);
    let agent = |when: &str| json!({ "kind": "Agent", "status": { "requests": record(when) } });
    assert_eq!(time(&[agent("2026-03-01T09:00:00Z")]), at("2026-03-01T10:00:00Z"));
    assert_eq!(time(&[agent("2026-03-01T10:00:00Z"), agent("2026-03-01T10:00:05Z")]), at("2026-03-01T10:00:06Z"));
    let annotated = |when: &str| json!({ "metadata": { "annotations": { "muster.dev/sync-requested-at": when } } });
    assert_eq!(time(&[annotated("2026-03-01T10:00:03Z")]), at("2026-03-01T10:00:04Z"));
    // Muster refuses this one.
    assert_eq!(time(&[annotated("2027-03-01T10:00:00Z"), annotated("soon")]), at("2026-03-01T10:00:00Z"));
}

#[test]
fn an_agent_has_handled_what_its_status_records() {
    let agent = |kind: &str, requested: &str, handled: Option<&str>| {
        let record = json!([{ "kind": kind, "requestedAt": requested, "handledAt": handled }]);
        json!({ "kind": "Agent", "status": { "requests": record } })
    };
    let done = agent("Rotate", "2026-03-01T10:00:00Z", Some("2026-03-01T10:00:05Z"));
    assert!(goal().is_met(&done));
    assert_eq!(goal().outcome(&done), "rotate handled");
    let older = agent("Rotate", "2026-03-01T10:00:00Z", None);
    assert_eq!(goal().outcome(&older), "rotate had nothing to do: the request is older than the agent");
    assert!(!goal().is_met(&agent("Rotate", "2026-03-01T09:59:59Z", Some("2026-03-01T10:00:05Z"))));
    assert!(!goal().is_met(&agent("Sync", "2026-03-01T10:00:00Z", Some("2026-03-01T10:00:05Z"))));
    assert!(!goal().is_met(&json!({ "kind": "Agent" })));
}

#[test]
fn an_agent_that_waits_has_the_cause() {
    let ready = json!({ "type": "Ready", "status": "False", "reason": "GatewayNotReady", "message": "It is away." });
    let mut agent = json!({ "kind": "Agent", "status": { "conditions": [ready] } });
    let expected = "rotate is not handled yet; Ready is False (GatewayNotReady): It is away.";
    assert_eq!(goal().progress(&agent), expected);
    let paused = json!({ "type": "Paused", "status": "True", "reason": "Suspended", "message": "spec.suspend" });
    agent["status"]["conditions"].as_array_mut().unwrap().push(paused);
    assert!(goal().progress(&agent).contains("Paused is True (Suspended): spec.suspend; Ready is False"));
    agent["status"]["invalidRequests"] = json!(["annotation muster.dev/rotate-requested-at: \"x\" is in the future"]);
    let expected =
        "Muster refuses the request: annotation muster.dev/rotate-requested-at: \"x\" is in the future".to_owned();
    assert_eq!(goal().progress(&agent), expected);
}

#[test]
fn a_board_has_handled_a_request_when_no_agent_is_left() {
    let sync = |at: &str, kinds: &[&str], pending: i32| {
        let errors = json!([{ "agent": "fleet/one", "message": "the gateway is away" }]);
        json!({ "requestedAt": at, "kinds": kinds, "updated": 1, "skipped": 2, "pending": pending, "errors": errors })
    };
    let done = board(&sync("2026-03-01T10:00:00Z", &["Sync", "Rotate"], 0));
    assert!(goal().is_met(&done));
    assert_eq!(goal().outcome(&done), "rotate handled by 1 agent, 2 agents had nothing to do");
    let going = board(&sync("2026-03-01T10:00:00Z", &["Rotate"], 3));
    assert!(!goal().is_met(&going));
    let expected =
        "handled by 1 agent, 2 agents had nothing to do, 3 agents to go: fleet/one: the gateway is away".to_owned();
    assert_eq!(goal().progress(&going), expected);
    let earlier = board(&sync("2026-03-01T09:00:00Z", &["Rotate"], 0));
    assert!(!goal().is_met(&earlier));
    assert!(goal().progress(&earlier).starts_with("Muster has not seen the request yet"));
    let other = board(&sync("2026-03-01T10:00:01Z", &["Sync"], 0));
    assert!(!goal().is_met(&other));
    assert!(goal().progress(&other).contains("the later request of 2026-03-01T10:00:01Z hides"));
}

#[test]
fn a_request_that_was_declined_has_its_cause() {
    let record = json!({ "kind": "Rotate", "requestedAt": "2026-03-01T10:00:00Z" });
    let declined =
        "annotation muster.dev/rotate-requested-at: nothing was done, because Muster only observes the agent";
    let agent = json!({ "kind": "Agent", "status": { "requests": [record], "invalidRequests": [declined] } });
    assert!(goal().is_met(&agent));
    assert_eq!(goal().outcome(&agent), format!("rotate had nothing to do: {declined}"));
}
