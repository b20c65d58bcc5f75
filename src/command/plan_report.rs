//! The report of `muster plan`. Pure.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value, json};
use url::Url;

use super::table::{key_text, plain_line};
use crate::api::Reason;
use crate::api::object_key::ObjectKey;
use crate::core::agent::desired::Origin;
use crate::core::agent::step::{FileWrite, Step};
use crate::core::agent::token::rules::TokenChange;
use crate::core::error::ReconcileError;
use crate::openclaw::model::{AgentEntry, Inventory};
use crate::preview::{Preview, PreviewedAgent};

/// The longest value in a text, in characters.
const MAX_VALUE_CHARS: usize = 60;

/// What would be done on a gateway.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PlanReport {
    agent_gateway: String,
    url: String,
    agents: Vec<PlannedAgent>,
    /// The agents of the gateway that no Agent of the files declares.
    not_managed: BTreeSet<String>,
}

/// What would be done for one Agent.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PlannedAgent {
    agent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<String>,
    /// How the Agent comes to its agent.
    origin: &'static str,
    /// The changes on the gateway.
    changes: Vec<PlannedChange>,
    /// The changes in the cluster.
    in_cluster: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked: Option<PlanObstacle>,
}

/// Why an agent would not be complete.
#[derive(Debug, Serialize)]
struct PlanObstacle {
    reason: &'static str,
    message: String,
}

/// A change on the gateway.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct PlannedChange {
    /// The name of the Step.
    step: &'static str,
    /// What it does.
    text: String,
    /// The values that it changes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    values: Vec<String>,
}

impl PlannedChange {
    fn new(step: &Step, text: &str) -> Self {
        Self { step: step.name(), text: plain_line(text), values: Vec::new() }
    }
}

impl PlanObstacle {
    fn of(error: &ReconcileError) -> Self {
        Self { reason: error.reason.as_str(), message: plain_line(&error.message) }
    }
}

impl PlanReport {
    pub(super) fn new(gateway: &ObjectKey, url: &Url, inventory: &Inventory) -> Self {
        let not_managed = inventory.agents.keys().cloned().collect();
        Self { agent_gateway: gateway.to_string(), url: url.to_string(), agents: Vec::new(), not_managed }
    }

    pub(super) fn add(&mut self, agent: PlannedAgent) {
        self.agents.push(agent);
    }

    /// Leaves only the agents that no Agent declares. `declared` has the ids that the files name.
    pub(super) fn conclude(&mut self, declared: &BTreeSet<String>) {
        for id in self.agents.iter().filter_map(|agent| agent.agent_id.as_ref()).chain(declared) {
            self.not_managed.remove(id);
        }
    }

    pub(super) fn has_changes(&self) -> bool {
        self.agents.iter().any(|agent| !agent.changes.is_empty())
    }

    /// The number of Agents that cannot be set up.
    pub(super) fn blocked(&self) -> usize {
        self.agents.iter().filter(|agent| agent.blocked.is_some()).count()
    }

    /// The report for programs.
    pub(super) fn data(&self) -> Value {
        json!(self)
    }

    /// The report for people.
    pub(super) fn text(&self) -> String {
        let mut lines = vec![format!("AgentGateway {} at {}", self.agent_gateway, self.url), String::new()];
        lines.extend(self.agents.iter().flat_map(PlannedAgent::lines));
        if !self.not_managed.is_empty() {
            let ids: Vec<_> = self.not_managed.iter().map(|id| plain_line(id)).collect();
            lines.push(String::new());
            lines.push(format!("Not managed by these files, and left alone: {}", ids.join(", ")));
        }
        let blocked = self.blocked();
        let changed = self.agents.iter().filter(|agent| !agent.changes.is_empty() && agent.blocked.is_none()).count();
        let unchanged = self.agents.len() - changed - blocked;
        lines.push(String::new());
        lines.push(format!("{changed} to change, {unchanged} without a change, {blocked} blocked"));
        lines.join("\n") + "\n"
    }
}

impl PlannedAgent {
    /// The plan of an Agent.
    pub(super) fn of(agent: &ObjectKey, preview: &Preview, inventory: &Inventory) -> Self {
        match preview {
            Preview::Observed { agent_id } => Self::observed(agent, agent_id, inventory),
            Preview::Managed(one) => Self::managed(agent, one, inventory),
        }
    }

    /// An Agent that only observes its agent.
    fn observed(agent: &ObjectKey, agent_id: &str, inventory: &Inventory) -> Self {
        let missing = || PlanObstacle {
            reason: Reason::AgentMissing.as_str(),
            message: "the gateway has no agent of this id, and Muster only observes it".into(),
        };
        Self {
            agent: agent.to_string(),
            agent_id: Some(agent_id.to_owned()),
            origin: "only observed",
            changes: Vec::new(),
            in_cluster: Vec::new(),
            blocked: (!inventory.agents.contains_key(agent_id)).then(missing),
        }
    }

    fn managed(agent: &ObjectKey, one: &PreviewedAgent, inventory: &Inventory) -> Self {
        let (desired, preview) = (&one.desired, &one.preview);
        let mut planned = Self {
            agent: agent.to_string(),
            agent_id: Some(desired.identity.agent_id.clone()),
            origin: origin(desired.origin),
            changes: Vec::new(),
            in_cluster: Vec::new(),
            blocked: preview.blocker.as_ref().map(|blocker| PlanObstacle::of(blocker.error())),
        };
        for step in &preview.steps {
            match step {
                Step::Claim { .. } => {
                    planned.in_cluster.push("add the finalizer and the annotation to the Agent".into());
                }
                Step::Token(change) => {
                    planned.in_cluster.push(format!("{} in Secret {}", token(*change), desired.token_secret));
                }
                Step::WriteFiles(files) => {
                    let changes = files.iter().map(|file| PlannedChange::new(step, &file_change(file, one)));
                    planned.changes.extend(changes);
                }
                Step::SubmitEntry(entry) => {
                    let is_there = inventory.agents.get(&entry.id).is_some_and(|row| row.entry.is_some());
                    let text = if is_there { "change the config entry" } else { "add a config entry" };
                    let values = entry_values(entry, inventory).iter().map(|line| plain_line(line)).collect();
                    planned.changes.push(PlannedChange { values, ..PlannedChange::new(step, text) });
                }
                other => planned.changes.push(PlannedChange::new(other, &sentence(other))),
            }
        }
        if preview.binds.is_some() {
            planned.in_cluster.push("record the binding in the status".into());
        }
        planned
    }

    /// An Agent that is being deleted, with the id of the agent that the operator deletes on the gateway.
    pub(super) fn deleted(agent: &ObjectKey, agent_id: Option<String>) -> Self {
        let change = |id: &String| PlannedChange {
            step: "delete_agent",
            text: plain_line(&format!("delete agent {id}, because the Agent is being deleted")),
            values: Vec::new(),
        };
        Self {
            agent: agent.to_string(),
            changes: agent_id.iter().map(change).collect(),
            agent_id,
            origin: "being deleted",
            in_cluster: vec!["remove the finalizer".into()],
            blocked: None,
        }
    }

    /// An Agent that cannot be planned.
    pub(super) fn failed(agent: &ObjectKey, error: &ReconcileError) -> Self {
        Self {
            agent: agent.to_string(),
            agent_id: None,
            origin: "unknown",
            changes: Vec::new(),
            in_cluster: Vec::new(),
            blocked: Some(PlanObstacle::of(error)),
        }
    }

    fn lines(&self) -> Vec<String> {
        let id = self
            .agent_id
            .as_deref()
            .map(|id| format!(": agent {}, {}", plain_line(id), self.origin))
            .unwrap_or_default();
        let mut lines = vec![format!("Agent {}{id}", self.agent)];
        for change in &self.changes {
            lines.push(format!("  {}", change.text));
            lines.extend(change.values.iter().map(|value| format!("    {value}")));
        }
        if !self.in_cluster.is_empty() {
            lines.push(format!("  in the cluster: {}", self.in_cluster.join(", ")));
        }
        match &self.blocked {
            Some(obstacle) => lines.push(format!("  BLOCKED {}: {}", obstacle.reason, obstacle.message)),
            None if self.changes.is_empty() => lines.push("  nothing to do on the gateway".to_owned()),
            None => {}
        }
        lines
    }
}

/// A Step with one effect on the gateway.
fn sentence(step: &Step) -> String {
    match step {
        Step::Release(binding) => {
            format!("release agent {} of AgentGateway {}", binding.identity.agent_id, binding.gateway)
        }
        Step::Create(identity) => format!("create agent {} in {}", identity.agent_id, identity.workspace),
        Step::LabelSession { label } => format!("label the session {}", shown(&json!(label))),
        Step::ResetSession { .. } => "reset the session".into(),
        Step::Wake(message) => format!("send wake message {} of {}", message.attempt, message.max_attempts),
        Step::Claim { .. } | Step::Token(_) | Step::SubmitEntry(_) | Step::WriteFiles(_) => step.name().into(),
    }
}

fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Derived | Origin::ParentDerived | Origin::ParentReused => "with an id of the cluster",
        Origin::Chosen => "with a chosen id",
        Origin::Claimed | Origin::TakenUp => "taken up again",
        Origin::Adopted => "adopted",
    }
}

fn token(change: TokenChange) -> &'static str {
    match change {
        TokenChange::Issue => "issue a token",
        TokenChange::Rotate => "replace the token",
        TokenChange::Repair => "correct the keys",
        TokenChange::Retire => "remove the previous token",
    }
}

/// The values that change in a config entry. Values of keys that Muster does not model may be secrets, and are not shown.
fn entry_values(entry: &AgentEntry, inventory: &Inventory) -> Vec<String> {
    let actual = inventory.entry(&entry.id).unwrap_or_default();
    let Some(patch) = inventory.entry_patch(entry) else { return Vec::new() };
    let mut lines = Vec::new();
    let start = (String::new(), String::new());
    leaves(&patch, &actual, &start, &mut |(path, name), before, after| {
        let root = path.split('.').next().unwrap_or(path);
        let is_passed = |known: &String| known == path || known == root || path.starts_with(&format!("{known}."));
        let is_hidden = entry.passed.keys().chain(&entry.retired).any(is_passed);
        lines.push(match (before, after) {
            (Some(_), Value::Null) => format!("{name}: removed"),
            _ if is_hidden => format!("{name}: set"),
            (Some(before), after) => format!("{name}: {} -> {}", shown(before), shown(after)),
            (None, after) => format!("{name}: {}", shown(after)),
        });
    });
    lines
}

/// A path in a config entry, and the path as it is shown.
type EntryPath = (String, String);

/// The path of a key below another path.
fn below((path, name): &EntryPath, key: &str) -> EntryPath {
    if path.is_empty() {
        return (key.to_owned(), key_text(key));
    }
    (format!("{path}.{key}"), format!("{name}.{}", key_text(key)))
}

/// Calls `show` for each value of a merge patch, with its path and the value before.
fn leaves<'a>(
    patch: &'a Map<String, Value>,
    actual: &'a Map<String, Value>,
    prefix: &EntryPath,
    show: &mut impl FnMut(&EntryPath, Option<&'a Value>, &'a Value),
) {
    for (key, value) in patch {
        let place = below(prefix, key);
        match (value, actual.get(key)) {
            (Value::Object(inner), Some(Value::Object(before))) => leaves(inner, before, &place, show),
            (Value::Object(inner), None) if prefix.0.is_empty() => {
                for (key, value) in inner {
                    show(&below(&place, key), None, value);
                }
            }
            (value, before) => show(&place, before, value),
        }
    }
}

/// A value in one line.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= MAX_VALUE_CHARS {
        return text;
    }
    let begin: String = text.chars().take(MAX_VALUE_CHARS).collect();
    format!("{begin}... ({} characters)", text.chars().count())
}

fn file_change(file: &FileWrite, one: &PreviewedAgent) -> String {
    let (name, size) = (&file.name, file.content.expose().len());
    match one.preview.files.get(name) {
        _ if size == 0 => format!("empty {name}"),
        Some(before) if before.size > 0 => format!("replace {name}: {} bytes -> {size} bytes", before.size),
        Some(_) | None => format!("write {name}: {size} bytes"),
    }
}
