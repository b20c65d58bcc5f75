//! The numbers of objects by the state of their condition Ready. They follow each change, so that a scrape counts no objects.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// The state of an object: the status and the reason of its condition Ready. Both are words of a fixed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectState {
    /// `True`, `False` or `Unknown`.
    pub ready: &'static str,
    /// The reason.
    pub reason: &'static str,
}

/// The labels of the objects of a kind in one state.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ObjectLabel {
    kind: &'static str,
    ready: &'static str,
    reason: &'static str,
}

/// The buckets of the time from the creation of an Agent until it is Ready, in seconds.
const READY_BUCKETS: [f64; 12] = [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];

/// The metrics of the objects.
#[derive(Debug)]
pub(super) struct ObjectMetrics {
    objects: Family<ObjectLabel, Gauge>,
    ready_after: Histogram,
}

impl ObjectMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self { objects: Family::default(), ready_after: Histogram::new(READY_BUCKETS) };
        let objects = "Objects by kind, and by status and reason of their condition Ready";
        registry.register("muster_objects", objects, metrics.objects.clone());
        let ready_after = "Time from the creation of an Agent until it is Ready for the first time, in seconds";
        registry.register("muster_agent_ready_duration_seconds", ready_after, metrics.ready_after.clone());
        metrics
    }

    pub(super) fn count(&self, kind: &'static str, before: Option<ObjectState>, now: Option<ObjectState>) {
        if before == now {
            return;
        }
        let gauge =
            |ObjectState { ready, reason }| self.objects.get_or_create_owned(&ObjectLabel { kind, ready, reason });
        if let Some(now) = now {
            gauge(now).inc();
        }
        if let Some(before) = before {
            gauge(before).dec();
        }
    }

    pub(super) fn ready_after(&self, duration: Duration) {
        self.ready_after.observe(duration.as_secs_f64());
    }
}
