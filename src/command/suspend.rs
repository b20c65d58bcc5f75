//! `muster suspend` and `muster resume`.

use serde_json::{Value, json};

use super::fleet_options::{FleetOptions, each};
use super::requests::ObjectPath;
use super::session::{Cluster, CommandError, Streams, conclude};
use super::wait_goal::WaitGoal;

/// The options of `muster suspend`.
#[derive(Debug, clap::Args)]
pub struct SuspendOptions {
    /// Why, for the people who read the conditions: at most 256 characters on one line. Without it, an earlier reason is removed.
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
    #[command(flatten)]
    pub(super) fleet: FleetOptions,
}

pub(super) async fn suspend(
    options: &SuspendOptions,
    cluster: &Cluster,
    streams: &mut Streams<'_>,
) -> Result<(), CommandError> {
    let change = json!({ "spec": { "suspend": true, "suspendReason": options.reason } });
    run(true, &change, &options.fleet, cluster, streams).await
}

pub(super) async fn resume(
    options: &FleetOptions,
    cluster: &Cluster,
    streams: &mut Streams<'_>,
) -> Result<(), CommandError> {
    let change = json!({ "spec": { "suspend": false, "suspendReason": null } });
    run(false, &change, options, cluster, streams).await
}

async fn run(
    is_suspended: bool,
    change: &Value,
    options: &FleetOptions,
    cluster: &Cluster,
    streams: &mut Streams<'_>,
) -> Result<(), CommandError> {
    let targets = options.named(cluster).await?;
    let client = &cluster.client;
    let act = async |path: ObjectPath<'_>, name: &str| path.patch(client, name, change, false).await.map(drop);
    let done = if is_suspended { "suspended" } else { "resumed" };
    let (targets, failed) =
        each(&targets, cluster, streams, act, |label, (), streams| streams.print(&format!("{label} {done}\n"))).await?;
    options.wait(&targets, &WaitGoal::Suspension(is_suspended), cluster, streams).await?;
    conclude(failed, "object")
}
