//! The handle to a gateway and its tasks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::channel::{Change, Meter, Requester, resync};
use super::config_writer::batch_window::{ExpectedEntries, ExpectedEntry};
use super::config_writer::write_guard::{WriteGuard, WriteHash};
use super::config_writer::write_lock::{WriteLock, WriteLockGuard};
use super::config_writer::writer::{ConfigWriter, WriteCommand};
use super::connection::credential_fallback::CredentialFallback;
use super::connection::payload::Payload;
use super::connection::task::ConnectionTask;
use super::connection::transport::Dial;
use super::inventory::informer::Informer;
use super::model::file::FileHashProbe;
use super::model::{
    AgentEntry, CallError, ConfigWrites, ConnectionState, GatewayActivity, HeartbeatClaims, Inventory, ReadFailure,
};
use super::settings::ConnectionSettings;
use crate::openclaw::config_writer::writer::WriterParts;
use crate::openclaw::limits;

/// Most requests in the queue of the connection task. Further requests wait for room.
const REQUEST_QUEUE: usize = 256;
/// The waits before the retries of a request that the gateway asks to repeat.
const RETRY_WAITS: [Duration; 4] =
    [Duration::from_millis(50), Duration::from_millis(100), Duration::from_millis(200), Duration::from_millis(400)];
/// Most changes that a slow receiver may be behind.
const CHANGE_QUEUE: usize = 1024;

/// A handle to a gateway. Its tasks end when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct GatewayClient {
    inner: Arc<Inner>,
}

/// The shared state of the clones of a [`GatewayClient`].
#[derive(Debug)]
struct Inner {
    requester: Requester,
    connection: watch::Receiver<ConnectionState>,
    inventory: watch::Receiver<Option<Arc<Inventory>>>,
    read_failure: watch::Receiver<Option<Arc<ReadFailure>>>,
    activity: watch::Receiver<GatewayActivity>,
    config_writes: watch::Receiver<Arc<ConfigWrites>>,
    changes: broadcast::Sender<Change>,
    commands: mpsc::UnboundedSender<WriteCommand>,
    expected_entries: ExpectedEntries,
    resync_requests: mpsc::UnboundedSender<oneshot::Sender<bool>>,
    write_lock: Arc<WriteLock>,
    /// Whether an answer of the gateway had a file hash.
    file_hashes: Arc<AtomicBool>,
    write_guard: Mutex<WriteGuard>,
    _closing: DropGuard,
}

impl GatewayClient {
    /// Starts the tasks, which open the connection and reopen it after a loss.
    ///
    /// # Panics
    /// The caller is not within a tokio runtime.
    #[must_use]
    pub fn open(settings: ConnectionSettings, dial: Arc<dyn Dial>, meter: Arc<dyn Meter>) -> Self {
        let closing = CancellationToken::new();
        let (calls, calls_rx) = mpsc::channel(REQUEST_QUEUE);
        let (events, events_rx) = mpsc::unbounded_channel();
        let (state, connection) = watch::channel(ConnectionState::Connecting);
        let (inventory, inventory_rx) = watch::channel(None);
        let (read_failure, read_failure_rx) = watch::channel(None);
        let (activity, activity_rx) = watch::channel(GatewayActivity::default());
        let (writes, config_writes) = watch::channel(Arc::new(ConfigWrites::default()));
        let (changes, _) = broadcast::channel(CHANGE_QUEUE);
        let (commands, commands_rx) = mpsc::unbounded_channel();
        let (resync_requests, resync_requests_rx) = mpsc::unbounded_channel();
        let inner = Inner {
            requester: Requester { calls, meter },
            connection,
            inventory: inventory_rx,
            read_failure: read_failure_rx,
            activity: activity_rx,
            config_writes,
            changes,
            commands,
            expected_entries: ExpectedEntries::default(),
            resync_requests,
            write_lock: Arc::default(),
            file_hashes: Arc::default(),
            write_guard: Mutex::default(),
            _closing: closing.clone().drop_guard(),
        };
        let resync = settings.resync;
        let connection_task = ConnectionTask {
            credential_fallback: CredentialFallback::new(&settings),
            settings,
            dial,
            calls: calls_rx,
            events,
            state,
            closing,
            event_permits: Arc::new(Semaphore::new(limits::EVENT_QUEUE)),
            queue_full: false,
            file_hashes: Arc::clone(&inner.file_hashes),
            last_hello: None,
        };
        let informer = Informer {
            requester: inner.requester.clone(),
            events: events_rx,
            resync_requests: resync_requests_rx,
            inventory,
            read_failure,
            activity,
            changes: inner.changes.clone(),
            file_hashes: Arc::clone(&inner.file_hashes),
            resync,
        };
        tokio::spawn(connection_task.run());
        tokio::spawn(informer.run());
        tokio::spawn(inner.config_writer(commands_rx, writes).run());
        Self { inner: Arc::new(inner) }
    }

    /// The state of the connection.
    #[must_use]
    pub fn connection(&self) -> watch::Receiver<ConnectionState> {
        self.inner.connection.clone()
    }

    /// The agents and the capabilities of the gateway; `None` before the first read, without a connection, and after 30 s of
    /// failed reads.
    #[must_use]
    pub fn inventory(&self) -> watch::Receiver<Option<Arc<Inventory>>> {
        self.inner.inventory.clone()
    }

    /// The cause of repeated failures to read the roster and the config; `None` after a successful read.
    #[must_use]
    pub fn read_failure(&self) -> watch::Receiver<Option<Arc<ReadFailure>>> {
        self.inner.read_failure.clone()
    }

    /// The runs of the gateway's agents.
    #[must_use]
    pub fn activity(&self) -> watch::Receiver<GatewayActivity> {
        self.inner.activity.clone()
    }

    /// The changes on the gateway from now on. A receiver that lags behind has to check everything again.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.inner.changes.subscribe()
    }

    /// The state of the config writes.
    #[must_use]
    pub fn config_writes(&self) -> watch::Receiver<Arc<ConfigWrites>> {
        self.inner.config_writes.clone()
    }

    /// Queues an entry for the next config write. The entry replaces a queued entry with the same id. Never waits.
    pub fn submit(&self, entry: AgentEntry) {
        // The writer ends only with this handle.
        let _ = self.inner.commands.send(WriteCommand::Submit(Box::new(entry)));
    }

    /// Announces an entry. The next config write waits for the entry until the returned value is dropped, for a few seconds at
    /// most.
    #[must_use]
    pub fn expect_entry(&self) -> ExpectedEntry {
        self.inner.expected_entries.expect()
    }

    /// Removes a queued entry that has not been written.
    pub fn withdraw(&self, agent_id: &str) {
        let _ = self.inner.commands.send(WriteCommand::Withdraw(agent_id.to_owned()));
    }

    /// Sets Muster's agents on this gateway, and the permission to keep the heartbeats of other agents. Before the first call
    /// the writer writes no entry with a `heartbeat` block. Afterwards it writes such an entry together with the blocks that
    /// keep the heartbeats of other agents.
    pub fn claim_heartbeats(&self, claims: HeartbeatClaims) {
        let _ = self.inner.commands.send(WriteCommand::Claim(Box::new(claims)));
    }

    /// Reads roster and config now. Returns `false` after a failed read; the inventory may then be old.
    pub async fn resync(&self) -> bool {
        resync(&self.inner.resync_requests).await
    }

    /// Sends a request.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(crate) async fn call(
        &self,
        method: &'static str,
        params: Value,
        timeout: Duration,
    ) -> Result<Payload, CallError> {
        let answer = self.inner.requester.call(method, params, timeout).await?;
        let may_have_hash = method.starts_with("agents.files.") && !self.has_file_hashes();
        let has_hash = may_have_hash && answer.peek::<FileHashProbe>().is_some_and(|answer| answer.has_hash());
        // The inventory contains the capabilities, so that a new capability needs a new inventory.
        if has_hash && !self.inner.file_hashes.swap(true, Ordering::Relaxed) {
            let (reply, _) = oneshot::channel();
            // The informer ends only with this handle.
            let _ = self.inner.resync_requests.send(reply);
        }
        Ok(answer)
    }

    /// Sends a write, unless the write guard delays it: an identical write with the same `cause` was sent too often. The guard
    /// counts acknowledged writes alone, because the caller paces the retries of a failed write.
    ///
    /// # Errors
    /// [`CallError::Repeated`], or the error of the request.
    pub(crate) async fn write(
        &self,
        method: &'static str,
        params: Value,
        timeout: Duration,
        cause: &str,
    ) -> Result<Payload, CallError> {
        let (write, now) = (WriteHash::of((method, cause, params.to_string())), Instant::now());
        if let Some(until) = self.write_guard().held_back(write, now) {
            self.inner.requester.meter.held_back(method);
            return Err(CallError::Repeated { method, wait: until - now });
        }
        let result = self.call_with_retries(method, params, timeout).await;
        if result.is_ok() {
            self.write_guard().made(write, now);
        }
        result
    }

    fn write_guard(&self) -> MutexGuard<'_, WriteGuard> {
        self.inner.write_guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an answer of the gateway had a file hash.
    pub(crate) fn has_file_hashes(&self) -> bool {
        self.inner.file_hashes.load(Ordering::Relaxed)
    }

    /// Sends an idempotent request, and repeats it while the gateway asks for a retry, at most four times.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(crate) async fn call_with_retries(
        &self,
        method: &'static str,
        params: Value,
        timeout: Duration,
    ) -> Result<Payload, CallError> {
        for wait in RETRY_WAITS {
            match self.call(method, params.clone(), timeout).await {
                Err(error) if error.asks_for_retry() => tokio::time::sleep(wait).await,
                answer => return answer,
            }
        }
        self.call(method, params, timeout).await
    }

    /// Locks the config and the roster for a write of this client.
    pub(crate) async fn lock_config(&self) -> WriteLockGuard<'_> {
        let loses_writes = self.inner.inventory.borrow().as_ref().is_some_and(|inventory| inventory.loses_writes());
        self.inner.write_lock.take(loses_writes).await
    }
}

impl Inner {
    fn config_writer(
        &self,
        commands: mpsc::UnboundedReceiver<WriteCommand>,
        writes: watch::Sender<Arc<ConfigWrites>>,
    ) -> ConfigWriter {
        ConfigWriter {
            requester: self.requester.clone(),
            commands,
            inventory: self.inventory.clone(),
            resync_requests: self.resync_requests.clone(),
            writes,
            changes: self.changes.clone(),
            lock: Arc::clone(&self.write_lock),
            window: self.expected_entries.window(),
            parts: WriterParts::default(),
        }
    }
}
