//! Reads the ConfigMaps with the templates of an agent.

use std::collections::BTreeMap;

use crate::api::object_key::ObjectKey;
use crate::core::agent::templates::{ConfigMapContent, TemplateOrigin, Templates, collect, config_maps};
use crate::core::error::ReconcileError;
use crate::state::kube_store::KubeStore;

/// Reads the templates of these origins. `contents` has the ConfigMaps that this reconcile has read, and gets the others.
///
/// # Errors
/// A ConfigMap, a key or a field is missing, or a request to Kubernetes failed.
pub(crate) async fn read(
    store: &KubeStore,
    origins: &[TemplateOrigin<'_>],
    contents: &mut BTreeMap<ObjectKey, ConfigMapContent>,
) -> Result<Templates, ReconcileError> {
    for key in config_maps(origins) {
        if !contents.contains_key(&key)
            && let Some(content) = store.config_map(&key).await?
        {
            contents.insert(key, content);
        }
    }
    collect(origins, contents)
}
