//! What a gateway has, kept current by an informer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::warn;

use super::connection::Told;
use super::entry::{AgentEntry, EntryState};
use super::error::CallError;
use super::handle::{Caller, Change};
use super::methods::ORDINARY;
use super::runs::Runs;

/// Names of workspace files that some version accepts.
const FILES: [&str; 10] = [
    "AGENTS.md",
    "SOUL.md",
    "TOOLS.md",
    "IDENTITY.md",
    "USER.md",
    "HEARTBEAT.md",
    "BOOTSTRAP.md",
    "MEMORY.md",
    "BOARD.md",
    "APPROVALS.md",
];
/// How often a gateway is looked at that has not applied its last config.
const WHILE_UNSETTLED: Duration = Duration::from_secs(2);
/// How often that is done when only the roster lags behind the config, which older gateways tell in no other way.
const MOST_DISAGREEMENTS: u32 = 30;
/// How long to wait before a failed look is tried again.
const AFTER_FAILURE: Duration = Duration::from_secs(2);

/// What a gateway has.
#[derive(Clone, Debug, PartialEq)]
pub struct Inventory {
    /// What the gateway can do.
    pub capabilities: Capabilities,
    /// Its agents by id.
    pub agents: BTreeMap<String, AgentRow>,
    /// The hash by which a config write says what it is based on.
    pub config_hash: String,
    /// Whether the config says that entries own their agents, which 2026.9.6 asks for.
    pub explicit_ownership: bool,
    /// Whether the gateway has applied its last config. Always so on versions that do not tell.
    pub settled: bool,
}

/// One agent of a gateway.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AgentRow {
    /// Its id.
    pub id: String,
    /// Its workspace, as the roster or else the config says.
    pub workspace: Option<String>,
    /// Its entry in the config.
    pub entry: Option<Map<String, Value>>,
    /// Whether the roster shows it: then the gateway serves it.
    pub in_roster: bool,
}

/// The shape of the roster in the config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RosterShape {
    /// `agents.list[]`, up to 2026.7.
    List,
    /// `agents.entries{}`, from 2026.8.1.
    Entries,
}

/// What a gateway can do, found out by reading only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The shape of the roster.
    pub roster: RosterShape,
    /// The workspace files that it accepts.
    pub accepted_files: BTreeSet<String>,
    /// Whether it hashes files and takes a hash as a precondition.
    pub file_hashes: bool,
    /// Whether it deletes an agent's main session by itself.
    pub main_session_delete: bool,
}

impl Inventory {
    /// Whether the roster shows the agents that the config has. Its own `main` needs no entry.
    fn agrees(&self) -> bool {
        self.agents.values().all(|row| row.in_roster == row.entry.is_some() || row.id == "main")
    }

    /// Whether one of two config writes in a second can be lost, as on gateways with a roster that is a list.
    #[must_use]
    pub fn loses_writes(&self) -> bool {
        self.capabilities.roster == RosterShape::List
    }

    /// An agent's entry, compared with what it should be; by the same rule as the config writer's.
    #[must_use]
    pub fn entry_state(&self, want: &AgentEntry) -> EntryState {
        let entry = self.agents.get(&want.id).and_then(|row| row.entry.as_ref());
        match (entry, want.patch(entry)) {
            (None, _) => EntryState::Absent,
            (Some(_), Some(_)) => EntryState::Outdated,
            (Some(_), None) => EntryState::Current,
        }
    }
}

/// Reads the roster and the config.
fn assemble(config: &Value, roster: &Value, accepted_files: &BTreeSet<String>, file_hashes: bool) -> Inventory {
    // `parsed` is what stands in the file; `config` has defaults filled in.
    let shape =
        if config["config"]["agents"].get("entries").is_some() { RosterShape::Entries } else { RosterShape::List };
    let written = if config["parsed"].is_object() { &config["parsed"]["agents"] } else { &config["config"]["agents"] };
    let mut agents: BTreeMap<String, AgentRow> = BTreeMap::new();
    for (id, entry) in entries(written, shape) {
        let workspace = entry.get("workspace").and_then(Value::as_str).map(str::to_owned);
        agents.insert(id.clone(), AgentRow { id, workspace, entry: Some(entry), in_roster: false });
    }
    for shown in roster["agents"].as_array().into_iter().flatten() {
        let Some(id) = shown["id"].as_str() else { continue };
        let row = agents.entry(id.to_owned()).or_insert_with(|| AgentRow { id: id.to_owned(), ..AgentRow::default() });
        row.in_roster = true;
        if row.workspace.is_none() {
            row.workspace = shown["workspace"].as_str().map(str::to_owned);
        }
    }
    let settled = match (config["appliedConfigHash"].as_str(), config["configRevisionHash"].as_str()) {
        (Some(applied), Some(revision)) => applied == revision,
        _ => true,
    };
    Inventory {
        capabilities: Capabilities {
            roster: shape,
            accepted_files: accepted_files.clone(),
            file_hashes,
            main_session_delete: shape == RosterShape::List,
        },
        agents,
        config_hash: config["hash"].as_str().unwrap_or_default().to_owned(),
        explicit_ownership: written["ownership"] == "explicit",
        settled,
    }
}

fn entries(agents: &Value, shape: RosterShape) -> Vec<(String, Map<String, Value>)> {
    match shape {
        RosterShape::Entries => {
            let entries = agents["entries"].as_object().into_iter().flatten();
            entries.filter_map(|(id, entry)| Some((id.clone(), entry.as_object()?.clone()))).collect()
        }
        RosterShape::List => {
            let list = agents["list"].as_array().into_iter().flatten();
            list.filter_map(|entry| Some((entry["id"].as_str()?.to_owned(), entry.as_object()?.clone()))).collect()
        }
    }
}

/// The task that keeps the inventory.
pub(super) struct Informer {
    pub(super) caller: Caller,
    pub(super) told: mpsc::UnboundedReceiver<Told>,
    pub(super) wanted: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
    pub(super) inventory: watch::Sender<Option<Arc<Inventory>>>,
    pub(super) runs: watch::Sender<Runs>,
    pub(super) changes: broadcast::Sender<Change>,
    pub(super) hashes: Arc<AtomicBool>,
    pub(super) resync: Duration,
}

/// What the informer knows between two looks.
#[derive(Default)]
struct Memory {
    up: bool,
    accepted: Option<BTreeSet<String>>,
    asked: Vec<oneshot::Sender<()>>,
    due: Option<Instant>,
    /// The roster, with the hash of the config that it was read with, while nothing says that it has changed.
    roster: Option<(Value, Value)>,
    /// How often in a row roster and config did not agree.
    disagreed: u32,
}

impl Memory {
    /// Something may have changed: roster and config are read now.
    fn suspect(&mut self) {
        self.due = Some(Instant::now());
        self.roster = None;
    }
}

impl Informer {
    /// Runs until the connection's task has ended.
    pub(super) async fn run(mut self) {
        let mut memory = Memory::default();
        loop {
            let due = memory.due;
            // Both branches are cancel-safe: channels and a timer.
            tokio::select! {
                biased;
                told = self.told.recv() => match told {
                    Some(told) => self.hear(told, &mut memory),
                    None => return,
                },
                Some(asker) = self.wanted.recv() => {
                    memory.asked.push(asker);
                    memory.suspect();
                }
                () = until(due) => self.look(&mut memory).await,
            }
        }
    }

    fn hear(&self, told: Told, memory: &mut Memory) {
        match told {
            Told::Up => {
                memory.up = true;
                memory.accepted = None;
                self.runs.send_modify(|runs| runs.connected(Instant::now()));
                memory.suspect();
            }
            Told::Down => {
                memory.up = false;
                memory.due = None;
                memory.asked.clear();
                if self.inventory.send_replace(None).is_some() {
                    self.tell(Change::Link);
                }
            }
            Told::Gap => {
                memory.suspect();
                self.runs.send_modify(Runs::forget);
                self.tell(Change::Roster);
            }
            Told::Event { name, payload } => match name.as_str() {
                "config.changed" => memory.suspect(),
                _ => self.hear_of_runs(&name, &payload),
            },
        }
    }

    fn hear_of_runs(&self, event: &str, payload: &Value) {
        let mut agent = None;
        self.runs.send_if_modified(|runs| {
            agent = runs.hear(event, payload);
            agent.is_some()
        });
        if let Some(agent) = agent {
            self.tell(Change::Run(agent));
        }
    }

    async fn look(&self, memory: &mut Memory) {
        let asked = std::mem::take(&mut memory.asked);
        if !memory.up {
            memory.due = None;
            return;
        }
        match self.read(memory).await {
            Ok(inventory) => {
                memory.disagreed = if inventory.agrees() { 0 } else { memory.disagreed.saturating_add(1) };
                let unsettled = !inventory.settled || (1..=MOST_DISAGREEMENTS).contains(&memory.disagreed);
                memory.roster = memory.roster.take().filter(|_| inventory.settled && inventory.agrees());
                memory.due = Some(Instant::now() + if unsettled { WHILE_UNSETTLED } else { self.resync });
                self.publish(inventory);
            }
            Err(error) => {
                warn!(%error, "the gateway's roster could not be read");
                memory.due = Some(Instant::now() + AFTER_FAILURE);
            }
        }
        // Who asked and went away does not mind.
        for asker in asked {
            let _ = asker.send(());
        }
    }

    async fn read(&self, memory: &mut Memory) -> Result<Inventory, CallError> {
        if memory.accepted.is_none() {
            // Without it there are no session events, which only makes their news later.
            let subscribed = self.caller.call("sessions.subscribe", json!({}), ORDINARY).await;
            if let Err(error) = &subscribed {
                warn!(%error, "no session events");
            }
            self.runs.send_modify(|runs| runs.tells_sessions = subscribed.is_ok());
        }
        let (config, roster) = self.config_and_roster(memory).await?;
        let accepted = match &memory.accepted {
            Some(accepted) => accepted.clone(),
            None => self.probe(&roster).await?,
        };
        memory.accepted = Some(accepted.clone());
        Ok(assemble(&config, &roster, &accepted, self.hashes.load(Ordering::Relaxed)))
    }

    /// The config, and the roster: again only when the config is another one, or something says that it may be.
    async fn config_and_roster(&self, memory: &mut Memory) -> Result<(Value, Value), CallError> {
        let config = self.caller.call("config.get", json!({}), ORDINARY);
        let roster = || self.caller.call("agents.list", json!({}), ORDINARY);
        let (config, roster) = match memory.roster.take() {
            None => futures::try_join!(config, roster())?,
            Some((hash, known)) => {
                let config = config.await?;
                let known = if config["hash"] == hash { known } else { roster().await? };
                (config, known)
            }
        };
        memory.roster = Some((config["hash"].clone(), roster.clone()));
        Ok((config, roster))
    }

    /// Which workspace files the gateway accepts: reading one that it does not accept is `unsupported file`.
    async fn probe(&self, roster: &Value) -> Result<BTreeSet<String>, CallError> {
        let some = roster["defaultId"].as_str().or_else(|| roster["agents"][0]["id"].as_str()).unwrap_or("main");
        let ask = |name: &'static str| async move {
            match self.caller.call("agents.files.get", json!({ "agentId": some, "name": name }), ORDINARY).await {
                Ok(payload) => {
                    if payload["file"].get("hash").is_some() {
                        self.hashes.store(true, Ordering::Relaxed);
                    }
                    Ok(Some(name))
                }
                Err(error) if error.is_unsupported_file() => Ok(None),
                Err(error) => Err(error),
            }
        };
        let accepted = futures::future::try_join_all(FILES.map(ask)).await?;
        Ok(accepted.into_iter().flatten().map(str::to_owned).collect())
    }

    fn publish(&self, new: Inventory) {
        let new = Arc::new(new);
        let old = self.inventory.send_replace(Some(Arc::clone(&new)));
        let Some(old) = old else { return self.tell(Change::Roster) };
        if old.settled != new.settled || old.capabilities != new.capabilities {
            return self.tell(Change::Roster);
        }
        let ids: BTreeSet<_> = old.agents.keys().chain(new.agents.keys()).collect();
        for id in ids.into_iter().filter(|id| old.agents.get(*id) != new.agents.get(*id)) {
            self.tell(Change::Agent(id.clone()));
        }
    }

    fn tell(&self, change: Change) {
        // Nobody has to listen.
        let _ = self.changes.send(change);
    }
}

/// Waits until then; for ever without a time.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nine() -> Value {
        json!({
            "parsed": {"agents": {"ownership": "explicit", "entries": {"mc-1": {"name": "A", "workspace": "~/w"}}}},
            "config": {"agents": {"entries": {"mc-1": {"name": "A", "workspace": "~/w"}, "main": {}}}},
            "hash": "h", "appliedConfigHash": "x", "configRevisionHash": "y"
        })
    }

    #[test]
    fn the_config_as_written_and_the_roster_are_joined_by_id() {
        let roster = json!({"agents": [{"id": "main", "workspace": "/m"}, {"id": "mc-1", "workspace": "/home/o/w"}]});
        let inventory = assemble(&nine(), &roster, &BTreeSet::new(), true);
        assert_eq!(inventory.agents["mc-1"].workspace.as_deref(), Some("~/w"));
        assert!(inventory.agents["mc-1"].in_roster && inventory.agents["main"].in_roster);
        assert!(inventory.agents["main"].entry.is_none());
        assert_eq!(inventory.capabilities.roster, RosterShape::Entries);
        assert!(inventory.explicit_ownership && !inventory.settled);
    }

    #[test]
    fn an_entry_that_the_roster_does_not_show_yet_is_known_as_such() {
        let inventory = assemble(&nine(), &json!({"agents": []}), &BTreeSet::new(), true);
        assert!(!inventory.agents["mc-1"].in_roster);
    }

    #[test]
    fn older_gateways_keep_a_list_and_do_not_tell_whether_they_are_settled() {
        let config = json!({"parsed": {"agents": {"list": [{"id": "a", "workspace": "/w"}]}}, "config": {"agents": {"list": []}}, "hash": "h"});
        let inventory = assemble(&config, &json!({"agents": []}), &BTreeSet::new(), false);
        assert_eq!(inventory.capabilities.roster, RosterShape::List);
        assert!(inventory.settled && inventory.agents.contains_key("a"));
    }
}
