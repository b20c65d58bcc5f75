//! The watches: the changes of the history, as the events of one request.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use serde_json::{Value, json};
use tokio::sync::watch::Receiver;
use tokio::time::Instant;

use crate::answer::View;
use crate::objects::{Change, Deed, Objects};
use crate::refusal::Refusal;
use crate::request::{Scope, WatchOptions};
use crate::select::Selector;
use crate::shared::Shared;

/// How long a watch lasts that names no time.
const DEFAULT_TIMEOUT: Duration = Duration::from_mins(30);
/// How often a watch without changes says how far it is.
const BOOKMARK_INTERVAL: Duration = Duration::from_mins(1);

/// The objects of a watch, and how they are shown.
#[derive(Debug)]
struct Interest {
    scope: Scope,
    selector: Selector,
    view: View,
    /// The kind and the version of bookmarks.
    kind: String,
    api_version: String,
}

/// A watch under way.
#[derive(Debug)]
struct Watch {
    shared: Arc<Shared>,
    revisions: Receiver<u64>,
    interest: Interest,
    /// Changes up to here are told.
    position: u64,
    ready: VecDeque<Bytes>,
    bookmarks: bool,
    end: Instant,
    next_bookmark: Instant,
    is_over: bool,
}

fn line(kind: &str, object: &Value) -> Bytes {
    // The type stands first, as at kube-apiserver: a client may read the object by it.
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n").into()
}

/// An object as it was before a change by which it is no longer selected, with the version of the change.
fn left(before: &Value, change: &Change) -> Arc<Value> {
    let mut object = before.clone();
    object["metadata"]["resourceVersion"] = json!(change.revision.to_string());
    Arc::new(object)
}

impl Interest {
    fn covers(&self, change: &Change) -> bool {
        let Scope { resource, namespace } = &self.scope;
        change.key.resource == *resource
            && namespace.as_ref().is_none_or(|namespace| *namespace == change.key.namespace)
    }

    /// The event of a change, if the watch asks for it.
    fn event(&self, change: &Change) -> Option<Bytes> {
        if !self.covers(change) {
            return None;
        }
        let is_selected = self.selector.matches(&change.object);
        let kind = match &change.deed {
            Deed::Added => is_selected.then_some("ADDED"),
            Deed::Deleted(_) => is_selected.then_some("DELETED"),
            Deed::Modified(before) => match (self.selector.matches(before), is_selected) {
                (true, true) => Some("MODIFIED"),
                (false, true) => Some("ADDED"),
                (true, false) => return Some(line("DELETED", &self.view.of_object(&left(before, change)))),
                (false, false) => None,
            },
        };
        kind.map(|kind| line(kind, &self.view.of_object(&change.object)))
    }

    fn bookmark(&self, revision: u64, is_end_of_list: bool) -> Bytes {
        let mut object = json!({
            "kind": self.kind,
            "apiVersion": self.api_version,
            "metadata": { "resourceVersion": revision.to_string(), "creationTimestamp": null },
        });
        if is_end_of_list {
            object["metadata"]["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        line("BOOKMARK", &object)
    }

    fn current(&self, objects: &Objects) -> VecDeque<Bytes> {
        let listed = objects.list(self.scope.resource, self.scope.namespace.as_deref(), None);
        let selected = listed.filter(|(_, object)| self.selector.matches(object));
        selected.map(|(_, object)| line("ADDED", &self.view.of_object(object))).collect()
    }
}

/// Begins a watch.
///
/// # Errors
/// A selector or a version that cannot be read.
pub(crate) fn start(
    shared: &Arc<Shared>,
    scope: Scope,
    options: &WatchOptions,
    view: View,
) -> Result<impl Stream<Item = Bytes> + Send + use<>, Refusal> {
    let resource = shared.resources.get(scope.resource);
    let selector = Selector::parse(resource, &options.labels, &options.fields)?;
    let (kind, api_version) = match view {
        View::Whole => (resource.kind.clone(), resource.api_version()),
        View::Metadata => ("PartialObjectMetadata".to_owned(), "meta.k8s.io/v1".to_owned()),
    };
    let interest = Interest { scope, selector, view, kind, api_version };
    let revisions = shared.revisions.subscribe();
    let objects = shared.objects();
    let from_now = options.version.is_empty() || options.version == "0" || options.initial_events;
    let (mut ready, position) = if from_now {
        (interest.current(&objects), objects.revision())
    } else {
        let invalid = || Refusal::bad_request(format!("invalid resource version {:?}", options.version));
        (VecDeque::new(), options.version.parse().map_err(|_| invalid())?)
    };
    drop(objects);
    if options.initial_events {
        ready.push_back(interest.bookmark(position, true));
    }
    let now = Instant::now();
    let watch = Watch {
        shared: Arc::clone(shared),
        revisions,
        interest,
        position,
        ready,
        bookmarks: options.bookmarks,
        end: now + options.timeout.map_or(DEFAULT_TIMEOUT, Duration::from_secs),
        next_bookmark: now + BOOKMARK_INTERVAL,
        is_over: false,
    };
    Ok(futures::stream::unfold(watch, |mut watch| async move { Some((watch.next().await?, watch)) }))
}

impl Watch {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.is_over {
                return None;
            }
            self.read();
            if !self.ready.is_empty() || self.is_over {
                continue;
            }
            let next = self.next_bookmark.min(self.end);
            tokio::select! {
                biased;
                changed = self.revisions.changed() => if changed.is_err() { return None },
                () = tokio::time::sleep_until(next) => self.tick(),
            }
        }
    }

    /// Reads the changes since the last look.
    fn read(&mut self) {
        self.revisions.mark_unchanged();
        let objects = self.shared.objects();
        match objects.since(self.position) {
            Ok(changes) => self.ready.extend(changes.filter_map(|change| self.interest.event(change))),
            Err(oldest) => {
                let refusal = Refusal::expired(format!("too old resource version: {} ({oldest})", self.position));
                self.ready.push_back(line("ERROR", &refusal.status()));
                self.is_over = true;
            }
        }
        self.position = self.position.max(objects.revision());
    }

    fn tick(&mut self) {
        let now = Instant::now();
        if now >= self.end {
            self.is_over = true;
        } else if now >= self.next_bookmark {
            self.next_bookmark = now + BOOKMARK_INTERVAL;
            if self.bookmarks {
                self.ready.push_back(self.interest.bookmark(self.position, false));
            }
        }
    }
}
