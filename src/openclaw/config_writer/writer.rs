//! The task that writes a gateway's config: the queued entries are written together in one `config.patch`.
//!
//! A new version of the config is costly for a gateway (80 to 115 ms for each agent in one patch, 4.6 s when each has its own patch;
//! `docs/gateway-facts.md#duration-of-config-writes`), and the patches are counted (30 or 3 a minute,
//! `docs/gateway-facts.md#rate-limits`). So all queued entries are written together, and entries that are submitted during
//! a write are written by the next patch.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::DropGuard;
use tracing::{info, warn};

use super::batch_window::BatchWindow;
use super::config_patch::{Patch, change};
use super::entry_losses::EntryLosses;
use super::entry_queue::EntryQueue;
use super::recheck::Recheck;
use super::shared_blocks::SharedBlocks;
use super::unwritable::Unwritable;
use super::write_guard::{WriteGuard, WriteHash};
use super::writer_state::WriterState;
use crate::openclaw::channel::{Change, Requester, resync};
use crate::openclaw::model::writes::EntryWriteState;
use crate::openclaw::model::{
    AgentEntry, CallError, ConfigWrites, EntryState, HeartbeatClaims, Inventory, Rewritten, WriteRefusal,
};
use crate::openclaw::roster_queue::{RosterQueue, RosterView};

/// A command to the writer.
#[derive(Debug)]
pub(crate) enum WriteCommand {
    /// Queue this entry. It replaces a queued entry with the same id.
    Submit(Box<AgentEntry>),
    /// Remove the queued entry of this id.
    Withdraw(String),
    /// Set the claims: Muster's agents, and the recorded heartbeat blocks.
    Claim(Box<HeartbeatClaims>),
    /// The agent of this id is about to be deleted.
    Delete(String),
    /// The result of a creation: why the gateway could not write its config, or nothing.
    Created(Option<WriteRefusal>),
}

/// The task.
pub(crate) struct ConfigWriter {
    pub(crate) requester: Requester,
    pub(crate) commands: mpsc::UnboundedReceiver<WriteCommand>,
    pub(crate) inventory: watch::Receiver<Option<Arc<Inventory>>>,
    pub(crate) resync_requests: mpsc::UnboundedSender<oneshot::Sender<bool>>,
    pub(crate) writes: watch::Sender<ConfigWrites>,
    pub(crate) changes: broadcast::Sender<Change>,
    pub(crate) roster: RosterQueue,
    /// Keeps the connection open during a write.
    pub(crate) connection: Weak<DropGuard>,
    pub(crate) window: BatchWindow,
    pub(crate) parts: WriterParts,
}

/// The state of the writer.
#[derive(Default)]
pub(crate) struct WriterParts {
    pub(super) state: WriterState,
    pub(super) queue: EntryQueue,
    pub(super) guard: WriteGuard,
    pub(super) shared: SharedBlocks,
    pub(super) recheck: Recheck,
    /// The values that the gateway stores in another form, by id of the agent.
    pub(super) rewritten: BTreeMap<String, Vec<Rewritten>>,
    pub(super) unwritable: Unwritable,
    pub(super) losses: EntryLosses,
    /// The agents whose entries changed their state since the last publication.
    pub(super) changed: Vec<String>,
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
        while !self.commands.is_closed() {
            self.take_changes();
            self.publish();
            let now = Instant::now();
            let window = self.window_ends(now);
            if window.is_none() && self.may_write(now) {
                let (inventory, resync_requests) = (self.inventory.clone(), self.resync_requests.clone());
                let roster = self.roster.clone();
                match roster.run(RosterView { inventory, resync_requests }, self.write()).await {
                    Some(writer) => self = writer,
                    None => return,
                }
                continue;
            }
            let WriterParts { state, queue, shared, recheck, unwritable, .. } = &mut self.parts;
            let (closed_until, next_due, blocks_due) = (state.closed_until(now), queue.next_due(), shared.due());
            let forgotten = unwritable.until();
            // All branches are cancel-safe: channels and timers.
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(command) => self.take(command),
                    None => return,
                },
                changed = self.inventory.changed() => match changed {
                    Ok(()) => self.inventory.mark_changed(),
                    Err(_) => return,
                },
                changed = self.window.changed() => if changed.is_err() { return },
                () = wait_until(closed_until) => {}
                () = wait_until(window) => {}
                () = wait_until(next_due) => {}
                () = wait_until(forgotten) => {}
                () = wait_until(blocks_due) => recheck.blocks(),
            }
        }
    }

    fn take(&mut self, command: WriteCommand) {
        let WriterParts { queue, shared, recheck, rewritten, unwritable, losses, changed, .. } = &mut self.parts;
        match command {
            WriteCommand::Submit(entry) => {
                let is_current = |i: &Arc<Inventory>| i.entry_state(&entry) == EntryState::Current;
                if self.inventory.borrow().as_ref().is_some_and(is_current) {
                    if queue.remove(&entry.id) {
                        recheck.all();
                    }
                    changed.push(entry.id);
                } else if queue.submit(*entry, Instant::now()) {
                    recheck.all();
                } else {
                    recheck.entries();
                }
            }
            WriteCommand::Withdraw(id) => {
                if queue.remove(&id) {
                    recheck.all();
                }
                if rewritten.remove(&id).is_some() {
                    queue.touch(id);
                }
            }
            WriteCommand::Claim(claims) => {
                let inventory = self.inventory.borrow();
                losses.claim(&claims, |id| inventory.as_ref().is_some_and(|inventory| inventory.has_entry(id)));
                if shared.claim(*claims) {
                    recheck.all();
                }
            }
            WriteCommand::Delete(id) => losses.forget(&id),
            WriteCommand::Created(None) => unwritable.written(),
            WriteCommand::Created(Some(why)) => unwritable.failed(why, false, Instant::now()),
        }
    }

    /// Handles the received commands and a new inventory, and ends the waits that are over.
    fn take_changes(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            self.take(command);
        }
        if self.inventory.has_changed().unwrap_or(false) {
            self.take_inventory();
        }
        if self.parts.queue.wake(Instant::now()) {
            self.parts.recheck.entries();
        }
    }

    /// Removes the entries that the gateway has, and forgets the stored values of agents that the gateway no longer has.
    fn take_inventory(&mut self) {
        let WriterParts { queue, recheck, rewritten, losses, .. } = &mut self.parts;
        let Some(inventory) = self.inventory.borrow_and_update().clone() else { return };
        losses.see(|id| inventory.has_entry(id), Instant::now());
        recheck.all();
        // The informer reports the change of their entries.
        queue.remove_done(|entry| inventory.entry_state(entry) == EntryState::Current);
        rewritten.retain(|id, _| {
            let is_configured = inventory.has_entry(id);
            if !is_configured {
                queue.touch(id.clone());
            }
            is_configured
        });
    }

    /// Whether a patch may be sent now, and there may be something to write.
    fn may_write(&mut self, now: Instant) -> bool {
        let WriterParts { state, queue, shared, recheck, .. } = &mut self.parts;
        let inventory = self.inventory.borrow().clone().filter(|inventory| is_writable(inventory));
        let Some(inventory) = inventory.filter(|_| state.closed_until(now).is_none()) else { return false };
        recheck.is_due(queue.has_candidates(), || {
            shared.blocks_for_patch(&inventory, &[]).is_some_and(|blocks| !blocks.is_empty())
        })
    }

    /// The next patch, from the queued entries and the inventory; `None` without anything to write.
    fn compose_patch(&mut self) -> Option<Patch> {
        let WriterParts { queue, shared, recheck, .. } = &mut self.parts;
        let inventory = self.inventory.borrow().clone().filter(|inventory| is_writable(inventory))?;
        recheck.done();
        let ids = queue.batch(&inventory.config_hash, |entry| shared.may_be_written(&inventory, entry));
        let entries: Vec<_> = ids.iter().filter_map(|id| queue.entry(id)).collect();
        let Some(blocks) = shared.blocks_for_patch(&inventory, &entries) else {
            recheck.wait_for_record();
            return None;
        };
        let change = (!ids.is_empty() || !blocks.is_empty()).then(|| change(&inventory, &entries, &blocks))?;
        Some(Patch { ids, change, inventory })
    }

    /// The end of the batch window of the next patch; `None` if the patch waits for no further entries.
    fn window_ends(&self, now: Instant) -> Option<Instant> {
        self.window.until(&self.parts.queue.due()?, self.loses_writes(), now)
    }

    fn loses_writes(&self) -> bool {
        self.inventory.borrow().as_ref().is_some_and(|inventory| inventory.loses_writes())
    }

    /// Sends one patch, in the turn of the writer.
    ///
    /// Its content is composed in the turn, because an agent that was just removed must not be written again. The writer moves
    /// into the turn and comes back from it.
    async fn write(mut self) -> Self {
        let connection = self.connection.upgrade();
        self.take_changes();
        if connection.is_none() || self.commands.is_closed() || self.window_ends(Instant::now()).is_some() {
            return self;
        }
        if let Some(patch) = self.compose_patch() {
            self.write_patch(&patch).await;
            self.parts.recheck.all();
        }
        self
    }

    async fn write_patch(&mut self, patch: &Patch) {
        let writes = self.writes_of(patch);
        // The other entries are written by the next patch, at once.
        if self.hold_back_repeated(patch, &writes) {
            return;
        }
        let began = Instant::now();
        self.window.send();
        self.parts.shared.sent(patch.ids.is_empty());
        let result = patch.change.send(&self.requester, &patch.inventory).await;
        // The answer contains the whole config. It is dropped before the config is read again.
        let result = result.map(|answer| answer.peek().is_some_and(|PatchAnswer { noop }| noop));
        // The config is read again whatever the answer was, and before the next write looks at it.
        let is_read = resync(&self.resync_requests).await;
        // Entries of a refused patch are sent again in halves, which are no identical writes.
        let alone = writes.len() == 1;
        if result.as_ref().err().is_none_or(|error| alone && !error.is_transient()) {
            for write in &writes {
                self.parts.guard.made(*write, began);
            }
        }
        match &result {
            Ok(_) => self.parts.unwritable.written(),
            Err(error) if error.is_unwritable_config(true) => {
                self.parts.unwritable.failed(WriteRefusal::of(error), !patch.ids.is_empty(), Instant::now());
            }
            Err(_) => {}
        }
        match result {
            Ok(noop) => {
                info!(agents = patch.ids.len(), ms = began.elapsed().as_millis(), "config written");
                self.succeeded(patch, is_read, noop);
            }
            Err(error) if is_read => self.failed(patch, &error),
            // A gateway whose config cannot be read refuses each write, whatever the entry is.
            Err(error) => self.failed_for_now(&patch.ids, &error),
        }
    }

    /// The hashes of the writes in a patch, one per entry.
    fn writes_of(&self, patch: &Patch) -> Vec<WriteHash> {
        let write = |id: &String| {
            let changes = self.parts.queue.entry(id).and_then(|entry| patch.inventory.entry_patch(entry));
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

    /// Publishes the changes of the state, and then the agents whose entries changed.
    fn publish(&mut self) {
        let WriterParts { state, queue, rewritten, unwritable, losses, changed, .. } = &mut self.parts;
        let (touched, now) = (queue.take_touched(), Instant::now());
        unwritable.forget(queue.is_empty(), now);
        let (budget_until, failed) = (state.limited_until(now), state.failure());
        let (why, creation_at) = (unwritable.why(), unwritable.creation_at());
        let sent = self.window.sent();
        self.writes.send_if_modified(|writes| {
            let same = touched.is_empty()
                && writes.budget_until == budget_until
                && writes.failed.as_ref() == failed
                && writes.unwritable.as_ref() == why
                && writes.creation_at == creation_at
                && writes.losses == losses.count();
            for id in &touched {
                writes.set(id, EntryWriteState { rewritten: rewritten.get(id).cloned(), ..queue.state(id) });
            }
            writes.budget_until = budget_until;
            writes.failed = failed.cloned();
            writes.unwritable = why.cloned();
            writes.creation_at = creation_at;
            writes.losses = losses.count();
            // No reason for a reconcile.
            writes.sent = sent;
            !same
        });
        for id in changed.drain(..) {
            // There may be no receiver.
            let _ = self.changes.send(Change::Agent(id));
        }
    }
}

/// Whether a patch can be sent: the gateway stores it, and its config has no layout that it cannot write.
fn is_writable(inventory: &Inventory) -> bool {
    inventory.stores_writes() && inventory.obstacle.is_none()
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
