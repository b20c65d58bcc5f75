//! The router over the embedded API, with Ready agents.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use muster::api::Agent;
use muster::api::object_key::ObjectKey;
use muster::api::watched_namespaces::WatchedNamespaces;
use muster::controllers::agent::heartbeat_writer;
use muster::hash::sha256_hex;
use muster::http::agents::router;
use muster::http::api::AgentApi;
use muster::http::forward::WayToLeader;
use muster::http::origin::RequestOrigin;
use muster::http::probes::Probes;
use muster::http::rate_limit::RateLimits;
use muster::metrics::Metrics;
use muster::state::State;
use muster::state::watch_health::WatchHealth;
use serde_json::{Value, json};
use tokio::sync::mpsc::{self, Receiver};

use crate::cluster::Cluster;
use crate::described;
use crate::watched::Watched;
use crate::way::{self, Faults};

/// The namespace of all agents.
pub(crate) const NS: &str = "fleet";

pub(crate) struct Rig {
    pub cluster: Cluster,
    /// The faults of the way to the cluster.
    pub faults: Faults,
    pub state: Arc<State>,
    pub due: Receiver<ObjectKey>,
    pub probes: Arc<Probes>,
    watched: Watched,
    router: Router,
}

/// A response of the API.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answer {
    /// The HTTP status and the error code.
    pub(crate) fn code(&self) -> (u16, &str) {
        (self.status.as_u16(), self.body["code"].as_str().unwrap_or_default())
    }
}

/// A request to the API.
pub(crate) struct Call<'a> {
    pub method: Method,
    pub path: &'a str,
    pub token: Option<&'a str>,
    pub body: String,
}

/// A heartbeat without an id in the path.
pub(crate) fn heartbeat(token: &str) -> Call<'_> {
    Call { method: Method::POST, path: "/api/v1/agent/heartbeat", token: Some(token), body: String::new() }
}

impl Rig {
    pub(crate) async fn new() -> Self {
        let (cluster, faults) = (Cluster::new(), Faults::default());
        let client = way::client(&cluster.api, &faults);
        let watched = Watched::start(&cluster, &client, &WatchedNamespaces::All).await;
        let state = Arc::new(State::new(watched.store.clone()));
        let (due, receiver) = mpsc::channel(heartbeat_writer::BACKLOG);
        let probes = Arc::new(Probes {
            synced: AtomicBool::new(true),
            ..Probes::new(Arc::new(Metrics::default()), WatchHealth::default())
        });
        let api =
            AgentApi { state: Arc::clone(&state), limits: RateLimits::default(), due, probes: Arc::clone(&probes) };
        Self {
            cluster,
            faults,
            state,
            due: receiver,
            probes,
            watched,
            router: router(Arc::new(api), WayToLeader::alone()),
        }
    }

    /// A Ready, checked-in and idle Agent with the token `<name>-token`, after `change`.
    pub(crate) fn agent(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let condition = |kind: &str, status: &str, reason: &str| {
            json!({
                "type": kind, "status": status, "reason": reason, "message": "", "observedGeneration": 1,
                "lastTransitionTime": "2025-12-31T00:00:00Z"
            })
        };
        let mut manifest = json!({
            "apiVersion": "muster.dev/v1alpha1", "kind": "Agent",
            "metadata": {
                "name": name, "namespace": NS, "uid": format!("uid-{name}"), "generation": 1,
                "creationTimestamp": self.cluster.now()
            },
            "spec": { "boardRef": { "name": "ops" } },
            "status": {
                "observedGeneration": 1, "phase": "Idle", "agentId": format!("mc-{name}"),
                "token": {
                    "secretName": format!("{name}-token"), "sha256": sha256_hex(format!("{name}-token")),
                    "revision": 1, "confirmedAt": "2025-12-31T00:00:00Z"
                },
                "heartbeat": { "lastSeen": "2025-12-31T23:59:00Z", "status": "Idle" },
                "conditions": [condition("Ready", "True", "Reconciled"), condition("CheckedIn", "True", "CheckedIn")]
            }
        });
        change(&mut manifest);
        self.cluster.put_raw(manifest);
    }

    pub(crate) fn stored(&self, name: &str) -> Agent {
        self.cluster.get(&ObjectKey::new(NS, name)).unwrap()
    }

    /// Makes a request, after the watches brought all that was written. The `OpenAPI` document has the answer.
    pub(crate) async fn call(&self, call: Call<'_>) -> Answer {
        self.watched.settle().await;
        let mut request = Request::builder().method(call.method.clone()).uri(call.path);
        if let Some(token) = call.token {
            request = request.header("x-agent-token", token);
        }
        let mut request = request.body(Body::from(call.body)).unwrap();
        request.extensions_mut().insert(RequestOrigin { network: [10, 0, 0, 1].into(), confidential: false });
        let response = TowerToHyperService::new(self.router.clone()).call(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = serde_json::from_slice(&to_bytes(body, 64 * 1024).await.unwrap()).unwrap();
        described::check(call.method.as_str(), call.path, head.status, &body);
        Answer { status: head.status, headers: head.headers, body }
    }

    /// Checks in with this token; returns the HTTP status.
    pub(crate) async fn checks_in(&self, token: &str) -> u16 {
        self.call(heartbeat(token)).await.status.as_u16()
    }
}
