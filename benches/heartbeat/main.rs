//! The throughput of heartbeats beside a bare axum route with the same response. Prints figures and has no pass or fail.
//!
//! The statuses are written to the embedded API in the same process, and the cost of these writes is in the figures.

#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "a benchmark that cannot begin has nothing to print, and the cluster takes JSON literals by value"
)]

#[path = "../../tests/controllers/answers.rs"]
mod answers;
#[allow(dead_code, reason = "the benchmark needs a part of it")]
#[path = "../../tests/controllers/cluster.rs"]
mod cluster;
mod load;
#[allow(dead_code, reason = "the benchmark needs a part of it")]
#[path = "../../tests/controllers/watch_faults.rs"]
mod watch_faults;
#[allow(dead_code, reason = "the benchmark needs a part of it")]
#[path = "../../tests/http/watched.rs"]
mod watched;
#[allow(dead_code, reason = "the benchmark needs a part of it")]
#[path = "../../tests/controllers/way.rs"]
mod way;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use axum::routing::post;
use axum::{Json, Router};
use cluster::Cluster;
use governor::Quota;
use load::{Figures, load};
use muster::api::watched_namespaces::WatchedNamespaces;
use muster::controllers::agent::heartbeat_writer;
use muster::http::agents::router;
use muster::http::api::AgentApi;
use muster::http::forward::WayToLeader;
use muster::http::origin::TrustedProxies;
use muster::http::probes::Probes;
use muster::http::rate_limit::RateLimits;
use muster::http::server::{Protocol, Server};
use muster::metrics::Metrics;
use muster::state::State;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use watched::Watched;
use way::Faults;

const AGENTS: usize = 10_000;
const CONNECTIONS: usize = 64;
/// The two routes take turns, so that other load on the machine affects both.
const ROUNDS: u32 = 5;
const ROUND: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() {
    let (mut baseline, mut heartbeats) = (Figures::default(), Figures::default());
    let bare = serve_baseline().await;
    let (api, _watched, faults) = serve_heartbeats().await;
    let mut writing = Duration::ZERO;
    for _ in 0..ROUNDS {
        baseline.add(load(bare, "/api/v1/agent/heartbeat", ROUND).await);
        let began = Instant::now();
        heartbeats.add(load(api, "/api/v1/agent/heartbeat", ROUND).await);
        writing += began.elapsed();
    }
    println!(
        "{AGENTS} agents, {CONNECTIONS} keep-alive connections, {} s each, client in the same process",
        (ROUND * ROUNDS).as_secs()
    );
    println!("{:<12} {:>12} {:>10} {:>10} {:>8}", "route", "requests/s", "p50 us", "p99 us", "errors");
    baseline.print("baseline");
    heartbeats.print("heartbeat");
    println!(
        "{:<12} {:>12.2} {:>10.2} {:>10.2}",
        "ratio",
        heartbeats.rate() / baseline.rate(),
        heartbeats.percentile(50) / baseline.percentile(50),
        heartbeats.percentile(99) / baseline.percentile(99),
    );
    println!("status writes/s {:.0}", load::per_second(faults.state().writes, writing));
}

/// A bare axum route with the same response, served by axum.
async fn serve_baseline() -> SocketAddr {
    let answer =
        || async { Json(json!({ "ok": true, "agent_id": "uid-00000", "name": "agent-00000", "paused": false })) };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/api/v1/agent/heartbeat", post(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// The API as the operator serves it, over the embedded API, with limits that the load does not reach.
async fn serve_heartbeats() -> (SocketAddr, Watched, Faults) {
    let (cluster, faults) = (Cluster::new(), Faults::default());
    for n in 0..AGENTS {
        cluster.put_raw(agent(n));
    }
    let client = way::client(&cluster.api, &faults);
    let watched = Watched::start(&cluster, &client, &WatchedNamespaces::All).await;
    let state = Arc::new(State::new(watched.store.clone()));
    let (due, heard) = mpsc::channel(heartbeat_writer::BACKLOG);
    let (controller, mut queue) = mpsc::unbounded_channel();
    tokio::spawn(heartbeat_writer::run(Arc::clone(&state), heard, controller, CancellationToken::new()));
    tokio::spawn(async move { while queue.recv().await.is_some() {} });
    let limits = RateLimits::with(Quota::per_second(1_000_000.try_into().unwrap()));
    let probes = Arc::new(Probes {
        synced: AtomicBool::new(true),
        ..Probes::new(Arc::new(Metrics::default()), muster::state::watch_health::WatchHealth::default())
    });
    let api = AgentApi { state, limits, due, probes };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::api(listener, Protocol::Http, TrustedProxies::default());
    tokio::spawn(server.serve(router(Arc::new(api), WayToLeader::alone()), CancellationToken::new()));
    (address, watched, faults)
}

fn token(n: usize) -> String {
    format!("token-{n:05}-of-about-the-length-of-a-real-one")
}

/// An agent that is ready, checked in and idle.
fn agent(n: usize) -> Value {
    let condition = |kind: &str, reason: &str| {
        json!({
            "type": kind, "status": "True", "reason": reason, "message": "as it should be", "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z"
        })
    };
    let at = "2026-01-01T00:00:00Z";
    let sha256 = muster::hash::sha256_hex(token(n));
    json!({
        "apiVersion": "muster.dev/v1alpha1", "kind": "Agent",
        "metadata": {
            "name": format!("agent-{n:05}"), "namespace": "fleet", "uid": format!("uid-{n:05}"), "generation": 1,
            "creationTimestamp": at
        },
        "spec": { "boardRef": { "name": "ops" } },
        "status": {
            "observedGeneration": 1, "phase": "Idle", "agentId": format!("mc-{n:05}"),
            "token": { "secretName": "s", "sha256": sha256, "revision": 1, "confirmedAt": at },
            "heartbeat": { "lastSeen": at, "status": "Idle" },
            "conditions": [condition("Ready", "Reconciled"), condition("CheckedIn", "CheckedIn")]
        }
    })
}
