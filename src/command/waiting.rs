//! A wait for objects, by watches.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::stream::{BoxStream, SelectAll};
use futures::{Stream, StreamExt};
use serde_json::Value;
use tokio::time::Instant;

use super::object::{name, uid};
use super::object_watch::{ObjectWatch, WatchedChange};
use super::requests::{ObjectPath, RequestError};
use super::session::{Cluster, CommandError, Streams, conclude};
use super::targets::Target;
use super::wait_goal::WaitGoal;

/// After this time a wait reports its progress where no person reads standard error, too.
const QUIET: Duration = Duration::from_secs(10);

/// The objects of a wait, and what it waits for.
pub(super) struct ObjectWait<'a> {
    pub(super) targets: &'a [Target],
    /// The namespace of the objects.
    pub(super) namespace: &'a str,
    pub(super) goal: &'a WaitGoal,
    pub(super) timeout: Duration,
    /// Whether a line is printed for each object that has what the wait waits for.
    pub(super) prints_met: bool,
}

/// An object of a wait: the number of its target, and its name.
type WaitedObject = (usize, String);
type Batch = (usize, Result<Vec<WatchedChange>, RequestError>);

/// How far a wait is.
struct WaitProgress<'a> {
    wait: &'a ObjectWait<'a>,
    /// The objects that do not have what the wait waits for, and how far each is.
    pending: BTreeMap<WaitedObject, String>,
    /// The uids of the objects when the wait first saw them.
    uids: BTreeMap<WaitedObject, String>,
    /// The targets whose objects were all seen.
    complete: BTreeSet<usize>,
    failed: usize,
    /// Whether each step is reported.
    is_loud: bool,
}

impl ObjectWait<'_> {
    /// Waits for all objects.
    ///
    /// # Errors
    /// An object does not exist, or there was no time left. The error has the last reason.
    pub(super) async fn run(&self, cluster: &Cluster, streams: &mut Streams<'_>) -> Result<(), CommandError> {
        let start = Instant::now();
        let (deadline, loud_from) = (start + self.timeout, start + QUIET);
        let mut batches = self.batches(cluster);
        let mut progress = WaitProgress::new(self, streams.is_terminal);
        while !progress.pending.is_empty() {
            tokio::select! {
                biased;
                Some((target, batch)) = batches.next() => progress.take(target, batch?, streams)?,
                () = tokio::time::sleep_until(deadline) => {
                    progress.time_out(streams);
                    break;
                }
                () = tokio::time::sleep_until(loud_from), if !progress.is_loud => {
                    progress.is_loud = true;
                    progress.report_all(streams);
                }
            }
        }
        conclude(progress.failed, "object")
    }

    /// The changes of the objects of each target.
    fn batches(&self, cluster: &Cluster) -> SelectAll<BoxStream<'static, Batch>> {
        let watches = self.targets.iter().enumerate().map(|(index, target)| {
            let path = ObjectPath { resource: target.resource, namespace: Some(self.namespace) };
            let only = if let [name] = target.names.as_slice() { Some(name.as_str()) } else { None };
            changes(index, ObjectWatch::new(&cluster.client, path, None, only)).boxed()
        });
        futures::stream::select_all(watches)
    }
}

fn changes(target: usize, watch: ObjectWatch) -> impl Stream<Item = Batch> + Send {
    futures::stream::unfold(watch, move |mut watch| async move {
        let batch = watch.next().await;
        Some(((target, batch), watch))
    })
}

impl<'a> WaitProgress<'a> {
    fn new(wait: &'a ObjectWait<'a>, is_loud: bool) -> Self {
        let objects = wait.targets.iter().enumerate();
        let objects = objects.flat_map(|(index, target)| target.names.iter().map(move |name| (index, name.clone())));
        let pending = objects.map(|object| (object, "nothing is known of it yet".to_owned())).collect();
        Self { wait, pending, uids: BTreeMap::new(), complete: BTreeSet::new(), failed: 0, is_loud }
    }

    fn label(&self, (target, name): &WaitedObject) -> String {
        self.wait.targets[*target].resource.label(name)
    }

    /// Takes the changes of the objects of a target. The first ones have all objects.
    fn take(
        &mut self,
        target: usize,
        batch: Vec<WatchedChange>,
        streams: &mut Streams<'_>,
    ) -> Result<(), CommandError> {
        let is_list = !batch.iter().any(|change| matches!(change, WatchedChange::Interrupted(_)));
        for change in batch {
            match change {
                WatchedChange::Seen(object) => self.see(target, &object, streams)?,
                WatchedChange::Gone(object) => self.lose(&(target, name(&object).to_owned()), streams)?,
                WatchedChange::Interrupted(cause) => {
                    if self.is_loud {
                        streams.note(&format!("{cause}; trying again"));
                    }
                }
            }
        }
        if is_list && self.complete.insert(target) {
            let is_missing = |object: &&WaitedObject| object.0 == target && !self.uids.contains_key(*object);
            let missing: Vec<_> = self.pending.keys().filter(is_missing).cloned().collect();
            for object in missing {
                self.lose(&object, streams)?;
            }
        }
        Ok(())
    }

    fn see(&mut self, target: usize, object: &Value, streams: &mut Streams<'_>) -> Result<(), CommandError> {
        let key = (target, name(object).to_owned());
        let Some(last) = self.pending.get(&key) else { return Ok(()) };
        let first_uid = self.uids.entry(key.clone()).or_insert_with(|| uid(object).to_owned());
        // Another object of this name: the one that was there is gone.
        let is_another = first_uid != uid(object) && *self.wait.goal == WaitGoal::Deletion;
        if is_another || self.wait.goal.is_met(object) {
            let outcome = self.wait.goal.outcome(object);
            return self.meet(&key, &outcome, streams);
        }
        let text = self.wait.goal.progress(object);
        if *last != text {
            if self.is_loud {
                streams.note(&format!("{}: {text}", self.label(&key)));
            }
            self.pending.insert(key, text);
        }
        Ok(())
    }

    fn lose(&mut self, object: &WaitedObject, streams: &mut Streams<'_>) -> Result<(), CommandError> {
        if !self.pending.contains_key(object) {
            return Ok(());
        }
        match self.wait.goal {
            WaitGoal::Deletion => self.meet(object, "condition met", streams),
            WaitGoal::Condition { .. } | WaitGoal::Request(_) | WaitGoal::Suspension(_) => {
                self.pending.remove(object);
                self.failed += 1;
                let quoted = self.wait.targets[object.0].resource.quoted(&object.1);
                let was_there = self.uids.contains_key(object);
                let cause = if was_there { "was deleted during the wait" } else { "not found" };
                streams.note(&format!("{quoted} {cause}"));
                Ok(())
            }
        }
    }

    fn meet(&mut self, object: &WaitedObject, outcome: &str, streams: &mut Streams<'_>) -> Result<(), CommandError> {
        self.pending.remove(object);
        if self.wait.prints_met { streams.print(&format!("{} {outcome}\n", self.label(object))) } else { Ok(()) }
    }

    fn report_all(&self, streams: &mut Streams<'_>) {
        for (object, text) in &self.pending {
            streams.note(&format!("{}: {text}", self.label(object)));
        }
    }

    fn time_out(&mut self, streams: &mut Streams<'_>) {
        let (goal, seconds) = (self.wait.goal, self.wait.timeout.as_secs());
        for (object, text) in &self.pending {
            streams
                .note(&format!("{}: no time left after {seconds} s of waiting for {goal}: {text}", self.label(object)));
        }
        self.failed += self.pending.len();
    }
}
