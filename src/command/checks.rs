//! The checks of `muster doctor` on one object. Pure.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::object::name;
use super::observed::{condition, generation, is_current};
use super::remedies::{self, Remedy};
use super::table::{plain_line, wrapped};
use crate::api::conditions::{ConditionType, ConditionUpdate};

/// Reasons that end by themselves.
const PASSING: [&str; 6] =
    ["Progressing", "Connecting", "NotObserved", "WaitingForConfigWrite", "WaitingForCheckIn", "OutsideActiveHours"];
/// Reasons that somebody wants to have.
const INTENDED: [&str; 4] = ["NoLead", "NotManaged", "NotWoken", "Suspended"];
/// Conditions on which `Ready` does not depend.
const WARNINGS: [&str; 2] = ["TransportSecure", "HeartbeatsShared"];
/// The width of a text below a check.
const WIDTH: usize = 100;

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CheckResult {
    Good,
    /// Not wrong, and worth a look.
    Notice,
    /// It ends by itself, or is not known.
    Pending,
    Wrong,
}

impl CheckResult {
    /// The word of the text, and of the data in lower case.
    fn word(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Notice => "note",
            Self::Pending => "wait",
            Self::Wrong => "WRONG",
        }
    }
}

/// A check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    /// What was checked.
    pub(super) name: String,
    pub(super) result: CheckResult,
    /// What was found.
    pub(super) found: String,
    /// What it means. Empty if `found` says it.
    pub(super) meaning: String,
    /// What to do. Empty if there is nothing to do.
    pub(super) next_step: String,
}

impl Check {
    pub(super) fn new(name: &str, result: CheckResult, found: impl Into<String>, next_step: &str) -> Self {
        let (name, next_step) = (name.to_owned(), next_step.to_owned());
        Self { name, result, found: found.into(), meaning: String::new(), next_step }
    }

    /// Adds what the documents say about a reason.
    pub(super) fn with_remedy(self, kind: &str, condition: &str, reason: &str) -> Self {
        self.with(remedies::find(kind, condition, reason))
    }

    fn with(mut self, remedy: Option<&Remedy>) -> Self {
        if let Some(remedy) = remedy.filter(|_| self.result != CheckResult::Good) {
            self.meaning.clone_from(&remedy.meaning);
            self.next_step.clone_from(&remedy.next_step);
        }
        self
    }

    /// An object that another object names and that does not exist.
    pub(super) fn missing(kind: &str, reason: &str) -> Self {
        let found = "the object does not exist";
        Self::new("exists", CheckResult::Wrong, found, "").with_remedy(kind, "Ready", reason)
    }
}

/// The checks of an object by its own fields.
pub(super) fn of_object(object: &Value) -> Vec<Check> {
    let kind = object["kind"].as_str().unwrap_or_default();
    let mut checks: Vec<_> = deletion(object).into_iter().collect();
    let observed = ConditionType::ALL.iter().filter_map(|one| {
        let is_progress = matches!(one, ConditionType::Reconciling | ConditionType::Stalled);
        condition(object, one.as_str()).filter(|_| !is_progress).map(|found| (*one, found))
    });
    let observed: Vec<_> = observed.map(|(one, found)| of_condition(kind, one, object, found)).collect();
    if observed.is_empty() {
        checks.push(Check::new(
            "Ready",
            CheckResult::Wrong,
            "Muster has not reconciled the object",
            "Check that the operator runs, that it works in this namespace (--namespaces), and its log.",
        ));
    }
    checks.extend(observed);
    checks.extend(requests(object));
    checks.extend(soul(object));
    checks.extend(held_files(object));
    without_repeats(checks)
}

/// The same advice stands once: conditions often have the cause of `Ready`.
pub(super) fn without_repeats(mut checks: Vec<Check>) -> Vec<Check> {
    let mut known = BTreeSet::new();
    for check in &mut checks {
        let advice = (check.meaning.clone(), check.next_step.clone());
        if !known.insert(advice) {
            check.meaning.clear();
            check.next_step.clear();
        }
    }
    checks
}

fn deletion(object: &Value) -> Option<Check> {
    object["metadata"]["deletionTimestamp"].as_str()?;
    let finalizers = object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let found = format!("it is being deleted and waits for {}", finalizers.collect::<Vec<_>>().join(", "));
    Some(Check::new("deletion", CheckResult::Pending, found, "Wait. The condition Ready says what is left."))
}

fn of_condition(kind: &str, condition: ConditionType, object: &Value, found: &Value) -> Check {
    let word = |field: &str| found[field].as_str().unwrap_or_default();
    let (name, status, reason, message) = (condition.as_str(), word("status"), word("reason"), word("message"));
    let is_suspension = matches!(condition, ConditionType::Paused | ConditionType::Suspended);
    let result = match status {
        _ if !is_current(object, found) => CheckResult::Pending,
        "True" if is_suspension => CheckResult::Notice,
        "False" if is_suspension => CheckResult::Good,
        "True" => CheckResult::Good,
        _ if PASSING.contains(&reason) => CheckResult::Pending,
        _ if INTENDED.contains(&reason) => CheckResult::Notice,
        "False" if WARNINGS.contains(&name) => CheckResult::Notice,
        "False" => CheckResult::Wrong,
        _ if condition == ConditionType::Ready => CheckResult::Wrong,
        _ => CheckResult::Pending,
    };
    let age = if is_current(object, found) { "" } else { " for an earlier spec" };
    let found = match result {
        CheckResult::Good => format!("{status} ({reason})"),
        _ => format!("{status}{age} ({reason}): {message}"),
    };
    let check = Check::new(name, result, found, "").with_remedy(kind, name, reason);
    if is_suspension && result == CheckResult::Notice {
        return Check { next_step: format!("muster resume {} {}", kind.to_lowercase(), self::name(object)), ..check };
    }
    check
}

/// A condition as an object of this kind would have it now. What is good says so by its message.
pub(super) fn of_update(object: &Value, update: &ConditionUpdate) -> Check {
    let kind = object["kind"].as_str().unwrap_or_default();
    let found = json!({ "status": update.status.as_str(), "reason": update.reason.as_str(), "message": update.message,
        "observedGeneration": generation(object) });
    let check = of_condition(kind, update.kind, object, &found);
    match check.result {
        CheckResult::Good => Check { found: update.message.clone(), ..check },
        CheckResult::Notice | CheckResult::Pending | CheckResult::Wrong => check,
    }
}

fn requests(object: &Value) -> Vec<Check> {
    let invalid = object["status"]["invalidRequests"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let next_step = "Make the request again, such as by muster sync or muster rotate.";
    invalid.map(|text| Check::new("requests", CheckResult::Wrong, text, next_step)).collect()
}

fn soul(object: &Value) -> Option<Check> {
    let state = object["status"]["soul"]["state"].as_str().filter(|state| *state != "Used")?;
    let remedy = remedies::find("Agent", remedies::SOUL, state);
    Some(Check::new("soul", CheckResult::Notice, format!("the soul for the role is {state}"), "").with(remedy))
}

fn held_files(object: &Value) -> Option<Check> {
    let files = object["status"]["files"].as_array().into_iter().flatten().filter(|file| file["state"] == "Held");
    let names: Vec<_> = files.filter_map(|file| file["name"].as_str()).collect();
    if names.is_empty() {
        return None;
    }
    let found = format!("{} waits for the soul directory", names.join(", "));
    let next_step = "See status.soulDirectory.error of the AgentGateway, or set spec.soulDirectory.enabled to false.";
    Some(Check::new("files", CheckResult::Notice, found, next_step))
}

/// The Secrets that an object names: the field, the name and the key, which is empty if every key suits.
pub(super) fn secrets_of(object: &Value) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    for field in ["tokenSecretRef", "passwordSecretRef"] {
        let reference = &object["spec"]["auth"][field];
        if let (Some(name), Some(key)) = (reference["name"].as_str(), reference["key"].as_str()) {
            found.push((format!("spec.auth.{field}"), name.to_owned(), key.to_owned()));
        }
    }
    if let Some(name) = object["status"]["token"]["secretName"].as_str() {
        found.push(("status.token.secretName".to_owned(), name.to_owned(), String::new()));
    }
    found
}

/// An object and its checks, as text.
pub(super) fn text(label: &str, checks: &[Check]) -> String {
    let mut text = format!("{}\n", plain_line(label));
    let width = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or_default();
    for check in checks {
        let start = format!("  {:<5}  {:<width$}  ", check.result.word(), check.name);
        let indent = " ".repeat(start.chars().count());
        let found = wrapped(&check.found, &indent, WIDTH);
        text.push_str(&start);
        text.push_str(found.get(indent.len()..).unwrap_or("\n"));
        if !check.meaning.is_empty() {
            text.push_str(&wrapped(&format!("means: {}", check.meaning), &indent, WIDTH));
        }
        if !check.next_step.is_empty() {
            text.push_str(&wrapped(&format!("to do: {}", check.next_step), &indent, WIDTH));
        }
    }
    text
}

/// The checks for programs.
pub(super) fn data(checks: &[Check]) -> Value {
    let data = checks.iter().map(|check| {
        json!({ "check": check.name, "state": check.result.word().to_lowercase(), "found": check.found, "means": check.meaning,
            "todo": check.next_step })
    });
    data.collect()
}

#[cfg(test)]
#[path = "checks_tests.rs"]
mod tests;
