//! `muster render`: the files of agents from manifests, without a cluster.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use muster_embedded::{EmbeddedApi, Resources};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::files;
use super::manifests::{self, FileManifest, NamespaceRule};
use super::requests::ObjectPath;
use super::session::{Cluster, CommandError, Streams, conclude, namespace};
use crate::api::crds;
use crate::api::object_key::ObjectKey;
use crate::core::agent::offline::{self, OfflineFile};
use crate::core::agent::offline_objects::OfflineObjects;
use crate::core::agent::templates::ConfigMapContent;

/// The kinds that the files of an agent follow from.
const KINDS: [&str; 4] = ["ConfigMap", "AgentGateway", "Board", "Agent"];
/// The namespace of objects that name none.
const DEFAULT_NAMESPACE: &str = "default";

/// The options of `muster render`.
#[derive(Debug, clap::Args)]
pub struct RenderOptions {
    /// Files or folders with manifests, or - for standard input, as muster apply reads them.
    #[arg(short = 'f', long = "filename", value_name = "PATH", required = true, num_args = 1..)]
    filename: Vec<PathBuf>,
    /// The name of one Agent, before -f. Default: all Agents of the files.
    #[arg(value_name = "AGENT")]
    agent: Option<String>,
    /// Write the files below this directory, as NAMESPACE/AGENT/FILE, instead of to standard output.
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Namespace of objects that name none.
    #[arg(long, short, value_name = "NAMESPACE", value_parser = namespace, default_value = DEFAULT_NAMESPACE)]
    namespace: String,
    /// URL of Muster's HTTP API for gateways without spec.apiUrl: the flag --api-url of the operator.
    #[arg(long, value_name = "URL")]
    api_url: Option<String>,
}

/// Renders with these streams.
///
/// # Errors
/// A manifest or a template is wrong, each reported with its place, or a file cannot be written.
pub async fn run(options: &RenderOptions, streams: &mut Streams<'_>) -> Result<(), CommandError> {
    let (files, unread) = files::read(&options.filename, streams.input);
    let rule = NamespaceRule { default: &options.namespace, is_given: false };
    let (mut manifests, bad) = manifests::read(&files, rule);
    manifests.retain(|one| KINDS.contains(&one.resource.kind.as_str()));
    let mut failures = [unread, bad].concat();
    let api = InMemoryApi::new()?;
    let mut objects = OfflineObjects { api_url: options.api_url.clone(), ..OfflineObjects::default() };
    let mut agents = Vec::new();
    for manifest in &manifests {
        match api.create(manifest).await.and_then(|object| add(&mut objects, manifest, object)) {
            Ok(()) if manifest.resource.kind == "Agent" => agents.push(manifest),
            Ok(()) => {}
            Err(cause) => failures.push(manifest.failure(&cause)),
        }
    }
    let is_wanted = |one: &&FileManifest| options.agent.as_ref().is_none_or(|name| *name == one.name);
    let has_wanted = manifests.iter().filter(is_wanted).any(|one| one.resource.kind == "Agent");
    if !has_wanted {
        failures.push(match &options.agent {
            Some(name) => format!("there is no Agent {name} in the files"),
            None => "there is no Agent in the files".to_owned(),
        });
    }
    for manifest in agents.into_iter().filter(is_wanted) {
        let key = key(manifest);
        match objects.agents.get(&key).map(|agent| offline::files(&objects, agent)) {
            Some(Ok(files)) => write(&key, &files, options.output.as_deref(), streams)?,
            Some(Err(errors)) => {
                failures.extend(errors.iter().map(|error| manifest.failure(&located(&error.message, &manifests))));
            }
            None => {}
        }
    }
    for failure in &failures {
        streams.note(failure);
    }
    conclude(failures.len(), "document")
}

fn key(manifest: &FileManifest) -> ObjectKey {
    ObjectKey::new(manifest.namespace.as_deref().unwrap_or_default(), &manifest.name)
}

/// A message with the places of the ConfigMaps that it names.
fn located(message: &str, manifests: &[FileManifest]) -> String {
    let config_maps = manifests.iter().filter(|one| one.resource.kind == "ConfigMap");
    let named = config_maps.filter(|one| {
        let name = format!("ConfigMap {}", key(one));
        let follows = message.split_once(&name).map(|(_, rest)| rest.chars().next());
        follows.is_some_and(|next| next.is_none_or(|c| !c.is_alphanumeric() && !"-.".contains(c)))
    });
    named.fold(message.to_owned(), |text, one| format!("{text} (ConfigMap {} is in {})", key(one), one.place))
}

fn write(
    agent: &ObjectKey,
    files: &[OfflineFile],
    output: Option<&Path>,
    streams: &mut Streams<'_>,
) -> Result<(), CommandError> {
    for OfflineFile { name, text } in files {
        let Some(folder) = output else {
            let end = if text.ends_with('\n') { "" } else { "\n" };
            streams.print(&format!("==> {agent}/{name} <==\n{text}{end}\n"))?;
            continue;
        };
        let folder = folder.join(&agent.namespace).join(&agent.name);
        let path = folder.join(name);
        let written = fs::create_dir_all(&folder).and_then(|()| fs::write(&path, text));
        written.map_err(|error| CommandError::Failed(format!("{}: {error}", path.display())))?;
        streams.print(&format!("{}\n", path.display()))?;
    }
    Ok(())
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
        Ok(Self { cluster: Cluster { client: api.client(), namespace: DEFAULT_NAMESPACE.into(), now } })
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
        path.create(client, &manifest.object, false).await.map_err(|error| error.to_string())
    }
}

fn add(objects: &mut OfflineObjects, manifest: &FileManifest, object: Value) -> Result<(), String> {
    let key = key(manifest);
    match manifest.resource.kind.as_str() {
        "AgentGateway" => drop(objects.gateways.insert(key, Arc::new(read(object)?))),
        "Board" => drop(objects.boards.insert(key, Arc::new(read(object)?))),
        "Agent" => drop(objects.agents.insert(key, Arc::new(read(object)?))),
        _ => drop(objects.config_maps.insert(key, content(&object))),
    }
    Ok(())
}

fn read<T: DeserializeOwned>(object: Value) -> Result<T, String> {
    serde_json::from_value(object).map_err(|error| error.to_string())
}

fn content(object: &Value) -> ConfigMapContent {
    let data = object["data"].as_object().into_iter().flatten();
    let data: BTreeMap<_, _> =
        data.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect();
    let binary = object["binaryData"].as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect();
    ConfigMapContent { data, binary }
}
