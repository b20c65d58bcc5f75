//! The watches that keep the caches and set the triggers off.

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
use crate::core::gateway::cleanup::GoneGateway;

/// What a watch tells about one object.
pub enum WatchEvent<K> {
    /// It is there, as it was listed or as it changed.
    Applied(K),
    /// It is gone.
    Deleted(K),
}

/// A watch on all objects of a kind that keeps a cache. `managedFields` are dropped: nobody reads them and they make up
/// half of an object.
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

/// What a watch tells. Of a list, which comes object by object, nothing is told before it is complete and the cache has
/// it; what was known and is not in it is gone.
fn decode<K>(
    events: impl Stream<Item = Result<Event<K>, watcher::Error>>,
    kind: String,
    known: impl Fn() -> Vec<Arc<K>>,
) -> impl Stream<Item = WatchEvent<K>>
where
    K: Resource<DynamicType = ()> + Clone,
{
    let (mut before, mut listed) = (Vec::new(), Vec::new());
    let told = events.map(move |event| match event {
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
            let there: HashSet<_> = listed.iter().map(|object| ObjectKey::of(object.meta())).collect();
            let gone =
                std::mem::take(&mut before).into_iter().filter(|object| !there.contains(&ObjectKey::of(object.meta())));
            let gone: Vec<_> = gone.map(|object| WatchEvent::Deleted(Arc::unwrap_or_clone(object))).collect();
            gone.into_iter().chain(std::mem::take(&mut listed).into_iter().map(WatchEvent::Applied)).collect()
        }
        Err(error) => {
            warn!(kind, %error, "watch failed and is tried again");
            Vec::new()
        }
    });
    told.flat_map(futures::stream::iter)
}

/// Follows the Agents.
pub async fn agents<S: Store>(
    stream: impl Stream<Item = WatchEvent<DeserializeGuard<Agent>>>,
    triggers: Triggers<S>,
    on_agent: impl Fn(&Agent, bool),
) {
    pin_mut!(stream);
    let mut generations = Generations::default();
    while let Some(seen) = stream.next().await {
        match seen {
            WatchEvent::Applied(DeserializeGuard(Ok(agent))) => {
                let moved = generations.moved(&agent.metadata);
                on_agent(&agent, false);
                triggers.agent(&agent, moved, false);
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

/// Follows the Boards.
pub async fn boards<S: Store>(stream: impl Stream<Item = WatchEvent<DeserializeGuard<Board>>>, triggers: Triggers<S>) {
    pin_mut!(stream);
    let mut generations = Generations::default();
    while let Some(seen) = stream.next().await {
        match seen {
            WatchEvent::Applied(DeserializeGuard(Ok(board))) => {
                if generations.moved(&board.metadata) {
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

/// Follows the AgentGateways.
pub async fn gateways<S: Store>(
    stream: impl Stream<Item = WatchEvent<DeserializeGuard<AgentGateway>>>,
    triggers: Triggers<S>,
    on_gone: impl Fn(GoneGateway),
) {
    pin_mut!(stream);
    let mut generations = Generations::default();
    while let Some(seen) = stream.next().await {
        match seen {
            WatchEvent::Applied(DeserializeGuard(Ok(gateway))) => {
                let moved = generations.moved(&gateway.metadata);
                triggers.gateway(&gateway, moved);
            }
            WatchEvent::Deleted(DeserializeGuard(Ok(gateway))) => {
                generations.forget(&gateway.metadata);
                on_gone(GoneGateway::seen(&gateway));
                triggers.gateway(&gateway, true);
            }
            WatchEvent::Applied(DeserializeGuard(Err(invalid))) => {
                unreadable("AgentGateway", &invalid.metadata, &invalid.error);
            }
            WatchEvent::Deleted(DeserializeGuard(Err(invalid))) => on_gone(GoneGateway::known(&invalid.metadata)),
        }
    }
}

/// Follows the ConfigMaps, of which only names and versions are kept: one that is brought again as it was concerns nobody.
pub async fn config_maps<S: Store>(client: &Client, triggers: Triggers<S>) {
    let events = kube::runtime::watcher(Api::<PartialObjectMeta<ConfigMap>>::all(client.clone()), Config::default())
        .default_backoff();
    let stream = decode(events, "ConfigMap".into(), Vec::new);
    pin_mut!(stream);
    let mut known = HashMap::new();
    while let Some(seen) = stream.next().await {
        let (map, before) = match seen {
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
    warn!(kind, object = %ObjectKey::of(meta), error, "cannot be read and is left alone; correct the object");
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
    async fn a_list_is_told_when_it_is_complete_and_with_what_vanished() {
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
        let told: Vec<_> = decode(events, "Board".into(), known)
            .map(|seen| match seen {
                WatchEvent::Applied(board) => format!("{} is there", board.metadata.name.unwrap()),
                WatchEvent::Deleted(board) => format!("{} is gone", board.metadata.name.unwrap()),
            })
            .collect()
            .await;
        assert_eq!(told, ["old is gone", "a is there", "b is there", "c is there", "a is gone"]);
    }
}
