//! The events on objects wait in queues, and no reconcile waits for them: while thousands of Agents are set up, their events come to the API server
//! after all that makes an Agent Ready. Warnings have a queue of their own, and let no other write pass.

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

/// The largest number of waiting events in each queue. Further ones are dropped, as client-go does: an event is the copy of what a status says.
const BACKLOG: usize = 16_384;
/// How long the events that wait at the end may take.
const MAX_DRAIN: Duration = Duration::from_secs(2);
/// The largest number of events that are written at one time at the end.
const DRAIN_WRITES: usize = 8;

/// An event on an object.
#[derive(Debug)]
pub(super) struct ObjectEvent {
    pub(super) regarding: ObjectReference,
    pub(super) event: Event,
    /// When it happened.
    pub(super) at: Timestamp,
}

/// Writes events now or later. Clones share the queues.
#[derive(Clone)]
pub(super) struct EventWriter {
    recorder: EventRecorder,
    limits: RequestLimits,
    warnings: mpsc::Sender<ObjectEvent>,
    others: mpsc::Sender<ObjectEvent>,
}

/// The waiting events.
pub struct LateEvents {
    warnings: mpsc::Receiver<ObjectEvent>,
    others: mpsc::Receiver<ObjectEvent>,
    writer: EventWriter,
}

impl std::fmt::Debug for LateEvents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LateEvents").finish_non_exhaustive()
    }
}

impl EventWriter {
    /// A writer, and the queues that it fills.
    pub(super) fn new(client: Client, limits: RequestLimits) -> (Self, LateEvents) {
        let (warnings, waiting_warnings) = mpsc::channel(BACKLOG);
        let (others, waiting_others) = mpsc::channel(BACKLOG);
        let writer = Self { recorder: EventRecorder::new(client), limits, warnings, others };
        (writer.clone(), LateEvents { warnings: waiting_warnings, others: waiting_others, writer })
    }

    /// Adds an event to its queue.
    pub(super) fn later(&self, event: ObjectEvent) {
        let queue = if event.event.warning { &self.warnings } else { &self.others };
        if let Err(dropped) = queue.try_send(event) {
            debug!(reason = dropped.into_inner().event.reason, "event dropped: too many wait");
        }
    }

    /// Writes an event before all that wait. A refused event is no error.
    pub(super) async fn now(&self, event: ObjectEvent) {
        self.write(event, Urgency::Awaited).await;
    }

    /// Writes the events of a queue until `end`.
    async fn write_all(&self, queue: &mut mpsc::Receiver<ObjectEvent>, urgency: Urgency, end: &CancellationToken) {
        while let Some(Some(event)) = end.run_until_cancelled(queue.recv()).await {
            self.write(event, urgency).await;
        }
    }

    async fn write(&self, ObjectEvent { regarding, event, at }: ObjectEvent, urgency: Urgency) {
        let written = Box::pin(self.recorder.publish(&regarding, &event, at));
        if let Err(error) = self.limits.write(urgency, written).await {
            debug!(%error, reason = event.reason, "event refused");
        }
    }
}

impl LateEvents {
    /// Writes the events of each queue one after the other. Events that are no warnings let all other writes pass. After `end` it writes the events
    /// that still wait, for [`MAX_DRAIN`] at most.
    pub async fn write(self, end: &CancellationToken) {
        let Self { mut warnings, mut others, writer } = self;
        futures::join!(
            writer.write_all(&mut warnings, Urgency::Awaited, end),
            writer.write_all(&mut others, Urgency::Late, end),
        );
        let rest = stream::iter(std::iter::from_fn(|| warnings.try_recv().or_else(|_| others.try_recv()).ok()));
        let written = rest.for_each_concurrent(DRAIN_WRITES, |event| writer.now(event));
        if tokio::time::timeout(MAX_DRAIN, written).await.is_err() {
            warn!(events = warnings.len() + others.len(), "not written: the operator stops");
        }
    }
}
