//! The events on objects. An event that is repeated within some minutes is counted, as client-go counts events.
//!
//! kube's own recorder does not compare the messages: a new message of a known reason would only be counted, and nobody would read it. The
//! recorder also writes one event twice when two reconciles publish the event at the same time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Client;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::Mutex;

use crate::api::keys;
use crate::core::event;

/// How long after its last occurrence an event is counted and not written anew, as in client-go.
const SERIES_WINDOW: SignedDuration = SignedDuration::from_mins(6);
/// The maximum length of an event's note in Kubernetes, in bytes.
const MAX_NOTE_BYTES: usize = 1024;

/// The publisher of events. Clones share the counts.
#[derive(Clone)]
pub(super) struct EventRecorder {
    client: Client,
    recent: Arc<StdMutex<HashMap<EventKey, RecentEvent>>>,
}

/// What makes two events one: the object, and all that a person reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct EventKey {
    uid: Option<String>,
    type_: &'static str,
    reason: String,
    action: &'static str,
    note: String,
}

/// A published event.
struct RecentEvent {
    /// The event as it was written. The lock is held during a write, so that two publishers write one event and its count.
    written: Arc<Mutex<Option<Event>>>,
    last: Timestamp,
}

impl EventRecorder {
    pub(super) fn new(client: Client) -> Self {
        Self { client, recent: Arc::default() }
    }

    /// Writes an event, or counts it.
    pub(super) async fn publish(
        &self,
        regarding: &ObjectReference,
        event: &event::Event,
        now: Timestamp,
    ) -> Result<(), kube::Error> {
        let mut note = event.message.clone();
        note.truncate(note.floor_char_boundary(MAX_NOTE_BYTES));
        let key = EventKey {
            uid: regarding.uid.clone(),
            type_: if event.warning { "Warning" } else { "Normal" },
            reason: event.reason.clone(),
            action: event.action,
            note,
        };
        let written = self.recent(&key, now);
        let mut written = written.lock().await;
        let events: Api<Event> =
            Api::namespaced(self.client.clone(), regarding.namespace.as_deref().unwrap_or("default"));
        if let Some(before) = written.as_mut() {
            let count = before.series.as_ref().map_or(2, |series| series.count.saturating_add(1));
            before.series = Some(EventSeries { count, last_observed_time: MicroTime(now) });
            let patch = Patch::Merge(json!({ "series": before.series }));
            let name = before.metadata.name.clone().unwrap_or_default();
            match events.patch(&name, &PatchParams::default(), &patch).await {
                // Somebody removed it.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                counted => return counted.map(|_| ()),
            }
        }
        let new = new_event(key, regarding, now);
        *written = None;
        events.create(&PostParams::default(), &new).await?;
        *written = Some(new);
        Ok(())
    }

    /// The place of an event. Events of long ago lose theirs.
    fn recent(&self, key: &EventKey, now: Timestamp) -> Arc<Mutex<Option<Event>>> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|_, event| now.duration_since(event.last) < SERIES_WINDOW);
        let event = recent.entry(key.clone()).or_insert_with(|| RecentEvent { written: Arc::default(), last: now });
        event.last = now;
        Arc::clone(&event.written)
    }
}

fn new_event(key: EventKey, regarding: &ObjectReference, now: Timestamp) -> Event {
    let name = format!("{}.{:x}", regarding.name.as_deref().unwrap_or_default(), now.as_nanosecond());
    let metadata = ObjectMeta { name: Some(name), namespace: regarding.namespace.clone(), ..ObjectMeta::default() };
    Event {
        metadata,
        action: Some(key.action.into()),
        reason: Some(key.reason),
        note: Some(key.note),
        type_: Some(key.type_.into()),
        event_time: Some(MicroTime(now)),
        regarding: Some(regarding.clone()),
        reporting_controller: Some(keys::FIELD_MANAGER.into()),
        reporting_instance: Some(keys::FIELD_MANAGER.into()),
        ..Event::default()
    }
}
