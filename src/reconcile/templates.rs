//! Where the template of each file comes from.

use std::collections::{BTreeMap, BTreeSet};

use super::ports::{ConfigMapContent, Key, Store, StoreError};
use crate::api::agent::Agent;
use crate::api::shared::{ConfigMapKeyRef, LocalRef, TemplateSource};
use crate::api::{AgentGateway, Board, Reason};
use crate::plan::Trouble;

/// Why templates could not be gathered.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TemplatesError {
    /// A ConfigMap or a key of it is missing.
    #[error(transparent)]
    Trouble(#[from] Trouble),
    /// The API server could not be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

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
    Binary(Trouble),
}

/// Gathers the templates of an agent: its own inline ones first, then the ConfigMaps of the Agent, the Board and the
/// gateway.
pub async fn gather<S: Store>(
    store: &S,
    agent: &Agent,
    board: Option<&Board>,
    gateway: &AgentGateway,
) -> Result<Templates, TemplatesError> {
    let mut templates = Templates::default();
    let namespace = agent.metadata.namespace.as_deref().unwrap_or_default();
    for (file, field, source) in own(agent) {
        let template = resolve(store, namespace, &field, source).await?;
        templates.given.entry(file).or_insert(template);
    }
    let levels = [
        (namespace, "spec.templates of the Agent", agent.spec.templates.as_ref().map(|t| &t.config_map_ref)),
        (
            namespace,
            "spec.templates of its Board",
            board.and_then(|b| b.spec.templates.as_ref()).map(|t| &t.config_map_ref),
        ),
        (
            gateway.metadata.namespace.as_deref().unwrap_or_default(),
            "spec.templates of its AgentGateway",
            gateway.templates(),
        ),
    ];
    for (namespace, field, reference) in levels {
        let Some(LocalRef { name }) = reference else { continue };
        let ConfigMapContent { data, binary } = config_map(store, namespace, name, field).await?;
        for (file, source) in data {
            let origin = format!("ConfigMap {namespace}/{name}, key {file}");
            templates.given.entry(file).or_insert(Given::Text { origin, source });
        }
        for file in binary {
            let trouble = in_binary_data(namespace, name, &file, field);
            templates.given.entry(file).or_insert(Given::Binary(trouble));
        }
    }
    Ok(templates)
}

/// The templates that the Agent itself gives: file name, field and source.
fn own(agent: &Agent) -> Vec<(String, String, &TemplateSource)> {
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

async fn resolve<S: Store>(
    store: &S,
    namespace: &str,
    field: &str,
    source: &TemplateSource,
) -> Result<Given, TemplatesError> {
    match (&source.inline, &source.config_map_key_ref) {
        (Some(text), _) => Ok(Given::Text { origin: format!("{field}.inline"), source: text.clone() }),
        (None, Some(ConfigMapKeyRef { name, key })) => {
            let ConfigMapContent { mut data, binary } = config_map(store, namespace, name, field).await?;
            match data.remove(key) {
                Some(source) => Ok(Given::Text { origin: format!("ConfigMap {namespace}/{name}, key {key}"), source }),
                None if binary.contains(key) => Ok(Given::Binary(in_binary_data(namespace, name, key, field))),
                None => Err(missing_key(namespace, name, key, field).into()),
            }
        }
        (None, None) => {
            Err(Trouble::permanent(Reason::InvalidSpec, format!("{field} gives neither inline nor configMapKeyRef"))
                .into())
        }
    }
}

async fn config_map<S: Store>(
    store: &S,
    namespace: &str,
    name: &str,
    field: &str,
) -> Result<ConfigMapContent, TemplatesError> {
    let found = store.config_map(&Key::new(namespace, name)).await?;
    Ok(found.ok_or_else(|| {
        let message = format!(
            "ConfigMap {namespace}/{name}, which {field} names, does not exist; create it or change that field"
        );
        Trouble::permanent(Reason::ConfigMapNotFound, message)
    })?)
}

fn missing_key(namespace: &str, name: &str, key: &str, field: &str) -> Trouble {
    let message =
        format!("ConfigMap {namespace}/{name}, which {field} names, has no key {key:?}; add it or change that field");
    Trouble::permanent(Reason::ConfigMapNotFound, message)
}

fn in_binary_data(namespace: &str, name: &str, key: &str, field: &str) -> Trouble {
    let message = format!(
        "ConfigMap {namespace}/{name}, which {field} names, has the key {key:?} in binaryData, and a template has to be text in data; save it as UTF-8 and put it there"
    );
    Trouble::permanent(Reason::TemplateError, message)
}

/// The ConfigMaps that an Agent, its Board and its gateway name, so that a change of one reaches the agent.
#[must_use]
pub fn config_maps(agent: &Agent, board: Option<&Board>, gateway: Option<&AgentGateway>) -> BTreeSet<Key> {
    let namespace = agent.metadata.namespace.as_deref().unwrap_or_default();
    let keyed = own(agent).into_iter().filter_map(|(_, _, t)| t.config_map_key_ref.as_ref()).map(|r| &r.name);
    let of_agent = agent.spec.templates.as_ref().map(|t| &t.config_map_ref.name);
    let of_board = board.and_then(|b| b.spec.templates.as_ref()).map(|t| &t.config_map_ref.name);
    let here = keyed.chain(of_agent).chain(of_board).map(|name| Key::new(namespace, name));
    let of_gateway = gateway.and_then(|g| {
        let name = &g.templates()?.name;
        Some(Key::new(g.metadata.namespace.as_deref().unwrap_or_default(), name))
    });
    here.chain(of_gateway).collect()
}
