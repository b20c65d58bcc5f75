//! Reports of objects that cannot be read: a line in the log, and an event on the object.

use kube::api::ObjectMeta;
use tokio::sync::mpsc;
use tracing::warn;

use super::guarded::Unreadable;
use super::kube_store::KubeStore;
use super::store::EventTarget;
use crate::api::object_key::ObjectKey;
use crate::core::event::Event;

/// The largest number of reports that wait for the API server. Further ones are in the log alone.
const BACKLOG: usize = 256;

/// An object that cannot be read.
#[derive(Debug)]
struct Report {
    kind: &'static str,
    metadata: ObjectMeta,
    event: Event,
}

/// The sender of reports. The watches hold it, and never wait for the API server.
#[derive(Clone, Debug)]
pub struct UnreadableReports(mpsc::Sender<Report>);

/// The receiver of reports.
#[derive(Debug)]
pub struct UnreadableEvents(mpsc::Receiver<Report>);

/// A sender and a receiver of reports.
#[must_use]
pub fn reports() -> (UnreadableReports, UnreadableEvents) {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    (UnreadableReports(sender), UnreadableEvents(receiver))
}

impl UnreadableReports {
    /// Reports an object.
    pub(super) fn report(&self, kind: &'static str, unreadable: &Unreadable) {
        let Unreadable { metadata, error } = unreadable;
        let object = ObjectKey::of(metadata);
        warn!(kind, %object, error, "object cannot be read and is not reconciled; correct the object");
        // A full queue, and a receiver that stopped with the operator, lose an event and no more.
        let _ = self.0.try_send(Report { kind, metadata: metadata.clone(), event: event(error) });
    }
}

impl UnreadableEvents {
    /// Publishes the reports, one after the other. Ends with the last sender.
    pub async fn publish(mut self, store: &KubeStore) {
        while let Some(Report { kind, metadata, event }) = self.0.recv().await {
            store.publish(EventTarget::Unreadable { kind, metadata: &metadata }, &event).await;
        }
    }
}

fn event(error: &str) -> Event {
    let message = format!(
        "the object cannot be read and is not reconciled: {error}. Correct the object; the schema of this version of Muster is in its CustomResourceDefinitions (crds/), which have to be those of the operator's version"
    );
    Event { warning: true, reason: "Unreadable".into(), action: "Read", message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_delays_no_watch() {
        let (reports, events) = reports();
        let unreadable = Unreadable { metadata: ObjectMeta::default(), error: "unknown variant `Boss`".into() };
        for _ in 0..BACKLOG + 10 {
            reports.report("Agent", &unreadable);
        }
        drop(reports);
        let UnreadableEvents(mut received) = events;
        let mut number = 0;
        while let Some(Report { kind, event, .. }) = received.recv().await {
            number += 1;
            assert_eq!((kind, event.warning), ("Agent", true));
            assert!(event.message.contains("unknown variant `Boss`"), "{}", event.message);
        }
        assert_eq!(number, BACKLOG);
    }
}
