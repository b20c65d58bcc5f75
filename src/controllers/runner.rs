//! The controllers: queues, panics, deadlines, backoff.

use std::any::Any;
use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::{FutureExt, Stream, StreamExt, pin_mut};
use kube::Resource;
use kube::core::DeserializeGuard;
use kube::runtime::applier;
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::ObjectRef;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, error, warn};

use crate::api::object_key::ObjectKey;
use crate::backoff;
use crate::core::requeue::Requeue;
use crate::metrics::{Metrics, ReconcileResult};
use crate::state::Cache;

/// The longest duration of a reconcile. The slowest request to a gateway, a deletion, has a timeout of 90 s.
const DEADLINE: Duration = Duration::from_mins(3);

/// The parts of a controller.
pub struct Controller<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    /// Its name, for logs and metrics.
    pub name: &'static str,
    /// The cache of its kind.
    pub cache: Cache<K>,
    /// The keys of the objects to reconcile.
    pub queue: UnboundedReceiver<ObjectKey>,
    /// How long keys are collected after the first one, so that several triggers of an object lead to one reconcile.
    pub window: Duration,
    /// The metrics.
    pub metrics: Arc<Metrics>,
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> std::fmt::Debug for Controller<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controller").field("name", &self.name).finish_non_exhaustive()
    }
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
/// - At most one reconcile of an object runs at a time.
/// - A panic, an error or a deadline ends only its own reconcile. The object is retried with backoff.
/// - Each reconcile is a task, so that a long computation delays no other reconcile.
/// - The number of concurrent reconciles is limited by the requests to the API server and by each gateway's `maxInFlight`, so that the
///   agents of a slow gateway delay no agent of another gateway.
pub async fn run<K, F, Fut>(controller: Controller<K>, shutdown: CancellationToken, reconcile: F)
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + Sync + 'static,
    F: Fn(Arc<K>) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = Requeue> + Send + 'static,
{
    let Controller { name, cache, queue, window, metrics } = controller;
    let guard = Arc::new(Guard { name, metrics, failures: Mutex::default() });
    let keys = keys::<K>(queue, window).take_until(shutdown.cancelled_owned());
    let ends = applier(
        move |object: Arc<DeserializeGuard<K>>, guard: Arc<Guard>| {
            let reconcile = reconcile.clone();
            async move { Ok::<_, Infallible>(guarded(&guard, &object, reconcile).await) }.boxed()
        },
        |_, error: &Infallible, _| match *error {},
        guard,
        cache,
        keys,
        Config::default(),
    );
    pin_mut!(ends);
    while let Some(end) = ends.next().await {
        if let Err(kube::runtime::controller::Error::ReconcilerFailed(error, _)) = end {
            match error {}
        }
    }
}

/// The keys of the queue, each once per window. The window begins with a key and is not extended, so that frequent keys delay
/// nothing.
fn keys<K: Resource<DynamicType = ()> + Clone + 'static>(
    queue: UnboundedReceiver<ObjectKey>,
    window: Duration,
) -> impl Stream<Item = Result<ObjectRef<DeserializeGuard<K>>, Infallible>> {
    let windows = futures::stream::unfold(queue, move |mut queue| async move {
        let mut keys = BTreeSet::from([queue.recv().await?]);
        if !window.is_zero() {
            tokio::time::sleep(window).await;
        }
        while let Ok(key) = queue.try_recv() {
            keys.insert(key);
        }
        Some((futures::stream::iter(keys), queue))
    });
    windows.flatten().map(|key| Ok(ObjectRef::new(&key.name).within(&key.namespace)))
}

async fn guarded<K, F, Fut>(guard: &Guard, object: &DeserializeGuard<K>, reconcile: F) -> Action
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
    F: Fn(Arc<K>) -> Fut,
    Fut: Future<Output = Requeue> + Send + 'static,
{
    let Ok(readable) = &object.0 else { return Action::await_change() };
    let key = ObjectKey::of(readable.meta());
    guard.metrics.reconcile_started(guard.name);
    let started = Instant::now();
    // The task ends when this future is dropped.
    let task = AbortOnDropHandle::new(tokio::spawn(reconcile(Arc::new(readable.clone())).in_current_span()));
    let (next, ended) = match tokio::time::timeout(DEADLINE, task).await {
        Ok(Ok(next)) => (next, result_of(next)),
        Ok(Err(failed)) => {
            let panic = failed.try_into_panic().map(panic_message).unwrap_or_default();
            error!(controller = guard.name, object = %key, panic, "reconcile panicked");
            (Requeue::retry(), ReconcileResult::Panic)
        }
        Err(_) => {
            warn!(controller = guard.name, object = %key, seconds = DEADLINE.as_secs(), "reconcile took too long");
            (Requeue::retry(), ReconcileResult::Deadline)
        }
    };
    guard.metrics.reconcile_finished(guard.name, ended, started.elapsed());
    guard.action(&key, next)
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
    fn action(&self, key: &ObjectKey, next: Requeue) -> Action {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if next.failed {
            let count = failures.entry(key.clone()).or_default();
            *count = count.saturating_add(1);
            let wait = backoff::wait(*count, jitter());
            return Action::requeue(next.after.map_or(wait, |most| most.min(wait)));
        }
        failures.remove(key);
        // 10 % of jitter, so that objects that were created together are not reconciled together for ever.
        next.after.map_or_else(Action::await_change, |time| Action::requeue(time.mul_f64(1.0 + 0.1 * jitter())))
    }
}

/// A random number from 0 to 1; 0 without a source of randomness.
fn jitter() -> f64 {
    let mut byte = [0_u8];
    getrandom::fill(&mut byte).map_or(0.0, |()| f64::from(byte[0]) / 255.0)
}

#[cfg(test)]
mod tests {
    use kube::runtime::{reflector, watcher};
    use serde_json::json;
    use tokio::sync::mpsc;

    use super::*;
    use crate::api::Board;

    #[test]
    fn a_failing_object_is_retried_with_backoff_and_within_the_wait_it_asks_for() {
        let guard = Guard { name: "agent", metrics: Arc::default(), failures: Mutex::default() };
        let (key, soon) = (ObjectKey::new("fleet", "one"), Duration::from_secs(3));
        for _ in 0..10 {
            guard.action(&key, Requeue::retry());
        }
        assert_ne!(guard.action(&key, Requeue::retry()), Action::requeue(soon), "the wait has grown");
        assert_eq!(guard.action(&key, Requeue::retry().within(Some(soon))), Action::requeue(soon));
        assert_ne!(guard.action(&key, Requeue::retry().within(None)), Action::requeue(soon));
    }

    /// A controller of these Boards, and the sender of its queue.
    fn controller(names: &[&str]) -> (Controller<Board>, mpsc::UnboundedSender<ObjectKey>) {
        let (cache, mut writer) = reflector::store();
        writer.apply_watcher_event(&watcher::Event::Init);
        for name in names {
            let mut board =
                Board::new(name, serde_json::from_value(json!({ "gatewayRef": { "name": "gw" } })).unwrap());
            board.metadata.namespace = Some("fleet".into());
            writer.apply_watcher_event(&watcher::Event::InitApply(DeserializeGuard(Ok(board))));
        }
        writer.apply_watcher_event(&watcher::Event::InitDone);
        let (sender, queue) = mpsc::unbounded_channel();
        (Controller { name: "board", cache, queue, window: Duration::ZERO, metrics: Arc::default() }, sender)
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
        let (sender, queue) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                if sender.send(ObjectKey::new("fleet", "gw")).is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        let began = tokio::time::Instant::now();
        let seen: Vec<_> = keys::<Board>(queue, Duration::from_millis(500)).take(3).collect().await;
        assert_eq!(seen.len(), 3);
        assert!(began.elapsed() <= Duration::from_millis(1700), "{:?}", began.elapsed());
    }
}
