//! The task that writes a gateway's config: entries that wait go out together in one `config.patch`.
//!
//! A new version of the config is costly for a gateway (80 to 115 ms for each agent in one patch, 4.6 s when each has its own patch;
//! `docs/gateway-facts.md#duration-of-config-writes`), and the patches are counted (30 or 3 a minute,
//! `docs/gateway-facts.md#rate-limits`). So all entries that wait go out together, and entries that come while a patch is under way go
//! out with the next patch.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::batch_window::BatchWindow;
use super::config_patch::{Patch, raw};
use super::entry_queue::{EntryQueue, MAX_ENTRIES};
use super::shared_blocks::SharedBlocks;
use super::taken::{SentEntry, Taken};
use super::write_guard::{Write, WriteGuard};
use super::write_lock::WriteLock;
use super::writer_state::WriterState;
use crate::openclaw::channel::{CONFIG_WRITE_TIMEOUT, Change, Requester, resync};
use crate::openclaw::model::{
    AgentEntry, CallError, ConfigWrites, EntryState, HeartbeatClaims, Inventory, Rewritten, WriteRefusal,
};

/// A command to the writer.
#[derive(Debug)]
pub(crate) enum WriteCommand {
    /// Write this entry; another entry that waits for the same id is replaced.
    Submit(Box<AgentEntry>),
    /// Drop the entry that waits for this id.
    Withdraw(String),
    /// This is what Muster has at the gateway, and may do for the heartbeats of others.
    Claim(Box<HeartbeatClaims>),
}

/// The task.
pub(crate) struct ConfigWriter {
    pub(crate) requester: Requester,
    pub(crate) commands: mpsc::UnboundedReceiver<WriteCommand>,
    pub(crate) inventory: watch::Receiver<Option<Arc<Inventory>>>,
    pub(crate) resync_requests: mpsc::UnboundedSender<oneshot::Sender<bool>>,
    pub(crate) writes: watch::Sender<Arc<ConfigWrites>>,
    pub(crate) changes: broadcast::Sender<Change>,
    pub(crate) lock: Arc<WriteLock>,
    pub(crate) window: BatchWindow,
    pub(crate) parts: WriterParts,
}

/// What the writer knows, before anything was submitted.
#[derive(Default)]
pub(crate) struct WriterParts {
    state: WriterState,
    queue: EntryQueue,
    guard: WriteGuard,
    shared: SharedBlocks,
    /// What the gateway took and stores otherwise, by id of the agent.
    rewritten: BTreeMap<String, Vec<Rewritten>>,
    /// The agents whose entries have news that no listener has seen.
    changed: Vec<String>,
}

/// The answer to a patch that the gateway has taken.
#[derive(Deserialize)]
struct PatchAnswer {
    /// Whether it changes nothing. 2026.3.2 does not say.
    #[serde(default)]
    noop: bool,
}

impl ConfigWriter {
    /// Runs until the last handle is gone.
    pub(crate) async fn run(mut self) {
        loop {
            self.take_commands();
            let window = self.window_ends();
            if window.is_none() && self.compose(Instant::now()).is_some() {
                self.write().await;
                self.publish();
                continue;
            }
            self.publish();
            let now = Instant::now();
            let (closed_until, next_due) = (self.parts.state.closed_until(now), self.parts.queue.next_due(now));
            // All branches are cancel-safe: channels and timers.
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(command) => self.take(command),
                    None => return,
                },
                changed = self.inventory.changed() => if changed.is_err() { return },
                changed = self.window.changed() => if changed.is_err() { return },
                () = wait_until(closed_until) => {}
                () = wait_until(window) => {}
                () = wait_until(next_due) => {}
                () = wait_until(self.parts.shared.due()) => {}
            }
        }
    }

    fn take(&mut self, command: WriteCommand) {
        match command {
            WriteCommand::Submit(entry) => self.parts.queue.submit(*entry, Instant::now()),
            WriteCommand::Withdraw(id) => {
                self.parts.queue.remove(&id);
                self.parts.rewritten.remove(&id);
            }
            WriteCommand::Claim(claims) => self.parts.shared.claim(*claims),
        }
    }

    /// Takes the commands that have come, and drops the entries that the gateway has.
    fn take_commands(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            self.take(command);
        }
        let Some(inventory) = self.inventory.borrow_and_update().clone() else { return };
        let done = self.parts.queue.remove_done(|entry| inventory.entry_state(entry) == EntryState::Current);
        self.parts.changed.extend(done);
    }

    /// The next patch, from the entries that wait and what the gateway has; `None` while no patch may go out.
    fn compose(&self, now: Instant) -> Option<Patch> {
        if self.parts.state.closed_until(now).is_some() {
            return None;
        }
        self.patch_of_all_that_waits(now)
    }

    fn patch_of_all_that_waits(&self, now: Instant) -> Option<Patch> {
        let WriterParts { queue, shared, .. } = &self.parts;
        let inventory = self.inventory.borrow().clone().filter(|inventory| inventory.settled)?;
        let mut ids = queue.batch(&inventory.config_hash, now);
        ids.retain(|id| queue.entry(id).is_some_and(|entry| shared.may_go(&inventory, entry)));
        let entries: Vec<_> = ids.iter().filter_map(|id| queue.entry(id)).collect();
        let blocks = shared.beside(&inventory, &entries)?;
        let raw = (!ids.is_empty() || !blocks.is_empty()).then(|| raw(&inventory, &entries, &blocks))?;
        Some(Patch { ids, raw, inventory })
    }

    /// When the batch window of the next patch ends; `None` when no patch is kept back for further entries.
    fn window_ends(&self) -> Option<Instant> {
        let submitted = self.parts.queue.due_since(Instant::now());
        if submitted.clone().count() >= MAX_ENTRIES {
            return None;
        }
        self.window.until(submitted, self.loses_writes())
    }

    fn loses_writes(&self) -> bool {
        self.inventory.borrow().as_ref().is_some_and(|inventory| inventory.loses_writes())
    }

    /// Sends one patch.
    ///
    /// Its content is decided when the lock is held: an agent that was removed under the lock just before must not be written again.
    async fn write(&mut self) {
        let lock = Arc::clone(&self.lock);
        let guard = lock.take(self.loses_writes()).await;
        self.take_commands();
        let Some(patch) = self.patch_of_all_that_waits(Instant::now()) else { return };
        let writes = self.writes_of(&patch);
        // The entries that are not held back go out with the next patch, at once.
        if self.hold_back_repeated(&patch, &writes) {
            return;
        }
        let began = Instant::now();
        self.window.send();
        self.parts.shared.sent(patch.ids.is_empty());
        let params = json!({ "raw": patch.raw.to_string(), "baseHash": patch.inventory.config_hash });
        let result = self.requester.call("config.patch", params, CONFIG_WRITE_TIMEOUT).await;
        // The answer has the whole config: it is not kept while the config is read again.
        let result = result.map(|answer| answer.peek().is_some_and(|PatchAnswer { noop }| noop));
        // The config is read again whatever the answer was, and before the next holder of the lock looks at it.
        let is_read = resync(&self.resync_requests).await;
        drop(guard);
        // Of entries that are refused together the others are sent again beside fewer.
        let alone = writes.len() == 1;
        if result.as_ref().err().is_none_or(|error| alone && !error.is_transient()) {
            for write in &writes {
                self.parts.guard.made(*write, began);
            }
        }
        match result {
            Ok(noop) => {
                info!(agents = patch.ids.len(), ms = began.elapsed().as_millis(), "config written");
                self.succeeded(&patch, is_read, noop);
            }
            Err(error) if is_read => self.failed(&patch, &error),
            // A gateway whose config cannot be read refuses every write to it, whatever the entry is.
            Err(error) => self.failed_for_now(&patch.ids, &error),
        }
    }

    /// What a patch writes, entry by entry.
    fn writes_of(&self, patch: &Patch) -> Vec<Write> {
        let write = |id: &String| {
            let changes = self.parts.queue.entry(id).and_then(|entry| entry.patch(patch.inventory.entry(id)));
            Write::of((id, Value::Object(changes.unwrap_or_default()).to_string()))
        };
        patch.ids.iter().map(write).collect()
    }

    /// Holds entries back whose same write was made too often. Returns whether there are any.
    fn hold_back_repeated(&mut self, patch: &Patch, writes: &[Write]) -> bool {
        let now = Instant::now();
        let mut any = false;
        for (id, write) in patch.ids.iter().zip(writes) {
            let Some(until) = self.parts.guard.held_back(*write, now) else { continue };
            let error = CallError::Repeated { method: "config.patch", wait: until - now };
            warn!(agent.id = id, seconds = (until - now).as_secs(), "the same entry was written too often");
            self.requester.meter.held_back("config.patch");
            self.parts.queue.hold_back(id, until, WriteRefusal::of(&error));
            self.parts.changed.push(id.clone());
            any = true;
        }
        any
    }

    /// The gateway has taken a patch.
    fn succeeded(&mut self, patch: &Patch, is_read: bool, noop: bool) {
        self.parts.state.open();
        self.parts.queue.rejoin();
        let after = self.inventory.borrow().clone().filter(|inventory| is_read && inventory.settled);
        if let Some(after) = after {
            self.compare(patch, &after, noop);
        }
    }

    /// Compares the entries of a patch that the gateway has taken with what it has stored. Values that it stores otherwise are
    /// accepted.
    fn compare(&mut self, patch: &Patch, after: &Inventory, noop: bool) {
        let WriterParts { queue, rewritten, changed, .. } = &mut self.parts;
        let mut lost = Vec::new();
        for id in &patch.ids {
            let Some(entry) = queue.entry(id) else { continue };
            changed.push(id.clone());
            let failures_alone = (patch.ids.len() == 1).then(|| queue.failures(id));
            let (before, after_entry) = (patch.inventory.entry(id), after.entry(id));
            match (SentEntry { entry, before, after: after_entry, noop, failures_alone }).outcome() {
                Taken::Kept => {}
                Taken::Rewritten(values) => {
                    info!(agent.id = id, rewritten = ?values, "the gateway stores values of the entry otherwise");
                    queue.remove(id);
                    rewritten.insert(id.clone(), values);
                }
                Taken::NotKept => {
                    let message = format!("the gateway takes the entry and keeps none under the id {id:?}");
                    queue.refused(id, &after.config_hash, WriteRefusal { code: "NOT_KEPT".into(), message });
                }
                Taken::Lost(seen) => lost.push((id.clone(), seen)),
            }
        }
        self.without_effect(&lost, patch.ids.len());
    }

    /// The gateway took these entries, and nothing came of them. An old gateway can lose a patch as a whole, so entries that had
    /// no effect together are sent together once more; after that each is sent alone.
    fn without_effect(&mut self, lost: &[(String, String)], of: usize) {
        let (now, queue) = (Instant::now(), &mut self.parts.queue);
        let together = of > 1 && lost.len() == of && lost.iter().all(|(id, _)| !queue.was_lost(id));
        for (id, seen) in lost {
            let said = format!("the gateway took the entry of agent {id} and {seen}");
            warn!(agent.id = id, seen, "the entry was taken without effect");
            let why = WriteRefusal::of(&CallError::Unsettled(said));
            if together {
                queue.lost(id, why, now);
            } else {
                queue.failed_alone(id, why, now);
            }
        }
    }

    /// The gateway has not taken a patch, and its config was read since.
    fn failed(&mut self, patch: &Patch, error: &CallError) {
        let now = Instant::now();
        let hash = patch.inventory.config_hash.as_str();
        let same_base = || self.inventory.borrow().as_ref().is_none_or(|inventory| inventory.config_hash == hash);
        if error.is_stale_config() && !same_base() {
            debug!("the config changed meanwhile and was read again");
            self.parts.state.repeat(now);
        } else if let Some(wait) = error.retry_after() {
            warn!(seconds = wait.as_secs(), "the gateway takes no more config writes for now");
            self.parts.changed.extend_from_slice(&patch.ids);
            self.parts.state.limit(wait, now);
        } else if error.is_transient() {
            self.failed_for_now(&patch.ids, error);
        } else {
            self.parts.state.open();
            self.refused(&patch.ids, hash, error);
        }
    }

    /// A patch failed for a reason that may pass.
    fn failed_for_now(&mut self, ids: &[String], error: &CallError) {
        let (now, refusal) = (Instant::now(), WriteRefusal::of(error));
        let after = self.parts.state.fail(ids, refusal.clone(), now);
        warn!(%error, seconds = after.wait.as_secs(), "config not written; the write is retried");
        if after.is_news {
            self.parts.changed.extend_from_slice(ids);
        }
        match ids {
            [id] => self.parts.queue.failed_alone(id, refusal, now),
            ids if after.halve => self.parts.queue.halve_provisionally(ids),
            _ => {}
        }
    }

    /// The gateway refuses the patch: a single entry is at fault, several entries are sent in halves.
    fn refused(&mut self, ids: &[String], hash: &str, error: &CallError) {
        let [id] = ids else { return self.parts.queue.halve(ids) };
        warn!(agent.id = id, code = error.code(), message = error.message(), "the gateway refuses the entry");
        self.parts.queue.refused(id, hash, WriteRefusal::of(error));
        self.parts.changed.push(id.clone());
    }

    /// Publishes the state of the writes, and then the agents whose entries changed.
    fn publish(&mut self) {
        let WriterParts { state, queue, rewritten, changed, .. } = &mut self.parts;
        let writes = ConfigWrites {
            pending: queue.pending(),
            refused: queue.all_refused(),
            delayed: queue.all_delayed(),
            rewritten: rewritten.clone(),
            budget_until: state.limited_until(Instant::now()),
            failed: state.failure().cloned(),
        };
        self.writes.send_replace(Arc::new(writes));
        for id in changed.drain(..) {
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
