//! `muster wait`.

use std::time::Duration;

use super::object::name;
use super::requests::ObjectPath;
use super::session::{Cluster, CommandError, ConnectionOptions, Streams};
use super::targets::{self, Target};
use super::wait_goal::WaitGoal;
use super::waiting::ObjectWait;

/// The options of `muster wait`.
#[derive(Debug, clap::Args)]
pub struct WaitOptions {
    /// A kind and names of objects, or KIND/NAME for each object.
    #[arg(value_name = "KIND [NAME]", required = true, num_args = 1..)]
    words: Vec<String>,
    /// What to wait for: condition=TYPE, condition=TYPE=STATUS or delete. The status is True by default. A condition counts once it is
    /// about the current spec.
    #[arg(long = "for", value_name = "GOAL")]
    goal: WaitGoal,
    /// Wait for all objects of the kind that there are now.
    #[arg(long, conflicts_with = "selector")]
    all: bool,
    /// Wait for the objects with these labels that there are now, such as team=ops.
    #[arg(long, short = 'l', value_name = "SELECTOR")]
    selector: Option<String>,
    /// How long to wait, such as 90s, 5m or 1h.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = timeout)]
    timeout: Duration,
    #[command(flatten)]
    pub(super) connection: ConnectionOptions,
}

/// The longest wait: a week.
const MAX_TIMEOUT: Duration = Duration::from_hours(7 * 24);

/// Reads a time such as 90s or 1h30m.
pub(super) fn timeout(text: &str) -> Result<Duration, &'static str> {
    let time = text.parse::<jiff::SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok());
    time.filter(|time| *time <= MAX_TIMEOUT).ok_or("give a time of at most a week, such as 90s, 5m or 1h")
}

impl WaitOptions {
    /// The objects to wait for. Without names, the objects of a list.
    pub(super) fn targets(&self) -> Result<Vec<Target>, String> {
        let targets = targets::parse(&self.words)?;
        let is_list = self.all || self.selector.is_some();
        if targets.iter().any(|target| target.names.is_empty() == is_list) {
            return Ok(targets);
        }
        Err("give names of objects, or --all, or --selector".into())
    }
}

pub(super) async fn run(
    options: &WaitOptions,
    cluster: &Cluster,
    streams: &mut Streams<'_>,
) -> Result<(), CommandError> {
    let mut targets = options.targets().map_err(CommandError::Usage)?;
    list_names(&mut targets, options.selector.as_deref(), cluster).await?;
    if targets.is_empty() {
        return match options.goal {
            WaitGoal::Deletion => Ok(()),
            WaitGoal::Condition { .. } | WaitGoal::Request(_) | WaitGoal::Suspension(_) => {
                Err(CommandError::Failed(format!("no resources found in {} namespace", cluster.namespace)))
            }
        };
    }
    let goal = &options.goal;
    let timeout = options.timeout;
    ObjectWait { targets: &targets, namespace: &cluster.namespace, goal, timeout, prints_met: true }
        .run(cluster, streams)
        .await
}

/// Names the objects of targets without names. Targets without objects are left out.
pub(super) async fn list_names(
    targets: &mut Vec<Target>,
    labels: Option<&str>,
    cluster: &Cluster,
) -> Result<(), CommandError> {
    for target in targets.iter_mut().filter(|target| target.names.is_empty()) {
        let path = ObjectPath { resource: target.resource, namespace: Some(&cluster.namespace) };
        let objects = path.list(&cluster.client, labels).await?;
        target.names = objects.iter().map(|object| name(object).to_owned()).collect();
    }
    targets.retain(|target| !target.names.is_empty());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_a_time_with_a_unit() {
        assert_eq!(timeout("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(timeout("1h30m"), Ok(Duration::from_mins(90)));
        assert_eq!(timeout("0s"), Ok(Duration::ZERO));
        for bad in ["", "5", "-5m", "soon", "8d", "200h"] {
            assert!(timeout(bad).is_err(), "{bad}");
        }
    }
}
