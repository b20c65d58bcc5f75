//! The informer task: it keeps the inventory current.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::warn;

use super::event::GatewayEvent;
use crate::backoff::doubled;
use crate::openclaw::channel::{Change, ConnectionEvent, REQUEST_TIMEOUT, Requester};
use crate::openclaw::model::file::FileHashProbe;
use crate::openclaw::model::inventory::assemble;
use crate::openclaw::model::roster::{ConfigAnswer, RosterAnswer};
use crate::openclaw::model::run_event::RunEvent;
use crate::openclaw::model::{CallError, GatewayActivity, Inventory, ReadFailure, WORKSPACE_FILES};

/// The read interval while the gateway has not applied its last config.
const UNSETTLED_INTERVAL: Duration = Duration::from_secs(2);
/// Most reads in a row at that interval while roster and config name different agents. Older gateways report an unapplied
/// config in no other way.
const MAX_MISMATCHES: u32 = 30;
/// The delay of the read after a hint at a change. 2026.9.3 shows the previous config for up to 1 s after a change
/// (`docs/gateway-facts.md#roster-visibility`).
const HINT_DELAY: Duration = Duration::from_secs(1);
/// The first and the longest wait before a failed read is retried.
const READ_BACKOFF: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));
/// The number of failed reads in a row from which on the informer reports the failure.
const REPORTED_FAILURES: u32 = 3;
/// The time without a successful read after which the inventory is dropped.
const STALE_AFTER: Duration = Duration::from_secs(30);

/// The task that keeps the inventory current.
pub(crate) struct Informer {
    pub(crate) requester: Requester,
    pub(crate) events: mpsc::UnboundedReceiver<ConnectionEvent>,
    pub(crate) resync_requests: mpsc::UnboundedReceiver<oneshot::Sender<bool>>,
    pub(crate) inventory: watch::Sender<Option<Arc<Inventory>>>,
    pub(crate) read_failure: watch::Sender<Option<Arc<ReadFailure>>>,
    pub(crate) activity: watch::Sender<GatewayActivity>,
    pub(crate) changes: broadcast::Sender<Change>,
    /// Whether an answer of the gateway had a file hash.
    pub(crate) file_hashes: Arc<AtomicBool>,
    pub(crate) resync: Duration,
}

/// The state of the informer between two reads.
#[derive(Default)]
struct InformerState {
    up: bool,
    /// The workspace files that the gateway accepts.
    accepted: Option<BTreeSet<String>>,
    /// Whether the subscription to session events succeeded or failed permanently.
    subscribed: bool,
    /// The callers of a resync that wait for the next read.
    waiting: Vec<oneshot::Sender<bool>>,
    next_read: Option<Instant>,
    /// The time of a read after a hint. An earlier read may not show the change yet.
    hinted: Option<Instant>,
    /// The agents in the gateway's last `health` event.
    healthy: Option<BTreeSet<String>>,
    /// The number of failed reads in a row, and the time of the first of them.
    failed: Option<(u32, Instant)>,
    /// The last roster with the hash of its config, while no event reports a change.
    roster: Option<(Option<String>, RosterAnswer)>,
    /// The number of reads in a row in which roster and config named different agents.
    mismatches: u32,
}

impl InformerState {
    /// Schedules a read after `chat.metadata.changed`. 2026.9 sends this event after each config change, and also at other
    /// times. 2026.9.3 and 2026.9.4 send no other event for about half of the changes (`docs/gateway-facts.md#config-changes`).
    /// The read fetches the roster only if the config changed.
    fn hint(&mut self, now: Instant) {
        self.hinted = Some(now + HINT_DELAY);
        self.next_read = self.next_read.min(self.hinted).or(self.hinted);
    }

    /// Schedules the next read after a read at `now`: after `wait`, or earlier at a hinted time.
    fn schedule(&mut self, now: Instant, wait: Duration) {
        self.hinted = self.hinted.filter(|at| *at > now);
        self.next_read = Some(self.hinted.map_or(now + wait, |at| at.min(now + wait)));
    }

    /// Records the agents of a `health` event. Returns whether they differ from the previous event and from the inventory. The
    /// `health` event may permanently name other agents than the roster, so that a difference from the inventory alone is no
    /// change.
    fn health_changed(&mut self, named: BTreeSet<String>, served: Option<&BTreeSet<String>>) -> bool {
        let before = self.healthy.replace(named);
        before.is_some() && before != self.healthy && served.is_some_and(|served| Some(served) != self.healthy.as_ref())
    }

    /// Resets the state for a new connection. Its first read answers the waiting callers.
    fn connected(&mut self) {
        *self = Self { up: true, waiting: std::mem::take(&mut self.waiting), ..Self::default() };
        self.read_now();
    }

    /// Schedules an immediate read of roster and config.
    fn read_now(&mut self) {
        self.next_read = Some(Instant::now());
        self.roster = None;
    }
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
            ConnectionEvent::Up => {
                state.connected();
                self.activity.send_modify(|activity| activity.connected(Instant::now()));
            }
            ConnectionEvent::Down => {
                // The reset drops the waiting replies, which the callers see as a failed read.
                *state = InformerState::default();
                self.read_failure.send_replace(None);
                if self.inventory.send_replace(None).is_some() {
                    self.send(Change::Connection);
                }
            }
            ConnectionEvent::Gap => {
                state.read_now();
                self.activity.send_modify(GatewayActivity::reset);
                self.send(Change::Roster);
            }
            ConnectionEvent::Event { event, .. } => match event {
                GatewayEvent::Config => state.read_now(),
                GatewayEvent::Hint => state.hint(Instant::now()),
                GatewayEvent::Health(agents) => self.apply_health(agents, state),
                GatewayEvent::Run(event) => self.apply_run_event(event),
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
        let served = self.inventory.borrow().as_ref().map(|inventory| inventory.served());
        if state.health_changed(named, served.as_ref()) {
            state.read_now();
        }
    }

    fn apply_run_event(&self, event: RunEvent) {
        let mut agent = None;
        self.activity.send_if_modified(|activity| {
            agent = activity.apply(event);
            agent.is_some()
        });
        if let Some(agent) = agent {
            self.send(Change::Run(agent));
        }
    }

    async fn refresh(&self, state: &mut InformerState) {
        let waiting = std::mem::take(&mut state.waiting);
        if !state.up {
            state.next_read = None;
            return;
        }
        let result = self.read(state).await;
        let read = result.is_ok();
        match result {
            Ok(inventory) => self.succeeded(inventory, state),
            Err(error) => self.failed(&error, state),
        }
        for reply in waiting {
            // The send fails when the caller has dropped its future.
            let _ = reply.send(read);
        }
    }

    fn succeeded(&self, inventory: Inventory, state: &mut InformerState) {
        state.mismatches = if inventory.agrees() { 0 } else { state.mismatches.saturating_add(1) };
        let unsettled = !inventory.settled || (1..=MAX_MISMATCHES).contains(&state.mismatches);
        state.roster = state.roster.take().filter(|_| inventory.settled && inventory.agrees());
        state.schedule(Instant::now(), if unsettled { UNSETTLED_INTERVAL } else { self.resync });
        state.failed = None;
        self.read_failure.send_replace(None);
        self.publish(inventory);
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
        if let Some(invalid) = config.invalid {
            return Err(CallError::Unsettled(invalid));
        }
        state.roster = Some((config.hash.clone(), roster.clone()));
        Ok((config, roster))
    }

    /// The workspace files that the gateway accepts. A read of an unaccepted name gets `unsupported file`. The gateway checks
    /// the name first, so that any other error means an accepted name (`docs/gateway-facts.md#versions`).
    async fn probe(&self, roster: &RosterAnswer) -> Result<BTreeSet<String>, CallError> {
        let first = || roster.agents.0.first()?.id.as_deref();
        let agent_id = roster.default_id.as_deref().or_else(first).unwrap_or("main");
        let probe_name = |name: &'static str| async move {
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

    fn publish(&self, new: Inventory) {
        let new = Arc::new(new);
        // The events that arrived during the read are still queued. A forgotten agent wakes no receiver of the watch.
        self.activity.send_if_modified(|activity| {
            activity.forget_others(|id| new.agents.contains_key(id));
            false
        });
        let old = self.inventory.send_replace(Some(Arc::clone(&new)));
        let Some(old) = old else { return self.send(Change::Roster) };
        if old.settled != new.settled || old.capabilities != new.capabilities {
            return self.send(Change::Roster);
        }
        if old.heartbeats != new.heartbeats {
            self.send(Change::Heartbeats);
        }
        let ids: BTreeSet<_> = old.agents.keys().chain(new.agents.keys()).collect();
        for id in ids.into_iter().filter(|id| old.agents.get(*id) != new.agents.get(*id)) {
            self.send(Change::Agent(id.clone()));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resync_request_before_the_event_of_its_connection_is_answered_by_that_connection() {
        let (done, mut wait) = oneshot::channel();
        let mut state = InformerState { mismatches: 3, waiting: vec![done], ..InformerState::default() };
        state.connected();
        assert_eq!(wait.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        assert_eq!((state.waiting.len(), state.mismatches, state.next_read.is_some()), (1, 0, true));
    }

    #[test]
    fn a_hint_schedules_one_more_read_after_its_delay() {
        let (now, resync) = (Instant::now(), Duration::from_mins(10));
        let after = |state: &InformerState| state.next_read.unwrap() - now;
        let mut state = InformerState { next_read: Some(now + resync), ..InformerState::default() };
        state.hint(now);
        assert_eq!(after(&state), HINT_DELAY);
        state.schedule(now, resync);
        assert_eq!(after(&state), HINT_DELAY, "the read may have been too early");
        state.schedule(now + HINT_DELAY, resync);
        assert_eq!(after(&state), HINT_DELAY + resync);
    }

    #[test]
    fn a_missing_agent_in_the_health_event_causes_one_read() {
        let set = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<_>>();
        let served = set(&["main", "mc-1"]);
        let mut state = InformerState::default();
        assert!(!state.health_changed(set(&["main", "mc-1"]), Some(&served)), "equal to the inventory");
        assert!(state.health_changed(set(&["main"]), Some(&served)), "an agent is missing");
        assert!(!state.health_changed(set(&["main"]), Some(&served)), "the same event again");
        assert!(!state.health_changed(set(&["main", "mc-1"]), Some(&served)), "equal to the inventory again");
        assert!(!state.health_changed(set(&[]), None));
    }
}
