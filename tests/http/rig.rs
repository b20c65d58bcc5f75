//! The API for people and for agents, as one router, over two namespaces.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::Response;
use muster::api::object_key::ObjectKey;
use muster::api::watched_namespaces::WatchedNamespaces;
use muster::api::{Agent, AgentGateway, Board};
use muster::http::api::AgentApi;
use muster::http::confidential::HttpTokens;
use muster::http::forward::WayToLeader;
use muster::http::origin::RequestOrigin;
use muster::http::people::PeopleApi;
use muster::http::probes::Probes;
use muster::http::rate_limit::RateLimits;
use muster::http::router;
use muster::metrics::Metrics;
use muster::state::State;
use muster::state::authz::{ResourceKind, Verb};
use muster::state::kube_authz::KubeAccess;
use muster::state::watch_health::WatchHealth;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tower::ServiceExt;

use crate::cluster::{Cluster, Kind};
use crate::described;
use crate::rbac::Rbac;
use crate::watched::Watched;

/// A user with all permissions in all namespaces.
pub(crate) const ADMIN: &str = "admin-token";
/// A user who may read in the namespace `fleet`.
pub(crate) const VIEWER: &str = "viewer-token";
/// A user who may read and write in the namespace `fleet`.
pub(crate) const EDITOR: &str = "editor-token";
/// A user without permissions.
pub(crate) const STRANGER: &str = "stranger-token";

const KINDS: [ResourceKind; 3] = [ResourceKind::Agent, ResourceKind::Board, ResourceKind::Gateway];
const READ: [Verb; 2] = [Verb::Get, Verb::List];
const ALL: [Verb; 5] = [Verb::Get, Verb::List, Verb::Create, Verb::Patch, Verb::Delete];

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) json: Value,
}

impl Answer {
    /// The names in a list.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.json["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
    }

    pub(crate) fn message(&self) -> &str {
        self.json["message"].as_str().unwrap_or_default()
    }
}

pub(crate) struct Rig {
    pub(crate) cluster: Cluster,
    pub(crate) rbac: Rbac,
    pub(crate) watched: Watched,
    pub(crate) probes: Arc<Probes>,
    pub(crate) router: Router,
}

impl Rig {
    /// In `fleet`: gateway `gw`, boards `ops` and `web`. In `other`: gateway `gw`, board `ops`.
    pub(crate) async fn new() -> Self {
        Self::with(HttpTokens::LocalOnly, &WatchedNamespaces::All).await
    }

    pub(crate) async fn with(http_tokens: HttpTokens, namespaces: &WatchedNamespaces) -> Self {
        let cluster = Cluster::new();
        let rbac = Rbac::new(cluster.api.clone());
        let named = [(ADMIN, "admin"), (VIEWER, "viewer"), (EDITOR, "editor"), (STRANGER, "stranger")];
        rbac.users.lock().unwrap().extend(named);
        rbac.allow("admin", &ALL, &KINDS, "*");
        rbac.allow("viewer", &READ, &KINDS, "fleet");
        rbac.allow("editor", &ALL, &KINDS, "fleet");
        let watched = Watched::start(&cluster, &rbac.client(), namespaces).await;
        let state = Arc::new(State::new(watched.store.clone()));
        let metrics = Arc::new(Metrics::default());
        let probes = Arc::new(Probes { synced: AtomicBool::new(true), ..Probes::new(metrics, WatchHealth::default()) });
        let people = people(Arc::clone(&state), &rbac, &watched, &probes);
        let api =
            AgentApi { state, limits: RateLimits::default(), due: mpsc::channel(1).0, probes: Arc::clone(&probes) };
        let router = router::router(Arc::new(api), Arc::new(people), WayToLeader::alone(), http_tokens);
        let rig = Self { cluster, rbac, watched, probes, router };
        for (namespace, boards) in [("fleet", &["ops", "web"][..]), ("other", &["ops"])] {
            rig.apply::<AgentGateway>(namespace, "gw", gateway());
            for board in boards {
                rig.apply::<Board>(namespace, board, json!({ "gatewayRef": { "name": "gw" } }));
            }
        }
        rig
    }

    pub(crate) fn apply<K: Kind>(&self, namespace: &str, name: &str, spec: Value) {
        self.cluster.apply::<K>(json!({ "metadata": { "name": name, "namespace": namespace }, "spec": spec }));
    }

    pub(crate) fn delete<K: Kind>(&self, namespace: &str, name: &str) {
        self.cluster.delete::<K>(&ObjectKey::new(namespace, name));
    }

    pub(crate) fn agent(&self, namespace: &str, name: &str, spec: Value) {
        self.apply::<Agent>(namespace, name, spec);
    }

    /// Applies a worker of the board `ops`.
    pub(crate) fn worker(&self, namespace: &str, name: &str) {
        self.agent(namespace, name, json!({ "boardRef": { "name": "ops" } }));
    }

    pub(crate) fn stored(&self, namespace: &str, name: &str) -> Agent {
        self.cluster.get(&ObjectKey::new(namespace, name)).unwrap()
    }

    pub(crate) fn uid<K: Kind>(&self, namespace: &str, name: &str) -> String {
        self.cluster.get::<K>(&ObjectKey::new(namespace, name)).unwrap().meta().uid.clone().unwrap()
    }

    /// Sets the status of an Agent.
    pub(crate) fn status(&self, namespace: &str, name: &str, status: Value) {
        let status = serde_json::from_value(status).unwrap();
        self.cluster.edit::<Agent>(&ObjectKey::new(namespace, name), |agent| agent.status = Some(status));
    }

    pub(crate) fn set_synced(&self, synced: bool) {
        self.probes.synced.store(synced, Ordering::Relaxed);
    }

    /// Sends a request by TLS, after the watches brought all that was written.
    pub(crate) async fn send(&self, mut request: Request<Body>) -> Response {
        self.watched.settle().await;
        let network = [192, 0, 2, 1].into();
        request.extensions_mut().insert(RequestOrigin { network, confidential: true });
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// Sends a request. The `OpenAPI` document has the answer.
    pub(crate) async fn call(&self, token: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
        let builder = Request::builder().method(method).uri(path);
        let builder = builder.header("authorization", format!("Bearer {token}"));
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let answer = answer(self.send(builder.body(body).unwrap()).await).await;
        described::check(method, path, answer.status, &answer.json);
        answer
    }

    /// A GET with the token of [`ADMIN`], and its whole response.
    pub(crate) async fn get_raw(&self, path: &str) -> Response {
        let request = Request::get(path).header("authorization", format!("Bearer {ADMIN}"));
        self.send(request.body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn get(&self, token: &str, path: &str) -> Answer {
        self.call(token, "GET", path, None).await
    }
}

/// The API for people over this state.
pub(crate) fn people(state: Arc<State>, rbac: &Rbac, watched: &Watched, probes: &Arc<Probes>) -> PeopleApi {
    let access = KubeAccess::with(rbac.client(), rbac.client());
    PeopleApi::new(state, access, Arc::clone(&watched.feed), Arc::clone(probes))
}

pub(crate) async fn answer(response: Response) -> Answer {
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, 1 << 24).await.unwrap();
    Answer {
        status: parts.status,
        headers: parts.headers,
        json: serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{e}: {:?}", String::from_utf8_lossy(&bytes))),
    }
}

fn gateway() -> Value {
    json!({
        "url": "ws://gw:18789", "auth": { "tokenSecretRef": { "name": "gw", "key": "token" } },
        "workspaceRoot": "~/w", "apiUrl": "http://muster:8080",
    })
}
