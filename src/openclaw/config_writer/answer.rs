//! What follows from the answer to a patch, for each of its entries.

use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::config_patch::Patch;
use super::entry_outcome::{EntryOutcome, SentEntry};
use super::writer::{ConfigWriter, WriterParts};
use crate::openclaw::model::{CallError, Inventory, WriteRefusal};

impl ConfigWriter {
    /// Handles an acknowledged patch.
    pub(super) fn succeeded(&mut self, patch: &Patch, is_read: bool, noop: bool) {
        self.parts.state.open();
        self.parts.queue.rejoin();
        let after = self.inventory.borrow().clone().filter(|inventory| is_read && inventory.stores_writes());
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
            match (SentEntry { entry, before: before.as_ref(), after: after_entry.as_ref(), noop, failures_alone })
                .outcome()
            {
                EntryOutcome::Stored => {}
                EntryOutcome::Rewritten(values) => {
                    info!(agent.id = id, rewritten = ?values, "the gateway stores values of the entry in another form");
                    queue.remove(id);
                    queue.touch(id.clone());
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
    pub(super) fn failed(&mut self, patch: &Patch, error: &CallError) {
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
    pub(super) fn failed_for_now(&mut self, ids: &[String], error: &CallError) {
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
}
