//! What one watch or one list covers.

use kube::api::Api;
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource};

/// The objects of one namespace, or of all namespaces.
pub(super) fn of_scope<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>>(
    client: &Client,
    namespace: Option<&str>,
) -> Api<K> {
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}
