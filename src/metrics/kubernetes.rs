//! The metrics of the requests to the API server and of the leader, under the names of client-go, and of the watches.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// The labels of a request to the API server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabel {
    code: String,
    method: String,
    host: String,
}

/// The labels of the time of a request to the API server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LatencyLabel {
    verb: String,
    host: String,
}

/// The label of a lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LeaseLabel {
    name: &'static str,
}

/// The label of a kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: String,
}

/// The code of a request without an answer, as client-go has it.
const NO_ANSWER: &str = "<error>";
/// The buckets of Kubernetes for the time of a request, in seconds.
const LATENCY_BUCKETS: [f64; 12] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];
/// The name of the operator's lease.
const LEASE: LeaseLabel = LeaseLabel { name: "muster" };

/// The metrics of the operator as a client of the API server.
#[derive(Debug)]
pub(super) struct KubernetesMetrics {
    requests: Family<RequestLabel, Counter>,
    latency: Family<LatencyLabel, Histogram, fn() -> Histogram>,
    leads: Family<LeaseLabel, Gauge>,
    watch_lost: Family<KindLabel, Gauge<f64, AtomicU64>>,
}

impl KubernetesMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            latency: Family::new_with_constructor(|| Histogram::new(LATENCY_BUCKETS)),
            leads: Family::default(),
            watch_lost: Family::default(),
        };
        let requests = "Requests to the API server by status code, method and host";
        registry.register("rest_client_requests", requests, metrics.requests.clone());
        let latency = "How long the API server took to answer, watches excluded, in seconds";
        registry.register("rest_client_request_duration_seconds", latency, metrics.latency.clone());
        let leads = "Whether this operator is the leader: 1, or 0";
        registry.register("leader_election_master_status", leads, metrics.leads.clone());
        let lost = "For how long the watch of a kind has been lost, in seconds; 0 while it works";
        registry.register("muster_watch_lost_seconds", lost, metrics.watch_lost.clone());
        metrics.set_leading(false);
        metrics
    }

    pub(super) fn requested(&self, host: &str, method: &str, code: Option<u16>) {
        let code = code.map_or_else(|| NO_ANSWER.to_owned(), |code| code.to_string());
        self.requests.get_or_create(&RequestLabel { code, method: method.to_owned(), host: host.to_owned() }).inc();
    }

    pub(super) fn answered(&self, host: &str, verb: &str, duration: Duration) {
        let label = LatencyLabel { verb: verb.to_owned(), host: host.to_owned() };
        self.latency.get_or_create(&label).observe(duration.as_secs_f64());
    }

    pub(super) fn set_leading(&self, leads: bool) {
        self.leads.get_or_create(&LEASE).set(i64::from(leads));
    }

    pub(super) fn set_watch_lost(&self, kind: &str, lost: Duration) {
        self.watch_lost.get_or_create(&KindLabel { kind: kind.to_owned() }).set(lost.as_secs_f64());
    }
}
