//! The handle to a gateway, and the tasks behind it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::channel::{Change, Meter, Requester, resync};
use super::config_writer::batch_window::{ExpectedEntries, ExpectedEntry};
use super::config_writer::write_guard::{Write, WriteGuard};
use super::config_writer::write_lock::{WriteLock, WriteLockGuard};
use super::config_writer::writer::{ConfigWriter, WriteCommand};
use super::connection::credential_fallback::CredentialFallback;
use super::connection::payload::Payload;
use super::connection::task::ConnectionTask;
use super::connection::transport::Dial;
use super::inventory::informer::Informer;
use super::model::file::OfFile;
use super::model::{
    AgentEntry, CallError, ConfigWrites, ConnectionState, GatewayActivity, HeartbeatClaims, Inventory, ReadFailure,
};
use super::settings::ConnectionSettings;
use crate::openclaw::config_writer::writer::WriterParts;
use crate::openclaw::limits;

/// Most requests that wait for their turn; further ones wait for a place.
const QUEUE: usize = 256;
/// How long to wait before a request is made again that the gateway asks for again.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(50), Duration::from_millis(100), Duration::from_millis(200), Duration::from_millis(400)];
/// Most changes that a slow listener may be behind.
const CHANGES: usize = 1024;

/// A handle to a gateway. Its tasks end with its last clone.
#[derive(Clone, Debug)]
pub struct GatewayClient {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    caller: Requester,
    link: watch::Receiver<ConnectionState>,
    inventory: watch::Receiver<Option<Arc<Inventory>>>,
    unread: watch::Receiver<Option<Arc<ReadFailure>>>,
    runs: watch::Receiver<GatewayActivity>,
    writes: watch::Receiver<Arc<ConfigWrites>>,
    changes: broadcast::Sender<Change>,
    commands: mpsc::UnboundedSender<WriteCommand>,
    arrivals: ExpectedEntries,
    wanted: mpsc::UnboundedSender<oneshot::Sender<bool>>,
    turns: Arc<WriteLock>,
    hashes: Arc<AtomicBool>,
    guard: Mutex<WriteGuard>,
    _closing: DropGuard,
}

impl GatewayClient {
    /// Opens the connection and keeps it. Must be called within a tokio runtime.
    #[must_use]
    pub fn open(settings: ConnectionSettings, dial: Arc<dyn Dial>, meter: Arc<dyn Meter>) -> Self {
        let closing = CancellationToken::new();
        let (calls, calls_rx) = mpsc::channel(QUEUE);
        let (told, heard) = mpsc::unbounded_channel();
        let (link, link_rx) = watch::channel(ConnectionState::Connecting);
        let (inventory, inventory_rx) = watch::channel(None);
        let (unread, unread_rx) = watch::channel(None);
        let (runs, runs_rx) = watch::channel(GatewayActivity::default());
        let (writes, writes_rx) = watch::channel(Arc::new(ConfigWrites::default()));
        let (changes, _) = broadcast::channel(CHANGES);
        let (commands, commands_rx) = mpsc::unbounded_channel();
        let (wanted, wanted_rx) = mpsc::unbounded_channel();
        let caller = Requester { calls, meter };
        let turns = Arc::<WriteLock>::default();
        let arrivals = ExpectedEntries::default();
        let hashes = Arc::new(AtomicBool::new(false));
        let resync = settings.resync;
        let connection = ConnectionTask {
            login: CredentialFallback::new(&settings),
            settings,
            dial,
            calls: calls_rx,
            told,
            link,
            closing: closing.clone(),
            places: Arc::new(Semaphore::new(limits::EVENTS)),
            full: false,
            hashes: Arc::clone(&hashes),
            last: None,
        };
        let informer = Informer {
            caller: caller.clone(),
            told: heard,
            wanted: wanted_rx,
            inventory,
            unread,
            runs,
            changes: changes.clone(),
            hashes: Arc::clone(&hashes),
            resync,
        };
        let config_writer = ConfigWriter {
            requester: caller.clone(),
            commands: commands_rx,
            inventory: inventory_rx.clone(),
            wanted: wanted.clone(),
            writes,
            changes: changes.clone(),
            lock: Arc::clone(&turns),
            window: arrivals.gathering(),
            parts: WriterParts::default(),
        };
        tokio::spawn(connection.run());
        tokio::spawn(informer.run());
        tokio::spawn(config_writer.run());
        let inner = Inner {
            caller,
            link: link_rx,
            inventory: inventory_rx,
            unread: unread_rx,
            runs: runs_rx,
            writes: writes_rx,
            changes,
            commands,
            arrivals,
            wanted,
            turns,
            hashes,
            guard: Mutex::default(),
            _closing: closing.drop_guard(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The state of the connection.
    #[must_use]
    pub fn link(&self) -> watch::Receiver<ConnectionState> {
        self.inner.link.clone()
    }

    /// What the gateway has; `None` while that is not known.
    #[must_use]
    pub fn inventory(&self) -> watch::Receiver<Option<Arc<Inventory>>> {
        self.inner.inventory.clone()
    }

    /// Why roster and config cannot be read, while that fails time and again.
    #[must_use]
    pub fn unread(&self) -> watch::Receiver<Option<Arc<ReadFailure>>> {
        self.inner.unread.clone()
    }

    /// Which agents are at work.
    #[must_use]
    pub fn runs(&self) -> watch::Receiver<GatewayActivity> {
        self.inner.runs.clone()
    }

    /// What changes at the gateway from now on. Who lags behind looks at everything again.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.inner.changes.subscribe()
    }

    /// The config writes.
    #[must_use]
    pub fn writes(&self) -> watch::Receiver<Arc<ConfigWrites>> {
        self.inner.writes.clone()
    }

    /// Leaves an entry for the next config write; one that waits for the same id is replaced. Never waits.
    pub fn submit(&self, entry: AgentEntry) {
        // The writer ends only with this handle.
        let _ = self.inner.commands.send(WriteCommand::Submit(Box::new(entry)));
    }

    /// Says that an entry may be submitted soon, until what this gives is dropped: the next config write is kept back for it, a few
    /// seconds at most.
    #[must_use]
    pub fn arrival(&self) -> ExpectedEntry {
        self.inner.arrivals.one()
    }

    /// Takes an entry back that has not been written.
    pub fn withdraw(&self, agent_id: &str) {
        let _ = self.inner.commands.send(WriteCommand::Withdraw(agent_id.to_owned()));
    }

    /// Says what Muster has at this gateway, and what it may do for the heartbeats of others. Until then the writer gives no
    /// entry a `heartbeat` block; then it gives one together with the blocks that keep others beating.
    pub fn claim_heartbeats(&self, claims: HeartbeatClaims) {
        let _ = self.inner.commands.send(WriteCommand::Claim(Box::new(claims)));
    }

    /// Reads roster and config now. False when that cannot be done: what is known of the gateway may be old then.
    pub async fn resync(&self) -> bool {
        resync(&self.inner.wanted).await
    }

    pub(crate) async fn call(
        &self,
        method: &'static str,
        params: Value,
        allowed: Duration,
    ) -> Result<Payload, CallError> {
        let answer = self.inner.caller.call(method, params, allowed).await?;
        let may_tell = method.starts_with("agents.files.") && !self.hashes();
        let tells = may_tell && answer.peek::<OfFile>().is_some_and(|answer| answer.tells_hash());
        // What the gateway can do is part of what it has, which is read anew.
        if tells && !self.inner.hashes.swap(true, Ordering::Relaxed) {
            let (asker, _) = oneshot::channel();
            // The informer ends only with this handle.
            let _ = self.inner.wanted.send(asker);
        }
        Ok(answer)
    }

    /// Makes a request that changes something, unless the same one was made too often for the same `cause`. Only a write that the
    /// gateway acknowledged is counted; a caller retries a failed one at its own pace.
    ///
    /// # Errors
    /// [`CallError::Repeated`], or that of the request.
    pub(crate) async fn write(
        &self,
        method: &'static str,
        params: Value,
        allowed: Duration,
        cause: &str,
    ) -> Result<Payload, CallError> {
        let (write, now) = (Write::of((method, cause, params.to_string())), Instant::now());
        if let Some(until) = self.guard().held_back(write, now) {
            self.inner.caller.meter.held_back(method);
            return Err(CallError::Repeated { method, wait: until - now });
        }
        let result = self.call_again(method, params, allowed).await;
        if result.is_ok() {
            self.guard().made(write, now);
        }
        result
    }

    fn guard(&self) -> MutexGuard<'_, WriteGuard> {
        self.inner.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the gateway was seen to hash files.
    pub(crate) fn hashes(&self) -> bool {
        self.inner.hashes.load(Ordering::Relaxed)
    }

    /// Makes a request that may be made twice, and again while the gateway asks for that.
    pub(crate) async fn call_again(
        &self,
        method: &'static str,
        params: Value,
        allowed: Duration,
    ) -> Result<Payload, CallError> {
        for pause in PAUSES {
            match self.call(method, params.clone(), allowed).await {
                Err(error) if error.asks_again() => tokio::time::sleep(pause).await,
                answer => return answer,
            }
        }
        self.call(method, params, allowed).await
    }

    /// Waits for the turn to change the config or the roster.
    pub(crate) async fn config_turn(&self) -> WriteLockGuard<'_> {
        let loses = self.inner.inventory.borrow().as_ref().is_some_and(|i| i.loses_writes());
        self.inner.turns.take(loses).await
    }
}
