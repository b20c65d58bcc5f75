//! The events on objects wait in a queue, and no reconcile waits for them: while thousands of Agents are set up, their events come to the API server
//! after all that makes an Agent Ready.

use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::event_recorder::EventRecorder;
use super::request_limits::{RequestLimits, Urgency};
use crate::core::event::Event;

/// The largest number of waiting events. Further ones are dropped, as client-go does: an event is the copy of what a status says.
const BACKLOG: usize = 16_384;
/// How long the events that wait at the end may take.
const MAX_DRAIN: Duration = Duration::from_secs(2);

/// An event on an object.
#[derive(Debug)]
pub(super) struct ObjectEvent {
    pub(super) regarding: ObjectReference,
    pub(super) event: Event,
    /// When it happened.
    pub(super) at: Timestamp,
}

/// Writes events now or later. Clones share the queue.
#[derive(Clone)]
pub(super) struct EventWriter {
    recorder: EventRecorder,
    limits: RequestLimits,
    later: mpsc::Sender<ObjectEvent>,
}

/// The waiting events.
pub struct LateEvents {
    waiting: mpsc::Receiver<ObjectEvent>,
    writer: EventWriter,
}

impl std::fmt::Debug for LateEvents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LateEvents").finish_non_exhaustive()
    }
}

impl EventWriter {
    /// A writer, and the queue that it fills.
    pub(super) fn new(client: Client, limits: RequestLimits) -> (Self, LateEvents) {
        let (later, waiting) = mpsc::channel(BACKLOG);
        let writer = Self { recorder: EventRecorder::new(client), limits, later };
        (writer.clone(), LateEvents { waiting, writer })
    }

    /// Adds an event to the queue.
    pub(super) fn later(&self, event: ObjectEvent) {
        if let Err(dropped) = self.later.try_send(event) {
            debug!(reason = dropped.into_inner().event.reason, "event dropped: too many wait");
        }
    }

    /// Writes an event before all that wait. A refused event is no error.
    pub(super) async fn now(&self, event: ObjectEvent) {
        self.write(event, Urgency::Awaited).await;
    }

    async fn write(&self, ObjectEvent { regarding, event, at }: ObjectEvent, urgency: Urgency) {
        let written = Box::pin(self.recorder.publish(&regarding, &event, at));
        if let Err(error) = self.limits.write(urgency, written).await {
            debug!(%error, reason = event.reason, "event refused");
        }
    }
}

impl LateEvents {
    /// Writes the events one after the other, and lets other writes pass. After `end` it writes those that still wait, for [`MAX_DRAIN`] at most.
    pub async fn write(self, end: &CancellationToken) {
        let Self { mut waiting, writer } = self;
        let events = stream::poll_fn(|context| waiting.poll_recv(context));
        events.take_until(end.cancelled()).for_each(|event| writer.write(event, Urgency::Late)).await;
        let rest = async {
            while let Ok(event) = waiting.try_recv() {
                writer.now(event).await;
            }
        };
        if tokio::time::timeout(MAX_DRAIN, rest).await.is_err() {
            warn!(events = waiting.len(), "not written: the operator stops");
        }
    }
}
