//! The task that writes a gateway's config: the queued entries are written together in one `config.patch`.
//!
//! A new version of the config is costly for a gateway (80 to 115 ms for each agent in one patch, 4.6 s when each has its own patch;
//! `docs/gateway-facts.md#duration-of-config-writes`), and the patches are counted (30 or 3 a minute,
//! `docs/gateway-facts.md#rate-limits`). So all queued entries are written together, and entries that are submitted during
//! a write are written by the next patch.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::batch_window::BatchWindow;
use super::config_patch::{Patch, raw};
use super::entry_outcome::{EntryOutcome, SentEntry};
use super::entry_queue::{EntryQueue, MAX_ENTRIES};
use super::shared_blocks::SharedBlocks;
use super::write_guard::{WriteGuard, WriteHash};
use super::write_lock::WriteLock;
use super::writer_state::WriterState;
use crate::openclaw::channel::{CONFIG_WRITE_TIMEOUT, Change, Requester, resync};
use crate::openclaw::model::{
    AgentEntry, CallError, ConfigWrites, EntryState, HeartbeatClaims, Inventory, Rewritten, WriteRefusal,
};

/// A command to the writer.
#[derive(Debug)]
pub(crate) enum WriteCommand {
    /// Queue this entry. It replaces a queued entry with the same id.
    Submit(Box<AgentEntry>),
    /// Remove the queued entry of this id.
    Withdraw(String),
    /// Set the claims: Muster's agents, and the recorded heartbeat blocks.
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

/// The state of the writer.
#[derive(Default)]
pub(crate) struct WriterParts {
    state: WriterState,
    queue: EntryQueue,
    guard: WriteGuard,
    shared: SharedBlocks,
    /// The values that the gateway stores in another form, by id of the agent.
    rewritten: BTreeMap<String, Vec<Rewritten>>,
    /// The agents whose entries changed their state since the last publication.
    changed: Vec<String>,
}

/// The answer to an acknowledged patch.
#[derive(Deserialize)]
struct PatchAnswer {
    /// Whether the patch changed nothing. 2026.3.2 does not report it.
    #[serde(default)]
    noop: bool,
}

impl ConfigWriter {
    /// Runs until the last handle is gone.
    pub(crate) async fn run(mut self) {
        loop {
            self.take_commands();
            let window = self.window_ends();
            if window.is_none() && self.is_write_due(Instant::now()) {
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

    /// Handles the received commands, and removes the entries that the gateway has.
    fn take_commands(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            self.take(command);
        }
        let Some(inventory) = self.inventory.borrow_and_update().clone() else { return };
        let done = self.parts.queue.remove_done(|entry| inventory.entry_state(entry) == EntryState::Current);
        self.parts.changed.extend(done);
    }

    /// Whether a patch may be written now, and there is something to write.
    fn is_write_due(&self, now: Instant) -> bool {
        self.parts.state.closed_until(now).is_none() && self.compose_patch(now).is_some()
    }

    /// The next patch, from the queued entries and the inventory; `None` without anything to write.
    fn compose_patch(&self, now: Instant) -> Option<Patch> {
        let WriterParts { queue, shared, .. } = &self.parts;
        let inventory = self.inventory.borrow().clone().filter(|inventory| inventory.settled)?;
        let mut ids = queue.batch(&inventory.config_hash, now);
        ids.retain(|id| queue.entry(id).is_some_and(|entry| shared.may_be_written(&inventory, entry)));
        let entries: Vec<_> = ids.iter().filter_map(|id| queue.entry(id)).collect();
        let blocks = shared.blocks_for_patch(&inventory, &entries)?;
        let raw = (!ids.is_empty() || !blocks.is_empty()).then(|| raw(&inventory, &entries, &blocks))?;
        Some(Patch { ids, raw, inventory })
    }

    /// The end of the batch window of the next patch; `None` if the patch waits for no further entries.
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
    /// Its content is composed under the lock, because an agent that was just removed under the lock must not be written again.
    async fn write(&mut self) {
        let lock = Arc::clone(&self.lock);
        let guard = lock.take(self.loses_writes()).await;
        self.take_commands();
        let Some(patch) = self.compose_patch(Instant::now()) else { return };
        let writes = self.writes_of(&patch);
        // The other entries are written by the next patch, at once.
        if self.hold_back_repeated(&patch, &writes) {
            return;
        }
        let began = Instant::now();
        self.window.send();
        self.parts.shared.sent(patch.ids.is_empty());
        let params = json!({ "raw": patch.raw.to_string(), "baseHash": patch.inventory.config_hash });
        let result = self.requester.call("config.patch", params, CONFIG_WRITE_TIMEOUT).await;
        // The answer contains the whole config. It is dropped before the config is read again.
        let result = result.map(|answer| answer.peek().is_some_and(|PatchAnswer { noop }| noop));
        // The config is read again whatever the answer was, and before the next holder of the lock looks at it.
        let is_read = resync(&self.resync_requests).await;
        drop(guard);
        // Entries of a refused patch are sent again in halves, which are no identical writes.
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
            // A gateway whose config cannot be read refuses each write, whatever the entry is.
            Err(error) => self.failed_for_now(&patch.ids, &error),
        }
    }

    /// The hashes of the writes in a patch, one per entry.
    fn writes_of(&self, patch: &Patch) -> Vec<WriteHash> {
        let write = |id: &String| {
            let changes = self.parts.queue.entry(id).and_then(|entry| entry.patch(patch.inventory.entry(id)));
            WriteHash::of((id, Value::Object(changes.unwrap_or_default()).to_string()))
        };
        patch.ids.iter().map(write).collect()
    }

    /// Delays the entries whose identical write was made too often. Returns whether there are any.
    fn hold_back_repeated(&mut self, patch: &Patch, writes: &[WriteHash]) -> bool {
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

    /// Handles an acknowledged patch.
    fn succeeded(&mut self, patch: &Patch, is_read: bool, noop: bool) {
        self.parts.state.open();
        self.parts.queue.rejoin();
        let after = self.inventory.borrow().clone().filter(|inventory| is_read && inventory.settled);
        if let Some(after) = after {
            self.compare(patch, &after, noop);
        }
    }

    /// Compares the entries of an acknowledged patch with the config.
    fn compare(&mut self, patch: &Patch, after: &Inventory, noop: bool) {
        let WriterParts { queue, rewritten, changed, .. } = &mut self.parts;
        let mut lost = Vec::new();
        for id in &patch.ids {
            let Some(entry) = queue.entry(id) else { continue };
            changed.push(id.clone());
            let failures_alone = (patch.ids.len() == 1).then(|| queue.failures(id));
            let (before, after_entry) = (patch.inventory.entry(id), after.entry(id));
            match (SentEntry { entry, before, after: after_entry, noop, failures_alone }).outcome() {
                EntryOutcome::Stored => {}
                EntryOutcome::Rewritten(values) => {
                    info!(agent.id = id, rewritten = ?values, "the gateway stores values of the entry in another form");
                    queue.remove(id);
                    rewritten.insert(id.clone(), values);
                }
                EntryOutcome::NotStored => {
                    let message = format!("the gateway acknowledges the entry and stores none under the id {id:?}");
                    queue.refused(id, &after.config_hash, WriteRefusal { code: "NOT_KEPT".into(), message });
                }
                EntryOutcome::NoEffect(seen) => lost.push((id.clone(), seen)),
            }
        }
        self.without_effect(&lost, patch.ids.len());
    }

    /// Handles entries of an acknowledged patch without effect. An old gateway can lose a whole patch, so these entries are sent together
    /// once more. After that each entry is sent alone.
    fn without_effect(&mut self, lost: &[(String, String)], of: usize) {
        let (now, queue) = (Instant::now(), &mut self.parts.queue);
        let together = of > 1 && lost.len() == of && lost.iter().all(|(id, _)| !queue.was_lost(id));
        for (id, seen) in lost {
            let message = format!("the gateway acknowledged the entry of agent {id}, and {seen}");
            warn!(agent.id = id, seen, "the entry was acknowledged without effect");
            let why = WriteRefusal::of(&CallError::Unsettled(message));
            if together {
                queue.lost(id, why, now);
            } else {
                queue.failed_alone(id, why, now);
            }
        }
    }

    /// Handles a refused patch. The config was read again.
    fn failed(&mut self, patch: &Patch, error: &CallError) {
        let now = Instant::now();
        let hash = patch.inventory.config_hash.as_str();
        let same_base = || self.inventory.borrow().as_ref().is_none_or(|inventory| inventory.config_hash == hash);
        if error.is_stale_config() && !same_base() {
            debug!("the config changed meanwhile and was read again");
            self.parts.state.repeat(now);
        } else if let Some(wait) = error.retry_after() {
            warn!(seconds = wait.as_secs(), "the gateway accepts no more config writes for now");
            self.parts.changed.extend_from_slice(&patch.ids);
            self.parts.state.limit(wait, now);
        } else if error.is_transient() {
            self.failed_for_now(&patch.ids, error);
        } else {
            self.parts.state.open();
            self.refused(&patch.ids, hash, error);
        }
    }

    /// Handles a transient failure of a patch.
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

    /// Handles a permanent refusal of a patch: a single entry is at fault, several entries are sent in halves.
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
            // There may be no receiver.
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
