//! The informer: it keeps the inventory current.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::warn;

use super::event::GatewayEvent;
use crate::openclaw::backoff::doubled;
use crate::openclaw::channel::{Change, ConnectionEvent, ORDINARY, Requester};
use crate::openclaw::model::file::OfFile;
use crate::openclaw::model::inventory::assemble;
use crate::openclaw::model::roster::{ConfigAnswer, RosterAnswer};
use crate::openclaw::model::run_event::RunEvent;
use crate::openclaw::model::{CallError, GatewayActivity, Inventory, ReadFailure, WORKSPACE_FILES};

/// How often a gateway is looked at that has not applied its last config.
const WHILE_UNSETTLED: Duration = Duration::from_secs(2);
/// How often that is done when only the roster lags behind the config, which older gateways tell in no other way.
const MOST_DISAGREEMENTS: u32 = 30;
/// How long after a hint at a change a gateway is looked at: some show the config of before for a moment (2026.9.3, measured).
const AFTER_HINT: Duration = Duration::from_secs(1);
/// How long to wait before a failed look is tried again; doubled each time, up to the second.
const AFTER_FAILURE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));
/// How many looks have to fail in a row before that is told.
const FAILURES_TOLD: u32 = 3;
/// How long what was read last counts as current while every look fails.
const STALE_AFTER: Duration = Duration::from_secs(30);

/// The task that keeps the inventory.
pub(crate) struct Informer {
    pub(crate) caller: Requester,
    pub(crate) told: mpsc::UnboundedReceiver<ConnectionEvent>,
    pub(crate) wanted: mpsc::UnboundedReceiver<oneshot::Sender<bool>>,
    pub(crate) inventory: watch::Sender<Option<Arc<Inventory>>>,
    pub(crate) unread: watch::Sender<Option<Arc<ReadFailure>>>,
    pub(crate) runs: watch::Sender<GatewayActivity>,
    pub(crate) changes: broadcast::Sender<Change>,
    pub(crate) hashes: Arc<AtomicBool>,
    pub(crate) resync: Duration,
}

/// What the informer knows between two looks.
#[derive(Default)]
struct Memory {
    up: bool,
    accepted: Option<BTreeSet<String>>,
    /// Whether session events were asked for, and the answer will stay the same.
    subscribed: bool,
    asked: Vec<oneshot::Sender<bool>>,
    due: Option<Instant>,
    /// When to look although the last look, which may have come too early, showed nothing new.
    hinted: Option<Instant>,
    /// The agents that the gateway's last word of its health named.
    healthy: Option<BTreeSet<String>>,
    /// Looks that failed in a row, and when the first of them did.
    failed: Option<(u32, Instant)>,
    /// The roster, with the hash of the config that it was read with, while nothing says that it has changed.
    roster: Option<(Option<String>, RosterAnswer)>,
    /// How often in a row roster and config did not agree.
    disagreed: u32,
}

impl Memory {
    /// 2026.9 says so whenever it has taken up another config, and about half of the time nothing else on 2026.9.3 and 2026.9.4
    /// (measured). It also says so at other times: the roster is read again only with another config.
    fn hint(&mut self, now: Instant) {
        self.hinted = Some(now + AFTER_HINT);
        self.due = self.due.min(self.hinted).or(self.hinted);
    }

    /// After a look: the next one is due after this time, or when something has hinted at a change.
    fn next_look(&mut self, now: Instant, wait: Duration) {
        self.hinted = self.hinted.filter(|at| *at > now);
        self.due = Some(self.hinted.map_or(now + wait, |at| at.min(now + wait)));
    }

    /// Whether these agents are others than the last time, and than those that are known: what is said again, and known to be
    /// otherwise, is the gateway's own way of counting.
    fn hears_of(&mut self, named: BTreeSet<String>, known: Option<&BTreeSet<String>>) -> bool {
        let before = self.healthy.replace(named);
        before.is_some() && before != self.healthy && known.is_some_and(|known| Some(known) != self.healthy.as_ref())
    }

    /// There is a connection. What was known of an earlier one is not known of this one; who asked meanwhile is answered by it.
    fn connected(&mut self) {
        *self = Self { up: true, asked: std::mem::take(&mut self.asked), ..Self::default() };
        self.suspect();
    }

    /// Something may have changed: roster and config are read now.
    fn suspect(&mut self) {
        self.due = Some(Instant::now());
        self.roster = None;
    }
}

impl Informer {
    /// Runs until the connection's task has ended.
    pub(crate) async fn run(mut self) {
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

    fn hear(&self, told: ConnectionEvent, memory: &mut Memory) {
        match told {
            ConnectionEvent::Up => {
                memory.connected();
                self.runs.send_modify(|runs| runs.connected(Instant::now()));
            }
            ConnectionEvent::Down => {
                // Who asked learns that nothing was read.
                *memory = Memory::default();
                self.unread.send_replace(None);
                if self.inventory.send_replace(None).is_some() {
                    self.tell(Change::Connection);
                }
            }
            ConnectionEvent::Gap => {
                memory.suspect();
                self.runs.send_modify(GatewayActivity::forget);
                self.tell(Change::Roster);
            }
            ConnectionEvent::Event { event, .. } => match event {
                GatewayEvent::Config => memory.suspect(),
                GatewayEvent::Hint => memory.hint(Instant::now()),
                GatewayEvent::Health(agents) => self.hear_of_health(agents, memory),
                GatewayEvent::Run(event) => self.hear_of_run(event),
                GatewayEvent::Clock(clock) => {
                    // Nobody waits for it.
                    self.runs.send_if_modified(|runs| {
                        runs.clock = Some(clock);
                        false
                    });
                }
            },
        }
    }

    /// Each minute a gateway names its agents. Versions before 2026.9 tell of no change of the config, and 2026.9.6 of some
    /// changes that come while it takes another one up (measured): that an agent came or went shows here.
    fn hear_of_health(&self, named: BTreeSet<String>, memory: &mut Memory) {
        let known = self.inventory.borrow().as_ref().map(|inventory| inventory.served());
        if memory.hears_of(named, known.as_ref()) {
            memory.suspect();
        }
    }

    fn hear_of_run(&self, event: RunEvent) {
        let mut agent = None;
        self.runs.send_if_modified(|runs| {
            agent = runs.take(event);
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
        let result = self.read(memory).await;
        let read = result.is_ok();
        match result {
            Ok(inventory) => self.succeeded(inventory, memory),
            Err(error) => self.failed(&error, memory),
        }
        // Who asked and went away does not mind.
        for asker in asked {
            let _ = asker.send(read);
        }
    }

    fn succeeded(&self, inventory: Inventory, memory: &mut Memory) {
        memory.disagreed = if inventory.agrees() { 0 } else { memory.disagreed.saturating_add(1) };
        let unsettled = !inventory.settled || (1..=MOST_DISAGREEMENTS).contains(&memory.disagreed);
        memory.roster = memory.roster.take().filter(|_| inventory.settled && inventory.agrees());
        memory.next_look(Instant::now(), if unsettled { WHILE_UNSETTLED } else { self.resync });
        memory.failed = None;
        self.unread.send_replace(None);
        self.publish(inventory);
    }

    /// A look failed. That is told when it happens again and again, and what was read before does not count for ever.
    fn failed(&self, error: &CallError, memory: &mut Memory) {
        warn!(%error, "the gateway's roster could not be read");
        let (before, since) = memory.failed.unwrap_or((0, Instant::now()));
        let failures = before.saturating_add(1);
        memory.failed = Some((failures, since));
        memory.due = Some(Instant::now() + doubled(AFTER_FAILURE, failures));
        if failures < FAILURES_TOLD {
            return;
        }
        let unread =
            ReadFailure { code: error.code().to_owned(), message: error.message(), transient: error.is_transient() };
        let news = self.unread.send_replace(Some(Arc::new(unread.clone()))).is_none_or(|before| *before != unread);
        let stale = since.elapsed() >= STALE_AFTER && self.inventory.send_replace(None).is_some();
        if news || stale {
            self.tell(Change::Connection);
        }
    }

    async fn read(&self, memory: &mut Memory) -> Result<Inventory, CallError> {
        if !memory.subscribed {
            // Without it there are no session events, which only makes their news later.
            let subscribed = self.caller.call("sessions.subscribe", json!({}), ORDINARY).await;
            if let Err(error) = &subscribed {
                warn!(%error, "no session events");
            }
            memory.subscribed = subscribed.as_ref().map_or_else(|error| !error.is_transient(), |_| true);
        }
        let (config, roster) = self.config_and_roster(memory).await?;
        let accepted = match &memory.accepted {
            Some(accepted) => accepted.clone(),
            None => self.probe(&roster).await?,
        };
        memory.accepted = Some(accepted.clone());
        Ok(assemble(config, &roster, &accepted, self.hashes.load(Ordering::Relaxed)))
    }

    /// The config, and the roster: again only when the config is another one, or something says that it may be.
    async fn config_and_roster(&self, memory: &mut Memory) -> Result<(ConfigAnswer, RosterAnswer), CallError> {
        let config = self.caller.ask::<ConfigAnswer>("config.get", json!({}), ORDINARY);
        let roster = || self.caller.ask::<RosterAnswer>("agents.list", json!({}), ORDINARY);
        let (config, roster) = match memory.roster.take() {
            None => futures::try_join!(config, roster())?,
            Some((hash, known)) => {
                let config = config.await?;
                let known = if config.hash == hash { known } else { roster().await? };
                (config, known)
            }
        };
        if let Some(invalid) = config.invalid {
            return Err(CallError::Unsettled(invalid));
        }
        memory.roster = Some((config.hash.clone(), roster.clone()));
        Ok((config, roster))
    }

    /// Which workspace files the gateway accepts: reading one that it does not accept is `unsupported file`. It looks at the
    /// name first, so that whatever else is wrong with a file that is there, its name is taken.
    async fn probe(&self, roster: &RosterAnswer) -> Result<BTreeSet<String>, CallError> {
        let first = || roster.agents.0.first()?.id.as_deref();
        let some = roster.default_id.as_deref().or_else(first).unwrap_or("main");
        let ask = |name: &'static str| async move {
            match self
                .caller
                .ask::<OfFile>("agents.files.get", json!({ "agentId": some, "name": name }), ORDINARY)
                .await
            {
                Ok(answer) => {
                    if answer.tells_hash() {
                        self.hashes.store(true, Ordering::Relaxed);
                    }
                    Ok(Some(name))
                }
                Err(error) if error.is_unsupported_file() => Ok(None),
                Err(error) if error.is_transient() => Err(error),
                Err(error) => {
                    warn!(%error, file = name, "a file of the gateway's own agent cannot be read");
                    Ok(Some(name))
                }
            }
        };
        let accepted = futures::future::try_join_all(WORKSPACE_FILES.map(ask)).await?;
        Ok(accepted.into_iter().flatten().map(str::to_owned).collect())
    }

    fn publish(&self, new: Inventory) {
        let new = Arc::new(new);
        let old = self.inventory.send_replace(Some(Arc::clone(&new)));
        let Some(old) = old else { return self.tell(Change::Roster) };
        if old.settled != new.settled || old.capabilities != new.capabilities {
            return self.tell(Change::Roster);
        }
        if old.heartbeats != new.heartbeats {
            self.tell(Change::Heartbeats);
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

    #[test]
    fn who_asks_just_before_the_connection_is_told_is_answered_by_it() {
        let (done, mut wait) = oneshot::channel();
        let mut memory = Memory { disagreed: 3, asked: vec![done], ..Memory::default() };
        memory.connected();
        assert_eq!(wait.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        assert_eq!((memory.asked.len(), memory.disagreed, memory.due.is_some()), (1, 0, true));
    }

    #[test]
    fn a_hint_makes_for_one_more_look_a_moment_later_whatever_was_seen_before() {
        let (now, resync) = (Instant::now(), Duration::from_mins(10));
        let after = |memory: &Memory| memory.due.unwrap() - now;
        let mut memory = Memory { due: Some(now + resync), ..Memory::default() };
        memory.hint(now);
        assert_eq!(after(&memory), AFTER_HINT);
        memory.next_look(now, resync);
        assert_eq!(after(&memory), AFTER_HINT, "that look may have come too early");
        memory.next_look(now + AFTER_HINT, resync);
        assert_eq!(after(&memory), AFTER_HINT + resync);
    }

    #[test]
    fn an_agent_that_is_missing_in_the_gateways_health_is_looked_for_once() {
        let set = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<_>>();
        let known = set(&["main", "mc-1"]);
        let mut memory = Memory::default();
        assert!(!memory.hears_of(set(&["main", "mc-1"]), Some(&known)), "as it is known");
        assert!(memory.hears_of(set(&["main"]), Some(&known)), "one has gone");
        assert!(!memory.hears_of(set(&["main"]), Some(&known)), "it was looked for");
        assert!(!memory.hears_of(set(&["main", "mc-1"]), Some(&known)), "what is known again");
        assert!(!memory.hears_of(set(&[]), None));
    }
}
