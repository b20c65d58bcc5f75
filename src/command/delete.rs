//! `muster delete`.

use std::path::PathBuf;
use std::time::Duration;

use super::apply;
use super::requests::{ObjectPath, RequestError};
use super::session::{Cluster, CommandError, ConnectionOptions, Streams, conclude};
use super::targets::{self, Target};
use super::wait::{list_names, timeout};
use super::wait_goal::WaitGoal;
use super::waiting::ObjectWait;

/// The options of `muster delete`.
#[derive(Debug, clap::Args)]
pub struct DeleteOptions {
    /// A kind and names of objects, or KIND/NAME for each object.
    #[arg(value_name = "KIND [NAME]", required_unless_present = "filename", conflicts_with = "filename", num_args = 1..)]
    words: Vec<String>,
    /// Files or folders with manifests of the objects, or - for standard input. Agents are deleted first, and namespaces last.
    #[arg(short = 'f', long = "filename", value_name = "PATH", num_args = 1..)]
    filename: Vec<PathBuf>,
    /// Delete all objects of the kind.
    #[arg(long, conflicts_with_all = ["selector", "filename"])]
    all: bool,
    /// Delete the objects with these labels, such as team=ops.
    #[arg(long, short = 'l', value_name = "SELECTOR", conflicts_with = "filename")]
    selector: Option<String>,
    /// Treat objects that do not exist as deleted.
    #[arg(long)]
    ignore_not_found: bool,
    /// Wait until the objects are gone. Muster removes agents from their gateway first.
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    wait: bool,
    /// How long to wait for the objects of a kind, such as 90s, 5m or 1h.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = timeout)]
    timeout: Duration,
    #[command(flatten)]
    pub(super) connection: ConnectionOptions,
}

impl DeleteOptions {
    /// The objects to delete. Empty with `-f`; without names, the objects of a list.
    pub(super) fn targets(&self) -> Result<Vec<Target>, String> {
        if self.words.is_empty() {
            return Ok(Vec::new());
        }
        let targets = targets::parse(&self.words)?;
        let is_list = self.all || self.selector.is_some();
        if targets.iter().all(|target| target.names.is_empty() == is_list) {
            return Ok(targets);
        }
        Err("give names of objects, or --all, or --selector".into())
    }
}

/// Objects of one kind in one namespace.
struct DeletedGroup {
    namespace: String,
    target: Target,
}

pub(super) async fn run(
    options: &DeleteOptions,
    cluster: &Cluster,
    streams: &mut Streams<'_>,
) -> Result<(), CommandError> {
    let mut targets = options.targets().map_err(CommandError::Usage)?;
    let (groups, mut failed) = if options.filename.is_empty() {
        list_names(&mut targets, options.selector.as_deref(), cluster).await?;
        let group = |target| DeletedGroup { namespace: cluster.namespace.clone(), target };
        (targets.into_iter().map(group).collect(), 0)
    } else {
        of_files(options, cluster, streams)?
    };
    if groups.is_empty() && failed == 0 {
        streams.note(&format!("No resources found in {} namespace.", cluster.namespace));
    }
    for group in groups {
        failed += delete(&group, options, cluster, streams).await?;
    }
    conclude(failed, "object")
}

/// The objects of manifests in the reverse order of an apply, and the number of documents that are none.
fn of_files(
    options: &DeleteOptions,
    cluster: &Cluster,
    streams: &mut Streams<'_>,
) -> Result<(Vec<DeletedGroup>, usize), CommandError> {
    let (manifests, failed) = apply::read(&options.filename, &options.connection, cluster, streams)?;
    let mut groups: Vec<DeletedGroup> = Vec::new();
    for manifest in manifests.into_iter().rev() {
        let namespace = manifest.namespace.unwrap_or_default();
        let is_of = |group: &DeletedGroup| {
            group.namespace == namespace && std::ptr::eq(group.target.resource, manifest.resource)
        };
        match groups.iter_mut().find(|group| is_of(group)) {
            Some(group) if group.target.names.contains(&manifest.name) => {}
            Some(group) => group.target.names.insert(0, manifest.name),
            None => {
                let target = Target { resource: manifest.resource, names: vec![manifest.name] };
                groups.push(DeletedGroup { namespace, target });
            }
        }
    }
    Ok((groups, failed))
}

/// Deletes the objects of a group, and waits until they are gone. Returns the number of objects that were not deleted.
async fn delete(
    group: &DeletedGroup,
    options: &DeleteOptions,
    cluster: &Cluster,
    streams: &mut Streams<'_>,
) -> Result<usize, CommandError> {
    let Target { resource, names } = &group.target;
    let path = ObjectPath { resource, namespace: Some(&group.namespace) };
    let (mut going, mut failed) = (Vec::new(), 0);
    for name in names {
        match path.delete(&cluster.client, name).await {
            Ok(()) => {
                let place =
                    if resource.is_namespaced { format!(" from {} namespace", group.namespace) } else { String::new() };
                streams.print(&format!("{} \"{name}\" deleted{place}\n", resource.qualified_kind()))?;
                going.push(name.clone());
            }
            Err(error) if error.code() == Some(404) && options.ignore_not_found => {}
            Err(error @ RequestError::Unanswered(_)) => return Err(error.into()),
            Err(error) => {
                streams.note(&error.to_string());
                failed += 1;
            }
        }
    }
    if options.wait && !going.is_empty() {
        let targets = [Target { resource, names: going }];
        let goal = &WaitGoal::Deletion;
        let wait = ObjectWait {
            targets: &targets,
            namespace: &group.namespace,
            goal,
            timeout: options.timeout,
            prints_met: false,
        };
        wait.run(cluster, streams).await?;
    }
    Ok(failed)
}
