//! The state of one gateway: values that methods change, without I/O.

pub(crate) mod auth_failures;
pub(crate) mod call_log;
mod config_writes;
pub(crate) mod connections;
pub(crate) mod cron;
pub(crate) mod devices;
pub(crate) mod origin;
pub(crate) mod records;
pub(crate) mod sessions;
pub(crate) mod workspaces;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    clock::{Clock, IdGenerator},
    config::layout::{ConfigLayout, ConfigWrite},
    config::{self, Config, Document, roster},
    error::RpcError,
    faults::Faults,
    profile::Profile,
};
use connections::Connections;
pub(crate) use sessions::roster_id;

/// The IP address of remote clients.
pub(crate) const REMOTE_IP: &str = "10.99.0.1";

/// The state of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProcessState {
    /// No process: connections are refused.
    Stopped,
    /// No host: connections open and get no answer.
    HostLost,
    /// The process answers `gateway starting` until this time.
    Starting(Instant),
    /// The process serves.
    Serving,
    /// The process drains: the upgrade is answered with 503.
    Draining,
}

/// A call in flight, so that a graceful stop can answer it.
#[derive(Clone, Debug)]
pub(crate) struct InFlightCall {
    pub(crate) connection_id: u64,
    pub(crate) request: String,
    pub(crate) method: String,
}

/// A deletion in progress. A kill during the deletion leaves a lease.
#[derive(Clone, Debug)]
pub(crate) struct PendingDelete {
    pub(crate) agent: String,
    pub(crate) since: Instant,
}

/// The whole state of one gateway.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) profile: Arc<Profile>,
    pub(crate) clock: Clock,
    pub(crate) ids: IdGenerator,
    process_state: ProcessState,
    pub(crate) boot_id: String,
    pub(crate) config: Config,
    /// The number of written configurations that this process has yet to apply.
    pub(crate) applying: usize,
    /// The time of the last write, and the document before it.
    last_write: Option<(Instant, Arc<Document>)>,
    pub(crate) workspaces: workspaces::Workspaces,
    pub(crate) sessions: sessions::Sessions,
    pub(crate) cron: cron::Cron,
    pub(crate) devices: devices::Devices,
    pub(crate) connections: Connections,
    pub(crate) in_flight: BTreeMap<usize, InFlightCall>,
    /// The highest number of calls in flight at one time.
    pub(crate) max_in_flight: usize,
    pub(crate) deleting: Option<PendingDelete>,
    /// The agent whose half-deleted state makes the process exit at its start.
    pub(crate) unbootable: Option<String>,
    /// The agent and the workspace of a journalled deletion that is incomplete although the entry is gone.
    pub(crate) journalled_delete: Option<(String, String)>,
    /// Agents that were deleted and not created again. From 2026.9.6 on their ids stay closed until then, even for a
    /// config write.
    pub(crate) closed_ids: BTreeSet<String>,
    /// The agent whose deletion was killed, and the end of its lease; `None` until the next start.
    pub(crate) delete_lease: Option<(String, Option<Instant>)>,
    pub(crate) budget: BTreeMap<String, (Instant, usize)>,
    /// Failed logins of the remote address with the shared secret, and with device tokens.
    pub(crate) shared_auth_failures: auth_failures::AuthFailures,
    pub(crate) device_auth_failures: auth_failures::AuthFailures,
    pub(crate) faults: Faults,
    pub(crate) calls: call_log::CallLog,
    pub(crate) chats: records::ChatLog,
    /// Runs that a message steered, once per message.
    pub(crate) steered: Vec<String>,
    pub(crate) create_counts: BTreeMap<String, usize>,
    /// Agents that were deleted without their files.
    pub(crate) retained: BTreeSet<String>,
    /// Whether the configuration file was written by hand.
    pub(crate) is_by_hand: bool,
    /// The state of the trash directory and of purges.
    pub(crate) trash: TrashState,
    /// Half-deleted agents with their workspaces. Another `agents.delete` completes the deletion.
    pub(crate) half_deleted: BTreeMap<String, String>,
}

/// The state of the trash directory and of purges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TrashState {
    /// Deletions work.
    #[default]
    Works,
    /// `.Trash` is a plain file, so that no file can be moved there.
    Blocked,
    /// Purges of sessions fail, and the files are kept.
    PurgeFails,
}

impl World {
    pub(crate) fn new(profile: Arc<Profile>) -> Self {
        let mut world = Self {
            clock: Clock::start(),
            ids: IdGenerator::default(),
            process_state: ProcessState::Serving,
            boot_id: String::new(),
            config: Config::fresh(&profile),
            applying: 0,
            last_write: None,
            workspaces: workspaces::Workspaces::default(),
            sessions: sessions::Sessions::default(),
            cron: cron::Cron::default(),
            devices: devices::Devices::default(),
            connections: Connections::default(),
            in_flight: BTreeMap::new(),
            max_in_flight: 0,
            deleting: None,
            unbootable: None,
            journalled_delete: None,
            closed_ids: BTreeSet::new(),
            delete_lease: None,
            budget: BTreeMap::new(),
            shared_auth_failures: auth_failures::AuthFailures::default(),
            device_auth_failures: auth_failures::AuthFailures::default(),
            faults: Faults::default(),
            calls: call_log::CallLog::default(),
            chats: records::ChatLog::default(),
            steered: Vec::new(),
            create_counts: BTreeMap::new(),
            retained: BTreeSet::new(),
            is_by_hand: false,
            trash: TrashState::default(),
            half_deleted: BTreeMap::new(),
            profile,
        };
        world.boot_id = world.ids.uuid();
        world.sync_jobs();
        world
    }

    /// The current state of the process.
    pub(crate) fn process_state(&self) -> ProcessState {
        match self.process_state {
            ProcessState::Starting(until) if until <= Instant::now() => ProcessState::Serving,
            state => state,
        }
    }

    /// Every agent in the applied configuration, by id.
    pub(crate) fn applied_agents(&self) -> BTreeMap<&str, Cow<'_, Value>> {
        let expanded = |(id, entry)| (id, config::env::expanded(entry, &self.profile));
        self.config.applied.agents().into_iter().map(expanded).collect()
    }

    /// The workspace of an agent in the written configuration.
    pub(crate) fn written_workspace(&self, id: &str) -> Option<String> {
        self.config.document.agent(id).map(|entry| self.workspace_of(id, entry))
    }

    /// The workspace of an agent in the applied configuration.
    pub(crate) fn applied_workspace(&self, id: &str) -> Option<String> {
        let entry = config::env::expanded(self.config.applied.agent(id)?, &self.profile);
        Some(self.workspace_of(id, &entry))
    }

    /// The workspace of an agent with this entry.
    pub(crate) fn workspace_of(&self, id: &str, entry: &Value) -> String {
        entry["workspace"].as_str().map_or_else(|| config::default_workspace(&self.profile, id), str::to_owned)
    }

    /// Checks that the files of the configuration can be written. A version that replaces directives puts all into one file.
    pub(crate) fn claim_config(&mut self, write: ConfigWrite) -> Result<(), RpcError> {
        if let Some(refusal) = self.config.layout.refusal(write, &self.profile) {
            return Err(refusal);
        }
        if self.config.layout.is_replaced(&self.profile) {
            self.config.layout = ConfigLayout::OneFile;
        }
        Ok(())
    }

    /// Changes the written configuration.
    pub(crate) fn write(&mut self, change: impl FnOnce(&mut Value)) {
        self.replace(|base| {
            let mut value = base.value.clone();
            change(&mut value);
            value
        });
    }

    /// Replaces the written configuration by one that is made from its base. A version that loses writes takes the
    /// document before a recent write as the base.
    pub(crate) fn replace(&mut self, new: impl FnOnce(&Arc<Document>) -> Value) {
        let now = Instant::now();
        let broken = std::mem::take(&mut self.config.broken);
        let lost = self.last_write.take().zip(self.profile.loses_writes);
        let base = match lost.filter(|((at, _), window)| *at + *window > now) {
            Some(((_, before), _)) => before,
            None if !broken => self.config.document.clone(),
            None if self.profile.heals_broken_config => self.config.applied.clone(),
            // Newer versions treat an unreadable file as empty, so that this write is the whole content (measured).
            None => Arc::new(Document::new(json!({}), self.profile.roster)),
        };
        let mut value = new(&base);
        self.last_write = self.profile.loses_writes.map(|_| (now, base));
        let main = config::default_workspace(&self.profile, roster::MAIN);
        let has_main = !self.is_by_hand || self.config.document.agent(roster::MAIN).is_some();
        roster::migrate(&mut value, self.profile.roster, self.profile.version, has_main.then_some(&main));
        self.set_document(value);
        self.applying += usize::from(!self.applies_at_start());
    }

    /// Sets the content of the configuration file, without further effects.
    pub(crate) fn set_document(&mut self, value: Value) {
        let read = if self.is_by_hand { Document::by_hand } else { Document::new };
        self.config.document = Arc::new(read(value, self.profile.roster));
    }

    /// Ends the reload after a write.
    pub(crate) fn finish_reload(&mut self) {
        self.applying = self.applying.saturating_sub(1);
        if !self.applies_at_start() {
            self.apply();
        }
    }

    /// Applies the written configuration, unless a lease is held.
    pub(crate) fn apply(&mut self) {
        if self.config.unsettled_until.is_some_and(|until| until > Instant::now()) || self.config.broken {
            return;
        }
        self.config.unsettled_until = None;
        if self.config.is_applied() {
            return;
        }
        self.config.applied = self.config.document.clone();
        self.sync_jobs();
        if self.profile.config_events {
            self.emit("chat.metadata.changed", &json!({}));
            let payload = json!({
                "path": config::path(&self.profile),
                "hash": self.config.hash(&self.profile),
                "ts": self.clock.now_ms(),
            });
            self.emit("config.changed", &payload);
        }
    }

    /// Ends a lease whose time is over.
    pub(crate) fn end_expired_lease(&mut self) {
        if self.config.unsettled_until.is_some_and(|until| until <= Instant::now()) {
            self.apply();
        }
    }

    fn sync_jobs(&mut self) {
        let now_ms = self.clock.now_ms();
        let applied = self.config.applied.clone();
        for change in self.cron.sync(&applied.value, &self.profile, &mut self.ids, now_ms) {
            let mut payload = json!({"jobId": change.job["id"], "action": change.action, "job": change.job});
            if let Some(next) = change.job["state"].get("nextRunAtMs")
                && change.action != "removed"
            {
                payload["nextRunAtMs"] = next.clone();
            }
            self.emit("cron", &payload);
        }
    }

    /// Clears the state of the process; the state on disk stays.
    pub(crate) fn clear_process(&mut self) {
        self.process_state = ProcessState::Stopped;
        self.applying = 0;
        self.in_flight.clear();
        self.budget.clear();
        self.shared_auth_failures.reset();
        self.device_auth_failures.reset();
        self.deleting = None;
        self.connections.clear();
        self.sessions.forget_runs();
    }

    /// Closes the id of a deleted agent.
    pub(crate) fn close_id(&mut self, id: &str) {
        if self.profile.closes_deleted_ids {
            self.closed_ids.insert(id.to_owned());
        }
    }

    /// Kills the process. An interrupted reload or deletion leaves its lease.
    pub(crate) fn kill(&mut self) {
        if self.applying > 0 && self.profile.lease > Duration::ZERO {
            let until = Instant::now() + self.profile.lease;
            self.config.unsettled_until = Some(self.config.unsettled_until.map_or(until, |other| other.max(until)));
        }
        let started = self.deleting.take();
        if let Some(deleting) = started
            && deleting.since.elapsed() > Duration::from_millis(10)
            && self.profile.delete_lease > Duration::ZERO
        {
            self.delete_lease = Some((deleting.agent, None));
        }
        self.clear_process();
    }

    /// Stops the host, and with it the process.
    pub(crate) fn lose_host(&mut self) {
        self.kill();
        self.process_state = ProcessState::HostLost;
    }

    /// Starts the process: it reads the configuration and answers `gateway starting` for `time`.
    pub(crate) fn boot(&mut self, time: Duration) {
        let now = Instant::now();
        self.process_state = if time.is_zero() { ProcessState::Serving } else { ProcessState::Starting(now + time) };
        self.boot_id = self.ids.uuid();
        if let Some((_, until @ None)) = &mut self.delete_lease {
            *until = Some(now + self.profile.delete_lease);
        }
        if self.config.unsettled_until.is_none() {
            self.apply();
        }
    }

    /// Replaces the version of an ended process.
    pub(crate) fn switch_version(&mut self, profile: Arc<Profile>) {
        let main = config::default_workspace(&profile, roster::MAIN);
        let mut value = self.config.document.value.clone();
        roster::reshape(&mut value, profile.roster);
        roster::migrate(&mut value, profile.roster, profile.version, Some(&main));
        self.config.applied = Arc::new(Document::new(self.config.applied.value.clone(), profile.roster));
        self.profile = profile;
        self.set_document(value);
    }

    /// Answers upgrades with 503 from now on, like a process that waits for its runs.
    pub(crate) fn drain(&mut self) {
        self.process_state = ProcessState::Draining;
    }

    /// Records a call; returns its index.
    pub(crate) fn record_call(&mut self, method: &str, params: &Value) -> usize {
        self.calls.record(method, self.profile.keeps_params.then_some(params))
    }

    /// Sends an event to every connection with the required scope.
    pub(crate) fn emit(&mut self, event: &str, payload: &Value) {
        self.connections.emit(event, payload);
    }

    /// Sends an event to one connection.
    pub(crate) fn emit_to(&mut self, connection_id: u64, event: &str, payload: &Value) {
        self.connections.emit_to(connection_id, event, payload);
    }
}
