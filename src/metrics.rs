//! The operator's metrics. A metric that controller-runtime also has uses controller-runtime's name.
//!
//! Labels are bounded: a controller, a result, a method. No label is a name of an object, an id or a message.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::openclaw::Meter;

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

/// The labels of a gateway's method and of the outcome of the request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabel {
    method: &'static str,
    outcome: &'static str,
}

/// The label of a gateway's method.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabel {
    method: &'static str,
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

/// The operator's metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reconciles: Family<ResultLabel, Counter>,
    errors: Family<ControllerLabel, Counter>,
    panics: Family<ControllerLabel, Counter>,
    active: Family<ControllerLabel, Gauge>,
    time: Family<ControllerLabel, Histogram, fn() -> Histogram>,
    gateways: Gauge,
    gateways_up: Gauge,
    requests: Family<RequestLabel, Counter>,
    held_back: Family<MethodLabel, Counter>,
    heartbeats: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            reconciles: Family::default(),
            errors: Family::default(),
            panics: Family::default(),
            active: Family::default(),
            time: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.005, 2.0, 15))),
            gateways: Gauge::default(),
            gateways_up: Gauge::default(),
            requests: Family::default(),
            held_back: Family::default(),
            heartbeats: Counter::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        let runtime = |name: &str| format!("controller_runtime_{name}");
        registry.register(runtime("reconcile"), "Reconciles by controller and result", self.reconciles.clone());
        registry.register(runtime("reconcile_errors"), "Reconciles that ended in an error", self.errors.clone());
        registry.register(runtime("reconcile_panics"), "Reconciles that panicked", self.panics.clone());
        registry.register(runtime("active_workers"), "Reconciles in progress", self.active.clone());
        registry.register(runtime("reconcile_time_seconds"), "Duration of reconciles in seconds", self.time.clone());
        registry.register("muster_gateways", "Open gateway clients", self.gateways.clone());
        registry.register("muster_gateways_connected", "Gateway clients with a connection", self.gateways_up.clone());
        let requests = "Requests to gateways by method and outcome (ok or error)";
        registry.register("muster_gateway_requests", requests, self.requests.clone());
        let held_back = "Repeated writes to gateways that were held back, by method";
        registry.register("muster_gateway_writes_held_back", held_back, self.held_back.clone());
        registry.register("muster_heartbeats", "Check-ins of agents", self.heartbeats.clone());
    }

    /// Counts the start of a reconcile.
    pub fn reconcile_started(&self, controller: &'static str) {
        self.active.get_or_create(&ControllerLabel { controller }).inc();
    }

    /// Counts the end of a reconcile.
    pub fn reconcile_finished(&self, controller: &'static str, ended: ReconcileResult, duration: Duration) {
        let label = ControllerLabel { controller };
        self.active.get_or_create(&label).dec();
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

    /// Sets the number of gateway clients and the number of connected gateway clients.
    pub fn set_gateways(&self, clients: usize, connected: usize) {
        self.gateways.set(i64::try_from(clients).unwrap_or(i64::MAX));
        self.gateways_up.set(i64::try_from(connected).unwrap_or(i64::MAX));
    }

    /// Counts a check-in of an agent.
    pub fn count_heartbeat(&self) {
        self.heartbeats.inc();
    }

    /// All metrics in the `OpenMetrics` text format.
    ///
    /// # Errors
    /// None in practice: a write to a `String` does not fail.
    pub fn text(&self) -> std::result::Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Meter for Metrics {
    fn requested(&self, method: &'static str, ok: bool) {
        let outcome = if ok { "ok" } else { "error" };
        self.requests.get_or_create(&RequestLabel { method, outcome }).inc();
    }

    fn held_back(&self, method: &'static str) {
        self.held_back.get_or_create(&MethodLabel { method }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reconciles_are_counted_under_the_names_of_controller_runtime() {
        let metrics = Metrics::default();
        for ended in [ReconcileResult::Success, ReconcileResult::Panic] {
            metrics.reconcile_started("agent");
            metrics.reconcile_finished("agent", ended, Duration::from_millis(3));
        }
        let text = metrics.text().unwrap();
        for line in [
            "controller_runtime_reconcile_total{controller=\"agent\",result=\"success\"} 1",
            "controller_runtime_reconcile_total{controller=\"agent\",result=\"error\"} 1",
            "controller_runtime_reconcile_panics_total{controller=\"agent\"} 1",
            "controller_runtime_active_workers{controller=\"agent\"} 0",
            "controller_runtime_reconcile_time_seconds_count{controller=\"agent\"} 2",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
