//! `muster sync`, `overwrite`, `rotate`, `bootstrap`, `reset-session` and `wake`: one-shot requests.

use serde_json::json;

use super::fleet_options::{FleetOptions, each};
use super::request_goal::{RequestGoal, verb};
use super::requests::ObjectPath;
use super::session::{Cluster, CommandError, Streams, conclude};
use super::wait_goal::WaitGoal;
use crate::api::requests::RequestKind;

/// A one-shot request.
#[derive(Debug, clap::Subcommand)]
pub enum OneShotCommand {
    /// Have Muster read and write everything of agents again.
    Sync(FleetOptions),
    /// Like sync, and Muster also writes files that it normally keeps. The agents' own text in these files is lost.
    Overwrite(FleetOptions),
    /// Have Muster replace the tokens of agents.
    Rotate(FleetOptions),
    /// Have Muster write the BOOTSTRAP.md of agents again.
    Bootstrap(FleetOptions),
    /// Have Muster reset the sessions of agents: they start without the former conversation.
    ResetSession(FleetOptions),
    /// Have Muster send agents a wake message.
    Wake(FleetOptions),
}

impl OneShotCommand {
    /// The kind of the request, and its options.
    pub(super) fn parts(&self) -> (RequestKind, &FleetOptions) {
        match self {
            Self::Sync(options) => (RequestKind::Sync, options),
            Self::Overwrite(options) => (RequestKind::Overwrite, options),
            Self::Rotate(options) => (RequestKind::Rotate, options),
            Self::Bootstrap(options) => (RequestKind::Bootstrap, options),
            Self::ResetSession(options) => (RequestKind::ResetSession, options),
            Self::Wake(options) => (RequestKind::Wake, options),
        }
    }
}

pub(super) async fn run(
    request: &OneShotCommand,
    cluster: &Cluster,
    streams: &mut Streams<'_>,
) -> Result<(), CommandError> {
    let (kind, options) = request.parts();
    let targets = options.named(cluster).await?;
    let client = &cluster.client;
    let mut objects = Vec::new();
    let read = async |path: ObjectPath<'_>, name: &str| path.get(client, name).await;
    let (targets, missing) = each(&targets, cluster, streams, read, |_, object, _| {
        objects.push(object);
        Ok(())
    })
    .await?;
    let goal = RequestGoal::new(kind, (cluster.now)(), &objects);
    let change = json!({ "metadata": { "annotations": { kind.annotation(): goal.requested_at.to_string() } } });
    let act = async |path: ObjectPath<'_>, name: &str| path.patch(client, name, &change, false).await.map(drop);
    let done = format!("{} requested", verb(kind));
    let (targets, failed) =
        each(&targets, cluster, streams, act, |label, (), streams| streams.print(&format!("{label} {done}\n"))).await?;
    options.wait(&targets, &WaitGoal::Request(goal), cluster, streams).await?;
    conclude(missing + failed, "object")
}
