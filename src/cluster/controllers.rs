//! The controllers: queues, panics, deadlines, backoff.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
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
use tracing::{error, warn};

use super::Cache;
use crate::metrics::{Ended, Metrics};
use crate::plan::backoff;
use crate::reconcile::{Key, Next};

/// How long a reconcile may take. The slowest request to a gateway, a deletion, has 90 s.
const DEADLINE: Duration = Duration::from_mins(3);

/// What a controller is made of.
pub struct Controller<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    /// Its name, for logs and metrics.
    pub name: &'static str,
    /// The cache of its kind.
    pub cache: Cache<K>,
    /// The keys that it is to look at.
    pub queue: UnboundedReceiver<Key>,
    /// How long keys are gathered before they are looked at, from the first one on.
    pub gather: Duration,
    /// The metrics.
    pub metrics: Arc<Metrics>,
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> std::fmt::Debug for Controller<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controller").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What guards one reconcile.
struct Guard {
    name: &'static str,
    metrics: Arc<Metrics>,
    failures: Mutex<HashMap<Key, u32>>,
}

/// Runs a controller, whose caches are in sync, until `shutdown`, and then until the reconciles under way have ended.
///
/// # Guarantees
/// At most one reconcile of an object is under way. A panic, an error or a deadline ends one reconcile and no other, and
/// its object is tried again after a wait that grows. How many run side by side is bounded where they meet something
/// bounded: by the requests to the API server, and by each gateway's `maxInFlight`; so that the agents of a slow gateway
/// hold no place that another's could use.
pub async fn run<K, F, Fut>(controller: Controller<K>, shutdown: CancellationToken, reconcile: F)
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + Sync + 'static,
    F: Fn(Arc<K>) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = Next> + Send + 'static,
{
    let Controller { name, cache, queue, gather, metrics } = controller;
    let guard = Arc::new(Guard { name, metrics, failures: Mutex::default() });
    let keys = keys::<K>(queue, gather).take_until(shutdown.cancelled_owned());
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

/// The keys of the queue, each once in a window of time. The window begins with a key and does not move, so that keys
/// that keep coming hold nothing up.
fn keys<K: Resource<DynamicType = ()> + Clone + 'static>(
    queue: UnboundedReceiver<Key>,
    gather: Duration,
) -> impl Stream<Item = Result<ObjectRef<DeserializeGuard<K>>, Infallible>> {
    let windows = futures::stream::unfold(queue, move |mut queue| async move {
        let mut keys = BTreeSet::from([queue.recv().await?]);
        if !gather.is_zero() {
            tokio::time::sleep(gather).await;
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
    Fut: Future<Output = Next>,
{
    let Ok(readable) = &object.0 else { return Action::await_change() };
    let key = Key::of(readable.meta());
    guard.metrics.begun(guard.name);
    let started = Instant::now();
    let work = AssertUnwindSafe(reconcile(Arc::new(readable.clone()))).catch_unwind();
    let (next, ended) = match tokio::time::timeout(DEADLINE, work).await {
        Ok(Ok(next)) => (next, ended(next)),
        Ok(Err(panic)) => {
            let what =
                panic.downcast_ref::<&str>().copied().map(str::to_owned).or_else(|| panic.downcast_ref().cloned());
            error!(controller = guard.name, object = %key, panic = what.unwrap_or_default(), "reconcile panicked");
            (Next::retry(), Ended::Panic)
        }
        Err(_) => {
            warn!(controller = guard.name, object = %key, seconds = DEADLINE.as_secs(), "reconcile took too long");
            (Next::retry(), Ended::Deadline)
        }
    };
    guard.metrics.ended(guard.name, ended, started.elapsed());
    guard.action(&key, next)
}

fn ended(next: Next) -> Ended {
    match next {
        Next { failed: true, .. } => Ended::Error,
        Next { after: Some(_), .. } => Ended::RequeueAfter,
        Next { after: None, .. } => Ended::Success,
    }
}

impl Guard {
    fn action(&self, key: &Key, next: Next) -> Action {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if next.failed {
            let count = failures.entry(key.clone()).or_default();
            *count = count.saturating_add(1);
            let wait = backoff::wait(*count, jitter());
            return Action::requeue(next.after.map_or(wait, |most| most.min(wait)));
        }
        failures.remove(key);
        // A tenth of jitter, so that objects made together are not looked at together for ever.
        next.after.map_or_else(Action::await_change, |time| Action::requeue(time.mul_f64(1.0 + 0.1 * jitter())))
    }
}

/// A number between 0 and 1; without randomness, none.
fn jitter() -> f64 {
    let mut byte = [0_u8];
    getrandom::fill(&mut byte).map_or(0.0, |()| f64::from(byte[0]) / 255.0)
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::api::Board;

    #[test]
    fn what_fails_is_looked_at_again_later_each_time_and_never_later_than_it_asks_for() {
        let guard = Guard { name: "agent", metrics: Arc::default(), failures: Mutex::default() };
        let (key, soon) = (Key::new("fleet", "one"), Duration::from_secs(3));
        for _ in 0..10 {
            guard.action(&key, Next::retry());
        }
        assert_ne!(guard.action(&key, Next::retry()), Action::requeue(soon), "the wait has grown");
        assert_eq!(guard.action(&key, Next::retry().within(Some(soon))), Action::requeue(soon));
        assert_ne!(guard.action(&key, Next::retry().within(None)), Action::requeue(soon));
    }

    #[tokio::test(start_paused = true)]
    async fn keys_that_keep_coming_hold_nothing_up() {
        let (sender, queue) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                if sender.send(Key::new("fleet", "gw")).is_err() {
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
