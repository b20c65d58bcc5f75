//! The way of one operator to Kubernetes, with the faults of a network and of an API server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use muster_embedded::EmbeddedApi;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tower::{BoxError, Service};

use crate::answers::{AnswerBody, answer, refused};
use crate::watch_faults;

/// What goes wrong on the way to Kubernetes, and what went over it. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Faults {
    state: Arc<Mutex<FaultState>>,
    /// Notified when a write is done whose answer never comes.
    pub crashed: Arc<Notify>,
}

#[derive(Default)]
pub(crate) struct FaultState {
    /// The number of writes that were done, without events.
    pub writes: usize,
    /// The writes that are done and never answered, by their number.
    pub crash_at: BTreeSet<usize>,
    /// Whether no request gets an answer any more.
    pub unreachable: bool,
    /// The paths that give no answer.
    pub silent: BTreeSet<String>,
    /// The number of next writes that fail.
    pub failures: usize,
    /// The paths of the writes that failed.
    pub failed: Vec<String>,
    /// The answer to each new Secret, if Kubernetes denies it.
    pub denied_secrets: Option<(u16, String)>,
    /// The namespaces whose objects the operator may not list.
    pub refused: BTreeSet<String>,
    /// Whether the operator has no right to get namespaces.
    pub denies_namespaces: bool,
    /// How late the events of a watch come that begins from now on.
    pub lag: Duration,
    /// The number of events that came.
    pub events: usize,
    /// The number of the event that does not come. Its watch loses its place some time later.
    pub missed: Option<usize>,
    /// The lists as they were at a revision, by their paths, in place of the present ones.
    pub past: BTreeMap<String, Value>,
    /// Secrets by their paths. Somebody puts each of them into its place just before the operator deletes the Secret there.
    pub replaced_before_deletion: BTreeMap<String, Value>,
}

impl Faults {
    pub(crate) fn state(&self) -> MutexGuard<'_, FaultState> {
        self.state.lock().unwrap()
    }

    /// Counts a write. Returns whether its answer never comes.
    fn count_write(&self) -> bool {
        let mut state = self.state();
        state.writes += 1;
        let write = state.writes;
        state.crash_at.contains(&write)
    }
}

/// The service of an operator's client.
#[derive(Clone)]
struct Way {
    api: EmbeddedApi,
    faults: Faults,
}

/// A client of the API with these faults.
pub(crate) fn client(api: &EmbeddedApi, faults: &Faults) -> Client {
    let way = Way { api: api.clone(), faults: faults.clone() };
    Client::new(tower::service_fn(move |request| way.clone().answer(request)), "default")
}

fn forbidden(message: &str) -> (u16, String) {
    (403, message.to_owned())
}

impl FaultState {
    /// The answer to a request that the API does not get.
    fn refusal(&self, method: &Method, path: &str) -> Option<(u16, String)> {
        let parts: Vec<_> = path.trim_start_matches('/').split('/').collect();
        match *parts.as_slice() {
            ["api", "v1", "namespaces", name] if self.denies_namespaces => Some(forbidden(&format!(
                "namespaces {name:?} is forbidden: User \"muster\" cannot get resource \"namespaces\""
            ))),
            ["apis", "muster.dev", _, "namespaces", namespace, kind] if self.refused.contains(namespace) => {
                Some(forbidden(&format!("{kind} is forbidden: User \"muster\" cannot list resource {kind:?}")))
            }
            ["api", "v1", "namespaces", _, "secrets"] if method == Method::POST => self.denied_secrets.clone(),
            _ => None,
        }
    }
}

/// Whether a request changes an object. Events, and questions that are asked by POST, do not count.
fn is_write(method: &Method, path: &str) -> bool {
    method != Method::GET && !path.contains("/events") && !path.contains("reviews")
}

impl Way {
    async fn answer(mut self, request: Request<Body>) -> Result<Response<AnswerBody>, BoxError> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let writes = is_write(&method, &path);
        let has_no_answer = |state: &FaultState| state.unreachable || state.silent.contains(&path);
        if has_no_answer(&self.faults.state()) {
            std::future::pending::<()>().await;
        }
        let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        if !is_watch && let Some(list) = self.faults.state().past.get(&path) {
            return Ok(answer(200, list));
        }
        let (refusal, others) = {
            let mut state = self.faults.state();
            if writes && state.failures > 0 {
                state.failures -= 1;
                state.failed.push(path);
                return Err("away".into());
            }
            let others = if method == Method::DELETE { state.replaced_before_deletion.remove(&path) } else { None };
            (state.refusal(&method, &path), others)
        };
        if let Some((code, message)) = refusal {
            return Ok(refused(code, &message));
        }
        if let Some(others) = others {
            self.api.restore(&json!([others]))?;
        }
        let answer = self.api.call(request).await?;
        if writes && answer.status().is_success() && self.faults.count_write() {
            self.faults.crashed.notify_one();
            std::future::pending::<()>().await;
        }
        let answer = answer.map(BodyExt::boxed_unsync);
        let is_fleet = path.starts_with("/apis/muster.dev/");
        Ok(if is_watch && is_fleet { answer.map(|body| watch_faults::faulty(body, &self.faults)) } else { answer })
    }
}
