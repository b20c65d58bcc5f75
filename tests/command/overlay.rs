//! An API server with answers that the embedded API does not give: refusals, logs, and kinds of Kubernetes.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use kube::client::Body;
use muster_embedded::EmbeddedApi;
use serde_json::{Value, json};
use tower::Service;

/// The status and the body of an answer.
type CannedAnswer = (StatusCode, String);

/// The embedded API behind some other answers.
#[derive(Clone)]
pub(crate) struct Overlay {
    api: EmbeddedApi,
    /// By the path, without the query.
    answers: Arc<Mutex<BTreeMap<String, CannedAnswer>>>,
    /// The logs of pods by the path, without the query.
    logs: Arc<Mutex<BTreeMap<String, String>>>,
    /// The paths and queries of the requests.
    requests: Arc<Mutex<Vec<String>>>,
}

impl Overlay {
    pub(crate) fn new(api: EmbeddedApi) -> Self {
        Self { api, answers: Arc::default(), logs: Arc::default(), requests: Arc::default() }
    }

    /// Answers requests to a path with an object.
    pub(crate) fn answer(&self, path: &str, body: Value) {
        self.answer_text(path, &body.to_string());
    }

    /// Answers requests to a path with a text.
    pub(crate) fn answer_text(&self, path: &str, body: &str) {
        self.answers.lock().unwrap().insert(path.to_owned(), (StatusCode::OK, body.to_owned()));
    }

    /// Answers requests to a path with the part of a log that the query asks for, as the kubelet does: of the last lines the first bytes.
    pub(crate) fn answer_log(&self, path: &str, log: &str) {
        self.logs.lock().unwrap().insert(path.to_owned(), log.to_owned());
    }

    fn log(&self, uri: &http::Uri) -> Option<CannedAnswer> {
        let logs = self.logs.lock().unwrap();
        let log = logs.get(uri.path())?;
        let asked = |name: &str| {
            let mut pairs = uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name)?.1.parse::<usize>().ok()
        };
        let lines: Vec<_> = log.split_inclusive('\n').collect();
        let tail = lines[lines.len().saturating_sub(asked("tailLines").unwrap())..].concat();
        Some((StatusCode::OK, tail[..tail.len().min(asked("limitBytes").unwrap())].to_owned()))
    }

    /// Refuses requests to a path, as the API server refuses a user without the right.
    pub(crate) fn forbid(&self, path: &str, message: &str) {
        let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403,
            "message": message });
        self.answers.lock().unwrap().insert(path.to_owned(), (StatusCode::FORBIDDEN, status.to_string()));
    }

    /// The requests so far to paths that begin so.
    pub(crate) fn requests_to(&self, start: &str) -> Vec<String> {
        self.requests.lock().unwrap().iter().filter(|path| path.starts_with(start)).cloned().collect()
    }
}

impl Service<Request<Body>> for Overlay {
    type Response = <EmbeddedApi as Service<Request<Body>>>::Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.requests.lock().unwrap().push(request.uri().to_string());
        let answer = self.log(request.uri());
        let answer = answer.or_else(|| self.answers.lock().unwrap().get(request.uri().path()).cloned());
        match answer {
            Some((status, body)) => {
                let mut response = Response::new(Full::from(body).boxed_unsync());
                *response.status_mut() = status;
                Box::pin(async { Ok(response) })
            }
            None => self.api.call(request),
        }
    }
}
