use serde_json::json;

use super::*;

fn object(kind: &str, conditions: &[(&str, &str, &str)]) -> Value {
    let conditions = conditions.iter().map(
        |(name, status, reason)| json!({ "type": name, "status": status, "reason": reason, "message": "The cause.", "observedGeneration": 1 }),
    );
    json!({ "kind": kind, "metadata": { "name": "one", "namespace": "fleet", "generation": 1 },
        "status": { "observedGeneration": 1, "conditions": conditions.collect::<Vec<_>>() } })
}

fn results(object: &Value) -> Vec<(String, CheckResult)> {
    of_object(object).into_iter().map(|check| (check.name, check.result)).collect()
}

#[test]
fn each_condition_is_a_check_with_its_remedy() {
    let gateway = object(
        "AgentGateway",
        &[
            ("Ready", "False", "BadCredentials"),
            ("Reachable", "True", "Connected"),
            ("Authenticated", "False", "BadCredentials"),
            ("Settled", "Unknown", "NotConnected"),
            ("HeartbeatsShared", "Unknown", "NotConnected"),
            ("TransportSecure", "False", "GatewayUnencrypted"),
            ("Suspended", "False", "Running"),
            ("Stalled", "True", "BadCredentials"),
        ],
    );
    let expected = [
        ("Ready", CheckResult::Wrong),
        ("Reachable", CheckResult::Good),
        ("Authenticated", CheckResult::Wrong),
        ("Settled", CheckResult::Pending),
        ("HeartbeatsShared", CheckResult::Pending),
        ("TransportSecure", CheckResult::Notice),
        ("Suspended", CheckResult::Good),
    ];
    assert_eq!(results(&gateway), expected.map(|(name, result)| (name.to_owned(), result)));
    let checks = of_object(&gateway);
    assert_eq!(checks[0].found, "False (BadCredentials): The cause.");
    assert_eq!(checks[0].meaning, "The gateway refuses the token or the password.");
    assert_eq!(checks[0].next_step, "Correct the Secret that `spec.auth` names.");
    assert_eq!((checks[2].meaning.as_str(), checks[2].next_step.as_str()), ("", ""), "the advice stands once");
    assert_eq!((checks[1].found.as_str(), checks[1].meaning.as_str()), ("True (Connected)", ""));
}

#[test]
fn what_ends_by_itself_and_what_somebody_wants_is_not_wrong() {
    let agent = object(
        "Agent",
        &[("Ready", "False", "Progressing"), ("CheckedIn", "False", "NotWoken"), ("Paused", "True", "Suspended")],
    );
    let expected =
        [("Ready", CheckResult::Pending), ("CheckedIn", CheckResult::Notice), ("Paused", CheckResult::Notice)];
    assert_eq!(results(&agent), expected.map(|(name, result)| (name.to_owned(), result)));
    assert_eq!(of_object(&agent)[2].next_step, "muster resume agent one");
    let observed = object("Agent", &[("Ready", "True", "Observed"), ("TokenIssued", "Unknown", "NotManaged")]);
    let expected = [("Ready", CheckResult::Good), ("TokenIssued", CheckResult::Notice)];
    assert_eq!(results(&observed), expected.map(|(name, result)| (name.to_owned(), result)));
    let mut earlier = object("Agent", &[("Ready", "False", "TemplateError")]);
    earlier["metadata"]["generation"] = json!(2);
    assert_eq!(results(&earlier), [("Ready".to_owned(), CheckResult::Pending)]);
    assert!(of_object(&earlier)[0].found.starts_with("False for an earlier spec (TemplateError)"));
}

#[test]
fn an_object_without_conditions_is_not_reconciled() {
    let checks = of_object(&json!({ "kind": "Agent", "metadata": { "name": "one" } }));
    assert_eq!((checks.len(), checks[0].result), (1, CheckResult::Wrong));
    assert!(checks[0].next_step.starts_with("Check that the operator runs"), "{checks:?}");
}

#[test]
fn refused_requests_and_souls_and_files_are_checks_too() {
    let mut agent = object("Agent", &[("Ready", "True", "Reconciled")]);
    agent["status"]["invalidRequests"] = json!(["annotation muster.dev/sync-requested-at: \"x\" is no time"]);
    agent["status"]["soul"] = json!({ "role": "Cook", "state": "NoMatch" });
    agent["status"]["files"] =
        json!([{ "name": "SOUL.md", "state": "Held" }, { "name": "TOOLS.md", "state": "Synced" }]);
    let checks = of_object(&agent);
    let found: Vec<_> = checks.iter().map(|check| (check.name.as_str(), check.result)).collect();
    let expected = [
        ("Ready", CheckResult::Good),
        ("requests", CheckResult::Wrong),
        ("soul", CheckResult::Notice),
        ("files", CheckResult::Notice),
    ];
    assert_eq!(found, expected);
    assert!(checks[2].next_step.starts_with("The directory has no soul for the role."), "{checks:?}");
    assert!(checks[3].found.starts_with("SOUL.md waits"), "{checks:?}");
}

#[test]
fn the_text_has_the_check_what_was_found_and_what_to_do() {
    let check = Check::new("exists", CheckResult::Wrong, "the object does not exist", "Create it.");
    let good = Check::new("Ready", CheckResult::Good, "True (Connected)", "");
    let expected = "\
Board fleet/ops
  WRONG  exists  the object does not exist
                 to do: Create it.
  ok     Ready   True (Connected)
";
    assert_eq!(text("Board fleet/ops", &[check, good]), expected);
}
