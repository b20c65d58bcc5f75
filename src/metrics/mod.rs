//! The operator's metrics. A metric that controller-runtime, client-go or the clients of Prometheus also have uses their name.
//!
//! Labels are bounded: a controller, a result, a method, a reason. No label is an id, a message or the name of an object, but for the names of
//! AgentGateways. `docs/metrics.md` has a row for each metric.

mod buckets;
mod controllers;
mod exposition;
mod gateways;
mod kubernetes;
mod objects;
mod process;

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use self::controllers::ControllerMetrics;
pub use self::controllers::{QueueMeter, ReconcileResult, Reconciling};
pub use self::exposition::TextFormat;
use self::gateways::GatewayMetrics;
pub use self::gateways::GatewayState;
use self::kubernetes::KubernetesMetrics;
use self::objects::ObjectMetrics;
pub use self::objects::ObjectState;
use self::process::ProcessMetrics;
use crate::openclaw::Meter;

/// The operator's metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    controllers: ControllerMetrics,
    kubernetes: KubernetesMetrics,
    objects: ObjectMetrics,
    gateways: GatewayMetrics,
    heartbeats: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let heartbeats = Counter::default();
        registry.register("muster_heartbeats", "Check-ins of agents", heartbeats.clone());
        registry.register_collector(Box::new(ProcessMetrics::default()));
        Self {
            controllers: ControllerMetrics::register(&mut registry),
            kubernetes: KubernetesMetrics::register(&mut registry),
            objects: ObjectMetrics::register(&mut registry),
            gateways: GatewayMetrics::register(&mut registry),
            heartbeats,
            registry,
        }
    }
}

impl Metrics {
    /// Sets how many reconciles of a controller may run at one time.
    pub fn set_max_concurrent_reconciles(&self, controller: &'static str, number: usize) {
        self.controllers.set_max_concurrent(controller, number);
    }

    /// Counts a reconcile that begins. It ends with the returned value.
    pub fn reconcile_started(&self, controller: &'static str) -> Reconciling<'_> {
        self.controllers.started(controller)
    }

    /// The metrics of the queue of a controller.
    pub fn queue(&self, controller: &'static str) -> QueueMeter {
        self.controllers.queue(controller)
    }

    /// Counts a request to the API server. `code` is `None` when no answer came.
    pub fn api_requested(&self, host: &str, method: &str, code: Option<u16>) {
        self.kubernetes.requested(host, method, code);
    }

    /// Records how long the answer to a request to the API server took, up to its headers.
    pub fn api_answered(&self, host: &str, verb: &str, duration: Duration) {
        self.kubernetes.answered(host, verb, duration);
    }

    /// Sets whether this operator is the leader, which reconciles.
    pub fn set_leading(&self, leads: bool) {
        self.kubernetes.set_leading(leads);
    }

    /// Sets for how long the watches of a kind have been lost.
    pub fn set_watch_lost(&self, kind: &str, lost: Duration) {
        self.kubernetes.set_watch_lost(kind, lost);
    }

    /// Counts an object of a kind in its new state, and no longer in its old one. `None` is an object that does not exist.
    pub fn count_object(&self, kind: &'static str, before: Option<ObjectState>, now: Option<ObjectState>) {
        self.objects.count(kind, before, now);
    }

    /// Records how long an Agent took from its creation until it was Ready for the first time.
    pub fn agent_ready_after(&self, duration: Duration) {
        self.objects.ready_after(duration);
    }

    /// Replaces the states of all AgentGateways.
    pub fn set_gateways(&self, gateways: Vec<GatewayState>) {
        self.gateways.set(gateways);
    }

    /// Counts a check-in of an agent.
    pub fn count_heartbeat(&self) {
        self.heartbeats.inc();
    }

    /// All metrics in a text format.
    ///
    /// # Errors
    /// None in practice: a write to a `String` does not fail.
    pub fn text(&self, format: TextFormat) -> std::result::Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(match format {
            TextFormat::OpenMetrics => text,
            TextFormat::Prometheus => exposition::prometheus(&text),
        })
    }
}

impl Meter for Metrics {
    fn requested(&self, method: &'static str, ok: bool, duration: Duration) {
        self.gateways.requested(method, ok, duration);
    }

    fn held_back(&self, method: &'static str) {
        self.gateways.held_back(method);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Metrics with a value for each metric.
    fn filled() -> Metrics {
        let metrics = Metrics::default();
        metrics.set_max_concurrent_reconciles("agent", 1);
        metrics.queue("agent").added(true);
        metrics.queue("agent").retried();
        metrics.reconcile_started("agent").finish(ReconcileResult::Panic);
        metrics.api_requested("api:6443", "GET", Some(200));
        metrics.api_answered("api:6443", "GET", Duration::ZERO);
        metrics.set_watch_lost("Agent", Duration::ZERO);
        metrics.count_object("Agent", None, Some(ObjectState { ready: "True", reason: "Reconciled" }));
        let (namespace, name) = ("fleet".to_owned(), "main".to_owned());
        let (has_client, is_up) = (true, true);
        let gateway = GatewayState { namespace, name, has_client, is_up, writes_waiting: 0, budget_left: Some(30) };
        metrics.set_gateways(vec![gateway]);
        metrics.requested("agents.list", true, Duration::ZERO);
        metrics.held_back("config.patch");
        metrics
    }

    /// The metrics of a text, with their types and their labels.
    fn shown(text: &str) -> BTreeMap<String, (String, Vec<String>)> {
        let mut shown = BTreeMap::new();
        let mut current = String::new();
        for line in text.lines() {
            if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) {
                name.clone_into(&mut current);
                shown.insert(current.clone(), (kind.to_owned(), Vec::new()));
            } else if let Some((_, labels)) = line.split_once('{').filter(|_| !line.starts_with('#')) {
                let names =
                    labels.split('"').step_by(2).filter_map(|part| part.trim_matches([',', '=']).split(',').next());
                let names = names.filter(|name| !name.is_empty() && *name != "le" && !name.contains('}'));
                if let Some((_, known)) = shown.get_mut(&current) {
                    *known = names.map(str::to_owned).collect();
                }
            }
        }
        shown
    }

    /// The rows of the document: name, type and labels.
    fn documented() -> BTreeMap<String, (String, Vec<String>)> {
        let rows = include_str!("../../docs/metrics.md").lines().filter_map(|line| {
            let cells: Vec<_> = line.trim().trim_matches('|').split(" | ").map(str::trim).collect();
            let [name, kind, labels, unit, meaning] = cells.as_slice() else { return None };
            let name = name.strip_prefix('`')?.strip_suffix('`')?;
            assert!(!unit.is_empty() && !meaning.is_empty(), "{name} has no unit or no meaning");
            let labels = labels.split(", ").map(|label| label.trim_matches('`').to_owned());
            Some((name.to_owned(), ((*kind).to_owned(), labels.filter(|label| label != "none").collect())))
        });
        rows.collect()
    }

    #[test]
    fn each_metric_has_a_row_in_the_document_and_each_row_a_metric() {
        let metrics = filled();
        let text = metrics.text(TextFormat::Prometheus).unwrap();
        assert_eq!(documented(), shown(&text));
        // No metric hides because it has no value in this test.
        let registered = format!("{:?}", metrics.registry).matches("Descriptor {").count();
        let collected =
            ["process_", "workqueue_unfinished", "workqueue_longest", "muster_gateway_up", "muster_gateway_config"];
        let is_registered = |name: &&String| !collected.iter().any(|prefix| name.starts_with(prefix));
        assert_eq!(shown(&text).keys().filter(is_registered).count(), registered);
    }
}
