//! The objects of manifests, checked as the API server checks them, for the commands that need no cluster.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use muster_embedded::{EmbeddedApi, Resources};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::files;
use super::manifests::{self, FileManifest, NamespaceRule};
use super::requests::ObjectPath;
use super::session::{Cluster, CommandError};
use crate::api::crds;
use crate::api::object_key::ObjectKey;
use crate::core::agent::offline_objects::OfflineObjects;
use crate::core::agent::templates::ConfigMapContent;
use crate::hash::sha256_hex;
use crate::openclaw::Network;

/// The namespace of objects that name none.
pub(super) const DEFAULT_NAMESPACE: &str = "default";
/// The kinds that the files of an agent follow from.
const KINDS: [&str; 4] = ["ConfigMap", "AgentGateway", "Board", "Agent"];
/// The fields of the metadata that the API server sets, and that tell one object from another of its name.
const KEPT: [&str; 5] = ["uid", "generation", "creationTimestamp", "deletionTimestamp", "finalizers"];
/// The fields of the metadata that the API server does not take at a creation.
const NOT_SUBMITTED: [&str; 8] = [
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "managedFields",
    "selfLink",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
];

/// Where the manifests come from.
pub(super) struct ManifestSource<'a> {
    /// The files and folders.
    pub(super) paths: &'a [PathBuf],
    /// The namespace of objects that name none.
    pub(super) namespace: &'a str,
    /// The URL of Muster's HTTP API for gateways without `spec.apiUrl`.
    pub(super) api_url: Option<String>,
    /// Whether Secrets are read.
    pub(super) with_secrets: bool,
    /// The cluster whose objects give the status, if there is one.
    pub(super) cluster: Option<&'a Cluster>,
}

/// The objects of manifests.
#[derive(Debug, Default)]
pub(super) struct OfflineManifests {
    /// All manifests of the known kinds, those with a failure too.
    pub(super) manifests: Vec<FileManifest>,
    /// The valid objects.
    pub(super) objects: OfflineObjects,
    /// The `data` of the valid Secrets.
    pub(super) secrets: BTreeMap<ObjectKey, Map<String, Value>>,
    /// Sentences about documents that are wrong.
    pub(super) failures: Vec<String>,
}

/// Reads manifests, and checks each as the API server does.
///
/// # Errors
/// The API server in memory does not start, or the cluster did not answer.
pub(super) async fn read(source: &ManifestSource<'_>, input: &mut dyn Read) -> Result<OfflineManifests, CommandError> {
    let (files, unread) = files::read(source.paths, input);
    let rule = NamespaceRule { default: source.namespace, is_given: false };
    let (mut manifests, bad) = manifests::read(&files, rule);
    manifests
        .retain(|one| KINDS.contains(&one.resource.kind.as_str()) || source.with_secrets && one.resource.is_secret());
    let api = InMemoryApi::new()?;
    let objects = OfflineObjects { api_url: source.api_url.clone(), ..OfflineObjects::default() };
    let mut read = OfflineManifests { objects, failures: [unread, bad].concat(), ..OfflineManifests::default() };
    for manifest in &manifests {
        let live = match source.cluster.filter(|_| manifest.resource.is_of_muster()) {
            Some(cluster) => live(cluster, manifest).await?,
            None => None,
        };
        let created = api.create(manifest).await;
        let added = created.and_then(|object| add(&mut read, manifest, with_state(object, manifest, live.as_ref())));
        if let Err(cause) = added {
            read.failures.push(manifest.failure(&cause));
        }
    }
    read.manifests = manifests;
    Ok(read)
}

/// The key of a manifest.
pub(super) fn key_of(manifest: &FileManifest) -> ObjectKey {
    ObjectKey::new(manifest.namespace.as_deref().unwrap_or_default(), &manifest.name)
}

/// The object of a cluster with the name of a manifest.
async fn live(cluster: &Cluster, manifest: &FileManifest) -> Result<Option<Value>, CommandError> {
    let path = ObjectPath { resource: manifest.resource, namespace: manifest.namespace.as_deref() };
    match path.get(&cluster.client, &manifest.name).await {
        Ok(object) => Ok(Some(object)),
        Err(error) if error.code() == Some(404) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// An object with the status and the identity of the object of the cluster, or else of the manifest.
fn with_state(mut object: Value, manifest: &FileManifest, live: Option<&Value>) -> Value {
    if !manifest.resource.is_of_muster() {
        return object;
    }
    let state = live.unwrap_or(&manifest.object);
    let key = key_of(manifest);
    object["metadata"]["uid"] = json!(placeholder_uid(&format!("{} {key}", manifest.resource.kind)));
    for field in KEPT.into_iter().filter(|field| !state["metadata"][field].is_null()) {
        object["metadata"][field] = state["metadata"][field].clone();
    }
    for (name, value) in live.and_then(|live| live["metadata"]["annotations"].as_object()).into_iter().flatten() {
        if object["metadata"]["annotations"][name].is_null() {
            object["metadata"]["annotations"][name] = value.clone();
        }
    }
    if !state["status"].is_null() {
        object["status"] = state["status"].clone();
    }
    object
}

/// A uid for an object without one, the same in each run.
fn placeholder_uid(text: &str) -> String {
    let hash = sha256_hex(text);
    [&hash[..8], &hash[8..12], &hash[12..16], &hash[16..20], &hash[20..32]].join("-")
}

/// An API in memory that checks manifests as the API server does.
struct InMemoryApi {
    cluster: Cluster,
}

impl InMemoryApi {
    fn new() -> Result<Self, CommandError> {
        let failed = |error: String| CommandError::Failed(error);
        let definitions = crds::all().map(|(_, definition)| definition);
        let resources = Resources::new(&definitions).map_err(|error| failed(error.to_string()))?;
        let api = EmbeddedApi::in_memory(resources, Arc::new(|| Timestamp::UNIX_EPOCH)).map_err(failed)?;
        let now = || Timestamp::UNIX_EPOCH;
        let (client, dial) = (api.client(), Arc::new(Network::default()));
        Ok(Self { cluster: Cluster { client, namespace: DEFAULT_NAMESPACE.into(), now, dial } })
    }

    /// Creates an object, in a namespace that may not exist yet.
    async fn create(&self, manifest: &FileManifest) -> Result<Value, String> {
        let client = &self.cluster.client;
        if let Some(namespace) = &manifest.namespace {
            let resource = super::resources::of_manifest("v1", "Namespace")?;
            let path = ObjectPath { resource, namespace: None };
            let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } });
            match path.create(client, &object, false).await {
                Err(error) if error.code() != Some(409) => return Err(error.to_string()),
                _ => {}
            }
        }
        let path = ObjectPath { resource: manifest.resource, namespace: manifest.namespace.as_deref() };
        path.create(client, &submitted(&manifest.object), false).await.map_err(|error| error.to_string())
    }
}

/// An object without what the API server sets, as somebody writes it who has it from a cluster.
fn submitted(object: &Value) -> Value {
    let mut object = object.clone();
    object.as_object_mut().and_then(|fields| fields.remove("status"));
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|field, _| !NOT_SUBMITTED.contains(&field.as_str()));
    }
    object
}

fn add(read: &mut OfflineManifests, manifest: &FileManifest, object: Value) -> Result<(), String> {
    let (key, objects) = (key_of(manifest), &mut read.objects);
    match manifest.resource.kind.as_str() {
        "AgentGateway" => objects.gateways.insert(key, typed(object)?),
        "Board" => objects.boards.insert(key, typed(object)?),
        "Agent" => objects.agents.insert(key, typed(object)?),
        "Secret" => drop(read.secrets.insert(key, object["data"].as_object().cloned().unwrap_or_default())),
        _ => drop(objects.config_maps.insert(key, content(&object))),
    }
    Ok(())
}

fn typed<T: DeserializeOwned>(object: Value) -> Result<T, String> {
    serde_json::from_value(object).map_err(|error| error.to_string())
}

fn content(object: &Value) -> ConfigMapContent {
    let data = object["data"].as_object().into_iter().flatten();
    let data: BTreeMap<_, _> =
        data.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect();
    let binary = object["binaryData"].as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect();
    ConfigMapContent { data, binary }
}
