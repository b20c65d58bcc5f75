//! The metrics of the controllers and of their queues, under the names of controller-runtime and client-go.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::buckets::DURATION_BUCKETS;

/// The label of a controller.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ControllerLabel {
    controller: &'static str,
}

/// The labels of a controller and of the result of its reconcile.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    controller: &'static str,
    result: &'static str,
}

/// The labels of a queue. Both are the name of its controller, as in controller-runtime.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabel {
    name: &'static str,
    controller: &'static str,
}

/// The labels of the keys of one priority in a queue.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PriorityLabel {
    name: &'static str,
    controller: &'static str,
    priority: &'static str,
}

/// The result of a reconcile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReconcileResult {
    /// The reconcile succeeded. The object is reconciled again after a change.
    Success,
    /// The object is reconciled again after a time.
    RequeueAfter,
    /// The reconcile failed and is retried.
    Error,
    /// The reconcile panicked.
    Panic,
    /// The reconcile exceeded its deadline.
    Deadline,
}

/// The priorities of controller-runtime: the default, and the low one of objects that nobody waits for.
const URGENT: &str = "0";
const ROUTINE: &str = "-100";

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// The metrics of the controllers.
#[derive(Debug)]
pub(super) struct ControllerMetrics {
    reconciles: Family<ResultLabel, Counter>,
    errors: Family<ControllerLabel, Counter>,
    panics: Family<ControllerLabel, Counter>,
    max_concurrent: Family<ControllerLabel, Gauge>,
    active: Family<ControllerLabel, Gauge>,
    time: Histograms<ControllerLabel>,
    depth: Family<PriorityLabel, Gauge>,
    adds: Family<QueueLabel, Counter>,
    retries: Family<QueueLabel, Counter>,
    waits: Histograms<QueueLabel>,
    work: Histograms<QueueLabel>,
    running: RunningWork,
}

/// The buckets of client-go for the times of its queue, from 10 ns to 1,000 s.
fn queue_histogram() -> Histogram {
    Histogram::new(exponential_buckets(1e-8, 10.0, 12))
}

impl ControllerMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            reconciles: Family::default(),
            errors: Family::default(),
            panics: Family::default(),
            max_concurrent: Family::default(),
            active: Family::default(),
            time: Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS)),
            depth: Family::default(),
            adds: Family::default(),
            retries: Family::default(),
            waits: Family::new_with_constructor(queue_histogram),
            work: Family::new_with_constructor(queue_histogram),
            running: RunningWork::default(),
        };
        let runtime = |name: &str| format!("controller_runtime_{name}");
        registry.register(runtime("reconcile"), "Reconciles by controller and result", metrics.reconciles.clone());
        registry.register(runtime("reconcile_errors"), "Reconciles that ended in an error", metrics.errors.clone());
        registry.register(runtime("reconcile_panics"), "Reconciles that panicked", metrics.panics.clone());
        let most = "The largest number of reconciles at one time";
        registry.register(runtime("max_concurrent_reconciles"), most, metrics.max_concurrent.clone());
        registry.register(runtime("active_workers"), "Reconciles in progress", metrics.active.clone());
        let time = "Duration of reconciles in seconds";
        registry.register(runtime("reconcile_time_seconds"), time, metrics.time.clone());
        registry.register("workqueue_depth", "Keys that wait, by queue and priority", metrics.depth.clone());
        registry.register("workqueue_adds", "Keys that were added to the queue", metrics.adds.clone());
        let retries = "Keys that were added again after their reconcile, with a delay";
        registry.register("workqueue_retries", retries, metrics.retries.clone());
        let waits = "How long a key waited in the queue, in seconds";
        registry.register("workqueue_queue_duration_seconds", waits, metrics.waits.clone());
        let work = "How long a key was worked on, in seconds";
        registry.register("workqueue_work_duration_seconds", work, metrics.work.clone());
        registry.register_collector(Box::new(metrics.running.clone()));
        metrics
    }

    pub(super) fn set_max_concurrent(&self, controller: &'static str, number: usize) {
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        self.max_concurrent.get_or_create(&ControllerLabel { controller }).set(number);
    }

    pub(super) fn started(&self, controller: &'static str) -> Reconciling<'_> {
        self.active.get_or_create(&ControllerLabel { controller }).inc();
        let started = Instant::now();
        Reconciling { metrics: self, controller, started, number: self.running.begin(controller, started) }
    }

    fn finished(&self, controller: &'static str, ended: ReconcileResult, duration: Duration) {
        let label = ControllerLabel { controller };
        self.time.get_or_create(&label).observe(duration.as_secs_f64());
        let result = match ended {
            ReconcileResult::Success => "success",
            ReconcileResult::RequeueAfter => "requeue_after",
            ReconcileResult::Error | ReconcileResult::Panic | ReconcileResult::Deadline => "error",
        };
        self.reconciles.get_or_create(&ResultLabel { controller, result }).inc();
        if result == "error" {
            self.errors.get_or_create(&label).inc();
        }
        if ended == ReconcileResult::Panic {
            self.panics.get_or_create(&label).inc();
        }
    }

    /// The metrics of a queue, and the first values of its controller: a counter that is missing until its first error cannot increase.
    pub(super) fn queue(&self, controller: &'static str) -> QueueMeter {
        let label = ControllerLabel { controller };
        drop((self.errors.get_or_create_owned(&label), self.panics.get_or_create_owned(&label)));
        drop(self.active.get_or_create_owned(&label));
        self.running.lock().entry(controller).or_default();
        let (label, name) = (QueueLabel { name: controller, controller }, controller);
        let depth = |priority| self.depth.get_or_create_owned(&PriorityLabel { name, controller, priority });
        QueueMeter {
            urgent: depth(URGENT),
            routine: depth(ROUTINE),
            adds: self.adds.get_or_create_owned(&label),
            retries: self.retries.get_or_create_owned(&label),
            waits: self.waits.get_or_create_owned(&label),
        }
    }
}

/// A running reconcile. It counts as running until it is dropped.
#[derive(Debug)]
pub struct Reconciling<'a> {
    metrics: &'a ControllerMetrics,
    controller: &'static str,
    started: Instant,
    number: u64,
}

impl Reconciling<'_> {
    /// Counts the end of the reconcile.
    pub fn finish(self, ended: ReconcileResult) {
        self.metrics.finished(self.controller, ended, self.started.elapsed());
    }
}

impl Drop for Reconciling<'_> {
    fn drop(&mut self) {
        let Self { metrics, controller, .. } = *self;
        metrics.active.get_or_create(&ControllerLabel { controller }).dec();
        let label = QueueLabel { name: controller, controller };
        metrics.work.get_or_create(&label).observe(self.started.elapsed().as_secs_f64());
        metrics.running.end(controller, self.number);
    }
}

/// The metrics of one queue.
#[derive(Clone, Debug)]
pub struct QueueMeter {
    urgent: Gauge,
    routine: Gauge,
    adds: Counter,
    retries: Counter,
    waits: Histogram,
}

impl QueueMeter {
    /// Counts a key that waits from now on.
    pub fn added(&self, is_urgent: bool) {
        self.adds.inc();
        self.depth(is_urgent).inc();
    }

    /// Counts a waiting key that became urgent.
    pub fn became_urgent(&self) {
        self.routine.dec();
        self.urgent.inc();
    }

    /// Counts a key that is taken after this time.
    pub fn taken(&self, is_urgent: bool, waited: Duration) {
        self.depth(is_urgent).dec();
        self.waits.observe(waited.as_secs_f64());
    }

    /// Counts a key that is reconciled again after a delay.
    pub fn retried(&self) {
        self.retries.inc();
    }

    fn depth(&self, is_urgent: bool) -> &Gauge {
        if is_urgent { &self.urgent } else { &self.routine }
    }
}

/// The starts of the running reconciles, by controller and number. Their number is bounded by the concurrency of the controllers.
#[derive(Clone, Debug, Default)]
struct RunningWork {
    starts: Arc<Mutex<HashMap<&'static str, HashMap<u64, Instant>>>>,
    next: Arc<AtomicU64>,
}

impl RunningWork {
    fn lock(&self) -> MutexGuard<'_, HashMap<&'static str, HashMap<u64, Instant>>> {
        self.starts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, controller: &'static str, at: Instant) -> u64 {
        let number = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.lock().entry(controller).or_default().insert(number, at);
        number
    }

    fn end(&self, controller: &'static str, number: u64) {
        if let Some(starts) = self.lock().get_mut(controller) {
            starts.remove(&number);
        }
    }
}

impl Collector for RunningWork {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let now = Instant::now();
        let mut times: Vec<_> = self
            .lock()
            .iter()
            .map(|(controller, starts)| {
                let seconds = || starts.values().map(|start| now.saturating_duration_since(*start).as_secs_f64());
                (*controller, seconds().sum::<f64>() + 0.0, seconds().fold(0.0, f64::max))
            })
            .collect();
        times.sort_by_key(|(controller, ..)| *controller);
        let unfinished = "Seconds of work in progress, the sum of the running reconciles";
        let mut family =
            encoder.encode_descriptor("workqueue_unfinished_work_seconds", unfinished, None, MetricType::Gauge)?;
        for (controller, sum, _) in &times {
            let label = QueueLabel { name: controller, controller };
            ConstGauge::new(*sum).encode(family.encode_family(&label)?)?;
        }
        let longest = "How long the longest running reconcile has been running, in seconds";
        let name = "workqueue_longest_running_processor_seconds";
        let mut family = encoder.encode_descriptor(name, longest, None, MetricType::Gauge)?;
        for (controller, _, longest) in &times {
            let label = QueueLabel { name: controller, controller };
            ConstGauge::new(*longest).encode(family.encode_family(&label)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Metrics, TextFormat};

    #[track_caller]
    fn assert_has(metrics: &Metrics, lines: &[&str]) {
        let text = metrics.text(TextFormat::OpenMetrics).unwrap();
        for line in lines {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn reconciles_are_counted_under_the_names_of_controller_runtime() {
        let metrics = Metrics::default();
        metrics.set_max_concurrent_reconciles("agent", 7);
        for ended in [ReconcileResult::Success, ReconcileResult::Panic] {
            metrics.reconcile_started("agent").finish(ended);
        }
        assert_has(
            &metrics,
            &[
                "controller_runtime_reconcile_total{controller=\"agent\",result=\"success\"} 1",
                "controller_runtime_reconcile_total{controller=\"agent\",result=\"error\"} 1",
                "controller_runtime_reconcile_panics_total{controller=\"agent\"} 1",
                "controller_runtime_max_concurrent_reconciles{controller=\"agent\"} 7",
                "controller_runtime_active_workers{controller=\"agent\"} 0",
                "controller_runtime_reconcile_time_seconds_count{controller=\"agent\"} 2",
                "workqueue_work_duration_seconds_count{name=\"agent\",controller=\"agent\"} 2",
            ],
        );
        let text = metrics.text(TextFormat::OpenMetrics).unwrap();
        let buckets = text.lines().filter(|l| l.starts_with("controller_runtime_reconcile_time_seconds_bucket"));
        assert_eq!(buckets.count(), 41, "controller-runtime's 40, and the one without a bound");
    }

    #[test]
    fn a_key_is_counted_from_its_arrival_until_it_is_taken() {
        let metrics = Metrics::default();
        let queue = metrics.queue("agent");
        queue.added(false);
        queue.added(false);
        queue.became_urgent();
        let labels = "name=\"agent\",controller=\"agent\"";
        let depth = |urgent, routine| {
            [(URGENT, urgent), (ROUTINE, routine)]
                .map(|(priority, keys)| format!("workqueue_depth{{{labels},priority=\"{priority}\"}} {keys}"))
        };
        assert_has(&metrics, &depth(1, 1).each_ref().map(String::as_str));
        queue.taken(true, Duration::from_secs(2));
        queue.retried();
        assert_has(&metrics, &depth(0, 1).each_ref().map(String::as_str));
        for line in ["adds_total{L} 2", "retries_total{L} 1", "queue_duration_seconds_sum{L} 2.0"] {
            assert_has(&metrics, &[&format!("workqueue_{}", line.replace('L', labels))]);
        }
    }

    #[test]
    fn a_reconcile_counts_as_running_until_it_ends_or_is_dropped() {
        let metrics = Metrics::default();
        drop(metrics.queue("agent"));
        // Both are of one scrape.
        let values = || {
            let text = metrics.text(TextFormat::OpenMetrics).unwrap();
            ["workqueue_unfinished_work_seconds", "workqueue_longest_running_processor_seconds"].map(|name| -> f64 {
                let line = text.lines().find(|line| line.starts_with(&format!("{name}{{"))).unwrap();
                line.rsplit(' ').next().unwrap().parse().unwrap()
            })
        };
        assert!(values().iter().all(|seconds| *seconds <= 0.0));
        let (one, other) = (metrics.reconcile_started("agent"), metrics.reconcile_started("agent"));
        let [sum, longest] = values();
        assert!(longest > 0.0 && sum > longest, "{sum} {longest}");
        one.finish(ReconcileResult::Success);
        drop(other);
        assert!(values().iter().all(|seconds| *seconds <= 0.0));
    }
}
