//! The informer task: it keeps the inventory current.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::warn;

use super::changes::Changes;
use super::event::GatewayEvent;
use super::informer_state::{InformedLink, InformerState};
use super::job_reader;
use crate::backoff::doubled;
use crate::openclaw::channel::{Change, ConnectionEvent, REQUEST_TIMEOUT, Requester};
use crate::openclaw::limits;
use crate::openclaw::model::file::{FileHashProbe, ProbedFiles};
use crate::openclaw::model::inventory::assemble;
use crate::openclaw::model::roster::{ConfigAnswer, RosterAnswer};
use crate::openclaw::model::run_event::RunEvent;
use crate::openclaw::model::{CallError, GatewayActivity, HeartbeatJobs, Inventory, ReadFailure, WORKSPACE_FILES};

/// The read interval while the gateway has not applied its last config.
const UNSETTLED_INTERVAL: Duration = Duration::from_secs(2);
/// The longest read interval while the layout of the config keeps Muster from writes. A change of the layout that changes no value causes
/// no event.
const OBSTRUCTED_INTERVAL: Duration = Duration::from_mins(1);
/// Most reads in a row at that interval while roster and config name different agents. Older gateways report an unapplied
/// config in no other way.
const MAX_MISMATCHES: u32 = 30;
/// The first and the longest wait before a failed read is retried.
const READ_BACKOFF: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));
/// The number of failed reads in a row from which on the informer reports the failure.
const REPORTED_FAILURES: u32 = 3;
/// The estimated memory of a name beside its text, in bytes.
const PER_NAME: usize = 64;
/// How long an inventory waits for the heartbeat jobs.
const JOBS_PATIENCE: Duration = Duration::from_secs(1);
/// The time without a successful read after which the inventory is dropped.
const STALE_AFTER: Duration = Duration::from_secs(30);

/// The task that keeps the inventory current.
pub(crate) struct Informer {
    pub(crate) requester: Requester,
    pub(crate) events: mpsc::UnboundedReceiver<ConnectionEvent>,
    pub(crate) resync_requests: mpsc::UnboundedReceiver<oneshot::Sender<bool>>,
    pub(crate) inventory: watch::Sender<Option<Arc<Inventory>>>,
    pub(crate) heartbeat_jobs: watch::Sender<Option<Arc<HeartbeatJobs>>>,
    pub(crate) read_failure: watch::Sender<Option<Arc<ReadFailure>>>,
    pub(crate) activity: watch::Sender<GatewayActivity>,
    pub(crate) changes: broadcast::Sender<Change>,
    /// Whether an answer of the gateway had a file hash.
    pub(crate) file_hashes: Arc<AtomicBool>,
    pub(crate) resync: Duration,
}

impl Informer {
    /// Runs until the connection task has ended.
    pub(crate) async fn run(mut self) {
        let mut state = InformerState::default();
        loop {
            let next_read = state.next_read;
            // Both branches are cancel-safe: channels and a timer.
            tokio::select! {
                biased;
                event = self.events.recv() => match event {
                    Some(event) => self.apply(event, &mut state),
                    None => return,
                },
                Some(reply) = self.resync_requests.recv() => {
                    state.waiting.push(reply);
                    state.read_now();
                }
                () = until(next_read) => self.refresh(&mut state).await,
            }
        }
    }

    fn apply(&self, event: ConnectionEvent, state: &mut InformerState) {
        match event {
            ConnectionEvent::Up(reporter) => {
                state.connected(InformedLink::new(reporter));
                self.activity.send_modify(|activity| activity.connected(Instant::now()));
            }
            ConnectionEvent::Down => {
                // The reset drops the waiting replies, which the callers see as a failed read.
                *state = InformerState::default();
                self.read_failure.send_replace(None);
                self.heartbeat_jobs.send_replace(None);
                if self.inventory.send_replace(None).is_some() {
                    self.send(Change::Connection);
                }
            }
            ConnectionEvent::Gap { .. } => {
                self.activity.send_modify(GatewayActivity::reset);
                if state.read_after_event(Instant::now()) {
                    self.send(Change::Roster);
                } else {
                    state.check_all = true;
                }
            }
            ConnectionEvent::Event { event, .. } => match event {
                GatewayEvent::Config => {
                    state.read_after_event(Instant::now());
                }
                GatewayEvent::Hint => state.hint(Instant::now()),
                GatewayEvent::Job => {
                    state.jobs_changed = true;
                    state.hint(Instant::now());
                }
                GatewayEvent::Health(agents) => self.apply_health(agents, state),
                GatewayEvent::Run(event) => self.apply_run_event(event, state),
                GatewayEvent::Clock(clock) => {
                    // A clock reading wakes no receiver of the watch.
                    self.activity.send_if_modified(|activity| {
                        activity.clock = Some(clock);
                        false
                    });
                }
            },
        }
    }

    /// Reads again when the `health` event of each minute shows a change. Versions up to 2026.7 send no other event for a
    /// config change, and 2026.9.6 sends none for some changes (`docs/gateway-facts.md#config-changes`).
    fn apply_health(&self, named: BTreeSet<String>, state: &mut InformerState) {
        if let Some(link) = &mut state.link {
            link.health = named.iter().map(|id| PER_NAME + id.len()).sum();
            link.keeps(self.activity.borrow().bytes());
        }
        let served = self.inventory.borrow().as_ref().map(|inventory| inventory.served());
        if state.health_changed(named, served.as_ref()) {
            state.read_after_event(Instant::now());
        }
    }

    fn apply_run_event(&self, event: RunEvent, state: &InformerState) {
        let mut applied = Ok(None);
        self.activity.send_if_modified(|activity| {
            applied = activity.apply(event);
            matches!(applied, Ok(Some(_)))
        });
        let Some(link) = &state.link else { return };
        match applied {
            Ok(Some(agent)) => self.send(Change::Run(agent)),
            Ok(None) => {}
            Err(bound) => link.reporter.report(bound),
        }
        link.keeps(self.activity.borrow().bytes());
    }

    async fn refresh(&self, state: &mut InformerState) {
        let waiting = std::mem::take(&mut state.waiting);
        if state.link.is_none() {
            state.next_read = None;
            return;
        }
        let result = self.read(state).await;
        let is_read = result.is_ok();
        let reply = move || {
            for reply in waiting {
                // The send fails when the caller has dropped its future.
                let _ = reply.send(is_read);
            }
        };
        let inventory = match result {
            Ok(inventory) => inventory,
            Err(error) => {
                self.failed(&error, state);
                return reply();
            }
        };
        let is_first = self.heartbeat_jobs.borrow().is_none();
        let jobs_are_due = is_first || inventory.settled && state.jobs_are_due(Instant::now(), self.resync);
        if !jobs_are_due {
            self.succeeded(inventory, state, Changes::default());
            return reply();
        }
        // The inventory is published with the jobs that were read after it, so that no agent is looked at twice.
        let mut read = pin!(job_reader::read(&self.requester, inventory.capabilities.roster));
        if let Ok(jobs) = tokio::time::timeout(JOBS_PATIENCE, &mut read).await {
            let changes = self.jobs_read(jobs, state);
            self.succeeded(inventory, state, changes);
            return reply();
        }
        self.succeeded(inventory, state, Changes::default());
        reply();
        let changes = self.jobs_read(read.await, state);
        self.send_all(changes);
    }

    /// Publishes the heartbeat jobs and returns the agents whose jobs changed. After a failure that may pass, the known jobs stay, and the
    /// read is repeated.
    fn jobs_read(&self, result: Result<HeartbeatJobs, CallError>, state: &mut InformerState) -> Changes {
        let is_transient = result.as_ref().is_err_and(CallError::is_transient);
        let count = result.as_ref().map_or(0, HeartbeatJobs::count);
        state.jobs_were_read((!is_transient).then_some(count), Instant::now());
        match result {
            Ok(jobs) => self.publish_jobs(jobs, state),
            Err(_) if is_transient && self.heartbeat_jobs.borrow().is_some() => Changes::default(),
            Err(error) => self.publish_jobs(HeartbeatJobs::Unreadable(error.message()), state),
        }
    }

    fn publish_jobs(&self, new: HeartbeatJobs, state: &mut InformerState) -> Changes {
        if let Some(link) = &mut state.link {
            link.jobs = new.bytes();
            link.keeps(self.activity.borrow().bytes());
        }
        let new = Arc::new(new);
        match self.heartbeat_jobs.send_replace(Some(Arc::clone(&new))).map(|old| old.differing(&new)) {
            None => Changes::default(),
            Some(None) => Changes { all: true, ..Changes::default() },
            Some(Some(agents)) => Changes { agents, ..Changes::default() },
        }
    }

    /// Publishes an inventory, and what changed in it and besides.
    fn succeeded(&self, inventory: Inventory, state: &mut InformerState, mut changes: Changes) {
        state.mismatches = if inventory.agrees() { 0 } else { state.mismatches.saturating_add(1) };
        // A restart opens the connection anew, and with it comes a read.
        let unsettled =
            !inventory.reload_is_off && (!inventory.settled || (1..=MAX_MISMATCHES).contains(&state.mismatches));
        state.roster = state.roster.take().filter(|_| inventory.settled && inventory.agrees());
        let obstructed = inventory.obstacle.as_ref().map(|_| OBSTRUCTED_INTERVAL.min(self.resync));
        let calm = obstructed.unwrap_or(self.resync);
        state.schedule(Instant::now(), if unsettled { UNSETTLED_INTERVAL } else { calm });
        state.failed = None;
        self.read_failure.send_replace(None);
        self.publish(inventory, &mut changes);
        if let Some(link) = &state.link {
            link.keeps(self.activity.borrow().bytes());
        }
        changes.all |= std::mem::take(&mut state.check_all);
        self.send_all(changes);
    }

    /// Schedules a retry after a failed read. Repeated failures are reported, and a stale inventory is dropped.
    fn failed(&self, error: &CallError, state: &mut InformerState) {
        warn!(%error, "the gateway's roster could not be read");
        let (before, since) = state.failed.unwrap_or((0, Instant::now()));
        let failures = before.saturating_add(1);
        state.failed = Some((failures, since));
        state.next_read = Some(Instant::now() + doubled(READ_BACKOFF.0, READ_BACKOFF.1, failures));
        if failures < REPORTED_FAILURES {
            return;
        }
        let failure =
            ReadFailure { code: error.code().to_owned(), message: error.message(), transient: error.is_transient() };
        let before = self.read_failure.send_replace(Some(Arc::new(failure.clone())));
        let changed = before.is_none_or(|before| *before != failure);
        let dropped = since.elapsed() >= STALE_AFTER && self.inventory.send_replace(None).is_some();
        if changed || dropped {
            self.send(Change::Connection);
        }
    }

    async fn read(&self, state: &mut InformerState) -> Result<Inventory, CallError> {
        if !state.subscribed {
            // Without the subscription the gateway sends no session events. Muster then sees the changes later, by reads.
            let subscribed = self.requester.call("sessions.subscribe", json!({}), REQUEST_TIMEOUT).await;
            if let Err(error) = &subscribed {
                warn!(%error, "the subscription to session events failed");
            }
            state.subscribed = subscribed.as_ref().map_or_else(|error| !error.is_transient(), |_| true);
        }
        let (config, roster) = self.config_and_roster(state).await?;
        let accepted = match &state.accepted {
            Some(accepted) => accepted.clone(),
            None => self.probe(&roster).await?,
        };
        state.accepted = Some(accepted.clone());
        Ok(assemble(config, &roster, &accepted, self.file_hashes.load(Ordering::Relaxed)))
    }

    /// Reads the config, and the roster if the config changed or an event reports a possible change.
    async fn config_and_roster(&self, state: &mut InformerState) -> Result<(ConfigAnswer, RosterAnswer), CallError> {
        let config = self.requester.ask::<ConfigAnswer>("config.get", json!({}), REQUEST_TIMEOUT);
        let roster = || self.requester.ask::<RosterAnswer>("agents.list", json!({}), REQUEST_TIMEOUT);
        let (config, roster) = match state.roster.take() {
            None => futures::try_join!(config, roster())?,
            Some((hash, last)) => {
                let config = config.await?;
                let roster = if config.hash == hash { last } else { roster().await? };
                (config, roster)
            }
        };
        if let Some(invalid) = &config.invalid {
            let redacted = state.link.as_ref().map(|link| link.reporter.redacted(invalid));
            return Err(CallError::Unsettled(redacted.unwrap_or_default()));
        }
        if let Some(link) = &mut state.link {
            link.inventory = config.bytes + 2 * roster.bytes();
        }
        state.roster = Some((config.hash.clone(), roster.clone()));
        Ok((config, roster))
    }

    /// The workspace files that the gateway accepts. A read of an unaccepted name gets `unsupported file`. The gateway checks
    /// the name first, so that any other error means an accepted name (`docs/gateway-facts.md#versions`). A long file is not read:
    /// the gateway lists only files whose names it accepts.
    async fn probe(&self, roster: &RosterAnswer) -> Result<BTreeSet<String>, CallError> {
        let first = || roster.agents.0.first()?.id.as_deref();
        let agent_id = roster.default_id.as_deref().or_else(first).unwrap_or("main");
        let long = &self.long_files(agent_id).await?;
        let probe_name = |name: &'static str| async move {
            if long.contains(name) {
                return Ok(Some(name));
            }
            let params = json!({ "agentId": agent_id, "name": name });
            match self.requester.ask::<FileHashProbe>("agents.files.get", params, REQUEST_TIMEOUT).await {
                Ok(answer) => {
                    if answer.has_hash() {
                        self.file_hashes.store(true, Ordering::Relaxed);
                    }
                    Ok(Some(name))
                }
                Err(error) if error.is_unsupported_file() => Ok(None),
                Err(error) if error.is_transient() => Err(error),
                Err(error) => {
                    warn!(%error, file = name, "the gateway did not return a file of its default agent");
                    Ok(Some(name))
                }
            }
        };
        let accepted = futures::future::try_join_all(WORKSPACE_FILES.map(probe_name)).await?;
        Ok(accepted.into_iter().flatten().map(str::to_owned).collect())
    }

    /// The names of an agent's files that are too long for the probe.
    async fn long_files(&self, agent_id: &str) -> Result<BTreeSet<String>, CallError> {
        let params = json!({ "agentId": agent_id });
        match self.requester.ask::<ProbedFiles>("agents.files.list", params, REQUEST_TIMEOUT).await {
            Ok(listed) => Ok(listed.longer_than(limits::PROBED_FILE)),
            Err(error) if error.is_transient() => Err(error),
            Err(error) => {
                warn!(%error, "the gateway did not list the files of its default agent");
                Ok(BTreeSet::new())
            }
        }
    }

    fn publish(&self, new: Inventory, changes: &mut Changes) {
        let new = Arc::new(new);
        // The events that arrived during the read are still queued. A forgotten agent wakes no receiver of the watch.
        self.activity.send_if_modified(|activity| {
            activity.forget_others(|id| new.agents.contains_key(id));
            false
        });
        let old = self.inventory.send_replace(Some(Arc::clone(&new)));
        changes.add_differences(old.as_deref(), &new);
    }

    fn send_all(&self, changes: Changes) {
        if changes.all {
            return self.send(Change::Roster);
        }
        if changes.gateway {
            self.send(Change::Gateway);
        }
        changes.agents.into_iter().for_each(|agent| self.send(Change::Agent(agent)));
    }

    fn send(&self, change: Change) {
        // The send fails without a receiver.
        let _ = self.changes.send(change);
    }
}

/// Waits until a time; forever without a time.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
