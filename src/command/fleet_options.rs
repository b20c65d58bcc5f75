//! The options of the commands that change Agents, Boards and AgentGateways.

use std::time::Duration;

use super::requests::{ObjectPath, RequestError};
use super::session::{Cluster, CommandError, ConnectionOptions, Streams};
use super::targets::{self, Target};
use super::wait::{list_names, timeout};
use super::wait_goal::WaitGoal;
use super::waiting::ObjectWait;

/// The objects of a command, and whether the command waits for the outcome.
#[derive(Debug, clap::Args)]
pub struct FleetOptions {
    /// A kind (agents, boards or agentgateways) and names of objects, or KIND/NAME for each object.
    #[arg(value_name = "KIND [NAME]", required = true, num_args = 1..)]
    words: Vec<String>,
    /// All objects of the kind in the namespace.
    #[arg(long, conflicts_with = "selector")]
    all: bool,
    /// The objects with these labels, such as team=ops.
    #[arg(long, short = 'l', value_name = "SELECTOR")]
    selector: Option<String>,
    /// Wait until Muster has done it. Standard error shows what the command waits for.
    #[arg(long)]
    wait: bool,
    /// How long --wait waits, such as 90s, 5m or 1h.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = timeout)]
    timeout: Duration,
    #[command(flatten)]
    pub(super) connection: ConnectionOptions,
}

impl FleetOptions {
    /// The objects. Without names, the objects of a list.
    pub(super) fn targets(&self) -> Result<Vec<Target>, String> {
        let targets = targets::parse(&self.words)?;
        if let Some(other) = targets.iter().find(|target| !target.resource.is_of_muster()) {
            let kind = &other.resource.kind;
            return Err(format!("a {kind} takes no such request; give agents, boards or agentgateways"));
        }
        let is_list = self.all || self.selector.is_some();
        if targets.iter().all(|target| target.names.is_empty() == is_list) {
            return Ok(targets);
        }
        Err("give names of objects, or --all, or --selector".into())
    }

    /// The objects, all with their names.
    pub(super) async fn named(&self, cluster: &Cluster) -> Result<Vec<Target>, CommandError> {
        let mut targets = self.targets().map_err(CommandError::Usage)?;
        list_names(&mut targets, self.selector.as_deref(), cluster).await?;
        if targets.is_empty() {
            return Err(CommandError::Failed(format!("no resources found in {} namespace", cluster.namespace)));
        }
        Ok(targets)
    }

    /// Waits for objects if the command line asks for it.
    pub(super) async fn wait(
        &self,
        targets: &[Target],
        goal: &WaitGoal,
        cluster: &Cluster,
        streams: &mut Streams<'_>,
    ) -> Result<(), CommandError> {
        if !self.wait || targets.is_empty() {
            return Ok(());
        }
        let wait = ObjectWait { targets, namespace: &cluster.namespace, goal, timeout: self.timeout, prints_met: true };
        wait.run(cluster, streams).await
    }
}

/// Does something to each object. Returns the objects where it succeeded, and the number of those where it failed; each failure was
/// reported.
pub(super) async fn each<T>(
    targets: &[Target],
    cluster: &Cluster,
    streams: &mut Streams<'_>,
    act: impl AsyncFn(ObjectPath<'_>, &str) -> Result<T, RequestError>,
    mut done: impl FnMut(&str, T, &mut Streams<'_>) -> Result<(), CommandError>,
) -> Result<(Vec<Target>, usize), CommandError> {
    let (mut reached, mut failed) = (Vec::new(), 0);
    for Target { resource, names } in targets {
        let path = ObjectPath { resource, namespace: Some(&cluster.namespace) };
        let mut successes = Vec::new();
        for name in names {
            match act(path, name).await {
                Ok(outcome) => {
                    done(&resource.label(name), outcome, streams)?;
                    successes.push(name.clone());
                }
                Err(error @ RequestError::Unanswered(_)) => return Err(error.into()),
                Err(error) => {
                    streams.note(&format!("{}: {error}", resource.label(name)));
                    failed += 1;
                }
            }
        }
        if !successes.is_empty() {
            reached.push(Target { resource, names: successes });
        }
    }
    Ok((reached, failed))
}
