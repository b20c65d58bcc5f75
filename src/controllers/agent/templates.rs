//! Where the template of each file comes from.

use crate::api::agent::Agent;
use crate::api::object_key::ObjectKey;
use crate::api::shared::{ConfigMapKeyRef, LocalRef, TemplateSource};
use crate::api::{AgentGateway, Board, Reason};
use crate::core::agent::templates::{Given, Templates, in_binary_data, missing_key, own};
use crate::core::error::ReconcileError;
use crate::state::store::{ConfigMapContent, Store, StoreError};

/// Why templates could not be gathered.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TemplatesError {
    /// A ConfigMap or a key of it is missing.
    #[error(transparent)]
    Reconcile(#[from] ReconcileError),
    /// The API server could not be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
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
        (None, None) => Err(ReconcileError::permanent(
            Reason::InvalidSpec,
            format!("{field} gives neither inline nor configMapKeyRef"),
        )
        .into()),
    }
}

async fn config_map<S: Store>(
    store: &S,
    namespace: &str,
    name: &str,
    field: &str,
) -> Result<ConfigMapContent, TemplatesError> {
    let found = store.config_map(&ObjectKey::new(namespace, name)).await?;
    Ok(found.ok_or_else(|| {
        let message = format!(
            "ConfigMap {namespace}/{name}, which {field} names, does not exist; create it or change that field"
        );
        ReconcileError::permanent(Reason::ConfigMapNotFound, message)
    })?)
}
