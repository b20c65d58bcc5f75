//! The watches that update the caches and call the triggers.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::sync::Arc;

use futures::{Stream, StreamExt, pin_mut};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ObjectMeta};
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::{self, Config, Event};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use tracing::warn;

use super::store::Store;
use super::triggers::{Generations, Triggers};
use crate::api::object_key::ObjectKey;
use crate::api::{Agent, AgentGateway, Board};
use crate::core::gateway::cleanup::DeletedGateway;

/// An event of a watch about one object.
pub enum WatchEvent<K> {
    /// The object was listed, created or changed.
    Applied(K),
    /// The object was deleted.
    Deleted(K),
}

/// Watches all objects of a kind and updates a cache. The watch drops `managedFields`, which no code reads and which are
/// about half of an object's size.
pub fn objects<K>(
    client: &Client,
    writer: Writer<DeserializeGuard<K>>,
) -> impl Stream<Item = WatchEvent<DeserializeGuard<K>>> + use<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let cache = writer.as_reader();
    let api: Api<DeserializeGuard<K>> = Api::all(client.clone());
    let events = kube::runtime::watcher(api, Config::default())
        .default_backoff()
        .modify(|guard| match &mut guard.0 {
            Ok(object) => object.meta_mut().managed_fields = None,
            Err(invalid) => invalid.metadata.managed_fields = None,
        })
        .reflect(writer);
    decode(events, K::kind(&()).into_owned(), move || cache.state())
}

/// Converts the events of a watcher. The objects of a list follow when the list is complete and the cache contains it. A
/// known object that is not in the list was deleted.
fn decode<K>(
    events: impl Stream<Item = Result<Event<K>, watcher::Error>>,
    kind: String,
    known: impl Fn() -> Vec<Arc<K>>,
) -> impl Stream<Item = WatchEvent<K>>
where
    K: Resource<DynamicType = ()> + Clone,
{
    let (mut before, mut listed) = (Vec::new(), Vec::new());
    let decoded = events.map(move |event| match event {
        Ok(Event::Apply(object)) => vec![WatchEvent::Applied(object)],
        Ok(Event::Delete(object)) => vec![WatchEvent::Deleted(object)],
        Ok(Event::Init) => {
            before = known();
            listed.clear();
            Vec::new()
        }
        Ok(Event::InitApply(object)) => {
            listed.push(object);
            Vec::new()
        }
        Ok(Event::InitDone) => {
            let keys: HashSet<_> = listed.iter().map(|object| ObjectKey::of(object.meta())).collect();
            let deleted =
                std::mem::take(&mut before).into_iter().filter(|object| !keys.contains(&ObjectKey::of(object.meta())));
            let deleted = deleted.map(|object| WatchEvent::Deleted(Arc::unwrap_or_clone(object)));
            deleted.chain(std::mem::take(&mut listed).into_iter().map(WatchEvent::Applied)).collect()
        }
        Err(error) => {
            warn!(kind, %error, "watch failed and is retried");
            Vec::new()
        }
    });
    decoded.flat_map(futures::stream::iter)
}

/// Handles the events of the watch on Agents. `on_agent` gets each Agent and whether it was deleted.
pub async fn agents<S: Store>(
    stream: impl Stream<Item = WatchEvent<DeserializeGuard<Agent>>>,
    triggers: Triggers<S>,
    on_agent: impl Fn(&Agent, bool),
) {
    pin_mut!(stream);
    let mut generations = Generations::default();
    while let Some(event) = stream.next().await {
        match event {
            WatchEvent::Applied(DeserializeGuard(Ok(agent))) => {
                let spec_changed = generations.spec_changed(&agent.metadata);
                on_agent(&agent, false);
                triggers.agent(&agent, spec_changed, false);
            }
            WatchEvent::Deleted(DeserializeGuard(Ok(agent))) => {
                generations.forget(&agent.metadata);
                on_agent(&agent, true);
                triggers.agent(&agent, false, true);
            }
            WatchEvent::Applied(DeserializeGuard(Err(invalid)))
            | WatchEvent::Deleted(DeserializeGuard(Err(invalid))) => {
                unreadable("Agent", &invalid.metadata, &invalid.error);
            }
        }
    }
}

/// Handles the events of the watch on Boards.
pub async fn boards<S: Store>(stream: impl Stream<Item = WatchEvent<DeserializeGuard<Board>>>, triggers: Triggers<S>) {
    pin_mut!(stream);
    let mut generations = Generations::default();
    while let Some(event) = stream.next().await {
        match event {
            WatchEvent::Applied(DeserializeGuard(Ok(board))) => {
                if generations.spec_changed(&board.metadata) {
                    triggers.board(&board);
                }
            }
            WatchEvent::Deleted(DeserializeGuard(Ok(board))) => {
                generations.forget(&board.metadata);
                triggers.board(&board);
            }
            WatchEvent::Applied(DeserializeGuard(Err(invalid)))
            | WatchEvent::Deleted(DeserializeGuard(Err(invalid))) => {
                unreadable("Board", &invalid.metadata, &invalid.error);
            }
        }
    }
}

/// Handles the events of the watch on AgentGateways. `on_deleted` gets each deleted AgentGateway.
pub async fn gateways<S: Store>(
    stream: impl Stream<Item = WatchEvent<DeserializeGuard<AgentGateway>>>,
    triggers: Triggers<S>,
    on_deleted: impl Fn(DeletedGateway),
) {
    pin_mut!(stream);
    let mut generations = Generations::default();
    while let Some(event) = stream.next().await {
        match event {
            WatchEvent::Applied(DeserializeGuard(Ok(gateway))) => {
                let spec_changed = generations.spec_changed(&gateway.metadata);
                triggers.gateway(&gateway, spec_changed);
            }
            WatchEvent::Deleted(DeserializeGuard(Ok(gateway))) => {
                generations.forget(&gateway.metadata);
                on_deleted(DeletedGateway::from_resource(&gateway));
                triggers.gateway(&gateway, true);
            }
            WatchEvent::Applied(DeserializeGuard(Err(invalid))) => {
                unreadable("AgentGateway", &invalid.metadata, &invalid.error);
            }
            WatchEvent::Deleted(DeserializeGuard(Err(invalid))) => {
                on_deleted(DeletedGateway::from_metadata(&invalid.metadata));
            }
        }
    }
}

/// Watches the ConfigMaps. Only names and resource versions are kept, and an event with a known version is ignored.
pub async fn config_maps<S: Store>(client: &Client, triggers: Triggers<S>) {
    let events = kube::runtime::watcher(Api::<PartialObjectMeta<ConfigMap>>::all(client.clone()), Config::default())
        .default_backoff();
    let stream = decode(events, "ConfigMap".into(), Vec::new);
    pin_mut!(stream);
    let mut known = HashMap::new();
    while let Some(event) = stream.next().await {
        let (map, before) = match event {
            WatchEvent::Applied(map) => {
                let before = known.insert(ObjectKey::of(&map.metadata), map.metadata.resource_version.clone());
                (map, before)
            }
            WatchEvent::Deleted(map) => {
                known.remove(&ObjectKey::of(&map.metadata));
                (map, None)
            }
        };
        if before != Some(map.metadata.resource_version.clone()) {
            triggers.config_map(&map.metadata);
        }
    }
}

fn unreadable(kind: &str, meta: &ObjectMeta, error: &str) {
    warn!(kind, object = %ObjectKey::of(meta), error, "object cannot be read and is not reconciled; correct the object");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Board {
        let mut board = Board::default();
        board.metadata.name = Some(name.to_owned());
        board
    }

    #[tokio::test]
    async fn a_complete_list_yields_its_objects_and_deletes_missing_objects() {
        let events = [
            Event::Init,
            Event::InitApply(named("a")),
            Event::InitApply(named("b")),
            Event::InitDone,
            Event::Apply(named("c")),
            Event::Delete(named("a")),
        ];
        let events = futures::stream::iter(events.map(Ok));
        let known = || vec![Arc::new(named("a")), Arc::new(named("old"))];
        let decoded: Vec<_> = decode(events, "Board".into(), known)
            .map(|event| match event {
                WatchEvent::Applied(board) => format!("applied {}", board.metadata.name.unwrap()),
                WatchEvent::Deleted(board) => format!("deleted {}", board.metadata.name.unwrap()),
            })
            .collect()
            .await;
        assert_eq!(decoded, ["deleted old", "applied a", "applied b", "applied c", "deleted a"]);
    }
}
