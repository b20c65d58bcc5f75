//! What the operator counts, under controller-runtime's names where there is one.
//!
//! Labels are bounded: a controller, a result, a category. Never a name, an id or a message.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::openclaw::Meter;

/// A controller.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ControllerLabel {
    controller: &'static str,
}

/// A controller and how its reconcile ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    controller: &'static str,
    result: &'static str,
}

/// A method of a gateway and whether it answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabel {
    method: &'static str,
    outcome: &'static str,
}

/// A method of a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabel {
    method: &'static str,
}

/// How a reconcile ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReconcileResult {
    /// Nothing more to do before a change.
    Success,
    /// It is looked at again after a time.
    RequeueAfter,
    /// Something failed and is tried again.
    Error,
    /// It panicked.
    Panic,
    /// It took longer than it may.
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
        registry.register(runtime("active_workers"), "Reconciles under way", self.active.clone());
        registry.register(runtime("reconcile_time_seconds"), "Time of a reconcile", self.time.clone());
        registry.register("muster_gateways", "Open gateway clients", self.gateways.clone());
        registry.register("muster_gateways_connected", "Gateway clients with a connection", self.gateways_up.clone());
        let requests = "Requests to gateways by method and outcome (ok or error)";
        registry.register("muster_gateway_requests", requests, self.requests.clone());
        let held_back = "Writes to gateways that were held back, since the same one was made too often, by method";
        registry.register("muster_gateway_writes_held_back", held_back, self.held_back.clone());
        registry.register("muster_heartbeats", "Check-ins of agents", self.heartbeats.clone());
    }

    /// A reconcile begins.
    pub fn begun(&self, controller: &'static str) {
        self.active.get_or_create(&ControllerLabel { controller }).inc();
    }

    /// A reconcile ended.
    pub fn ended(&self, controller: &'static str, ended: ReconcileResult, took: Duration) {
        let label = ControllerLabel { controller };
        self.active.get_or_create(&label).dec();
        self.time.get_or_create(&label).observe(took.as_secs_f64());
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

    /// How many gateway clients there are and how many of them are connected.
    pub fn gateways(&self, clients: usize, connected: usize) {
        self.gateways.set(i64::try_from(clients).unwrap_or(i64::MAX));
        self.gateways_up.set(i64::try_from(connected).unwrap_or(i64::MAX));
    }

    /// An agent checked in.
    pub fn heartbeat(&self) {
        self.heartbeats.inc();
    }

    /// Everything in the `OpenMetrics` text format.
    ///
    /// # Errors
    /// None in practice: the text goes into a String.
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
            metrics.begun("agent");
            metrics.ended("agent", ended, Duration::from_millis(3));
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
