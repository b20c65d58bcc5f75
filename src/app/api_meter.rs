//! The client of the API server, with its requests counted.

use std::sync::Arc;

use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::state::watch_health::WatchHealth;

/// What the client of the API server reports to.
#[derive(Clone, Debug)]
pub(super) struct ApiMeter {
    /// The host and the port of the API server.
    pub(super) host: Arc<str>,
    pub(super) metrics: Arc<Metrics>,
    /// Learns of each watch that the API server accepts.
    pub(super) watches: WatchHealth,
}

/// A request, as far as it is counted.
struct MeteredRequest {
    method: Method,
    path: String,
    is_watch: bool,
}

impl MeteredRequest {
    fn of(request: &Request<Body>) -> Self {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let query = request.uri().query().unwrap_or_default();
        Self { method, path, is_watch: query.split('&').any(|part| part == "watch=true") }
    }
}

impl ApiMeter {
    /// A client that sends its requests by `client` and counts them. What the client repeats by itself counts as one request.
    pub(super) fn metered(self, client: Client) -> Client {
        let (namespace, valid_until) = (client.default_namespace().to_owned(), *client.valid_until());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (meter, client) = (self.clone(), client.clone());
            async move {
                let (metered, began) = (MeteredRequest::of(&request), Instant::now());
                let answer = client.send(request).await;
                meter.answered(&metered, answer.as_ref().ok(), began);
                answer
            }
        });
        Client::new(service, namespace).with_valid_until(valid_until)
    }

    fn answered(&self, request: &MeteredRequest, answer: Option<&Response<Body>>, began: Instant) {
        let status = answer.map(Response::status);
        let method = request.method.as_str();
        self.metrics.api_requested(&self.host, method, status.map(|status| status.as_u16()));
        if !request.is_watch {
            self.metrics.api_answered(&self.host, method, began.elapsed());
        } else if status.is_some_and(|status| status.is_success()) {
            self.watches.works(&request.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use axum::body::Bytes;
    use futures::StreamExt;
    use futures::stream::{self, Pending};
    use http_body_util::{Either, Full, StreamBody};
    use hyper::body::Frame;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::Api;
    use kube::api::{ListParams, WatchParams};
    use serde_json::json;

    use super::*;
    use crate::api::Agent;
    use crate::api::watched_namespaces::WatchedNamespaces;
    use crate::metrics::TextFormat;
    use crate::state::cache::cache;
    use crate::state::watch;

    #[tokio::test]
    async fn requests_are_counted_and_a_watch_has_no_duration() {
        let refused = Client::new(
            tower::service_fn(|_: Request<Body>| async {
                Ok::<_, Infallible>(Response::builder().status(403).body(Body::empty()).unwrap())
            }),
            "default",
        );
        let metrics = Arc::new(Metrics::default());
        let meter =
            ApiMeter { host: "api:6443".into(), metrics: Arc::clone(&metrics), watches: WatchHealth::default() };
        let maps: Api<ConfigMap> = Api::all(meter.metered(refused));
        maps.list(&ListParams::default()).await.unwrap_err();
        assert!(maps.watch(&WatchParams::default(), "0").await.is_err());
        let text = metrics.text(TextFormat::OpenMetrics).unwrap();
        for line in [
            "rest_client_requests_total{code=\"403\",method=\"GET\",host=\"api:6443\"} 2",
            "rest_client_request_duration_seconds_count{verb=\"GET\",host=\"api:6443\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    type Answer = Response<Either<Full<Bytes>, StreamBody<Pending<Result<Frame<Bytes>, Infallible>>>>>;

    /// An API server without Agents that refuses the first watch, and accepts the second, in which nothing happens.
    fn without_agents(watches: &AtomicU32, request: &Request<Body>) -> Answer {
        let list = json!({ "kind": "AgentList", "apiVersion": "muster.dev/v1alpha1", "metadata": { "resourceVersion": "1" }, "items": [] });
        let (status, body) = if !request.uri().query().unwrap_or_default().contains("watch=true") {
            (200, Either::Left(Full::from(list.to_string())))
        } else if watches.fetch_add(1, Ordering::Relaxed) == 0 {
            (500, Either::Left(Full::default()))
        } else {
            (200, Either::Right(StreamBody::new(stream::pending())))
        };
        Response::builder().status(status).body(body).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_watch_is_found_again_by_the_answer_to_its_request_without_any_event() {
        let requests = Arc::new(AtomicU32::new(0));
        let server = Arc::clone(&requests);
        let client = Client::new(
            tower::service_fn(move |request: Request<Body>| {
                let answer = without_agents(&server, &request);
                async move { Ok::<_, Infallible>(answer) }
            }),
            "default",
        );
        let health = WatchHealth::default();
        let meter = ApiMeter { host: "api".into(), metrics: Arc::default(), watches: health.clone() };
        let (cache, writers) = cache::<Agent>(&WatchedNamespaces::All);
        let mut changes = watch::objects(&meter.metered(client), writers, &health);
        let mut seen_lost = false;
        // The time moves on by itself while nothing else is to do.
        while tokio::time::timeout(Duration::from_millis(100), changes.next()).await.is_err() {
            seen_lost |= health.lost_for(Duration::ZERO).as_deref() == Some("Agent");
            if requests.load(Ordering::Relaxed) == 2 {
                break;
            }
        }
        assert!(seen_lost && cache.all().is_empty());
        assert!(tokio::time::timeout(Duration::from_mins(3), changes.next()).await.is_err(), "no event");
        assert_eq!(health.lost_for(Duration::ZERO), None);
    }
}
