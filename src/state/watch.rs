//! The watches that update the caches and call the triggers.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use futures::stream::select_all;
use futures::{Stream, StreamExt, pin_mut};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use kube::core::{NamespaceResourceScope, PartialObjectMeta};
use kube::runtime::watcher::{Config, Event};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;

use super::cache::{CacheChange, CacheWriter};
use super::guarded::Guarded;
use super::scope::of_scope;
use super::triggers::Triggers;
use super::unreadable::UnreadableReports;
use super::watch_health::WatchHealth;
use super::watch_retries::{WatchName, is_refused, retried};
use crate::api::object_key::ObjectKey;
use crate::api::watched_namespaces::WatchedNamespaces;
use crate::api::{Agent, AgentGateway, Board};
use crate::core::gateway::cleanup::DeletedGateway;
use crate::core::index::Indexed;
use crate::core::objects::Objects;

/// Watches the objects of a kind, by one watch for each writer, and applies each event to the cache before its changes are returned.
///
/// # Guarantees
/// A watch that fails does not delay the others. It is retried with backoff, for ever.
pub fn objects<K>(
    client: &Client,
    writers: Vec<CacheWriter<K>>,
    health: &WatchHealth,
) -> impl Stream<Item = CacheChange<K>> + use<K>
where
    K: Indexed + Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + 'static,
{
    select_all(writers.into_iter().map(|mut writer| {
        let api: Api<Guarded<K>> = of_scope(client, writer.namespace());
        let namespace = writer.namespace().map(str::to_owned);
        let (kind, path, health) = (K::kind(&()).into_owned(), api.resource_url().to_owned(), health.clone());
        let name = WatchName { kind, namespace, path, health };
        let events = retried(name, kube::runtime::watcher(api, Config::default()).boxed());
        let changes = events.map(move |event| match event {
            Ok(event) => writer.apply(event),
            Err(error) => {
                if is_refused(&error) {
                    writer.refused();
                }
                Vec::new()
            }
        });
        changes.flat_map(futures::stream::iter).boxed()
    }))
}

/// Handles the changes of Agents. `on_agent` gets each Agent and whether it was deleted.
pub async fn agents<O: Objects>(
    changes: impl Stream<Item = CacheChange<Agent>>,
    triggers: Triggers<O>,
    unreadables: UnreadableReports,
    on_agent: impl Fn(&Arc<Agent>, bool),
) {
    pin_mut!(changes);
    while let Some(change) = changes.next().await {
        match change {
            CacheChange::Applied { before, now } => {
                on_agent(&now, false);
                triggers.agent(before.as_deref(), &now);
            }
            CacheChange::Deleted(agent) => {
                on_agent(&agent, true);
                triggers.agent_deleted(&agent);
            }
            CacheChange::Unreadable(unreadable) => unreadables.report("Agent", &unreadable),
            CacheChange::UnreadableDeleted { last, .. } => {
                if let Some(agent) = last {
                    on_agent(&agent, true);
                    triggers.agent_deleted(&agent);
                }
            }
        }
    }
}

/// Handles the changes of Boards.
pub async fn boards<O: Objects>(
    changes: impl Stream<Item = CacheChange<Board>>,
    triggers: Triggers<O>,
    unreadables: UnreadableReports,
) {
    pin_mut!(changes);
    while let Some(change) = changes.next().await {
        match change {
            CacheChange::Applied { before, now } => triggers.board(before.as_deref(), &now),
            CacheChange::Deleted(board) => triggers.board(None, &board),
            CacheChange::Unreadable(unreadable) => unreadables.report("Board", &unreadable),
            CacheChange::UnreadableDeleted { .. } => {}
        }
    }
}

/// Handles the changes of AgentGateways. `on_deleted` gets each deleted AgentGateway.
pub async fn gateways<O: Objects>(
    changes: impl Stream<Item = CacheChange<AgentGateway>>,
    triggers: Triggers<O>,
    unreadables: UnreadableReports,
    on_deleted: impl Fn(DeletedGateway),
) {
    pin_mut!(changes);
    while let Some(change) = changes.next().await {
        match change {
            CacheChange::Applied { before, now } => triggers.gateway(before.as_deref(), &now),
            CacheChange::Deleted(gateway) => {
                on_deleted(DeletedGateway::from_resource(&gateway));
                triggers.gateway(None, &gateway);
            }
            CacheChange::Unreadable(unreadable) => unreadables.report("AgentGateway", &unreadable),
            CacheChange::UnreadableDeleted { metadata, .. } => on_deleted(DeletedGateway::from_metadata(&metadata)),
        }
    }
}

/// Watches the ConfigMaps. Only names and resource versions are kept, and an event with a known version is ignored.
pub async fn config_maps<O: Objects>(
    client: &Client,
    namespaces: &WatchedNamespaces,
    triggers: Triggers<O>,
    health: &WatchHealth,
) {
    let changed = select_all(namespaces.watches().into_iter().map(|namespace| {
        let api: Api<PartialObjectMeta<ConfigMap>> = of_scope(client, namespace.as_deref());
        let (path, health) = (api.resource_url().to_owned(), health.clone());
        let name = WatchName { kind: "ConfigMap".into(), namespace, path, health };
        let events = retried(name, kube::runtime::watcher(api, Config::default()).boxed());
        let mut known = KnownVersions::default();
        // A failure is in the log already.
        let keys = events.map(move |event| event.map(|event| known.apply(event)).unwrap_or_default());
        keys.flat_map(futures::stream::iter).boxed()
    }));
    changed.for_each(async |key| triggers.config_map(&key)).await;
}

/// The resource versions of the ConfigMaps of one watch.
#[derive(Debug, Default)]
struct KnownVersions {
    versions: HashMap<ObjectKey, Option<String>>,
    /// The list under way.
    listed: HashMap<ObjectKey, Option<String>>,
}

impl KnownVersions {
    /// Applies an event. Returns the keys of the ConfigMaps that were created, changed or deleted.
    fn apply<K: Resource<DynamicType = ()>>(&mut self, event: Event<K>) -> Vec<ObjectKey> {
        let entry = |object: K| (ObjectKey::of(object.meta()), object.meta().resource_version.clone());
        match event {
            Event::Apply(object) => {
                let (key, version) = entry(object);
                let before = self.versions.insert(key.clone(), version.clone());
                (before != Some(version)).then_some(key).into_iter().collect()
            }
            Event::Delete(object) => {
                let (key, _) = entry(object);
                self.versions.remove(&key);
                vec![key]
            }
            Event::Init => {
                self.listed.clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                self.listed.extend([entry(object)]);
                Vec::new()
            }
            Event::InitDone => {
                let before = std::mem::replace(&mut self.versions, std::mem::take(&mut self.listed));
                let gone = before.keys().filter(|key| !self.versions.contains_key(*key)).cloned();
                let changed = self.versions.iter().filter(|(key, version)| before.get(*key) != Some(version));
                gone.chain(changed.map(|(key, _)| key.clone())).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_new_changed_and_missing_config_maps_of_a_list_are_changes() {
        let map = |name: &str, version: &str| {
            let mut map = ConfigMap::default();
            map.metadata.name = Some(name.into());
            map.metadata.resource_version = Some(version.into());
            map
        };
        let mut known = KnownVersions::default();
        let mut list = |maps: &[(&str, &str)]| {
            known.apply::<ConfigMap>(Event::Init);
            for (name, version) in maps {
                assert!(known.apply(Event::InitApply(map(name, version))).is_empty());
            }
            let mut names: Vec<_> = known.apply::<ConfigMap>(Event::InitDone).into_iter().map(|key| key.name).collect();
            names.sort();
            names
        };
        assert_eq!(list(&[("a", "1"), ("b", "1")]), ["a", "b"]);
        assert_eq!(list(&[("a", "1"), ("b", "2"), ("c", "1")]), ["b", "c"]);
        assert_eq!(list(&[("b", "2"), ("c", "1")]), ["a"]);
    }
}
