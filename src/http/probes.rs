//! The routes of the probes, and of the metrics. Each has a listener of its own, so that no Service makes the probes known.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::metrics::Metrics;

/// The state of the probes.
#[derive(Debug)]
pub struct Probes {
    /// Whether the caches contain all objects. Connections to gateways do not count: an operator without connections is ready
    /// to report this.
    pub synced: AtomicBool,
    /// The metrics.
    pub metrics: Arc<Metrics>,
}

/// `/livez` and `/readyz`.
pub fn router(probes: Arc<Probes>) -> Router {
    Router::new().route("/livez", get(|| async { "ok\n" })).route("/readyz", get(readyz)).with_state(probes)
}

/// `/metrics`.
pub fn metrics_router(metrics: Arc<Metrics>) -> Router {
    Router::new().route("/metrics", get(show_metrics)).with_state(metrics)
}

async fn readyz(State(probes): State<Arc<Probes>>) -> (StatusCode, &'static str) {
    if probes.synced.load(Ordering::Relaxed) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the watches have not brought all objects yet\n")
    }
}

async fn show_metrics(State(metrics): State<Arc<Metrics>>) -> Response {
    match metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
            .into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
