//! Kubernetes for the tests: the embedded API, as people and other programs see it. Nothing here waits.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};

use axum::body::Bytes;
use futures::{FutureExt, StreamExt};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, BodyStream, Full};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::api::events::v1::Event as KubeEvent;
use kube::Resource;
use muster::api::object_key::ObjectKey;
use muster::api::{Agent, AgentGateway, Board, crds};
use muster::core::event::Event;
use muster::state::kube_store::WallClock;
use muster_embedded::{EmbeddedApi, Resources};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::Service;

/// The kinds, which are read once in a test program: to read them takes as long as some tests.
static RESOURCES: LazyLock<Resources> =
    LazyLock::new(|| Resources::new(&crds::all().map(|(_, definition)| definition)).unwrap());

/// A cluster in memory. Clones share it.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub api: EmbeddedApi,
    clock: Arc<TestClock>,
}

/// The time of the day by the paused clock, from 2026-01-01 on. No two readings are equal, and each object that a person creates takes a
/// second, so that no two of them are of the same age.
struct TestClock {
    epoch: Instant,
    readings: AtomicI64,
    created: AtomicI64,
}

impl TestClock {
    fn now(&self) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.epoch.elapsed()).unwrap();
        let created = SignedDuration::from_secs(self.created.load(Ordering::Relaxed));
        let reading = SignedDuration::from_nanos(self.readings.fetch_add(1, Ordering::Relaxed));
        Timestamp::from_second(1_767_225_600).unwrap() + elapsed + created + reading
    }
}

/// A kind of the cluster.
pub(crate) trait Kind: Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned {}
impl<K: Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned> Kind for K {}

/// The path of the objects of a kind in a namespace, or in all.
pub(crate) fn path<K: Kind>(namespace: Option<&str>) -> String {
    let version = K::api_version(&());
    let root = if version.contains('/') { "/apis" } else { "/api" };
    let scope = namespace.map(|namespace| format!("/namespaces/{namespace}")).unwrap_or_default();
    format!("{root}/{version}{scope}/{}", K::plural(&()))
}

/// A manifest with its kind.
fn typed<K: Kind>(mut manifest: Value) -> Value {
    manifest["kind"] = json!(K::kind(&()));
    manifest["apiVersion"] = json!(K::api_version(&()));
    manifest
}

/// The path of an object.
pub(crate) fn path_of<K: Kind>(key: &ObjectKey) -> String {
    let namespace = Some(key.namespace.as_str()).filter(|namespace| !namespace.is_empty());
    format!("{}/{}", path::<K>(namespace), key.name)
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let clock = Arc::new(TestClock {
            epoch: Instant::now(),
            readings: AtomicI64::default(),
            created: AtomicI64::default(),
        });
        let now = Arc::clone(&clock);
        let api = EmbeddedApi::in_memory(RESOURCES.clone(), Arc::new(move || now.now())).unwrap();
        Self { api, clock }
    }

    pub(crate) fn clock(&self) -> WallClock {
        let clock = Arc::clone(&self.clock);
        Arc::new(move || clock.now())
    }

    /// The time in whole seconds, as Kubernetes stores it.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_second(self.clock.now().as_second()).unwrap()
    }

    /// Makes a request. The API in memory answers without waiting.
    fn request(&self, method: Method, path: &str, body: Option<&Value>) -> (StatusCode, Value) {
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let mut request = Request::new(Full::new(body));
        let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        request.headers_mut().insert(http::header::CONTENT_TYPE, kind.parse().unwrap());
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().unwrap();
        let answered = async {
            let response = self.api.clone().call(request).await.unwrap();
            let code = response.status();
            (code, response.into_body().collect().await.unwrap().to_bytes())
        };
        let (code, body) = answered.now_or_never().unwrap();
        (code, serde_json::from_slice(&body).unwrap())
    }

    /// Makes a request that has to succeed.
    pub(crate) fn succeed(&self, method: Method, path: &str, body: Option<&Value>) -> Value {
        let (code, answer) = self.request(method.clone(), path, body);
        assert!(code.is_success(), "{method} {path}: {answer}");
        answer
    }

    pub(crate) fn get<K: Kind>(&self, key: &ObjectKey) -> Option<K> {
        let (code, answer) = self.request(Method::GET, &path_of::<K>(key), None);
        (code != StatusCode::NOT_FOUND).then(|| serde_json::from_value(answer).unwrap())
    }

    pub(crate) fn all<K: Kind>(&self) -> BTreeMap<ObjectKey, K> {
        let list = self.succeed(Method::GET, &path::<K>(None), None);
        let items: Vec<K> = serde_json::from_value(list["items"].clone()).unwrap();
        items.into_iter().map(|object| (ObjectKey::of(object.meta()), object)).collect()
    }

    pub(crate) fn agents(&self) -> BTreeMap<ObjectKey, Agent> {
        self.all()
    }

    pub(crate) fn boards(&self) -> BTreeMap<ObjectKey, Board> {
        self.all()
    }

    pub(crate) fn gateways(&self) -> BTreeMap<ObjectKey, AgentGateway> {
        self.all()
    }

    pub(crate) fn secrets(&self) -> BTreeMap<ObjectKey, Secret> {
        self.all()
    }

    /// All that happened to the objects of a kind, as the events of a watch from the beginning.
    pub(crate) fn history<K: Kind>(&self) -> Vec<Value> {
        let uri = format!("{}?watch=true&resourceVersion=1", path::<K>(None));
        let request = Request::get(uri).body(Full::new(Bytes::new())).unwrap();
        let response = self.api.clone().call(request).now_or_never().unwrap().unwrap();
        let mut frames = BodyStream::new(response.into_body());
        let next = std::iter::from_fn(|| frames.next().now_or_never().flatten());
        next.map(|frame| serde_json::from_slice(frame.unwrap().data_ref().unwrap()).unwrap()).collect()
    }

    /// The events in the order of their first occurrence, each with the name of its object.
    pub(crate) fn events(&self) -> Vec<(String, Event)> {
        let mut events: Vec<_> = self.all::<KubeEvent>().into_values().collect();
        // The name of an event ends with the nanoseconds of its first occurrence.
        events.sort_by_key(|event| {
            let name = event.metadata.name.clone().unwrap();
            i128::from_str_radix(name.rsplit('.').next().unwrap(), 16).unwrap()
        });
        let shown = events.into_iter().map(|event| {
            let object = event.regarding.unwrap_or_default().name.unwrap_or_default();
            let warning = event.type_.as_deref() == Some("Warning");
            let (reason, message) = (event.reason.unwrap_or_default(), event.note.unwrap_or_default());
            (object, Event { warning, reason, action: "", message })
        });
        shown.collect()
    }

    /// Creates a namespace, if it does not exist.
    pub(crate) fn namespace(&self, name: &str) {
        if self.get::<Namespace>(&ObjectKey::new("", name)).is_none() {
            let namespace = json!({ "metadata": { "name": name } });
            self.succeed(Method::POST, &path::<Namespace>(None), Some(&namespace));
        }
    }

    /// Labels a namespace.
    pub(crate) fn label_namespace(&self, name: &str, label: &str, value: &str) {
        self.namespace(name);
        let patch = json!({ "metadata": { "labels": { label: value } } });
        self.patch::<Namespace>(&ObjectKey::new("", name), &patch);
    }

    /// Applies a manifest as a user does. An object that exists keeps its metadata, but for labels and annotations that the manifest sets.
    pub(crate) fn apply<K: Kind>(&self, manifest: Value) {
        let mut manifest = typed::<K>(manifest);
        let text = |field: &str| manifest["metadata"][field].as_str().unwrap().to_owned();
        let key = ObjectKey::new(text("namespace"), text("name"));
        self.namespace(&key.namespace);
        let path_of_object = path_of::<K>(&key);
        let (code, old) = self.request(Method::GET, &path_of_object, None);
        if code == StatusCode::NOT_FOUND {
            self.clock.created.fetch_add(1, Ordering::Relaxed);
            self.succeed(Method::POST, &path::<K>(Some(&key.namespace)), Some(&manifest));
            return;
        }
        let mut metadata = old["metadata"].clone();
        for field in ["labels", "annotations"] {
            for (name, value) in manifest["metadata"][field].as_object().into_iter().flatten() {
                metadata[field][name] = value.clone();
            }
        }
        manifest["metadata"] = metadata;
        self.succeed(Method::PUT, &path_of_object, Some(&manifest));
    }

    /// Changes an object by a JSON merge patch.
    pub(crate) fn patch<K: Kind>(&self, key: &ObjectKey, patch: &Value) {
        self.succeed(Method::PATCH, &path_of::<K>(key), Some(patch));
    }

    /// Changes an object past all rules.
    pub(crate) fn edit<K: Kind>(&self, key: &ObjectKey, change: impl FnOnce(&mut K)) {
        let mut object: K = self.get(key).unwrap();
        change(&mut object);
        self.put(&object);
    }

    /// Puts an object in place as it is.
    pub(crate) fn put<K: Kind>(&self, object: &K) {
        self.put_raw(typed::<K>(serde_json::to_value(object).unwrap()));
    }

    /// Puts an object in place as it is, also if this version cannot read it.
    pub(crate) fn put_raw(&self, object: Value) {
        self.api.restore(&json!([object])).unwrap();
    }

    /// Puts an object in place that an older version accepted, without its checks.
    pub(crate) fn unchecked<K: Kind>(&self, mut manifest: Value) {
        let name = manifest["metadata"]["name"].as_str().unwrap().to_owned();
        let namespace = manifest["metadata"]["namespace"].as_str().unwrap().to_owned();
        self.namespace(&namespace);
        let now = self.get::<K>(&ObjectKey::new(namespace, name.clone()));
        let new = || {
            json!({ "uid": format!("00000000-0000-4000-8000-{:012x}", name.len()), "generation": 1,
                "creationTimestamp": self.now() })
        };
        let metadata = now.map_or_else(new, |now| serde_json::to_value(now.meta()).unwrap());
        for (field, value) in metadata.as_object().unwrap() {
            manifest["metadata"][field] = value.clone();
        }
        self.put_raw(typed::<K>(manifest));
    }

    /// Gives an object a spec that this version cannot decode.
    pub(crate) fn make_unreadable<K: Kind>(&self, key: &ObjectKey) {
        let mut object = self.succeed(Method::GET, &path_of::<K>(key), None);
        object["spec"]["displayName"] = json!({ "of": "a later version" });
        object["spec"]["url"] = json!({ "of": "a later version" });
        self.put_raw(object);
    }

    /// Annotates an object, if it exists.
    pub(crate) fn annotate<K: Kind>(&self, key: &ObjectKey, name: &str, value: &str) {
        let patch = json!({ "metadata": { "annotations": { name: value } } });
        self.request(Method::PATCH, &path_of::<K>(key), Some(&patch));
    }

    /// Deletes an object, if it exists. Finalizers keep it.
    pub(crate) fn delete<K: Kind>(&self, key: &ObjectKey) {
        self.request(Method::DELETE, &path_of::<K>(key), None);
    }

    /// Removes an object whose finalizers nobody waits for.
    pub(crate) fn remove<K: Kind>(&self, key: &ObjectKey) {
        self.patch::<K>(key, &json!({ "metadata": { "finalizers": null } }));
        self.delete::<K>(key);
    }
}
