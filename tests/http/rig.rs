//! The API for people and for agents, as one router, over two namespaces.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::Response;
use muster::api::object_key::ObjectKey;
use muster::api::{Agent, AgentGateway, Board};
use muster::http::api::AgentApi;
use muster::http::change_feed::ChangeFeed;
use muster::http::confidential::HttpTokens;
use muster::http::origin::RequestOrigin;
use muster::http::people::PeopleApi;
use muster::http::probes::Probes;
use muster::http::rate_limit::RateLimits;
use muster::http::router;
use muster::metrics::Metrics;
use muster::state::State;
use muster::state::authz::{ResourceKind, Verb};
use muster::state::tokens::TokenTable;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::memory::{InMemory, MemoryStore};
use crate::memory_rbac::MemoryRbac;

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
    pub(crate) store: MemoryStore,
    pub(crate) access: MemoryRbac,
    pub(crate) feed: Arc<ChangeFeed>,
    pub(crate) probes: Arc<Probes>,
    pub(crate) router: Router,
    pub(crate) tokens: Arc<TokenTable>,
}

impl Rig {
    /// In `fleet`: gateway `gw`, boards `ops` and `web`. In `other`: gateway `gw`, board `ops`.
    pub(crate) fn new() -> Self {
        Self::with(HttpTokens::LocalOnly)
    }

    pub(crate) fn with(http_tokens: HttpTokens) -> Self {
        let store = MemoryStore::new();
        let access = MemoryRbac::new(store.clone());
        let named = [(ADMIN, "admin"), (VIEWER, "viewer"), (EDITOR, "editor"), (STRANGER, "stranger")];
        access.users.lock().unwrap().extend(named);
        access.allow("admin", &ALL, &KINDS, "*");
        access.allow("viewer", &READ, &KINDS, "fleet");
        access.allow("editor", &ALL, &KINDS, "fleet");
        let feed = Arc::new(ChangeFeed::new("b007", CancellationToken::new()));
        let state = Arc::new(State::new(store.clone()));
        let metrics = Arc::new(Metrics::default());
        let probes = Arc::new(Probes { synced: AtomicBool::new(true), metrics });
        let people = PeopleApi::new(Arc::clone(&state), access.clone(), Arc::clone(&feed), Arc::clone(&probes));
        let tokens = Arc::new(TokenTable::default());
        let api = AgentApi {
            state,
            tokens: Arc::clone(&tokens),
            limits: RateLimits::default(),
            due: mpsc::channel(1).0,
            probes: Arc::clone(&probes),
        };
        let router = router::router(Arc::new(api), Arc::new(people), http_tokens);
        let rig = Self { store, access, feed, probes, router, tokens };
        for (namespace, boards) in [("fleet", &["ops", "web"][..]), ("other", &["ops"])] {
            rig.apply::<AgentGateway>(namespace, "gw", gateway());
            for board in boards {
                rig.apply::<Board>(namespace, board, json!({ "gatewayRef": { "name": "gw" } }));
            }
        }
        rig
    }

    pub(crate) fn apply<K: InMemory + serde::de::DeserializeOwned>(&self, namespace: &str, name: &str, spec: Value) {
        let object = json!({
            "apiVersion": K::api_version(&()), "kind": K::kind(&()), "spec": spec,
            "metadata": { "name": name, "namespace": namespace },
        });
        self.store.apply::<K>(serde_json::from_value(object).unwrap());
    }

    /// Applies an Agent and updates the feed.
    pub(crate) fn agent(&self, namespace: &str, name: &str, spec: Value) {
        self.apply::<Agent>(namespace, name, spec);
        self.update_feed(namespace, name, false);
    }

    /// Applies a worker of the board `ops`.
    pub(crate) fn worker(&self, namespace: &str, name: &str) {
        self.agent(namespace, name, json!({ "boardRef": { "name": "ops" } }));
    }

    pub(crate) fn stored(&self, namespace: &str, name: &str) -> Agent {
        self.store.state().agents[&ObjectKey::new(namespace, name)].clone()
    }

    pub(crate) fn uid<K: InMemory>(&self, namespace: &str, name: &str) -> String {
        let mut state = self.store.state();
        K::table(&mut state)[&ObjectKey::new(namespace, name)].meta().uid.clone().unwrap()
    }

    /// Sets the status of an Agent and updates the feed.
    pub(crate) fn status(&self, namespace: &str, name: &str, status: Value) {
        let status = serde_json::from_value(status).unwrap();
        self.store.state().agents.get_mut(&ObjectKey::new(namespace, name)).unwrap().status = Some(status);
        self.update_feed(namespace, name, false);
    }

    /// Updates the feed and the table of tokens as the watch does.
    pub(crate) fn update_feed(&self, namespace: &str, name: &str, gone: bool) {
        self.feed.update(&self.stored(namespace, name), gone);
        self.tokens.update(&self.stored(namespace, name), gone);
    }

    pub(crate) fn set_synced(&self, synced: bool) {
        self.probes.synced.store(synced, Ordering::Relaxed);
    }

    /// Sends a request by TLS.
    pub(crate) async fn send(&self, mut request: Request<Body>) -> Response {
        let network = [192, 0, 2, 1].into();
        request.extensions_mut().insert(RequestOrigin { network, confidential: true });
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub(crate) async fn call(&self, token: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
        let builder = Request::builder().method(method).uri(path);
        let builder = builder.header("authorization", format!("Bearer {token}"));
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        answer(self.send(builder.body(body).unwrap()).await).await
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
