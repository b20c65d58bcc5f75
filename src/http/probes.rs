//! The routes of the probes, and of the metrics. Each has a listener of its own, so that no Service makes the probes known.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::pulse::Pulse;
use crate::metrics::{Metrics, TextFormat};
use crate::state::watch_health::WatchHealth;

/// How long a watch may be lost before the operator is not ready any more: its view of the objects is old. A restart of the API server takes
/// less.
const LONGEST_WATCH_LOSS: Duration = Duration::from_mins(2);
/// How long the operator's runtime may run no task before it counts as hanging.
const LONGEST_SILENCE: Duration = Duration::from_secs(30);

/// The state of the probes.
#[derive(Debug)]
pub struct Probes {
    /// Whether the caches contain all objects. Connections to gateways do not count: an operator without connections is ready
    /// to report this.
    pub synced: AtomicBool,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The watches.
    pub watches: WatchHealth,
    /// The sign that the operator's runtime runs tasks.
    pub pulse: Pulse,
}

impl Probes {
    /// The probes of an operator whose caches are empty.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, watches: WatchHealth) -> Self {
        Self { synced: AtomicBool::new(false), metrics, watches, pulse: Pulse::default() }
    }

    /// Shows that the runtime of this task runs tasks, for ever.
    pub async fn beat(self: Arc<Self>) {
        self.pulse.beat().await;
    }
}

/// `/livez` and `/readyz`.
pub fn router(probes: Arc<Probes>) -> Router {
    Router::new().route("/livez", get(livez)).route("/readyz", get(readyz)).with_state(probes)
}

/// `/metrics`.
pub fn metrics_router(metrics: Arc<Metrics>) -> Router {
    Router::new().route("/metrics", get(show_metrics)).with_state(metrics)
}

async fn livez(State(probes): State<Arc<Probes>>) -> (StatusCode, String) {
    let silence = probes.pulse.silence();
    if silence <= LONGEST_SILENCE {
        return (StatusCode::OK, "ok\n".into());
    }
    let text = format!("the operator has run no task for {} s\n", silence.as_secs());
    (StatusCode::SERVICE_UNAVAILABLE, text)
}

async fn readyz(State(probes): State<Arc<Probes>>) -> (StatusCode, String) {
    if !probes.synced.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "the watches have not brought all objects yet\n".into());
    }
    if let Some(kind) = probes.watches.lost_for(LONGEST_WATCH_LOSS) {
        let seconds = LONGEST_WATCH_LOSS.as_secs();
        let text = format!("the watch of {kind} has been lost for more than {seconds} s; see the operator's log\n");
        return (StatusCode::SERVICE_UNAVAILABLE, text);
    }
    (StatusCode::OK, "ok\n".into())
}

async fn show_metrics(State(metrics): State<Arc<Metrics>>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = TextFormat::accepted(accept.unwrap_or_default());
    match metrics.text(format) {
        Ok(text) => ([(header::CONTENT_TYPE, format.content_type())], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn answer(probes: &Arc<Probes>, path: &str) -> (u16, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = router(Arc::clone(probes)).oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn the_operator_is_ready_with_all_objects_and_not_while_a_watch_is_lost_for_long() {
        let watches = WatchHealth::default();
        let probes = Arc::new(Probes::new(Arc::default(), watches.clone()));
        let ready = async || answer(&probes, "/readyz").await;
        assert_eq!(ready().await.0, 503);
        probes.synced.store(true, Ordering::Relaxed);
        assert_eq!(ready().await, (200, "ok\n".into()));
        watches.add("/agents", "Agent");
        watches.failed("/agents");
        tokio::time::advance(LONGEST_WATCH_LOSS).await;
        assert_eq!(ready().await.0, 200, "not yet");
        tokio::time::advance(Duration::from_secs(1)).await;
        let (status, text) = ready().await;
        assert!(status == 503 && text.contains("the watch of Agent"), "{status} {text}");
        watches.works("/agents");
        assert_eq!(ready().await.0, 200);
    }

    #[tokio::test]
    async fn the_operator_is_alive_until_its_runtime_has_run_no_task_for_long() {
        let with = |silence| {
            let pulse = Pulse::silent_for(silence).unwrap();
            Arc::new(Probes { pulse, ..Probes::new(Arc::default(), WatchHealth::default()) })
        };
        assert_eq!(answer(&with(Duration::ZERO), "/livez").await, (200, "ok\n".into()));
        let hanging = answer(&with(LONGEST_SILENCE + Duration::from_secs(1)), "/livez").await;
        assert_eq!(hanging, (503, "the operator has run no task for 31 s\n".into()));
    }
}
