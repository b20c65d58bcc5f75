//! The one writer of a gateway's config: entries that wait are gathered into one `config.patch`.
//!
//! A new version of the config is costly for a gateway (measured: 80 to 115 ms for each agent in one patch, 4.6 s when each
//! has its own) and the patches are counted (30 or 3 a minute). So whatever waits goes out together, and what comes while
//! a patch is under way goes out with the next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::entry::{AgentEntry, EntryState};
use super::error::CallError;
use super::gathering::Gathering;
use super::handle::{Caller, Change, resync};
use super::inventory::{Inventory, RosterShape};
use super::methods::CONFIG_WRITE;
use super::shared_blocks::{self, SharedBlocks};
use super::shared_heartbeats::HeartbeatClaims;
use super::turn::Turns;

/// Most entries in one patch: one of 60 took 5 to 7 s and one of 200 took 54 s, in which nothing else could be written
/// (measured).
const MOST: usize = 64;
/// How long to wait after a patch that failed for another reason than a stale base; doubled each time, up to the second.
const AFTER_FAILURE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(1));

/// The state of the config writes.
#[derive(Clone, Debug, Default)]
pub struct Writes {
    /// Ids whose entries wait.
    pub pending: BTreeSet<String>,
    /// Entries that the gateway refuses, by id.
    pub refused: BTreeMap<String, Refused>,
    /// When the gateway takes config writes again, while its limit is used up.
    pub budget_until: Option<Instant>,
    /// Why the last config write failed, while it is tried again.
    pub failed: Option<Refused>,
}

/// The gateway's refusal of an entry, or of a config write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The gateway's code.
    pub code: String,
    /// What it said.
    pub message: String,
}

/// What the writer is told.
#[derive(Debug)]
pub(super) enum Command {
    Submit(Box<AgentEntry>),
    Withdraw(String),
    Claim(Box<HeartbeatClaims>),
}

/// What is known of one entry.
#[derive(Debug)]
pub(super) struct Slot {
    entry: AgentEntry,
    since: Instant,
    refused: Option<Refused>,
    /// The hash of the config with which it was refused: with another config it is tried again.
    refused_with: String,
    /// Entries that failed together are tried apart: only those of the same group go into one patch.
    group: u32,
}

/// Config writes that failed one after the other for a reason that may pass.
#[derive(Debug)]
pub(super) struct Failing {
    times: u32,
    last: Refused,
}

/// The task.
pub(super) struct Writer {
    pub(super) caller: Caller,
    pub(super) commands: mpsc::UnboundedReceiver<Command>,
    pub(super) inventory: watch::Receiver<Option<Arc<Inventory>>>,
    pub(super) wanted: mpsc::UnboundedSender<oneshot::Sender<bool>>,
    pub(super) writes: watch::Sender<Arc<Writes>>,
    pub(super) changes: broadcast::Sender<Change>,
    pub(super) turns: Arc<Turns>,
    pub(super) state: BTreeMap<String, Slot>,
    pub(super) failing: Option<Failing>,
    pub(super) gathering: Gathering,
    pub(super) shared: SharedBlocks,
    /// Whose entries something became of that has not been told.
    pub(super) news: Vec<String>,
}

/// One `config.patch`.
struct Patch {
    ids: Vec<String>,
    raw: Value,
    base: String,
}

impl Writer {
    /// Runs until the last handle is gone.
    pub(super) async fn run(mut self) {
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
            // All branches are cancel-safe: channels and a timer.
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
                () = wait_until(self.shared.due()) => {}
            }
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Submit(entry) => {
                let entry = *entry;
                let same = self.state.get(&entry.id).is_some_and(|slot| slot.entry == entry);
                if !same {
                    let slot =
                        Slot { since: Instant::now(), refused: None, refused_with: String::new(), group: 0, entry };
                    self.state.insert(slot.entry.id.clone(), slot);
                }
            }
            Command::Withdraw(id) => {
                self.state.remove(&id);
            }
            Command::Claim(claims) => self.shared.claim(*claims),
        }
    }

    /// Takes what was said, and drops what the gateway has.
    fn clear(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            self.take(command);
        }
        let Some(inventory) = self.inventory.borrow_and_update().clone() else { return };
        let is_done = |slot: &Slot| inventory.entry_state(&slot.entry) == EntryState::Current;
        let done: Vec<_> = self.state.iter().filter(|(_, slot)| is_done(slot)).map(|(id, _)| id.clone()).collect();
        for id in done {
            self.state.remove(&id);
            self.news.push(id);
        }
    }

    /// The next patch, from what waits and what the gateway has.
    fn compose(&self, not_before: Option<Instant>) -> Option<Patch> {
        let inventory = self.inventory.borrow().clone()?;
        if not_before.is_some_and(|at| at > Instant::now()) || !inventory.settled {
            return None;
        }
        let ids = batch(&self.state, &inventory.config_hash);
        let entries: Vec<_> = ids.iter().filter_map(|id| Some(&self.state.get(id)?.entry)).collect();
        let blocks = self.shared.beside(&inventory, &entries)?;
        let raw = (!ids.is_empty() || !blocks.is_empty()).then(|| raw(&inventory, &entries, &blocks))?;
        Some(Patch { ids, raw, base: inventory.config_hash.clone() })
    }

    /// Until when the next patch is kept back for what comes meanwhile.
    fn kept_back(&self) -> Option<Instant> {
        let left = self.state.values().filter(|slot| slot.refused.is_none()).map(|slot| slot.since);
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
        let Patch { ids, raw, base } = self.compose(None)?;
        let began = Instant::now();
        self.gathering.send();
        self.shared.sent(ids.is_empty());
        let params = json!({ "raw": raw.to_string(), "baseHash": base });
        let result = self.caller.call("config.patch", params, CONFIG_WRITE).await;
        // Whatever the answer was, what the gateway has now is what counts; whoever has the next turn sees it.
        let read = resync(&self.wanted).await;
        drop(turn);
        match result {
            Ok(_) => {
                info!(agents = ids.len(), ms = began.elapsed().as_millis(), "config written");
                self.written(&ids, read)
            }
            Err(error) if read => self.failed(&ids, &base, &error),
            // A gateway whose config cannot be read refuses every write to it, whatever the entry is.
            Err(error) => Some(Instant::now() + self.failed_again(&ids, &error)),
        }
    }

    /// What follows from a write that the gateway has taken: one without effect is not made again at once.
    fn written(&mut self, ids: &[String], read: bool) -> Option<Instant> {
        let inventory = self.inventory.borrow().clone().filter(|inventory| read && inventory.settled);
        let without_effect = |inventory: &Inventory, id: &String| {
            self.state.get(id).is_some_and(|slot| inventory.entry_state(&slot.entry) != EntryState::Current)
        };
        match inventory.and_then(|inventory| ids.iter().find(|id| without_effect(&inventory, id)).cloned()) {
            None => {
                self.failing = None;
                None
            }
            Some(id) => {
                let said = format!("the gateway took the entry of agent {id} and its config does not have it so");
                Some(Instant::now() + self.failed_again(ids, &CallError::Unsettled(said)))
            }
        }
    }

    fn failed(&mut self, ids: &[String], hash: &str, error: &CallError) -> Option<Instant> {
        let same_base = || self.inventory.borrow().as_ref().is_none_or(|inventory| inventory.config_hash == hash);
        if error.is_stale_config() && !same_base() {
            debug!("the config changed meanwhile and was read again");
            return None;
        }
        if let Some(wait) = error.retry_after() {
            warn!(seconds = wait.as_secs(), "the gateway takes no more config writes for now");
            self.news.extend_from_slice(ids);
            self.failing = None;
            return Some(Instant::now() + wait);
        }
        if error.is_transient() {
            return Some(Instant::now() + self.failed_again(ids, error));
        }
        self.failing = None;
        self.refused(ids, hash, error);
        None
    }

    /// Takes note of a failure that may pass, and says how long to wait.
    fn failed_again(&mut self, ids: &[String], error: &CallError) -> Duration {
        let last = Refused { code: error.code().to_owned(), message: error.message() };
        let before = self.failing.take();
        let same = before.as_ref().is_some_and(|failing| failing.last == last);
        if !same {
            self.news.extend_from_slice(ids);
        }
        let times = before.map_or(0, |failing| failing.times);
        let wait = AFTER_FAILURE.0.saturating_mul(2_u32.saturating_pow(times.min(10))).min(AFTER_FAILURE.1);
        warn!(%error, seconds = wait.as_secs(), "config not written, tried again later");
        self.failing = Some(Failing { times: times.saturating_add(1), last });
        wait
    }

    /// The gateway refuses the patch: a single entry is at fault, several are tried in halves.
    fn refused(&mut self, ids: &[String], hash: &str, error: &CallError) {
        if let [id] = ids {
            warn!(agent.id = id, code = error.code(), message = error.message(), "the gateway refuses the entry");
            if let Some(slot) = self.state.get_mut(id) {
                slot.refused = Some(Refused { code: error.code().to_owned(), message: error.message() });
                hash.clone_into(&mut slot.refused_with);
            }
            self.news.push(id.clone());
            return;
        }
        let highest = self.state.values().map(|s| s.group).max().unwrap_or_default();
        for id in ids.iter().take(ids.len() / 2) {
            if let Some(slot) = self.state.get_mut(id) {
                slot.group = highest + 1;
            }
        }
    }

    /// Shows how things stand, and then tells whom it concerns.
    fn publish(&mut self, not_before: Option<Instant>) {
        let waits = self.state.iter().filter(|(_, slot)| slot.refused.is_none());
        let refused = self.state.iter().filter_map(|(id, slot)| Some((id.clone(), slot.refused.clone()?)));
        let writes = Writes {
            pending: waits.map(|(id, _)| id.clone()).collect(),
            refused: refused.collect(),
            budget_until: not_before.filter(|at| self.failing.is_none() && *at > Instant::now() + AFTER_FAILURE.0),
            failed: self.failing.as_ref().map(|failing| failing.last.clone()),
        };
        self.writes.send_replace(Arc::new(writes));
        for id in self.news.drain(..) {
            // Nobody has to listen.
            let _ = self.changes.send(Change::Agent(id));
        }
    }
}

/// The entries of the next patch: of one group, at most [`MOST`]. What was refused with another config is tried again
/// when nothing else waits, alone.
fn batch(state: &BTreeMap<String, Slot>, hash: &str) -> Vec<String> {
    let waiting = || state.iter().filter(|(_, slot)| slot.refused.is_none());
    let Some(group) = waiting().map(|(_, slot)| slot.group).max() else {
        let again = state.iter().find(|(_, slot)| slot.refused.is_some() && slot.refused_with != hash);
        return again.map(|(id, _)| id.clone()).into_iter().collect();
    };
    waiting().filter(|(_, slot)| slot.group == group).take(MOST).map(|(id, _)| id.clone()).collect()
}

/// The merge patch of these entries and of these `heartbeat` blocks of others, and of nothing else.
fn raw(inventory: &Inventory, entries: &[&AgentEntry], blocks: &BTreeMap<String, Value>) -> Value {
    let patch = |entry: &AgentEntry| -> Map<String, Value> {
        let is = inventory.agents.get(&entry.id).and_then(|row| row.entry.as_ref());
        entry.patch(is).unwrap_or_default()
    };
    match inventory.capabilities.roster {
        RosterShape::Entries => {
            let mut patches: Map<_, _> = entries.iter().map(|e| (e.id.clone(), Value::Object(patch(e)))).collect();
            shared_blocks::into_entries(&mut patches, blocks);
            let mut agents = json!({ "entries": patches });
            // The first patch of several agents has to say it; saying it again changes nothing.
            if !inventory.explicit_ownership && !entries.is_empty() {
                agents["ownership"] = json!("explicit");
            }
            json!({ "agents": agents })
        }
        RosterShape::List => {
            let entry = |e: &&AgentEntry| {
                let mut patch = patch(e);
                patch.insert("id".into(), json!(e.id));
                Value::Object(patch)
            };
            let mut list: Vec<_> = implicit(inventory).chain(entries.iter().map(entry)).collect();
            shared_blocks::into_list(&mut list, blocks);
            json!({ "agents": { "list": list } })
        }
    }
}

/// Entries for the agents that are served without one. A list that names others would end them (measured): the first agent
/// that is written has to be written beside them, in front of it, so that the default stays the default.
fn implicit(inventory: &Inventory) -> impl Iterator<Item = Value> {
    let none_written = inventory.agents.values().all(|row| row.entry.is_none());
    let served = inventory.agents.values().filter(move |row| none_written && row.in_roster);
    served.map(|row| json!({ "id": row.id }))
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
