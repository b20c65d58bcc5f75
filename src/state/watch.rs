//! The watches that update the caches and call the triggers.

use std::collections::HashMap;
use std::fmt::Debug;

use futures::{Stream, StreamExt, pin_mut};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use kube::core::{NamespaceResourceScope, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Config, Event};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use tracing::warn;

use super::cache::{CacheChange, CacheWriter};
use super::guarded::{Guarded, Unreadable};
use super::triggers::Triggers;
use crate::api::object_key::ObjectKey;
use crate::api::{Agent, AgentGateway, Board};
use crate::core::gateway::cleanup::DeletedGateway;
use crate::core::index::Indexed;
use crate::core::objects::Objects;

/// Watches all objects of a kind, and applies each event to the cache before its changes are returned.
pub fn objects<K>(client: &Client, mut writer: CacheWriter<K>) -> impl Stream<Item = CacheChange<K>> + use<K>
where
    K: Indexed + Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let api: Api<Guarded<K>> = Api::all(client.clone());
    let events = kube::runtime::watcher(api, Config::default()).default_backoff();
    let changes = events.map(move |event| match event {
        Ok(event) => writer.apply(event),
        Err(error) => {
            failed(&K::kind(&()), &error);
            Vec::new()
        }
    });
    changes.flat_map(futures::stream::iter)
}

fn failed(kind: &str, error: &watcher::Error) {
    warn!(kind, %error, "watch failed and is retried");
}

/// Handles the changes of Agents. `on_agent` gets each Agent and whether it was deleted.
pub async fn agents<O: Objects>(
    changes: impl Stream<Item = CacheChange<Agent>>,
    triggers: Triggers<O>,
    on_agent: impl Fn(&Agent, bool),
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
            CacheChange::Unreadable(unreadable) => report("Agent", &unreadable),
            CacheChange::UnreadableDeleted(_) => {}
        }
    }
}

/// Handles the changes of Boards.
pub async fn boards<O: Objects>(changes: impl Stream<Item = CacheChange<Board>>, triggers: Triggers<O>) {
    pin_mut!(changes);
    while let Some(change) = changes.next().await {
        match change {
            CacheChange::Applied { before, now } => triggers.board(before.as_deref(), &now),
            CacheChange::Deleted(board) => triggers.board(None, &board),
            CacheChange::Unreadable(unreadable) => report("Board", &unreadable),
            CacheChange::UnreadableDeleted(_) => {}
        }
    }
}

/// Handles the changes of AgentGateways. `on_deleted` gets each deleted AgentGateway.
pub async fn gateways<O: Objects>(
    changes: impl Stream<Item = CacheChange<AgentGateway>>,
    triggers: Triggers<O>,
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
            CacheChange::Unreadable(unreadable) => report("AgentGateway", &unreadable),
            CacheChange::UnreadableDeleted(meta) => on_deleted(DeletedGateway::from_metadata(&meta)),
        }
    }
}

/// Watches the ConfigMaps. Only names and resource versions are kept, and an event with a known version is ignored.
pub async fn config_maps<O: Objects>(client: &Client, triggers: Triggers<O>) {
    let api = Api::<PartialObjectMeta<ConfigMap>>::all(client.clone());
    let events = kube::runtime::watcher(api, Config::default()).default_backoff();
    pin_mut!(events);
    let mut known = KnownVersions::default();
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => known.apply(event).iter().for_each(|key| triggers.config_map(key)),
            Err(error) => failed("ConfigMap", &error),
        }
    }
}

/// The resource versions of the ConfigMaps.
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

fn report(kind: &str, Unreadable { metadata, error }: &Unreadable) {
    let object = ObjectKey::of(metadata);
    warn!(kind, %object, error, "object cannot be read and is not reconciled; correct the object");
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
