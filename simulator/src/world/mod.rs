//! One gateway's world: values that methods change, and no I/O.

pub(crate) mod auth_failures;
pub(crate) mod connections;
pub(crate) mod cron;
pub(crate) mod devices;
pub(crate) mod origin;
pub(crate) mod records;
pub(crate) mod sessions;
pub(crate) mod workspaces;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    clock::{Clock, IdGenerator},
    config::{self, Config, roster},
    faults::Faults,
    profile::Profile,
};
use connections::Connections;
use records::{Call, Chat};
pub(crate) use sessions::roster_id;

/// The address that remote clients come from.
pub(crate) const REMOTE_IP: &str = "10.99.0.1";

/// What the process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProcessState {
    /// No process: connections are refused.
    Stopped,
    /// No machine: connections open and are never answered.
    HostLost,
    /// The process answers `gateway starting` until then.
    Starting(Instant),
    /// The process serves.
    Serving,
    /// The process ends: the upgrade is answered with 503.
    Draining,
}

/// A call that is being executed, so that a stop can answer it.
#[derive(Clone, Debug)]
pub(crate) struct InFlightCall {
    pub(crate) connection_id: u64,
    pub(crate) request: String,
    pub(crate) method: String,
}

/// A delete that is under way: a kill in the middle of it leaves a lease behind.
#[derive(Clone, Debug)]
pub(crate) struct PendingDelete {
    pub(crate) agent: String,
    pub(crate) since: Instant,
}

/// Everything that one gateway holds.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) profile: Arc<Profile>,
    pub(crate) clock: Clock,
    pub(crate) ids: IdGenerator,
    process_state: ProcessState,
    pub(crate) boot_id: String,
    pub(crate) config: Config,
    /// How many written configurations wait to be applied by this process.
    pub(crate) applying: usize,
    /// When the last write was, and what it replaced.
    last_write: Option<(Instant, Value)>,
    pub(crate) workspaces: workspaces::Workspaces,
    pub(crate) sessions: sessions::Sessions,
    pub(crate) cron: cron::Cron,
    pub(crate) devices: devices::Devices,
    pub(crate) connections: Connections,
    pub(crate) in_flight: BTreeMap<usize, InFlightCall>,
    /// How many there were at one time, at most.
    pub(crate) max_in_flight: usize,
    pub(crate) deleting: Option<PendingDelete>,
    /// The agent because of whose half deleted state the process exits when it boots.
    pub(crate) unbootable: Option<String>,
    /// The agent, and its workspace, whose deletion is still to be gone through although it has no entry any more.
    pub(crate) journalled_delete: Option<(String, String)>,
    /// Agents that were deleted and not created again: from 2026.9.6 their ids stay closed until then, also to a
    /// config write.
    pub(crate) closed_ids: BTreeSet<String>,
    /// The agent whose delete was killed, and until when its lease is held; `None` until the next
    /// start.
    pub(crate) delete_lease: Option<(String, Option<Instant>)>,
    pub(crate) budget: BTreeMap<String, (Instant, usize)>,
    /// Failed logins of the remote address with a shared secret, and with a device's token.
    pub(crate) shared_auth_failures: auth_failures::AuthFailures,
    pub(crate) device_auth_failures: auth_failures::AuthFailures,
    pub(crate) faults: Faults,
    pub(crate) calls: Vec<Call>,
    pub(crate) chats: Vec<Chat>,
    /// Runs into which a message was put while they went on, once for each message.
    pub(crate) steered: Vec<String>,
    pub(crate) create_counts: BTreeMap<String, usize>,
    /// Agents that were deleted without their files.
    pub(crate) retained: BTreeSet<String>,
    /// What is wrong where deleted files go to.
    pub(crate) trash: TrashState,
    /// Agents that were deleted by half, with their workspaces: the deletion waits for the rest.
    pub(crate) half_deleted: BTreeMap<String, String>,
}

/// What is wrong where deleted files go to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TrashState {
    /// Nothing.
    #[default]
    Works,
    /// `.Trash` is a plain file: nothing can be moved there.
    Blocked,
    /// The sessions cannot be purged, and the files are not touched then.
    PurgeFails,
}

impl World {
    pub(crate) fn new(profile: Arc<Profile>) -> Self {
        let mut world = Self {
            clock: Clock::start(),
            ids: IdGenerator::default(),
            process_state: ProcessState::Serving,
            boot_id: String::new(),
            config: Config::fresh(),
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
            calls: Vec::new(),
            chats: Vec::new(),
            steered: Vec::new(),
            create_counts: BTreeMap::new(),
            retained: BTreeSet::new(),
            trash: TrashState::default(),
            half_deleted: BTreeMap::new(),
            profile,
        };
        world.boot_id = world.ids.uuid();
        world.sync_jobs();
        world
    }

    /// What the process is doing now.
    pub(crate) fn process_state(&self) -> ProcessState {
        match self.process_state {
            ProcessState::Starting(until) if until <= Instant::now() => ProcessState::Serving,
            state => state,
        }
    }

    /// Every agent that is written, by id.
    pub(crate) fn written_agents(&self) -> BTreeMap<String, Value> {
        roster::entries(&self.config.document, self.profile.roster)
    }

    /// Every agent that the gateway works with, by id.
    pub(crate) fn applied_agents(&self) -> BTreeMap<String, Value> {
        let mut known = roster::entries(&self.config.applied, self.profile.roster);
        for entry in known.values_mut() {
            config::env::expand(entry, &self.profile);
        }
        known
    }

    /// The workspace of an agent, from its entry.
    pub(crate) fn workspace_of(&self, id: &str, entry: &Value) -> String {
        entry["workspace"].as_str().map_or_else(|| config::default_workspace(&self.profile, id), str::to_owned)
    }

    /// Writes the configuration. A version that loses writes starts from what the last one had not
    /// yet changed.
    pub(crate) fn write(&mut self, change: impl FnOnce(&mut Value)) {
        if std::mem::take(&mut self.config.broken) {
            // On newer versions what cannot be read counts as nothing, and what is written now is all there is (measured).
            let heals = self.profile.heals_broken_config;
            self.config.document = if heals { self.config.applied.clone() } else { json!({}) };
        }
        let now = Instant::now();
        if let (Some(window), Some((at, before))) = (self.profile.loses_writes, self.last_write.take())
            && at + window > now
        {
            self.config.document = before;
        }
        self.last_write = Some((now, self.config.document.clone()));
        change(&mut self.config.document);
        let main = config::default_workspace(&self.profile, roster::MAIN);
        roster::migrate(&mut self.config.document, self.profile.roster, self.profile.version, &main);
        self.applying += 1;
    }

    /// The reload that follows a write is over.
    pub(crate) fn finish_reload(&mut self) {
        self.applying = self.applying.saturating_sub(1);
        self.apply();
    }

    /// Applies what is written, unless the lease of a dead process is held.
    pub(crate) fn apply(&mut self) {
        if self.config.unsettled_until.is_some_and(|until| until > Instant::now()) || self.config.broken {
            return;
        }
        self.config.unsettled_until = None;
        if self.config.applied == self.config.document {
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

    /// Ends a lease whose time has come.
    pub(crate) fn end_expired_lease(&mut self) {
        if self.config.unsettled_until.is_some_and(|until| until <= Instant::now()) {
            self.apply();
        }
    }

    fn sync_jobs(&mut self) {
        let now_ms = self.clock.now_ms();
        let applied = self.config.applied.clone();
        for change in self.cron.sync(&applied, &self.profile, &mut self.ids, now_ms) {
            let mut payload = json!({"jobId": change.job["id"], "action": change.action, "job": change.job});
            if let Some(next) = change.job["state"].get("nextRunAtMs")
                && change.action != "removed"
            {
                payload["nextRunAtMs"] = next.clone();
            }
            self.emit("cron", &payload);
        }
    }

    /// Ends the process: nothing of it is left but what is on its disk.
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

    /// An agent of this id was deleted.
    pub(crate) fn close_id(&mut self, id: &str) {
        if self.profile.closes_deleted_ids {
            self.closed_ids.insert(id.to_owned());
        }
    }

    /// Kills the process: whatever it was in the middle of leaves its lease behind.
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

    /// Loses the machine, and the process with it.
    pub(crate) fn lose_host(&mut self) {
        self.kill();
        self.process_state = ProcessState::HostLost;
    }

    /// Starts the process: it reads its configuration and answers `gateway starting` for `time`.
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

    /// Puts another version in the place of the one that has ended.
    pub(crate) fn switch_version(&mut self, profile: Arc<Profile>) {
        let main = config::default_workspace(&profile, roster::MAIN);
        roster::reshape(&mut self.config.document, profile.roster);
        roster::migrate(&mut self.config.document, profile.roster, profile.version, &main);
        self.profile = profile;
    }

    /// Answers the upgrade with 503 from now on, as a process does that waits for its runs to end.
    pub(crate) fn drain(&mut self) {
        self.process_state = ProcessState::Draining;
    }

    /// Sends an event to every connection that may hear it.
    pub(crate) fn emit(&mut self, event: &str, payload: &Value) {
        self.connections.emit(event, payload);
    }

    /// Sends an event to one connection.
    pub(crate) fn emit_to(&mut self, connection_id: u64, event: &str, payload: &Value) {
        self.connections.emit_to(connection_id, event, payload);
    }
}
