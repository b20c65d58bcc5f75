//! The controllers: queues, panics, deadlines, backoff.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, error, error_span, warn};

use super::fair_lanes::Priority;
use super::work_queue::WorkQueue;
use crate::api::object_key::ObjectKey;
use crate::backoff;
use crate::core::index::Indexed;
use crate::core::kstatus::Settled;
use crate::core::requeue::Requeue;
use crate::metrics::{Metrics, ReconcileResult};
use crate::state::cache::Cache;
use crate::state::triggers::{Cause, Trigger};

/// The longest duration of a reconcile. The slowest request to a gateway, a deletion, has a timeout of 90 s.
const DEADLINE: Duration = Duration::from_mins(3);

/// The parts of a controller.
#[derive(Debug)]
pub struct Controller<K: Indexed> {
    /// Its name, for logs and metrics.
    pub name: &'static str,
    /// The cache of its kind.
    pub cache: Cache<K>,
    /// The objects to reconcile.
    pub queue: UnboundedReceiver<Trigger>,
    /// How long a key waits after it arrives, so that several triggers of an object lead to one reconcile. It waits longer if only
    /// its counts changed, and the counts of many objects do.
    pub window: Duration,
    /// Whether the first key of a settled object since the start passes the window.
    pub first_at_once: bool,
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
/// - Objects that are not settled pass the others, so that a new object does not wait for all others after a restart. Those that are begun pass
///   the new ones, and new ones of one group are taken together.
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
    let Controller { name, cache, queue: mut triggers, window, first_at_once, concurrency, metrics } = controller;
    metrics.set_max_concurrent_reconciles(name, concurrency);
    let mut queue = WorkQueue::new(metrics.queue(name));
    let guard = Arc::new(Guard { name, metrics, failures: Mutex::default() });
    let rank = |key: &ObjectKey| match cache.get(key) {
        Some(object) if object.is_settled() => (Priority::Routine, None),
        Some(object) if object.is_begun() => (Priority::Urgent, None),
        Some(object) => (Priority::New, object.group()),
        None => (Priority::Routine, None),
    };
    // The objects with a key so far. Empty unless their first key passes the window.
    let mut heard = HashSet::new();
    // The tasks end when this future is dropped.
    let mut running = JoinSet::new();
    loop {
        while running.len() < concurrency
            && let Some(key) = queue.take()
        {
            let Some(object) = cache.get(&key) else {
                guard.forget(&key);
                heard.remove(&key);
                queue.done(&key, Priority::Routine, None);
                continue;
            };
            let (guard, reconcile) = (Arc::clone(&guard), reconcile.clone());
            let span = reconcile_span(name, &key);
            let task = async move { (guarded(&guard, reconcile(object)).await, key) };
            running.spawn(task.instrument(span));
        }
        // All branches are cancel-safe: a token, a channel, a set of tasks, and a timer.
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(ended) = running.join_next() => match ended {
                Ok((next, key)) => {
                    let (priority, group) = rank(&key);
                    queue.done(&key, priority, group);
                    if let Some(wait) = guard.wait(&key, next) {
                        queue.retry_after(key, wait);
                    }
                }
                // A panic is caught in the task.
                Err(error) => error!(controller = name, %error, "a reconcile ended without a result"),
            },
            Some(Trigger { key, cause }) = triggers.recv() => {
                let (priority, group) = if cause == Cause::Place { (Priority::Urgent, None) } else { rank(&key) };
                let is_first = first_at_once && heard.insert(key.clone());
                if window.is_zero() || (is_first && priority == Priority::Routine) {
                    queue.add(key, priority, group);
                } else if cause == Cause::Count && priority == Priority::Routine {
                    queue.add_paced(key, window);
                } else {
                    queue.add_after(key, window);
                }
            }
            key = queue.next_due() => {
                let (priority, group) = rank(&key);
                queue.add(key, priority, group);
            }
        }
    }
    while running.join_next().await.is_some() {}
}

/// The span of a reconcile, whose fields are in each log line of the reconcile. It is a span of errors, so that no filter leaves it out.
fn reconcile_span(controller: &'static str, object: &ObjectKey) -> Span {
    // Without a source of randomness, the id is 0.
    let id = getrandom::u64().unwrap_or_default();
    error_span!("reconcile", controller, %object, reconcile_id = format!("{id:016x}"))
}

/// Runs a reconcile within its deadline. A panic is a failure.
async fn guarded(guard: &Guard, reconcile: impl Future<Output = Requeue>) -> Requeue {
    let reconciling = guard.metrics.reconcile_started(guard.name);
    // What a panic may leave half done is dropped with the reconcile.
    let reconcile = AssertUnwindSafe(reconcile).catch_unwind();
    let (next, ended) = match tokio::time::timeout(DEADLINE, reconcile).await {
        Ok(Ok(next)) => (next, result_of(next)),
        Ok(Err(panic)) => {
            error!(panic = panic_message(panic), "reconcile panicked");
            (Requeue::retry(), ReconcileResult::Panic)
        }
        Err(_) => {
            warn!(seconds = DEADLINE.as_secs(), "reconcile took too long");
            (Requeue::retry(), ReconcileResult::Deadline)
        }
    };
    reconciling.finish(ended);
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
#[path = "runner_tests.rs"]
mod tests;
