//! The queue of the writes to one gateway's config and roster: patches, creations and deletions.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::channel::resync;
use super::model::Inventory;

/// The interval of writes on gateways that lose one of two concurrent writes: 2026.3.2 loses none at 1 s
/// (`docs/gateway-facts.md#lost-writes`).
const MIN_WRITE_INTERVAL: Duration = Duration::from_secs(1);

/// The queue of one gateway. All clients of the gateway share the queue; each write goes out over its own connection.
///
/// # Guarantees
/// The writes run one after the other, in the order of their arrival. A write that has begun runs to its end, also when its
/// caller goes away: the gateway executes the request all the same. A write whose caller goes away before is not begun. Before
/// the first write of a client after a write of another client, roster and config are read.
///
/// # Assumptions
/// Each caller waits for its write, so that the number of callers bounds the queue.
#[derive(Clone, Debug)]
pub struct RosterQueue(mpsc::UnboundedSender<RosterWrite>);

/// A queue that the clients of the gateway keep alive.
#[derive(Clone, Debug)]
pub struct WeakRosterQueue(mpsc::WeakUnboundedSender<RosterWrite>);

/// What a client knows of the roster.
#[derive(Clone, Debug)]
pub(crate) struct RosterView {
    pub(crate) inventory: watch::Receiver<Option<Arc<Inventory>>>,
    pub(crate) resync_requests: mpsc::UnboundedSender<oneshot::Sender<bool>>,
}

impl RosterView {
    fn loses_writes(&self) -> bool {
        self.inventory.borrow().as_ref().is_some_and(|inventory| inventory.loses_writes())
    }
}

/// A write in the queue.
struct RosterWrite {
    view: RosterView,
    run: BoxFuture<'static, ()>,
}

/// The last write of a queue.
struct LastWrite {
    ended: Instant,
    view: RosterView,
}

impl RosterQueue {
    /// Starts the task of a queue. The task ends after the last write, when the last clone of the queue is dropped.
    ///
    /// # Panics
    /// The caller is not within a tokio runtime.
    #[must_use]
    pub fn start() -> Self {
        let (writes, queue) = mpsc::unbounded_channel();
        tokio::spawn(run_all(queue));
        Self(writes)
    }

    /// The queue, while there is another owner.
    #[must_use]
    pub fn downgrade(&self) -> WeakRosterQueue {
        WeakRosterQueue(self.0.downgrade())
    }

    /// Runs a write of the client with this view in its turn, and returns its result; `None` after a panic of the write.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        view: RosterView,
        write: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (reply, result) = oneshot::channel();
        let run = async move {
            if !reply.is_closed() {
                // The send fails when the caller has dropped its future.
                let _ = reply.send(write.await);
            }
        };
        self.0.send(RosterWrite { view, run: Box::pin(run) }).ok()?;
        result.await.ok()
    }
}

impl WeakRosterQueue {
    /// The queue; `None` when no client has it any more.
    #[must_use]
    pub fn upgrade(&self) -> Option<RosterQueue> {
        self.0.upgrade().map(RosterQueue)
    }
}

async fn run_all(mut queue: mpsc::UnboundedReceiver<RosterWrite>) {
    let mut last: Option<LastWrite> = None;
    while let Some(RosterWrite { view, run }) = queue.recv().await {
        if let Some(last) = &last {
            if view.loses_writes() {
                tokio::time::sleep_until(last.ended + MIN_WRITE_INTERVAL).await;
            }
            if !last.view.inventory.same_channel(&view.inventory) {
                resync(&view.resync_requests).await;
            }
        }
        // Each write is a task of its own, so that a panic ends no other write.
        let _ = tokio::spawn(run).await;
        last = Some(LastWrite { ended: Instant::now(), view });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Mutex;

    use super::*;
    use crate::openclaw::model::{Capabilities, HeartbeatRule, PromptLimits, RosterShape};

    fn view(roster: RosterShape) -> RosterView {
        let capabilities =
            Capabilities { roster, accepted_files: BTreeSet::new(), file_hashes: false, main_session_delete: false };
        let inventory = Inventory {
            capabilities,
            agents: BTreeMap::new(),
            config_hash: String::new(),
            explicit_ownership: true,
            default_fallbacks: Vec::new(),
            prompt_limits: PromptLimits::default(),
            heartbeats: HeartbeatRule::default(),
            heartbeat_defaults: crate::openclaw::model::HeartbeatDefaults::default(),
            settled: true,
            obstacle: None,
            reload_is_off: false,
        };
        RosterView {
            inventory: watch::channel(Some(Arc::new(inventory))).1,
            resync_requests: mpsc::unbounded_channel().0,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn writes_are_a_second_apart_where_one_of_two_would_be_lost() {
        let (queue, began) = (RosterQueue::start(), Instant::now());
        for roster in [RosterShape::List, RosterShape::Entries, RosterShape::List] {
            queue.run(view(roster), async {}).await.unwrap();
        }
        assert_eq!(began.elapsed(), MIN_WRITE_INTERVAL);
    }

    #[tokio::test(start_paused = true)]
    async fn writes_run_one_after_the_other_in_the_order_of_their_arrival() {
        let (queue, seen) = (RosterQueue::start(), Arc::<Mutex<Vec<u32>>>::default());
        let write = |number: u32| {
            let seen = Arc::clone(&seen);
            let write = async move {
                seen.lock().unwrap().push(number);
                tokio::time::sleep(Duration::from_secs(u64::from(10 - number))).await;
                seen.lock().unwrap().push(number);
            };
            queue.run(view(RosterShape::Entries), write)
        };
        futures::future::join_all((0..4).map(write)).await;
        assert_eq!(*seen.lock().unwrap(), [0, 0, 1, 1, 2, 2, 3, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_ends_one_write_and_not_the_queue() {
        let queue = RosterQueue::start();
        let view = view(RosterShape::Entries);
        let broken = queue.run(view.clone(), async { assert!(false_at_run_time(), "on purpose") });
        assert_eq!(broken.await, None);
        assert_eq!(queue.run(view, async { 1 }).await, Some(1));
    }

    /// The compiler does not know the value.
    fn false_at_run_time() -> bool {
        std::hint::black_box(false)
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_is_gone_with_its_last_owner() {
        let queue = RosterQueue::start();
        let weak = queue.downgrade();
        let other = weak.upgrade();
        drop(queue);
        assert!(weak.upgrade().is_some());
        drop(other);
        assert!(weak.upgrade().is_none());
    }
}
