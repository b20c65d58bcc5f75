//! What a wait waits for, and how far an object is. Pure.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

/// What a wait waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WaitGoal {
    /// A condition has a status.
    Condition { kind: String, status: String },
    /// The object is gone.
    Deletion,
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
        }
    }
}

/// The condition of a type.
fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    let mut of_kind = conditions.filter(|one| one["type"].as_str().is_some_and(|t| t.eq_ignore_ascii_case(kind)));
    of_kind.next()
}

/// Whether a condition is about the spec as it is now.
fn is_current(object: &Value, condition: &Value) -> bool {
    let generation = object["metadata"]["generation"].as_i64().unwrap_or_default();
    let observed = condition["observedGeneration"].as_i64().or(object["status"]["observedGeneration"].as_i64());
    observed.is_none_or(|observed| observed >= generation)
}

impl WaitGoal {
    /// Whether an object that exists has what the wait waits for.
    pub(super) fn is_met(&self, object: &Value) -> bool {
        match self {
            Self::Condition { kind, status } => condition(object, kind)
                .is_some_and(|one| one["status"].as_str() == Some(status.as_str()) && is_current(object, one)),
            Self::Deletion => false,
        }
    }

    /// How far an object is, for a person.
    pub(super) fn progress(&self, object: &Value) -> String {
        match self {
            Self::Condition { kind, .. } => condition_text(object, kind),
            Self::Deletion => deletion_text(object),
        }
    }
}

fn condition_text(object: &Value, kind: &str) -> String {
    let Some(found) = condition(object, kind) else { return format!("there is no condition {kind} yet") };
    let word = |field: &str| found[field].as_str().unwrap_or_default();
    let age = if is_current(object, found) { "" } else { ", for an earlier spec" };
    let message = Some(word("message")).filter(|text| !text.is_empty()).map(|text| format!(": {text}"));
    format!("{kind} is {}{age} ({}){}", word("status"), word("reason"), message.unwrap_or_default())
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
