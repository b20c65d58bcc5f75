//! The one writer of a gateway's config: entries that wait are gathered into one `config.patch`.
//!
//! A new version of the config is costly for a gateway (measured: 80 to 115 ms for each agent in one patch, 4.6 s when each
//! has its own) and the patches are counted (30 or 3 a minute). So whatever waits goes out together, and what comes while
//! a patch is under way goes out with the next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::batch_window::BatchWindow;
use super::config_patch::{Patch, raw};
use super::entry_queue::{EntryQueue, MOST, pause};
use super::shared_blocks::SharedBlocks;
use super::write_guard::{Write, WriteGuard};
use super::write_lock::WriteLock;
use crate::openclaw::channel::{CONFIG_WRITE_TIMEOUT, Change, Requester, resync};
use crate::openclaw::model::rewritten::value_at;
use crate::openclaw::model::{
    AgentEntry, CallError, ConfigWrites, EntryState, HeartbeatClaims, Inventory, Rewritten, WriteRefusal,
};

/// What the writer is told.
#[derive(Debug)]
pub(crate) enum WriteCommand {
    Submit(Box<AgentEntry>),
    Withdraw(String),
    Claim(Box<HeartbeatClaims>),
}

/// Config writes that failed one after the other for a reason that may pass.
#[derive(Debug)]
pub(crate) struct Failing {
    times: u32,
    last: WriteRefusal,
    /// The entry that all of them had alone: it may be at fault by itself, and no other waits for it.
    only: Option<String>,
}

/// The task.
pub(crate) struct ConfigWriter {
    pub(crate) caller: Requester,
    pub(crate) commands: mpsc::UnboundedReceiver<WriteCommand>,
    pub(crate) inventory: watch::Receiver<Option<Arc<Inventory>>>,
    pub(crate) wanted: mpsc::UnboundedSender<oneshot::Sender<bool>>,
    pub(crate) writes: watch::Sender<Arc<ConfigWrites>>,
    pub(crate) changes: broadcast::Sender<Change>,
    pub(crate) turns: Arc<WriteLock>,
    pub(crate) queue: EntryQueue,
    pub(crate) guard: WriteGuard,
    /// What the gateway took and stores otherwise, by id of the agent.
    pub(crate) rewritten: BTreeMap<String, Vec<Rewritten>>,
    pub(crate) failing: Option<Failing>,
    pub(crate) gathering: BatchWindow,
    pub(crate) shared: SharedBlocks,
    /// Whose entries something became of that has not been told.
    pub(crate) news: Vec<String>,
}

/// How often an entry is sent alone before what the gateway stores is accepted, where it does not say that nothing changed.
const TRIES: u32 = 2;

/// Whether the gateway put another name of a model in the place of the one that was sent. Any other value may have been changed by
/// somebody else at the same moment: only a second write tells.
fn is_renamed(rewrite: &Rewritten, was: &Map<String, Value>, is: &Map<String, Value>) -> bool {
    matches!(rewrite.field.as_str(), "model" | "heartbeat.model")
        && value_at(was, &rewrite.field) != value_at(is, &rewrite.field)
}

/// The answer to a patch that the gateway has taken.
#[derive(Deserialize)]
struct Taken {
    /// Whether it changes nothing. 2026.3.2 does not say.
    #[serde(default)]
    noop: bool,
}

/// From so many failures in a row on, entries that fail together are tried in halves: one of them may be at fault.
const APART_AFTER: u32 = 3;

impl ConfigWriter {
    /// Runs until the last handle is gone.
    pub(crate) async fn run(mut self) {
        let mut not_before: Option<Instant> = None;
        loop {
            self.clear();
            let kept_back = self.kept_back();
            if kept_back.is_none() && self.compose(not_before).is_some() {
                not_before = self.patch().await;
                self.publish(not_before);
                continue;
            }
            self.publish(not_before);
            let next_due = self.queue.next_due(Instant::now());
            // All branches are cancel-safe: channels and timers.
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(command) => self.take(command),
                    None => return,
                },
                changed = self.inventory.changed() => if changed.is_err() { return },
                changed = self.gathering.changed() => if changed.is_err() { return },
                () = wait_until(not_before) => not_before = None,
                () = wait_until(kept_back) => {}
                () = wait_until(next_due) => {}
                () = wait_until(self.shared.due()) => {}
            }
        }
    }

    fn take(&mut self, command: WriteCommand) {
        match command {
            WriteCommand::Submit(entry) => self.queue.submit(*entry, Instant::now()),
            WriteCommand::Withdraw(id) => {
                self.queue.remove(&id);
                self.rewritten.remove(&id);
            }
            WriteCommand::Claim(claims) => self.shared.claim(*claims),
        }
    }

    /// Takes what was said, and drops what the gateway has.
    fn clear(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            self.take(command);
        }
        let Some(inventory) = self.inventory.borrow_and_update().clone() else { return };
        let done = self.queue.remove_done(|entry| inventory.entry_state(entry) == EntryState::Current);
        self.news.extend(done);
    }

    /// The next patch, from what waits and what the gateway has.
    fn compose(&self, not_before: Option<Instant>) -> Option<Patch> {
        let inventory = self.inventory.borrow().clone()?;
        let now = Instant::now();
        if not_before.is_some_and(|at| at > now) || !inventory.settled {
            return None;
        }
        let mut ids = self.queue.batch(&inventory.config_hash, now);
        ids.retain(|id| self.queue.entry(id).is_some_and(|entry| self.shared.may_go(&inventory, entry)));
        let entries: Vec<_> = ids.iter().filter_map(|id| self.queue.entry(id)).collect();
        let blocks = self.shared.beside(&inventory, &entries)?;
        let raw = (!ids.is_empty() || !blocks.is_empty()).then(|| raw(&inventory, &entries, &blocks))?;
        Some(Patch { ids, raw, inventory })
    }

    /// Until when the next patch is kept back for what comes meanwhile.
    fn kept_back(&self) -> Option<Instant> {
        let left = self.queue.due_since(Instant::now());
        if left.clone().count() >= MOST {
            return None;
        }
        let few = self.inventory.borrow().as_ref().is_some_and(|inventory| inventory.loses_writes());
        self.gathering.until(left, few)
    }

    /// Sends one patch. Gives the time before which no other may be sent.
    ///
    /// What is in it is decided when its turn has come: an agent that was removed in the turn before must not be
    /// written again.
    async fn patch(&mut self) -> Option<Instant> {
        let loses = self.inventory.borrow().as_ref().is_some_and(|i| i.loses_writes());
        let turns = Arc::clone(&self.turns);
        let turn = turns.take(loses).await;
        self.clear();
        let patch = self.compose(None)?;
        let writes = self.writes_of(&patch);
        if self.hold_back_repeated(&patch, &writes) {
            // The others go out with the next one, at once.
            return None;
        }
        let began = Instant::now();
        self.gathering.send();
        self.shared.sent(patch.ids.is_empty());
        let params = json!({ "raw": patch.raw.to_string(), "baseHash": patch.inventory.config_hash });
        let result = self.caller.call("config.patch", params, CONFIG_WRITE_TIMEOUT).await;
        // The answer has the whole config: it is not kept while the config is read again.
        let result = result.map(|answer| answer.peek().is_some_and(|Taken { noop }| noop));
        // Whatever the answer was, what the gateway has now is what counts; whoever has the next turn sees it.
        let read = resync(&self.wanted).await;
        drop(turn);
        // Of entries that are refused together the others are sent again beside fewer.
        let alone = writes.len() == 1;
        if result.as_ref().err().is_none_or(|error| alone && !error.is_transient()) {
            for write in &writes {
                self.guard.made(*write, began);
            }
        }
        match result {
            Ok(noop) => {
                info!(agents = patch.ids.len(), ms = began.elapsed().as_millis(), "config written");
                self.failing = None;
                self.queue.regroup();
                let after = self.inventory.borrow().clone().filter(|inventory| read && inventory.settled);
                if let Some(after) = after {
                    self.written(&patch, &after, noop);
                }
                None
            }
            Err(error) if read => self.failed(&patch, &error),
            // A gateway whose config cannot be read refuses every write to it, whatever the entry is.
            Err(error) => Some(Instant::now() + self.failed_again(&patch.ids, &error)),
        }
    }

    /// What a patch writes, entry by entry.
    fn writes_of(&self, patch: &Patch) -> Vec<Write> {
        let write = |id: &String| {
            let there = patch.inventory.agents.get(id).and_then(|row| row.entry.as_ref());
            let changes = self.queue.entry(id).and_then(|entry| entry.patch(there));
            Write::of((id, Value::Object(changes.unwrap_or_default()).to_string()))
        };
        patch.ids.iter().map(write).collect()
    }

    /// Holds entries back whose same write was made too often. Whether there are any.
    fn hold_back_repeated(&mut self, patch: &Patch, writes: &[Write]) -> bool {
        let now = Instant::now();
        let mut any = false;
        for (id, write) in patch.ids.iter().zip(writes) {
            let Some(until) = self.guard.held_back(*write, now) else { continue };
            let error = CallError::Repeated { method: "config.patch", wait: until - now };
            warn!(agent.id = id, seconds = (until - now).as_secs(), "the same entry was written too often");
            self.caller.meter.held_back("config.patch");
            self.queue.hold_back(id, until, WriteRefusal::of(&error));
            self.news.push(id.clone());
            any = true;
        }
        any
    }

    /// What follows from a write that the gateway has taken. What it stores otherwise is accepted.
    fn written(&mut self, patch: &Patch, after: &Inventory, noop: bool) {
        let mut lost = Vec::new();
        for id in &patch.ids {
            let Some(entry) = self.queue.entry(id) else { continue };
            self.news.push(id.clone());
            if after.entry_state(entry) == EntryState::Current {
                continue;
            }
            let there = |inventory: &Inventory| inventory.agents.get(id).and_then(|row| row.entry.clone());
            let (was, is) = (there(&patch.inventory).unwrap_or_default(), there(after));
            let Some(is) = is else {
                if noop {
                    let message = format!("the gateway takes the entry and keeps none under the id {id:?}");
                    self.queue.refused(id, &after.config_hash, WriteRefusal { code: "NOT_KEPT".into(), message });
                } else {
                    lost.push((id.clone(), "its config has no such entry".to_owned()));
                }
                continue;
            };
            let rewritten = entry.rewrites(&is);
            let persists = patch.ids.len() == 1 && self.queue.failures(id) >= TRIES;
            if noop || persists || rewritten.iter().all(|r| entry.rewritten.contains(r) || is_renamed(r, &was, &is)) {
                info!(agent.id = id, ?rewritten, "the gateway stores values of the entry otherwise");
                self.queue.remove(id);
                self.rewritten.insert(id.clone(), rewritten);
            } else {
                let fields: Vec<_> = rewritten.iter().map(|r| r.field.as_str()).collect();
                lost.push((id.clone(), format!("its config does not have {} so", fields.join(", "))));
            }
        }
        self.without_effect(&lost, patch.ids.len());
    }

    /// The gateway took these entries, and nothing came of them. An old gateway can lose a patch as a whole, so entries that had
    /// no effect together are sent together once more; after that each is sent alone.
    fn without_effect(&mut self, lost: &[(String, String)], of: usize) {
        let now = Instant::now();
        let together = of > 1 && lost.len() == of && lost.iter().all(|(id, _)| !self.queue.was_lost(id));
        for (id, seen) in lost {
            let said = format!("the gateway took the entry of agent {id} and {seen}");
            warn!(agent.id = id, seen, "the entry was taken without effect");
            let why = WriteRefusal::of(&CallError::Unsettled(said));
            if together {
                self.queue.lost(id, why, now);
            } else {
                self.queue.failed_alone(id, why, now);
            }
        }
    }

    fn failed(&mut self, patch: &Patch, error: &CallError) -> Option<Instant> {
        let hash = patch.inventory.config_hash.as_str();
        let same_base = || self.inventory.borrow().as_ref().is_none_or(|inventory| inventory.config_hash == hash);
        if error.is_stale_config() && !same_base() {
            debug!("the config changed meanwhile and was read again");
            return None;
        }
        if let Some(wait) = error.retry_after() {
            warn!(seconds = wait.as_secs(), "the gateway takes no more config writes for now");
            self.news.extend_from_slice(&patch.ids);
            self.failing = None;
            return Some(Instant::now() + wait);
        }
        if error.is_transient() {
            return Some(Instant::now() + self.failed_again(&patch.ids, error));
        }
        self.failing = None;
        self.refused(&patch.ids, hash, error);
        None
    }

    /// Takes note of a failure that may pass, and says how long no patch is sent. An entry that fails by itself waits longer
    /// than the others.
    fn failed_again(&mut self, ids: &[String], error: &CallError) -> Duration {
        let last = WriteRefusal::of(error);
        let before = self.failing.take();
        if before.as_ref().is_none_or(|failing| failing.last != last) {
            self.news.extend_from_slice(ids);
        }
        let only = match (ids, &before) {
            ([id], None) => Some(id.clone()),
            ([id], Some(failing)) => failing.only.clone().filter(|only| only == id),
            (_, _) => None,
        };
        let times = before.map_or(0, |failing| failing.times).saturating_add(1);
        match ids {
            [id] => self.queue.failed_alone(id, last.clone(), Instant::now()),
            ids if times >= APART_AFTER => self.queue.halve_for_now(ids),
            _ => {}
        }
        let wait = pause(if only.is_some() { 1 } else { times });
        warn!(%error, seconds = wait.as_secs(), "config not written, it is tried again");
        self.failing = Some(Failing { times, last, only });
        wait
    }

    /// The gateway refuses the patch: a single entry is at fault, several are tried in halves.
    fn refused(&mut self, ids: &[String], hash: &str, error: &CallError) {
        let [id] = ids else { return self.queue.halve(ids) };
        warn!(agent.id = id, code = error.code(), message = error.message(), "the gateway refuses the entry");
        self.queue.refused(id, hash, WriteRefusal::of(error));
        self.news.push(id.clone());
    }

    /// Shows how things stand, and then tells whom it concerns.
    fn publish(&mut self, not_before: Option<Instant>) {
        let writes = ConfigWrites {
            pending: self.queue.pending(),
            refused: self.queue.all_refused(),
            delayed: self.queue.all_delayed(),
            rewritten: self.rewritten.clone(),
            budget_until: not_before.filter(|at| self.failing.is_none() && *at > Instant::now() + pause(1)),
            failed: self.failing.as_ref().map(|failing| failing.last.clone()),
        };
        self.writes.send_replace(Arc::new(writes));
        for id in self.news.drain(..) {
            // Nobody has to listen.
            let _ = self.changes.send(Change::Agent(id));
        }
    }
}

async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
