//! `muster render`: the files of agents from manifests, without a cluster.

use std::fs;
use std::path::{Path, PathBuf};

use super::manifests::FileManifest;
use super::offline_manifests::{self, DEFAULT_NAMESPACE, ManifestSource, OfflineManifests, key_of};
use super::session::{CommandError, Streams, conclude, namespace};
use crate::api::object_key::ObjectKey;
use crate::core::agent::offline::{self, OfflineFile};

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
    let source = ManifestSource {
        paths: &options.filename,
        namespace: &options.namespace,
        api_url: options.api_url.clone(),
        with_secrets: false,
        cluster: None,
    };
    let OfflineManifests { manifests, objects, mut failures, .. } =
        offline_manifests::read(&source, streams.input).await?;
    let is_wanted = |one: &&FileManifest| {
        one.resource.kind == "Agent" && options.agent.as_ref().is_none_or(|name| *name == one.name)
    };
    let agents: Vec<_> = manifests.iter().filter(is_wanted).collect();
    if agents.is_empty() {
        failures.push(match &options.agent {
            Some(name) => format!("there is no Agent {name} in the files"),
            None => "there is no Agent in the files".to_owned(),
        });
    }
    for manifest in agents {
        let key = key_of(manifest);
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

/// A message with the places of the ConfigMaps that it names.
fn located(message: &str, manifests: &[FileManifest]) -> String {
    let config_maps = manifests.iter().filter(|one| one.resource.kind == "ConfigMap");
    let named = config_maps.filter(|one| {
        let name = format!("ConfigMap {}", key_of(one));
        let follows = message.split_once(&name).map(|(_, rest)| rest.chars().next());
        follows.is_some_and(|next| next.is_none_or(|c| !c.is_alphanumeric() && !"-.".contains(c)))
    });
    named.fold(message.to_owned(), |text, one| format!("{text} (ConfigMap {} is in {})", key_of(one), one.place))
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
