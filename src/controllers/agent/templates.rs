//! Reads the ConfigMaps with the templates of an agent.

use std::collections::BTreeMap;

use crate::core::agent::templates::{TemplateOrigin, Templates, collect, config_maps};
use crate::core::error::ReconcileError;
use crate::state::store::Store;

/// Reads the templates of these origins.
///
/// # Errors
/// A ConfigMap, a key or a field is missing, or a request to Kubernetes failed.
pub(crate) async fn read<S: Store>(store: &S, origins: &[TemplateOrigin]) -> Result<Templates, ReconcileError> {
    let mut contents = BTreeMap::new();
    for key in config_maps(origins) {
        if let Some(content) = store.config_map(&key).await? {
            contents.insert(key, content);
        }
    }
    collect(origins, &contents)
}
