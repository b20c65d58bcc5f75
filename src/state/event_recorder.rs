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
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use crate::api::keys;
use crate::core::event;

/// How long after its last occurrence an event is counted and not written anew, as in client-go.
const SERIES_WINDOW: SignedDuration = SignedDuration::from_mins(6);
/// The time between two removals of the events of long ago: a look at all recent events for each new one would be work that grows with the
/// number of objects.
const SWEEP_INTERVAL: SignedDuration = SignedDuration::from_mins(1);
/// The maximum length of an event's note in Kubernetes, in bytes.
const MAX_NOTE_BYTES: usize = 1024;

/// The publisher of events. Clones share the counts.
#[derive(Clone)]
pub(super) struct EventRecorder {
    client: Client,
    recent: Arc<StdMutex<RecentEvents>>,
}

/// What makes two events one: a hash of the object and of all that a person reads. A fleet that is set up keeps thousands of these for minutes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct EventKey([u8; 32]);

impl EventKey {
    fn of(event: &Event) -> Self {
        let uid = event.regarding.as_ref().and_then(|object| object.uid.as_ref());
        let parts = [uid, event.type_.as_ref(), event.reason.as_ref(), event.action.as_ref(), event.note.as_ref()];
        // A list of texts as JSON is another text for other parts.
        Self(Sha256::digest(json!(parts).to_string()).into())
    }
}

/// The events of the last minutes.
#[derive(Default)]
struct RecentEvents {
    events: HashMap<EventKey, RecentEvent>,
    swept: Option<Timestamp>,
}

/// A published event.
struct RecentEvent {
    /// The event as it was written. The lock is held during a write, so that two publishers write one event and its count.
    written: Arc<Mutex<Option<WrittenEvent>>>,
    last: Timestamp,
}

/// An event in the cluster.
struct WrittenEvent {
    name: String,
    /// How often it was published.
    count: i32,
}

impl RecentEvents {
    /// The place of an event. Events of long ago lose theirs.
    fn place(&mut self, key: EventKey, now: Timestamp) -> Arc<Mutex<Option<WrittenEvent>>> {
        let is_recent = |event: &RecentEvent| now.duration_since(event.last) < SERIES_WINDOW;
        if self.swept.is_none_or(|swept| now.duration_since(swept) >= SWEEP_INTERVAL) {
            self.swept = Some(now);
            self.events.retain(|_, event| is_recent(event));
            self.events.shrink_to_fit();
        }
        let event = self.events.entry(key).or_insert_with(|| RecentEvent { written: Arc::default(), last: now });
        if !is_recent(event) {
            event.written = Arc::default();
        }
        event.last = now;
        Arc::clone(&event.written)
    }
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
        let new = new_event(regarding, event, now);
        let key = EventKey::of(&new);
        let written = self.recent.lock().unwrap_or_else(PoisonError::into_inner).place(key, now);
        let mut written = written.lock().await;
        let events: Api<Event> =
            Api::namespaced(self.client.clone(), regarding.namespace.as_deref().unwrap_or("default"));
        if let Some(before) = written.as_mut() {
            before.count = before.count.saturating_add(1);
            let series = EventSeries { count: before.count, last_observed_time: MicroTime(now) };
            let patch = Patch::Merge(json!({ "series": series }));
            match events.patch(&before.name, &PatchParams::default(), &patch).await {
                // Somebody removed it.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                counted => return counted.map(|_| ()),
            }
        }
        *written = None;
        events.create(&PostParams::default(), &new).await?;
        *written = Some(WrittenEvent { name: new.metadata.name.unwrap_or_default(), count: 1 });
        Ok(())
    }
}

fn new_event(regarding: &ObjectReference, event: &event::Event, now: Timestamp) -> Event {
    let mut note = event.message.clone();
    note.truncate(note.floor_char_boundary(MAX_NOTE_BYTES));
    let name = format!("{}.{:x}", regarding.name.as_deref().unwrap_or_default(), now.as_nanosecond());
    let metadata = ObjectMeta { name: Some(name), namespace: regarding.namespace.clone(), ..ObjectMeta::default() };
    Event {
        metadata,
        action: Some(event.action.into()),
        reason: Some(event.reason.clone()),
        note: Some(note),
        type_: Some(if event.warning { "Warning" } else { "Normal" }.into()),
        event_time: Some(MicroTime(now)),
        regarding: Some(regarding.clone()),
        reporting_controller: Some(keys::FIELD_MANAGER.into()),
        reporting_instance: Some(keys::FIELD_MANAGER.into()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn an_event_of_long_ago_loses_its_place_whether_or_not_it_was_swept() {
        let (one, another) = (EventKey([1; 32]), EventKey([2; 32]));
        let mut recent = RecentEvents::default();
        let first = recent.place(one, at(0));
        assert!(Arc::ptr_eq(&first, &recent.place(one, at(359))), "each occurrence extends the time");
        assert!(!Arc::ptr_eq(&first, &recent.place(one, at(359 + 360))));
        recent.place(another, at(359 + 360 + 359));
        assert!(recent.events.contains_key(&one));
        recent.place(another, at(359 + 2 * 360 + 60));
        assert!(!recent.events.contains_key(&one), "it was swept");
        // Between two sweeps, an event whose time has passed is there, and is not counted.
        let mut recent = RecentEvents { swept: Some(at(330)), ..RecentEvents::default() };
        let first = recent.place(one, at(10));
        assert!(!Arc::ptr_eq(&first, &recent.place(one, at(380))));
    }

    #[test]
    fn many_events_in_a_minute_are_swept_once() {
        let mut recent = RecentEvents::default();
        for number in 0..100_u8 {
            recent.place(EventKey([number; 32]), at(i64::from(number % 59)));
        }
        assert_eq!(recent.swept, Some(at(0)));
        assert_eq!(recent.events.len(), 100);
    }
}
