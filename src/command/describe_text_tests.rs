use super::*;

fn now() -> Timestamp {
    "2026-03-01T10:00:00Z".parse().unwrap()
}

#[test]
fn an_object_is_shown_with_conditions_and_events() {
    let long = "The gateway did not answer. ".repeat(6);
    let agent = json!({
        "apiVersion": "muster.dev/v1alpha1", "kind": "Agent",
        "metadata": {
            "name": "one", "namespace": "fleet", "creationTimestamp": "2026-03-01T09:00:00Z", "labels": { "a": "b", "c": "d" },
            "annotations": { keys::LAST_APPLIED.to_owned(): "{}" }, "managedFields": [],
            "deletionTimestamp": "2026-03-01T09:59:00Z", "finalizers": ["muster.dev/agent"],
        },
        "spec": { "boardRef": { "name": "ops" } },
        "status": { "phase": "Active", "conditions": [
            { "type": "Ready", "status": "False", "reason": "GatewayNotReady", "message": long.trim(), "lastTransitionTime": "2026-03-01T09:58:00Z" },
            { "type": "CheckedIn", "status": "True", "reason": "Seen", "message": "ok", "lastTransitionTime": "2026-03-01T09:59:30Z" },
        ] },
    });
    let event = |reason: &str, time: &str| json!({ "type": "Normal", "reason": reason, "note": "a\nb", "eventTime": time, "series": null });
    let events = [event("Second", "2026-03-01T09:59:59.000000Z"), event("First", "2026-03-01T09:00:00.000000Z")];
    let expected = "\
Name:        one
Namespace:   fleet
Kind:        Agent (muster.dev/v1alpha1)
Labels:      a=b
             c=d
Created:     2026-03-01T09:00:00Z (60m ago)
Deleted:     2026-03-01T09:59:00Z (60s ago)
Waits for:   muster.dev/agent
Spec:
  boardRef:
    name: ops
Status:
  phase: Active
Conditions:
  TYPE        STATUS   REASON            AGE   MESSAGE
  Ready       False    GatewayNotReady   2m    The gateway did not answer. The gateway did not answer. The
                                               gateway did not answer. The gateway did not answer. The gateway
                                               did not answer. The gateway did not answer.
  CheckedIn   True     Seen              30s   ok
Events:
  AGE   TYPE     REASON   COUNT   NOTE
  60m   Normal   First    1       a
                                  b
  1s    Normal   Second   1       a
                                  b
";
    assert_eq!(describe(&agent, &events, now()), expected);
}

#[test]
fn the_values_of_a_secret_are_not_shown() {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": { "name": "s", "annotations": { keys::LAST_APPLIED.to_owned(): "hush" } }, "data": { "token": "aHVzaA==" },
    });
    let text = describe(&secret, &[], now());
    assert!(text.contains("Type:   Opaque\n") && text.contains("Data:\n  token: 4 bytes\n"), "{text}");
    assert!(text.ends_with("Events: none\n") && !text.contains("hush") && !text.contains("aHVz"), "{text}");
}

#[test]
fn a_text_does_not_steer_the_terminal() {
    let condition = json!({ "type": "Ready\u{1b}[2J", "message": "\u{1b}[31mred" });
    let object = json!({ "metadata": { "labels": { "a": "\u{1b}c" } }, "spec": { "x": "\u{9b}2J" }, "status": { "conditions": [condition] } });
    assert!(!describe(&object, &[], now()).chars().any(|c| c.is_control() && c != '\n'));
}
