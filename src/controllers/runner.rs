//! The controllers: queues, panics, deadlines, backoff.

use std::any::Any;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, warn};

use super::fair_lanes::Priority;
use super::work_queue::WorkQueue;
use crate::api::object_key::ObjectKey;
use crate::backoff;
use crate::core::index::Indexed;
use crate::core::kstatus::Settled;
use crate::core::requeue::Requeue;
use crate::metrics::{Metrics, ReconcileResult};
use crate::state::cache::Cache;

/// The longest duration of a reconcile. The slowest request to a gateway, a deletion, has a timeout of 90 s.
const DEADLINE: Duration = Duration::from_mins(3);

/// The parts of a controller.
#[derive(Debug)]
pub struct Controller<K: Indexed> {
    /// Its name, for logs and metrics.
    pub name: &'static str,
    /// The cache of its kind.
    pub cache: Cache<K>,
    /// The keys of the objects to reconcile.
    pub queue: UnboundedReceiver<ObjectKey>,
    /// How long a key waits after it arrives, so that several triggers of an object lead to one reconcile.
    pub window: Duration,
    /// The largest number of reconciles at one time. The other keys wait in the order of their priority and their arrival.
    pub concurrency: usize,
    /// The metrics.
    pub metrics: Arc<Metrics>,
}

/// Isolates reconciles from one another, and counts their failures.
struct Guard {
    name: &'static str,
    metrics: Arc<Metrics>,
    failures: Mutex<HashMap<ObjectKey, u32>>,
}

/// Runs a controller, whose caches are in sync, until `shutdown`, and then until the reconciles under way have ended.
///
/// # Guarantees
/// - At most one reconcile of an object runs at a time, and at most `concurrency` of all objects.
/// - Objects that are not settled pass the others, so that a new object does not wait for all others after a restart.
/// - A panic, an error or a deadline ends only its own reconcile. The object is retried with backoff.
/// - Each reconcile is a task, so that a long computation delays no other reconcile.
/// - The requests of the reconciles are limited by the requests to the API server and by each gateway's `maxConcurrentReconciles`. A reconcile that gets
///   no place at its gateway ends at once, so that the agents of a slow gateway delay no agent of another gateway.
pub async fn run<K, F, Fut>(controller: Controller<K>, shutdown: CancellationToken, reconcile: F)
where
    K: Indexed + Settled,
    F: Fn(Arc<K>) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = Requeue> + Send + 'static,
{
    let Controller { name, cache, queue: mut keys, window, concurrency, metrics } = controller;
    let guard = Arc::new(Guard { name, metrics, failures: Mutex::default() });
    let priority = |key: &ObjectKey| {
        if cache.get(key).is_none_or(|object| object.is_settled()) { Priority::Routine } else { Priority::Urgent }
    };
    let mut queue = WorkQueue::default();
    // The tasks end when this future is dropped.
    let mut running = JoinSet::new();
    loop {
        while running.len() < concurrency
            && let Some(key) = queue.take()
        {
            let Some(object) = cache.get(&key) else {
                guard.forget(&key);
                queue.done(&key);
                continue;
            };
            let (guard, reconcile) = (Arc::clone(&guard), reconcile.clone());
            let task = async move { (guarded(&guard, &key, reconcile(object)).await, key) };
            running.spawn(task.in_current_span());
        }
        // All branches are cancel-safe: a token, a channel, a set of tasks, and a timer.
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(ended) = running.join_next() => end(&mut queue, &guard, ended),
            Some(key) = keys.recv() => {
                if window.is_zero() {
                    let priority = priority(&key);
                    queue.add(key, priority);
                } else {
                    queue.add_after(key, window);
                }
            }
            key = queue.next_due() => {
                let priority = priority(&key);
                queue.add(key, priority);
            }
        }
    }
    while running.join_next().await.is_some() {}
}

/// Handles the end of a reconcile.
fn end(queue: &mut WorkQueue, guard: &Guard, ended: Result<(Requeue, ObjectKey), tokio::task::JoinError>) {
    match ended {
        Ok((next, key)) => {
            queue.done(&key);
            if let Some(wait) = guard.wait(&key, next) {
                queue.add_after(key, wait);
            }
        }
        // A panic is caught in the task.
        Err(error) => error!(controller = guard.name, %error, "a reconcile ended without a result"),
    }
}

/// Runs a reconcile within its deadline. A panic is a failure.
async fn guarded(guard: &Guard, key: &ObjectKey, reconcile: impl Future<Output = Requeue>) -> Requeue {
    guard.metrics.reconcile_started(guard.name);
    let started = Instant::now();
    // What a panic may leave half done is dropped with the reconcile.
    let reconcile = AssertUnwindSafe(reconcile).catch_unwind();
    let (next, ended) = match tokio::time::timeout(DEADLINE, reconcile).await {
        Ok(Ok(next)) => (next, result_of(next)),
        Ok(Err(panic)) => {
            error!(controller = guard.name, object = %key, panic = panic_message(panic), "reconcile panicked");
            (Requeue::retry(), ReconcileResult::Panic)
        }
        Err(_) => {
            warn!(controller = guard.name, object = %key, seconds = DEADLINE.as_secs(), "reconcile took too long");
            (Requeue::retry(), ReconcileResult::Deadline)
        }
    };
    guard.metrics.reconcile_finished(guard.name, ended, started.elapsed());
    next
}

/// The message of a panic.
fn panic_message(panic: Box<dyn Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(other) => other.downcast::<&str>().map(|text| (*text).to_owned()).unwrap_or_default(),
    }
}

fn result_of(next: Requeue) -> ReconcileResult {
    match next {
        Requeue { failed: true, .. } => ReconcileResult::Error,
        Requeue { after: Some(_), .. } => ReconcileResult::RequeueAfter,
        Requeue { after: None, .. } => ReconcileResult::Success,
    }
}

impl Guard {
    /// The time until the next reconcile of an object; `None` waits for a change.
    fn wait(&self, key: &ObjectKey, next: Requeue) -> Option<Duration> {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if next.failed {
            let count = failures.entry(key.clone()).or_default();
            *count = count.saturating_add(1);
            let wait = backoff::wait(*count, jitter());
            return Some(next.after.map_or(wait, |most| most.min(wait)));
        }
        failures.remove(key);
        // 10 % of jitter, so that objects that were created together are not reconciled together for ever.
        next.after.map(|time| time.mul_f64(1.0 + 0.1 * jitter()))
    }

    /// Forgets an object that no longer exists.
    fn forget(&self, key: &ObjectKey) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// A random number from 0 to 1; 0 without a source of randomness.
fn jitter() -> f64 {
    let mut byte = [0_u8];
    getrandom::fill(&mut byte).map_or(0.0, |()| f64::from(byte[0]) / 255.0)
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;
    use serde_json::json;
    use tokio::sync::mpsc;

    use super::*;
    use crate::api::Board;
    use crate::state::cache::cache_of_all;
    use crate::state::guarded::Guarded;

    #[test]
    fn a_failing_object_is_retried_with_backoff_and_within_the_wait_it_asks_for() {
        let guard = Guard { name: "agent", metrics: Arc::default(), failures: Mutex::default() };
        let (key, soon) = (ObjectKey::new("fleet", "one"), Duration::from_secs(3));
        for _ in 0..10 {
            guard.wait(&key, Requeue::retry());
        }
        assert!(guard.wait(&key, Requeue::retry()) > Some(soon), "the wait has grown");
        assert_eq!(guard.wait(&key, Requeue::retry().within(Some(soon))), Some(soon));
        assert!(guard.wait(&key, Requeue::retry().within(None)) > Some(soon));
        guard.forget(&key);
        assert!(guard.wait(&key, Requeue::retry()) < Some(soon), "a new object of this name begins anew");
    }

    /// A controller of these Boards, and the sender of its queue.
    fn controller(names: &[&str]) -> (Controller<Board>, mpsc::UnboundedSender<ObjectKey>) {
        let (cache, mut writer) = cache_of_all();
        for name in names {
            let mut board =
                Board::new(name, serde_json::from_value(json!({ "gatewayRef": { "name": "gw" } })).unwrap());
            board.metadata.namespace = Some("fleet".into());
            writer.apply(Event::Apply(Guarded(Ok(board))));
        }
        let (sender, queue) = mpsc::unbounded_channel();
        let (window, metrics) = (Duration::ZERO, Arc::default());
        (Controller { name: "board", cache, queue, window, concurrency: 2, metrics }, sender)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_long_computation_delays_no_other_reconcile() {
        let (controller, keys) = controller(&["slow", "quick"]);
        let (begun, mut has_begun) = mpsc::unbounded_channel();
        let (done, is_done) = std::sync::mpsc::channel();
        let is_done = Arc::new(Mutex::new(is_done));
        let (results_sender, mut results) = mpsc::unbounded_channel();
        let reconcile = move |board: Arc<Board>| {
            let (begun, done, is_done, results_sender) =
                (begun.clone(), done.clone(), Arc::clone(&is_done), results_sender.clone());
            async move {
                if board.metadata.name.as_deref() == Some("slow") {
                    begun.send(()).unwrap();
                    // It blocks its thread until the other reconcile has ended.
                    let ended = is_done.lock().unwrap().recv_timeout(Duration::from_secs(20)).is_ok();
                    results_sender.send(ended).unwrap();
                } else {
                    done.send(()).unwrap();
                }
                Requeue::on_change()
            }
        };
        let stop = CancellationToken::new();
        let running = tokio::spawn(run(controller, stop.clone(), reconcile));
        keys.send(ObjectKey::new("fleet", "slow")).unwrap();
        has_begun.recv().await.unwrap();
        keys.send(ObjectKey::new("fleet", "quick")).unwrap();
        assert_eq!(results.recv().await, Some(true));
        stop.cancel();
        running.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_reconcile_that_panics_or_hangs_ends_and_its_object_is_retried() {
        struct Dropped(mpsc::UnboundedSender<&'static str>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                let _ = self.0.send("ended");
            }
        }
        let (controller, keys) = controller(&["one"]);
        let metrics = Arc::clone(&controller.metrics);
        let (events, mut received) = mpsc::unbounded_channel();
        let attempts = Arc::new(Mutex::new(0));
        let reconcile = move |_: Arc<Board>| {
            let (events, attempts) = (events.clone(), Arc::clone(&attempts));
            async move {
                let attempt = {
                    let mut attempts = attempts.lock().unwrap();
                    *attempts += 1;
                    *attempts
                };
                let _ended = Dropped(events.clone());
                match attempt {
                    1 => panic!("on purpose"),
                    2 => std::future::pending().await,
                    _ => events.send("done").unwrap(),
                }
                Requeue::on_change()
            }
        };
        let stop = CancellationToken::new();
        let running = tokio::spawn(run(controller, stop.clone(), reconcile));
        keys.send(ObjectKey::new("fleet", "one")).unwrap();
        for expected in ["ended", "ended", "done", "ended"] {
            assert_eq!(received.recv().await, Some(expected));
        }
        stop.cancel();
        running.await.unwrap();
        let text = metrics.text().unwrap();
        assert!(text.contains("controller_runtime_reconcile_panics_total{controller=\"board\"} 1"), "{text}");
        assert!(text.contains("controller_runtime_reconcile_errors_total{controller=\"board\"} 2"), "{text}");
    }

    #[tokio::test]
    async fn a_reconcile_ends_when_its_controller_is_dropped() {
        let (controller, keys) = controller(&["one"]);
        let (begun, mut has_begun) = mpsc::unbounded_channel();
        // The sender is dropped with the reconcile.
        let reconcile = move |_: Arc<Board>| {
            let begun = begun.clone();
            async move {
                begun.send(()).unwrap();
                let _held = begun;
                std::future::pending().await
            }
        };
        let running = tokio::spawn(run(controller, CancellationToken::new(), reconcile));
        keys.send(ObjectKey::new("fleet", "one")).unwrap();
        has_begun.recv().await.unwrap();
        running.abort();
        assert_eq!(has_begun.recv().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn frequent_keys_delay_nothing() {
        let (controller, keys) = controller(&["gw"]);
        let controller = Controller { window: Duration::from_millis(500), ..controller };
        let (seen_sender, mut seen) = mpsc::unbounded_channel();
        let reconcile = move |_: Arc<Board>| {
            seen_sender.send(()).unwrap();
            async { Requeue::on_change() }
        };
        tokio::spawn(run(controller, CancellationToken::new(), reconcile));
        tokio::spawn(async move {
            loop {
                keys.send(ObjectKey::new("fleet", "gw")).unwrap();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        let began = tokio::time::Instant::now();
        for _ in 0..3 {
            seen.recv().await.unwrap();
        }
        assert!(began.elapsed() <= Duration::from_millis(1800), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn at_most_the_allowed_number_of_reconciles_runs_and_the_others_follow_in_order() {
        let names = ["e", "d", "c", "b", "a"];
        let (controller, keys) = controller(&names);
        let (begun, mut has_begun) = mpsc::unbounded_channel();
        let reconcile = move |board: Arc<Board>| {
            let begun = begun.clone();
            async move {
                begun.send(board.metadata.name.clone().unwrap()).unwrap();
                tokio::time::sleep(Duration::from_secs(1)).await;
                Requeue::on_change()
            }
        };
        tokio::spawn(run(controller, CancellationToken::new(), reconcile));
        for name in names {
            keys.send(ObjectKey::new("fleet", name)).unwrap();
        }
        let start = tokio::time::Instant::now();
        let mut order = Vec::new();
        for _ in names {
            order.push((has_begun.recv().await.unwrap(), start.elapsed().as_secs()));
        }
        let expected = [("e", 0), ("d", 0), ("c", 1), ("b", 1), ("a", 2)];
        assert_eq!(order, expected.map(|(name, second)| (name.to_owned(), second)));
    }
}
