//! The manifest of an exported object, and the objects that the manifest names. Pure.
//!
//! The objects are JSON and not the types of this version, so that a field that this version does not know is kept.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::api::{Agent, AgentGateway, keys};

/// Fields of the metadata that belong to one object in one cluster. An API server sets them, or refuses them in a new object.
const OF_ONE_CLUSTER: [&str; 10] = [
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
    "managedFields",
    "ownerReferences",
    "finalizers",
];

/// A kind that is exported. The order is the order in the output: an object comes after the objects that it refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ExportedKind {
    /// An AgentGateway.
    AgentGateway,
    /// A Board.
    Board,
    /// An Agent.
    Agent,
}

impl ExportedKind {
    /// All kinds in the order of the output.
    pub(super) const ALL: [Self; 3] = [Self::AgentGateway, Self::Board, Self::Agent];

    /// The name of the kind.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::AgentGateway => "AgentGateway",
            Self::Board => "Board",
            Self::Agent => "Agent",
        }
    }
}

/// The manifest of an object that another cluster takes: without its status and what belongs to one cluster alone, and with everything
/// else. An Agent keeps the id of its agent in an annotation.
#[must_use]
pub(super) fn manifest(kind: ExportedKind, object: &Value) -> Value {
    let mut manifest = object.clone();
    if kind == ExportedKind::Agent
        && let Some(id) = agent_id(object)
    {
        let annotations =
            manifest["metadata"].as_object_mut().map(|meta| meta.entry("annotations").or_insert(json!({})));
        if let Some(annotations) = annotations.and_then(Value::as_object_mut) {
            annotations.entry(keys::AGENT_ID).or_insert(json!(id));
        }
    }
    if let Some(fields) = manifest.as_object_mut() {
        fields.remove("status");
        // Items of a list may come without them.
        fields.insert("apiVersion".into(), json!(format!("{}/v1alpha1", keys::GROUP)));
        fields.insert("kind".into(), json!(kind.as_str()));
    }
    strip_metadata(&mut manifest);
    manifest
}

/// The manifest of a Secret.
#[must_use]
pub(super) fn secret_manifest(secret: &Value) -> Value {
    let mut manifest = secret.clone();
    strip_metadata(&mut manifest);
    manifest
}

fn strip_metadata(manifest: &mut Value) {
    let Some(metadata) = manifest.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    metadata.retain(|field, _| !OF_ONE_CLUSTER.contains(&field.as_str()));
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove(keys::LAST_APPLIED);
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
    }
}

/// The id of the agent on its gateway: of the binding that the Agent itself wrote, else of the status. The status of an Agent that only
/// observes names an agent that is not its own.
fn agent_id(agent: &Value) -> Option<&str> {
    let binding = &agent["status"]["binding"];
    let is_own = binding["uid"].is_string() && binding["uid"] == agent["metadata"]["uid"];
    let bound = binding["agentId"].as_str().filter(|_| is_own);
    let observes = agent["spec"]["managementPolicy"] == "Observe";
    let shown = || agent["status"]["agentId"].as_str().filter(|_| !observes);
    bound.or_else(shown).filter(|id| !id.is_empty())
}

/// A Secret that an object needs, in the namespace of the object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NeededSecret {
    /// Its namespace.
    pub(super) namespace: String,
    /// Its name.
    pub(super) name: String,
    /// Whether Muster makes the Secret, so that it may not be there yet.
    pub(super) is_made: bool,
}

/// The Secrets that an object needs.
#[must_use]
pub(super) fn secrets(kind: ExportedKind, object: &Value) -> BTreeSet<NeededSecret> {
    let (namespace, name) = (namespace(object), name(object));
    let spec = &object["spec"];
    let given = |path: &str| spec.pointer(path).and_then(Value::as_str).map(str::to_owned);
    let made = match kind {
        ExportedKind::AgentGateway => {
            Some(given("/device/secretName").unwrap_or_else(|| AgentGateway::default_device_secret(name)))
        }
        ExportedKind::Board => None,
        ExportedKind::Agent => Some(given("/token/secretName").unwrap_or_else(|| Agent::default_token_secret(name))),
    };
    let mut named = BTreeSet::new();
    references(spec, &|field| field.ends_with("SecretRef"), &mut named);
    let needed = |name: String, is_made| NeededSecret { namespace: namespace.to_owned(), name, is_made };
    let made = made.filter(|name| !named.contains(name)).map(|name| needed(name, true));
    named.clone().into_iter().map(|name| needed(name, false)).chain(made).collect()
}

/// The names of the ConfigMaps that an object needs.
#[must_use]
pub(super) fn config_maps(object: &Value) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    references(&object["spec"], &|field| field == "configMapRef" || field == "configMapKeyRef", &mut named);
    named
}

/// Collects the names in the references below `value` whose field matches.
fn references(value: &Value, is_reference: &impl Fn(&str) -> bool, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (field, below) in fields {
                found.extend(below["name"].as_str().filter(|_| is_reference(field)).map(str::to_owned));
                references(below, is_reference, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, is_reference, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The name of an object.
#[must_use]
pub(super) fn name(object: &Value) -> &str {
    metadata(object, "name")
}

/// The namespace of an object.
#[must_use]
pub(super) fn namespace(object: &Value) -> &str {
    metadata(object, "namespace")
}

fn metadata<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// Whether the object is being deleted.
#[must_use]
pub(super) fn is_terminating(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
