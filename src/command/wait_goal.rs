//! What a wait waits for, and how far an object is. Pure.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use super::observed::{condition, condition_text, generation, is_current};
use super::request_goal::RequestGoal;

/// What a wait waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WaitGoal {
    /// A condition has a status.
    Condition { kind: String, status: String },
    /// The object is gone.
    Deletion,
    /// A one-shot request is handled.
    Request(RequestGoal),
    /// Muster has taken note that the object is suspended, or that it is not.
    Suspension(bool),
}

impl FromStr for WaitGoal {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "delete" {
            return Ok(Self::Deletion);
        }
        let condition =
            text.strip_prefix("condition=").ok_or("give condition=TYPE, condition=TYPE=STATUS or delete")?;
        let (kind, status) = condition.split_once('=').unwrap_or((condition, "True"));
        let status = ["True", "False", "Unknown"].into_iter().find(|known| known.eq_ignore_ascii_case(status));
        let status = status.ok_or("the status of a condition is True, False or Unknown")?;
        if kind.is_empty() {
            return Err("give the type of the condition, such as condition=Ready");
        }
        Ok(Self::Condition { kind: kind.to_owned(), status: status.to_owned() })
    }
}

impl fmt::Display for WaitGoal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Condition { kind, status } => write!(f, "the condition {kind} to be {status}"),
            Self::Deletion => f.write_str("the deletion"),
            Self::Request(goal) => goal.fmt(f),
            Self::Suspension(true) => f.write_str("the suspension"),
            Self::Suspension(false) => f.write_str("the end of the suspension"),
        }
    }
}

impl WaitGoal {
    /// Whether an object that exists has what the wait waits for.
    pub(super) fn is_met(&self, object: &Value) -> bool {
        match self {
            Self::Condition { kind, status } => condition(object, kind)
                .is_some_and(|one| one["status"].as_str() == Some(status.as_str()) && is_current(object, one)),
            Self::Deletion => false,
            Self::Request(goal) => goal.is_met(object),
            Self::Suspension(is_suspended) => is_suspension(object, *is_suspended),
        }
    }

    /// What is said of an object that has what the wait waits for.
    pub(super) fn outcome(&self, object: &Value) -> String {
        match self {
            Self::Condition { .. } | Self::Deletion => "condition met".to_owned(),
            Self::Request(goal) => goal.outcome(object),
            Self::Suspension(true) if is_observer(object) => {
                "is suspended, and not paused: Muster only observes the agent".to_owned()
            }
            Self::Suspension(true) => "is suspended".to_owned(),
            Self::Suspension(false) => "is not suspended".to_owned(),
        }
    }

    /// How far an object is, for a person.
    pub(super) fn progress(&self, object: &Value) -> String {
        match self {
            Self::Condition { kind, .. } => condition_text(object, kind),
            Self::Deletion => deletion_text(object),
            Self::Request(goal) => goal.progress(object),
            Self::Suspension(_) => suspension_text(object),
        }
    }
}

fn is_observer(object: &Value) -> bool {
    object["spec"]["managementPolicy"] == "Observe"
}

/// The condition that says whether an object is suspended. A Board has none: its agents have it. An Agent that only observes is never paused.
fn suspension_condition(object: &Value) -> Option<&'static str> {
    match object["kind"].as_str() {
        Some("Agent") if is_observer(object) => None,
        Some("Agent") => Some("Paused"),
        Some("AgentGateway") => Some("Suspended"),
        _ => None,
    }
}

fn is_suspension(object: &Value, is_suspended: bool) -> bool {
    let wanted = if is_suspended { "True" } else { "False" };
    match suspension_condition(object) {
        Some(kind) => condition(object, kind).is_some_and(|one| one["status"] == wanted && is_current(object, one)),
        None => object["status"]["observedGeneration"].as_i64() >= Some(generation(object)),
    }
}

fn suspension_text(object: &Value) -> String {
    match suspension_condition(object) {
        Some(kind) => condition_text(object, kind),
        None => "Muster has not seen the change yet".to_owned(),
    }
}

fn deletion_text(object: &Value) -> String {
    if object["metadata"]["deletionTimestamp"].is_null() {
        return "it is not being deleted".to_owned();
    }
    let finalizers = object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let finalizers = finalizers.collect::<Vec<_>>().join(", ");
    let waits =
        if finalizers.is_empty() { "it is being deleted".to_owned() } else { format!("it waits for {finalizers}") };
    match condition(object, "Ready") {
        Some(_) => format!("{waits}; {}", condition_text(object, "Ready")),
        None => waits,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn agent(status: &str, observed: i64) -> Value {
        json!({
            "metadata": { "generation": 2 },
            "status": { "observedGeneration": 1, "conditions": [
                { "type": "Ready", "status": status, "reason": "Why", "message": "Because.", "observedGeneration": observed },
            ] },
        })
    }

    #[test]
    fn a_goal_is_a_condition_or_the_deletion() {
        let condition = |kind: &str, status: &str| Ok(WaitGoal::Condition { kind: kind.into(), status: status.into() });
        assert_eq!("condition=Ready".parse(), condition("Ready", "True"));
        assert_eq!("condition=CheckedIn=false".parse(), condition("CheckedIn", "False"));
        assert_eq!("delete".parse(), Ok(WaitGoal::Deletion));
        for bad in
            ["", "condition", "condition=", "condition=Ready=", "condition=Ready=Maybe", "create", "condition==True"]
        {
            assert!(bad.parse::<WaitGoal>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_condition_counts_for_the_spec_that_it_observed() {
        let goal: WaitGoal = "condition=ready".parse().unwrap();
        assert!(goal.is_met(&agent("True", 2)) && !goal.is_met(&agent("True", 1)) && !goal.is_met(&agent("False", 2)));
        let mut bare = agent("True", 2);
        bare["status"]["conditions"][0].as_object_mut().unwrap().remove("observedGeneration");
        assert!(!goal.is_met(&bare), "the status is of an earlier spec");
        bare["status"].as_object_mut().unwrap().remove("observedGeneration");
        assert!(goal.is_met(&bare));
        assert!(!goal.is_met(&json!({})));
        assert!("condition=Ready=False".parse::<WaitGoal>().unwrap().is_met(&agent("False", 2)));
    }

    #[test]
    fn a_suspension_counts_once_the_current_spec_was_observed() {
        let object = |kind: &str, condition: &str, status: &str, observed: i64| {
            let one = json!({ "type": condition, "status": status, "observedGeneration": observed });
            json!({ "kind": kind, "metadata": { "generation": 2 }, "status": { "observedGeneration": observed, "conditions": [one] } })
        };
        for (kind, condition) in [("Agent", "Paused"), ("AgentGateway", "Suspended")] {
            assert!(WaitGoal::Suspension(true).is_met(&object(kind, condition, "True", 2)));
            assert!(WaitGoal::Suspension(false).is_met(&object(kind, condition, "False", 2)));
            assert!(!WaitGoal::Suspension(true).is_met(&object(kind, condition, "True", 1)));
            assert!(!WaitGoal::Suspension(true).is_met(&object(kind, condition, "False", 2)));
        }
        let board = |observed| object("Board", "Ready", "True", observed);
        assert!(WaitGoal::Suspension(true).is_met(&board(2)) && !WaitGoal::Suspension(true).is_met(&board(1)));
        let mut observer = object("Agent", "Paused", "False", 2);
        observer["spec"] = json!({ "managementPolicy": "Observe" });
        assert!(WaitGoal::Suspension(true).is_met(&observer), "no wait without an end");
        assert!(WaitGoal::Suspension(true).outcome(&observer).contains("Muster only observes the agent"));
        assert_eq!(
            WaitGoal::Suspension(true).progress(&json!({ "kind": "Agent" })),
            "there is no condition Paused yet"
        );
    }

    #[test]
    fn progress_has_the_reason_and_the_message() {
        let goal: WaitGoal = "condition=Ready".parse().unwrap();
        assert_eq!(goal.progress(&agent("False", 2)), "Ready is False (Why): Because.");
        assert_eq!(goal.progress(&agent("True", 1)), "Ready is True, for an earlier spec (Why): Because.");
        assert_eq!(goal.progress(&json!({})), "there is no condition Ready yet");
        let mut going = agent("False", 2);
        assert_eq!(WaitGoal::Deletion.progress(&going), "it is not being deleted");
        going["metadata"]["deletionTimestamp"] = json!("2026-03-01T10:00:00Z");
        going["metadata"]["finalizers"] = json!(["muster.dev/agent"]);
        assert_eq!(
            WaitGoal::Deletion.progress(&going),
            "it waits for muster.dev/agent; Ready is False (Why): Because."
        );
    }
}
