//! The watches that keep the caches and set the triggers off.

use std::fmt::Debug;

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

use super::triggers::{Generations, Triggers};
use crate::api::{Agent, AgentGateway, Board};
use crate::reconcile::{Key, Store};

/// What a watch tells about one object.
pub enum Seen<K> {
    /// It is there, as it was listed or as it changed.
    There(K),
    /// It is gone.
    Gone(K),
}

/// A watch on all objects of a kind that keeps a cache. `managedFields` are dropped: nobody reads them and they make up
/// half of an object.
pub fn objects<K>(
    client: &Client,
    writer: Writer<DeserializeGuard<K>>,
) -> impl Stream<Item = Seen<DeserializeGuard<K>>> + use<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let api: Api<DeserializeGuard<K>> = Api::all(client.clone());
    let events = kube::runtime::watcher(api, Config::default())
        .default_backoff()
        .modify(|guard| match &mut guard.0 {
            Ok(object) => object.meta_mut().managed_fields = None,
            Err(invalid) => invalid.metadata.managed_fields = None,
        })
        .reflect(writer);
    decode(events, K::kind(&()).into_owned())
}

fn decode<K>(
    events: impl Stream<Item = Result<Event<K>, watcher::Error>>,
    kind: String,
) -> impl Stream<Item = Seen<K>> {
    events.filter_map(move |event| {
        let seen = match event {
            Ok(Event::Apply(object) | Event::InitApply(object)) => Some(Seen::There(object)),
            Ok(Event::Delete(object)) => Some(Seen::Gone(object)),
            Ok(Event::Init | Event::InitDone) => None,
            Err(error) => {
                warn!(kind, %error, "watch failed and is tried again");
                None
            }
        };
        std::future::ready(seen)
    })
}

/// Follows the Agents.
pub async fn agents<S: Store>(
    stream: impl Stream<Item = Seen<DeserializeGuard<Agent>>>,
    triggers: Triggers<S>,
    on_agent: impl Fn(&Agent, bool),
) {
    pin_mut!(stream);
    let mut generations = Generations::default();
    while let Some(seen) = stream.next().await {
        match seen {
            Seen::There(DeserializeGuard(Ok(agent))) => {
                let moved = generations.moved(&agent.metadata);
                on_agent(&agent, false);
                triggers.agent(&agent, moved, false);
            }
            Seen::Gone(DeserializeGuard(Ok(agent))) => {
                generations.forget(&agent.metadata);
                on_agent(&agent, true);
                triggers.agent(&agent, false, true);
            }
            Seen::There(DeserializeGuard(Err(invalid))) | Seen::Gone(DeserializeGuard(Err(invalid))) => {
                unreadable("Agent", &invalid.metadata, &invalid.error);
            }
        }
    }
}

/// Follows the Boards.
pub async fn boards<S: Store>(stream: impl Stream<Item = Seen<DeserializeGuard<Board>>>, triggers: Triggers<S>) {
    pin_mut!(stream);
    let mut generations = Generations::default();
    while let Some(seen) = stream.next().await {
        match seen {
            Seen::There(DeserializeGuard(Ok(board))) => {
                if generations.moved(&board.metadata) {
                    triggers.board(&board);
                }
            }
            Seen::Gone(DeserializeGuard(Ok(board))) => {
                generations.forget(&board.metadata);
                triggers.board(&board);
            }
            Seen::There(DeserializeGuard(Err(invalid))) | Seen::Gone(DeserializeGuard(Err(invalid))) => {
                unreadable("Board", &invalid.metadata, &invalid.error);
            }
        }
    }
}

/// Follows the AgentGateways.
pub async fn gateways<S: Store>(
    stream: impl Stream<Item = Seen<DeserializeGuard<AgentGateway>>>,
    triggers: Triggers<S>,
) {
    pin_mut!(stream);
    let mut generations = Generations::default();
    while let Some(seen) = stream.next().await {
        match seen {
            Seen::There(DeserializeGuard(Ok(gateway))) => {
                let moved = generations.moved(&gateway.metadata);
                triggers.gateway(&gateway, moved);
            }
            Seen::Gone(DeserializeGuard(Ok(gateway))) => {
                generations.forget(&gateway.metadata);
                triggers.gateway(&gateway, true);
            }
            Seen::There(DeserializeGuard(Err(invalid))) | Seen::Gone(DeserializeGuard(Err(invalid))) => {
                unreadable("AgentGateway", &invalid.metadata, &invalid.error);
            }
        }
    }
}

/// Follows the ConfigMaps, of which only names and versions are kept.
pub async fn config_maps<S: Store>(client: &Client, triggers: Triggers<S>) {
    let events = kube::runtime::watcher(Api::<PartialObjectMeta<ConfigMap>>::all(client.clone()), Config::default())
        .default_backoff();
    let stream = decode(events, "ConfigMap".into());
    pin_mut!(stream);
    while let Some(seen) = stream.next().await {
        let (Seen::There(map) | Seen::Gone(map)) = seen;
        triggers.config_map(&map.metadata);
    }
}

fn unreadable(kind: &str, meta: &ObjectMeta, error: &str) {
    warn!(kind, object = %Key::of(meta), error, "cannot be read and is left alone; correct the object");
}
