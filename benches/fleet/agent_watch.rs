//! One watch of all Agents. It reads only what the benchmark waits for.

use std::collections::BTreeMap;
use std::pin::pin;

use futures::StreamExt;
use kube::api::ObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use muster::api::condition::Condition;
use muster::api::conditions::is_true;
use muster::api::{Agent, ConditionType};
use muster_harness::Failure;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// The watch. It ends when this value is dropped.
pub(crate) struct AgentWatch {
    seen: watch::Receiver<Seen>,
    task: AbortHandle,
}

/// The Agents that the watch has reported.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    is_ready: BTreeMap<String, bool>,
    /// Whether the watch has listed the Agents that were there at its start.
    pub(crate) listed: bool,
    /// The number of Agents whose Ready condition is true.
    pub(crate) ready: usize,
}

/// The parts of an Agent that the watch reads.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = Agent)]
struct AgentRow {
    metadata: ObjectMeta,
    #[serde(default)]
    status: RowStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct RowStatus {
    #[serde(default)]
    conditions: Vec<Condition>,
}

impl Seen {
    /// The number of Agents.
    pub(crate) fn agents(&self) -> usize {
        self.is_ready.len()
    }

    /// Whether the Agent is Ready.
    pub(crate) fn is_ready(&self, namespace: &str, name: &str) -> bool {
        self.is_ready.get(&format!("{namespace}/{name}")).is_some_and(|ready| *ready)
    }

    fn apply(&mut self, row: &AgentRow) {
        let ready = is_true(&row.status.conditions, ConditionType::Ready);
        let earlier = self.is_ready.insert(key(row), ready).unwrap_or_default();
        self.ready = self.ready + usize::from(ready) - usize::from(earlier);
    }

    fn delete(&mut self, row: &AgentRow) {
        let earlier = self.is_ready.remove(&key(row)).unwrap_or_default();
        self.ready -= usize::from(earlier);
    }
}

fn key(row: &AgentRow) -> String {
    let ObjectMeta { namespace, name, .. } = &row.metadata;
    format!("{}/{}", namespace.as_deref().unwrap_or_default(), name.as_deref().unwrap_or_default())
}

impl AgentWatch {
    /// Starts the watch.
    pub(crate) fn start(client: Client) -> Self {
        let (sender, seen) = watch::channel(Seen::default());
        let task = tokio::spawn(async move {
            let mut events = pin!(watcher(Api::<AgentRow>::all(client), watcher::Config::default()).default_backoff());
            while let Some(event) = events.next().await {
                match event {
                    Ok(watcher::Event::Init) => sender.send_modify(|seen| *seen = Seen::default()),
                    Ok(watcher::Event::InitApply(row) | watcher::Event::Apply(row)) => {
                        sender.send_modify(|seen| seen.apply(&row));
                    }
                    Ok(watcher::Event::Delete(row)) => sender.send_modify(|seen| seen.delete(&row)),
                    Ok(watcher::Event::InitDone) => sender.send_modify(|seen| seen.listed = true),
                    Err(error) => eprintln!("the watch of the Agents begins again: {error}"),
                }
            }
        });
        Self { seen, task: task.abort_handle() }
    }

    /// Waits for a condition.
    pub(crate) async fn wait_for(&self, condition: impl FnMut(&Seen) -> bool) -> Result<(), Failure> {
        self.seen.clone().wait_for(condition).await?;
        Ok(())
    }

    /// What the watch has reported, for messages.
    pub(crate) fn progress(&self) -> String {
        let seen = self.seen.borrow();
        format!("{} Agents, {} of them Ready", seen.agents(), seen.ready)
    }
}

impl Drop for AgentWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
