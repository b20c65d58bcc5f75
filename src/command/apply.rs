//! `muster apply`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;

use super::files;
use super::manifests::{self, FileManifest, NamespaceRule};
use super::merge::{annotated, three_way};
use super::object::version;
use super::requests::{ObjectPath, RequestError};
use super::session::{Cluster, CommandError, ConnectionOptions, Streams, conclude};

/// The options of `muster apply`.
#[derive(Debug, clap::Args)]
pub struct ApplyOptions {
    /// Files or folders with manifests, or - for standard input. Of a folder, *.yaml, *.yml and *.json are read, in the folders below too.
    #[arg(short = 'f', long = "filename", value_name = "PATH", required = true, num_args = 1..)]
    filename: Vec<PathBuf>,
    /// Let the API server check the manifests, and change nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    pub(super) connection: ConnectionOptions,
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ApplyOutcome {
    Created,
    Configured,
    Unchanged,
    /// The namespace of the object is made by the same manifests, so that a dry run cannot check the object.
    Unchecked,
}

impl ApplyOutcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
            Self::Unchecked => "created, not checked because its namespace does not exist yet",
        }
    }
}

/// An apply.
struct ManifestApplier<'a> {
    cluster: &'a Cluster,
    is_dry_run: bool,
    /// The namespaces that the manifests have.
    namespaces: BTreeSet<&'a str>,
}

pub(super) async fn run(
    options: &ApplyOptions,
    cluster: &Cluster,
    streams: &mut Streams<'_>,
) -> Result<(), CommandError> {
    let (manifests, mut failed) = read(&options.filename, &options.connection, cluster, streams)?;
    let names = manifests.iter().filter(|one| !one.resource.is_namespaced).map(|one| one.name.as_str());
    let applier = ManifestApplier { cluster, is_dry_run: options.dry_run, namespaces: names.collect() };
    let suffix = if options.dry_run { " (server dry run)" } else { "" };
    for manifest in &manifests {
        match applier.apply(manifest).await {
            Ok(outcome) => streams.print(&format!("{} {}{suffix}\n", manifest.label(), outcome.as_str()))?,
            Err(error @ RequestError::Unanswered(_)) => {
                return Err(CommandError::Failed(manifest.failure(&error.to_string())));
            }
            Err(error) => {
                streams.note(&manifest.failure(&error.to_string()));
                failed += 1;
            }
        }
    }
    conclude(failed, "document")
}

/// The manifests of files, and the number of documents that are none. Each of them was reported.
pub(super) fn read(
    paths: &[PathBuf],
    connection: &ConnectionOptions,
    cluster: &Cluster,
    streams: &mut Streams<'_>,
) -> Result<(Vec<FileManifest>, usize), CommandError> {
    let (files, unread) = files::read(paths, streams.input);
    let rule = NamespaceRule { default: &cluster.namespace, is_given: connection.namespace.is_some() };
    let (manifests, bad) = manifests::read(&files, rule);
    let failures = [unread, bad].concat();
    for failure in &failures {
        streams.note(failure);
    }
    if manifests.is_empty() && failures.is_empty() {
        let names: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
        return Err(CommandError::Failed(format!("there is no object in {}", names.join(", "))));
    }
    Ok((manifests, failures.len()))
}

impl ManifestApplier<'_> {
    async fn apply(&self, manifest: &FileManifest) -> Result<ApplyOutcome, RequestError> {
        let path = ObjectPath { resource: manifest.resource, namespace: manifest.namespace.as_deref() };
        let wanted = annotated(&manifest.object, manifest.resource.is_secret());
        let client = &self.cluster.client;
        match path.get(client, &manifest.name).await {
            Ok(current) => return self.change(path, manifest, &wanted, &current).await,
            Err(error) if error.code() == Some(404) => {}
            Err(error) => return Err(error),
        }
        match path.create(client, &wanted, self.is_dry_run).await {
            Ok(_) => Ok(ApplyOutcome::Created),
            // Another client was faster.
            Err(error) if error.code() == Some(409) => {
                let current = path.get(client, &manifest.name).await.map_err(|_| error)?;
                self.change(path, manifest, &wanted, &current).await
            }
            Err(error) if self.is_dry_run && self.is_too_early(&error, manifest) => Ok(ApplyOutcome::Unchecked),
            Err(error) => Err(error),
        }
    }

    async fn change(
        &self,
        path: ObjectPath<'_>,
        manifest: &FileManifest,
        wanted: &Value,
        current: &Value,
    ) -> Result<ApplyOutcome, RequestError> {
        let change = three_way(wanted, current);
        if change.as_object().is_some_and(serde_json::Map::is_empty) {
            return Ok(ApplyOutcome::Unchanged);
        }
        let changed = path.patch(&self.cluster.client, &manifest.name, &change, self.is_dry_run).await?;
        // A dry run changes no version.
        let is_same = !self.is_dry_run && version(&changed) == version(current);
        Ok(if is_same { ApplyOutcome::Unchanged } else { ApplyOutcome::Configured })
    }

    /// Whether the namespace is missing that a real run would have made.
    fn is_too_early(&self, error: &RequestError, manifest: &FileManifest) -> bool {
        let is_made = manifest.namespace.as_deref().is_some_and(|name| self.namespaces.contains(name));
        is_made && error.missing_kind() == Some("namespaces")
    }
}
