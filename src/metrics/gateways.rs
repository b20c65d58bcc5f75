//! The metrics of the gateways. The states of all AgentGateways are replaced together, so that none stays after its AgentGateway.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::buckets::DURATION_BUCKETS;

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

/// The labels of an AgentGateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GatewayLabel {
    namespace: String,
    name: String,
}

/// The state of an AgentGateway that is not suspended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayState {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whether it has a client, which connects. It has none while its spec, its Secret or a right is missing or invalid.
    pub has_client: bool,
    /// Whether it is connected.
    pub is_up: bool,
    /// The number of entries that wait for a config write.
    pub writes_waiting: usize,
    /// The number of config writes that the gateway accepts now; `None` before its config was read.
    pub budget_left: Option<usize>,
}

/// The metrics of the gateways.
#[derive(Debug)]
pub(super) struct GatewayMetrics {
    clients: Gauge,
    connected: Gauge,
    requests: Family<RequestLabel, Counter>,
    time: Family<MethodLabel, Histogram, fn() -> Histogram>,
    held_back: Family<MethodLabel, Counter>,
    states: GatewayStates,
}

impl GatewayMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            clients: Gauge::default(),
            connected: Gauge::default(),
            requests: Family::default(),
            time: Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS)),
            held_back: Family::default(),
            states: GatewayStates::default(),
        };
        registry.register("muster_gateways", "Open gateway clients", metrics.clients.clone());
        registry.register("muster_gateways_connected", "Gateway clients with a connection", metrics.connected.clone());
        let requests = "Requests to gateways by method and outcome (ok or error)";
        registry.register("muster_gateway_requests", requests, metrics.requests.clone());
        let time = "Time from a request to a gateway until its answer or failure, in seconds";
        registry.register("muster_gateway_request_duration_seconds", time, metrics.time.clone());
        let held_back = "Repeated writes to gateways that were held back, by method";
        registry.register("muster_gateway_writes_held_back", held_back, metrics.held_back.clone());
        registry.register_collector(Box::new(metrics.states.clone()));
        metrics
    }

    pub(super) fn set(&self, states: Vec<GatewayState>) {
        let number = |is: fn(&GatewayState) -> bool| {
            i64::try_from(states.iter().filter(|state| is(state)).count()).unwrap_or(i64::MAX)
        };
        self.clients.set(number(|state| state.has_client));
        self.connected.set(number(|state| state.is_up));
        *self.states.0.lock().unwrap_or_else(PoisonError::into_inner) = states;
    }

    pub(super) fn requested(&self, method: &'static str, ok: bool, duration: Duration) {
        let outcome = if ok { "ok" } else { "error" };
        self.requests.get_or_create(&RequestLabel { method, outcome }).inc();
        self.time.get_or_create(&MethodLabel { method }).observe(duration.as_secs_f64());
    }

    pub(super) fn held_back(&self, method: &'static str) {
        self.held_back.get_or_create(&MethodLabel { method }).inc();
    }
}

/// The states of all AgentGateways.
#[derive(Clone, Debug, Default)]
struct GatewayStates(Arc<Mutex<Vec<GatewayState>>>);

/// A metric of each AgentGateway: its name, its help, and its value if there is one.
type StateMetric = (&'static str, &'static str, fn(&GatewayState) -> Option<usize>);

const STATE_METRICS: [StateMetric; 3] = [
    ("muster_gateway_up", "Whether the operator is connected to the gateway of an AgentGateway: 1, or 0", |state| {
        Some(usize::from(state.is_up))
    }),
    (
        "muster_gateway_config_writes_waiting",
        "Entries of agents that wait for a config write of the gateway",
        |state| Some(state.writes_waiting),
    ),
    (
        "muster_gateway_config_write_budget",
        "Config writes that the gateway accepts now, by its limit for 60 seconds and the operator's own writes",
        |state| state.budget_left,
    ),
];

impl Collector for GatewayStates {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let states = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (name, help, value) in STATE_METRICS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for state in &states {
                let label = GatewayLabel { namespace: state.namespace.clone(), name: state.name.clone() };
                if let Some(value) = value(state) {
                    ConstGauge::new(value).encode(family.encode_family(&label)?)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Metrics, TextFormat};

    fn lines(metrics: &Metrics) -> Vec<String> {
        let text = metrics.text(TextFormat::OpenMetrics).unwrap();
        let values = text.lines().filter(|line| line.starts_with("muster_gateway") && !line.contains("request"));
        values.map(str::to_owned).collect()
    }

    #[test]
    fn a_gateway_is_shown_as_long_as_its_agent_gateway_exists() {
        let metrics = Metrics::default();
        let (namespace, name) = ("fleet".to_owned(), "main".to_owned());
        let gateway =
            GatewayState { namespace, name, has_client: true, is_up: false, writes_waiting: 4, budget_left: Some(29) };
        metrics.set_gateways(vec![gateway]);
        let expected = [
            "muster_gateways 1",
            "muster_gateways_connected 0",
            "muster_gateway_up{namespace=\"fleet\",name=\"main\"} 0",
            "muster_gateway_config_writes_waiting{namespace=\"fleet\",name=\"main\"} 4",
            "muster_gateway_config_write_budget{namespace=\"fleet\",name=\"main\"} 29",
        ];
        assert_eq!(lines(&metrics), expected);
        metrics.set_gateways(Vec::new());
        assert_eq!(lines(&metrics), ["muster_gateways 0", "muster_gateways_connected 0"]);
    }
}
