//! The commands for people: `muster apply`, `get`, `describe`, `wait`, `delete`, `annotate`, the one-shot requests, `suspend`, `resume`,
//! `tree`, `doctor` and `support-bundle`.
//!
//! They reach an API server by a kubeconfig and work with the rights of its user. Deciding parts are pure; a command does the I/O. Output
//! goes to [`Streams`], so that tests can read it.

mod age;
mod annotate;
mod apply;
mod checks;
mod columns;
mod comparison;
mod delete;
mod describe;
mod describe_text;
mod diff_fields;
mod doctor;
mod examined;
mod files;
mod fleet_options;
mod gateway_side;
mod get;
mod import_diff;
mod manifests;
mod merge;
mod object;
mod object_watch;
mod observed;
mod offline_manifests;
mod one_shot;
mod plan;
mod plan_report;
mod print;
mod remedies;
mod render;
mod request_goal;
mod requests;
mod resources;
mod session;
mod support;
mod suspend;
mod table;
mod targets;
mod tree;
mod tree_text;
mod wait;
mod wait_goal;
mod waiting;

use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::Arc;

pub use comparison::Comparison;
pub use import_diff::run as import_diff;
use jiff::Timestamp;
use kube::Client;
pub use plan::{PlanOptions, run as plan};
pub use render::{RenderOptions, run as render};
use requests::RequestError;
use session::ConnectionOptions;
pub use session::{Cluster, CommandError, Streams};

use crate::import::ImportOptions;
use crate::kubeconfig;
use crate::openclaw::Network;

/// The exit statuses, for the help.
pub const EXIT_STATUS: &str = "Exit status: 0 if the command did what it says, 1 if it failed, 2 if the command line is wrong, 3 if plan or import --diff found a \
     difference.";

/// A command for people.
#[derive(Debug, clap::Subcommand)]
pub enum ClusterCommand {
    /// Create or change objects from manifests. Fields that others wrote stay as they are.
    Apply(apply::ApplyOptions),
    /// Show objects as a table, or as JSON or YAML.
    Get(get::GetOptions),
    /// Show everything about objects: their spec, status, conditions and events.
    Describe(describe::DescribeOptions),
    /// Wait until objects have a condition, or are deleted.
    Wait(wait::WaitOptions),
    /// Delete objects, and wait until they are gone.
    Delete(delete::DeleteOptions),
    /// Set or remove annotations of objects.
    Annotate(annotate::AnnotateOptions),
    /// The one-shot requests.
    #[command(flatten)]
    OneShot(one_shot::OneShotCommand),
    /// Suspend Agents, Boards or AgentGateways.
    Suspend(suspend::SuspendOptions),
    /// End a suspension.
    Resume(fleet_options::FleetOptions),
    /// Show gateways with their boards and agents, each with its Ready condition.
    Tree(tree::TreeOptions),
    /// Check an Agent, a Board or an AgentGateway and what it depends on, and say what to do.
    Doctor(doctor::DoctorOptions),
    /// Write an archive for a bug report: the objects, events, checks, versions and logs, without secrets.
    SupportBundle(support::SupportBundleOptions),
}

/// Runs a command with the streams of the process.
///
/// # Errors
/// The command line is wrong, or the command failed.
pub fn main(command: &ClusterCommand) -> Result<(), CommandError> {
    check(command).map_err(CommandError::Usage)?;
    with_streams(async |streams| {
        let connection = connection(command);
        let cluster = cluster(connection.kubeconfig.as_deref(), connection.context.as_deref()).await?;
        run(command, &cluster, streams).await
    })
}

/// Renders the files of agents with the streams of the process.
///
/// # Errors
/// A manifest or a template is wrong, or a file cannot be written.
pub fn render_main(options: &RenderOptions) -> Result<(), CommandError> {
    with_streams(async |streams| render(options, streams).await)
}

/// Plans with the streams of the process.
///
/// # Errors
/// The command line is wrong, or the command failed.
pub fn plan_main(options: &PlanOptions) -> Result<Comparison, CommandError> {
    let mut comparison = Comparison::Equal;
    with_streams(async |streams| {
        let cluster = if options.cluster {
            Some(cluster(options.kubeconfig.as_deref(), options.context.as_deref()).await?)
        } else {
            None
        };
        comparison = plan(options, Arc::new(Network::default()), cluster.as_ref(), streams).await?;
        Ok(())
    })?;
    Ok(comparison)
}

/// Compares a gateway with manifests, with the streams of the process.
///
/// # Errors
/// The command line is wrong, or the command failed.
pub fn import_diff_main(options: &ImportOptions) -> Result<Comparison, CommandError> {
    let mut comparison = Comparison::Equal;
    with_streams(async |streams| {
        comparison = import_diff(options, Arc::new(Network::default()), streams).await?;
        Ok(())
    })?;
    Ok(comparison)
}

/// The API server of a kubeconfig.
async fn cluster(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Cluster, CommandError> {
    let config = kubeconfig::load(kubeconfig, context).await.map_err(CommandError::Failed)?;
    let namespace = config.default_namespace.clone();
    let client = Client::try_from(config).map_err(RequestError::from)?;
    Ok(Cluster { client, namespace, now: Timestamp::now, dial: Arc::new(Network::default()) })
}

/// Runs something with a runtime and the streams of the process.
fn with_streams(act: impl AsyncFnOnce(&mut Streams<'_>) -> Result<(), CommandError>) -> Result<(), CommandError> {
    let failed = |error: io::Error| CommandError::Failed(error.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (mut out, mut err, mut input) = (io::stdout().lock(), io::stderr().lock(), io::stdin());
    let is_terminal = err.is_terminal();
    let mut streams = Streams { out: &mut out, err: &mut err, input: &mut input, is_terminal };
    match runtime.block_on(act(&mut streams)) {
        // The reader has what it wanted.
        Err(CommandError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

fn connection(command: &ClusterCommand) -> &ConnectionOptions {
    match command {
        ClusterCommand::Apply(options) => &options.connection,
        ClusterCommand::Get(options) => &options.connection,
        ClusterCommand::Describe(options) => &options.connection,
        ClusterCommand::Wait(options) => &options.connection,
        ClusterCommand::Delete(options) => &options.connection,
        ClusterCommand::Annotate(options) => &options.connection,
        ClusterCommand::OneShot(request) => &request.parts().1.connection,
        ClusterCommand::Resume(options) => &options.connection,
        ClusterCommand::Suspend(options) => &options.fleet.connection,
        ClusterCommand::Tree(options) => &options.connection,
        ClusterCommand::Doctor(options) => &options.connection,
        ClusterCommand::SupportBundle(options) => &options.connection,
    }
}

/// Checks what the parser of the command line cannot.
fn check(command: &ClusterCommand) -> Result<(), String> {
    match command {
        ClusterCommand::Apply(_) | ClusterCommand::Tree(_) | ClusterCommand::SupportBundle(_) => Ok(()),
        ClusterCommand::Get(options) => options.request().map(drop),
        ClusterCommand::Describe(options) => options.targets().map(drop),
        ClusterCommand::Wait(options) => options.targets().map(drop),
        ClusterCommand::Delete(options) => options.targets().map(drop),
        ClusterCommand::Annotate(options) => options.request().map(drop),
        ClusterCommand::OneShot(request) => request.parts().1.targets().map(drop),
        ClusterCommand::Resume(options) => options.targets().map(drop),
        ClusterCommand::Suspend(options) => options.fleet.targets().map(drop),
        ClusterCommand::Doctor(options) => options.check(),
    }
}

/// Runs a command against an API server.
///
/// # Errors
/// The command line is wrong, or the command failed.
pub async fn run(command: &ClusterCommand, cluster: &Cluster, streams: &mut Streams<'_>) -> Result<(), CommandError> {
    let mut cluster = cluster.clone();
    if let Some(namespace) = &connection(command).namespace {
        cluster.namespace.clone_from(namespace);
    }
    match command {
        ClusterCommand::Apply(options) => apply::run(options, &cluster, streams).await,
        ClusterCommand::Get(options) => get::run(options, &cluster, streams).await,
        ClusterCommand::Describe(options) => describe::run(options, &cluster, streams).await,
        ClusterCommand::Wait(options) => wait::run(options, &cluster, streams).await,
        ClusterCommand::Delete(options) => delete::run(options, &cluster, streams).await,
        ClusterCommand::Annotate(options) => annotate::run(options, &cluster, streams).await,
        ClusterCommand::OneShot(request) => one_shot::run(request, &cluster, streams).await,
        ClusterCommand::Suspend(options) => suspend::suspend(options, &cluster, streams).await,
        ClusterCommand::Resume(options) => suspend::resume(options, &cluster, streams).await,
        ClusterCommand::Tree(options) => tree::run(options, &cluster, streams).await,
        // Their futures are large.
        ClusterCommand::Doctor(options) => Box::pin(doctor::run(options, &cluster, streams)).await,
        ClusterCommand::SupportBundle(options) => Box::pin(support::run(options, &cluster, streams)).await,
    }
}
