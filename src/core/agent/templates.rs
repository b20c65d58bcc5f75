//! Where the template of each file comes from.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::object_key::ObjectKey;
use crate::api::shared::TemplateSource;
use crate::api::{Agent, AgentGateway, Board, Reason};
use crate::core::error::ReconcileError;

/// The templates that replace built-in ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Templates {
    /// By file name.
    pub given: BTreeMap<String, Given>,
}

/// A template that replaces a built-in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// It is text.
    Text {
        /// Where it stands, for error messages.
        origin: String,
        /// The template.
        source: String,
    },
    /// It stands in `binaryData`, which is an error for an agent that has a file of this name.
    Binary(ReconcileError),
}

/// The templates that the Agent itself gives: file name, field and source.
#[must_use]
pub fn own(agent: &Agent) -> Vec<(String, String, &TemplateSource)> {
    let spec = &agent.spec;
    let identity =
        spec.identity_template.as_ref().map(|t| ("IDENTITY.md".to_owned(), "spec.identityTemplate".to_owned(), t));
    let soul = spec.soul_template.as_ref().map(|t| ("SOUL.md".to_owned(), "spec.soulTemplate".to_owned(), t));
    let file = |f: &'_ crate::api::agent::FileSpec| (f.name.clone(), format!("spec.files[{}].template", f.name));
    let files = spec.files.iter().filter_map(|f| f.template.as_ref().map(|t| (f, t))).map(|(f, t)| {
        let (name, field) = file(f);
        (name, field, t)
    });
    identity.into_iter().chain(soul).chain(files).collect()
}

/// The ConfigMaps that an Agent, its Board and its gateway name, so that a change of one reaches the agent.
#[must_use]
pub fn config_maps(agent: &Agent, board: Option<&Board>, gateway: Option<&AgentGateway>) -> BTreeSet<ObjectKey> {
    let namespace = agent.metadata.namespace.as_deref().unwrap_or_default();
    let keyed = own(agent).into_iter().filter_map(|(_, _, t)| t.config_map_key_ref.as_ref()).map(|r| &r.name);
    let of_agent = agent.spec.templates.as_ref().map(|t| &t.config_map_ref.name);
    let of_board = board.and_then(|b| b.spec.templates.as_ref()).map(|t| &t.config_map_ref.name);
    let here = keyed.chain(of_agent).chain(of_board).map(|name| ObjectKey::new(namespace, name));
    let of_gateway = gateway.and_then(|g| {
        let name = &g.templates()?.name;
        Some(ObjectKey::new(g.metadata.namespace.as_deref().unwrap_or_default(), name))
    });
    here.chain(of_gateway).collect()
}

/// A key of a ConfigMap that a field names does not exist.
#[must_use]
pub fn missing_key(namespace: &str, name: &str, key: &str, field: &str) -> ReconcileError {
    let message =
        format!("ConfigMap {namespace}/{name}, which {field} names, has no key {key:?}; add it or change that field");
    ReconcileError::permanent(Reason::ConfigMapNotFound, message)
}

/// A key of a ConfigMap stands in `binaryData`.
#[must_use]
pub fn in_binary_data(namespace: &str, name: &str, key: &str, field: &str) -> ReconcileError {
    let message = format!(
        "ConfigMap {namespace}/{name}, which {field} names, has the key {key:?} in binaryData, and a template has to be text in data; save it as UTF-8 and put it there"
    );
    ReconcileError::permanent(Reason::TemplateError, message)
}
