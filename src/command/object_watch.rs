//! A watch of objects that goes on after an interruption, and reports each change once.

use std::collections::BTreeMap;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use kube::core::DynamicObject;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client};
use serde_json::Value;

use super::object::{name, namespace, version};
use super::requests::{ObjectPath, RequestError};
use super::resources::ResourceType;

/// What a watch reports.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum WatchedChange {
    /// An object is there, or is new, or is changed.
    Seen(Value),
    /// An object is gone. This is its last known state.
    Gone(Value),
    /// The watch is interrupted and begins again by itself.
    Interrupted(String),
}

/// A watch of the objects of a kind. The first batch has all objects.
pub(super) struct ObjectWatch {
    resource: &'static ResourceType,
    events: BoxStream<'static, Result<Event<DynamicObject>, watcher::Error>>,
    known: BTreeMap<(String, String), Value>,
    /// The objects of a list that is not complete yet.
    listed: BTreeMap<(String, String), Value>,
    is_complete: bool,
}

fn key(object: &Value) -> (String, String) {
    (namespace(object).to_owned(), name(object).to_owned())
}

impl ObjectWatch {
    /// Begins a watch of the objects that are selected, or of the object of a name.
    pub(super) fn new(client: &Client, path: ObjectPath<'_>, labels: Option<&str>, only: Option<&str>) -> Self {
        let resource = path.resource.api_resource();
        let api: Api<DynamicObject> = match path.namespace.filter(|_| path.resource.is_namespaced) {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        let mut config = watcher::Config::default();
        if let Some(labels) = labels {
            config = config.labels(labels);
        }
        if let Some(name) = only {
            config = config.fields(&format!("metadata.name={name}"));
        }
        Self {
            resource: path.resource,
            events: watch(api, config).default_backoff().boxed(),
            known: BTreeMap::new(),
            listed: BTreeMap::new(),
            is_complete: false,
        }
    }

    /// The next changes.
    ///
    /// # Errors
    /// The API server refuses the watch. An interruption is no error.
    pub(super) async fn next(&mut self) -> Result<Vec<WatchedChange>, RequestError> {
        loop {
            let event = match self.events.try_next().await {
                Ok(Some(event)) => event,
                Ok(None) => return Err(RequestError::Unanswered("the watch ended".into())),
                Err(error) => match self.interruption(error)? {
                    Some(cause) => return Ok(vec![WatchedChange::Interrupted(cause)]),
                    None => continue,
                },
            };
            match event {
                Event::Init => self.listed.clear(),
                Event::InitApply(object) => {
                    let object = self.value(&object);
                    self.listed.insert(key(&object), object);
                }
                Event::InitDone => return Ok(self.relisted()),
                Event::Apply(object) => {
                    let object = self.value(&object);
                    self.known.insert(key(&object), object.clone());
                    return Ok(vec![WatchedChange::Seen(object)]);
                }
                Event::Delete(object) => {
                    let object = self.value(&object);
                    self.known.remove(&key(&object));
                    return Ok(vec![WatchedChange::Gone(object)]);
                }
            }
        }
    }

    fn value(&self, object: &DynamicObject) -> Value {
        let mut value = serde_json::to_value(object).unwrap_or_default();
        self.resource.name_kind(&mut value);
        value
    }

    /// The differences between a list and what is known.
    fn relisted(&mut self) -> Vec<WatchedChange> {
        self.is_complete = true;
        let listed = std::mem::take(&mut self.listed);
        let gone = self.known.iter().filter(|(key, _)| !listed.contains_key(*key));
        let mut changes: Vec<_> = gone.map(|(_, object)| WatchedChange::Gone(object.clone())).collect();
        let is_new = |key: &_, object| self.known.get(key).is_none_or(|known| version(known) != version(object));
        let new = listed.iter().filter(|(key, object)| is_new(*key, object));
        changes.extend(new.map(|(_, object)| WatchedChange::Seen(object.clone())));
        self.known = listed;
        changes
    }

    /// What a person has to know of an error; nothing if the watch only lost its place.
    fn interruption(&self, error: watcher::Error) -> Result<Option<String>, RequestError> {
        let error = match error {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => RequestError::from(error),
            watcher::Error::WatchError(status) => RequestError::Refused(status),
            watcher::Error::NoResourceVersion => RequestError::Unanswered("the answer has no version".into()),
        };
        match error.code() {
            Some(410) => Ok(None),
            // A first list that is refused is refused each time, and without an answer the address may be wrong.
            None | Some(400..500) if !self.is_complete => Err(error),
            _ => Ok(Some(error.to_string())),
        }
    }
}
