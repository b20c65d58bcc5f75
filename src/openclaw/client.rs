//! The handle to a gateway and its tasks.

use std::sync::{Arc, Mutex};

use tokio::sync::{Semaphore, broadcast, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::channel::{Change, Meter, Requester};
use super::config_writer::batch_window::{ExpectedEntries, ExpectedEntry};
use super::config_writer::writer::{ConfigWriter, WriteCommand};
use super::connection::credential_fallback::CredentialFallback;
use super::connection::task::{ConnectionMemory, ConnectionTask};
use super::connection::transport::Dial;
use super::inventory::informer::Informer;
use super::link::GatewayLink;
use super::model::{
    AgentEntry, ConfigWrites, ConnectionState, GatewayActivity, HeartbeatClaims, HeartbeatJobs, Inventory, ReadFailure,
    WriteRefusal,
};
use super::roster_queue::{RosterQueue, RosterView};
use super::settings::ConnectionSettings;
use crate::openclaw::config_writer::writer::WriterParts;
use crate::openclaw::limits;

/// Most requests in the queue of the connection task. Further requests wait for room.
const REQUEST_QUEUE: usize = 256;
/// Most changes that a slow receiver may be behind.
const CHANGE_QUEUE: usize = 1024;

/// A handle to a gateway. Its tasks end when the last clone is dropped, and the last write to the roster has ended.
#[derive(Clone, Debug)]
pub struct GatewayClient {
    link: Arc<GatewayLink>,
    views: Arc<Views>,
    /// The config writer ends with the last clone.
    commands: mpsc::UnboundedSender<WriteCommand>,
}

/// What a handle shows of a gateway.
#[derive(Debug)]
struct Views {
    connection: watch::Receiver<ConnectionState>,
    read_failure: watch::Receiver<Option<Arc<ReadFailure>>>,
    heartbeat_jobs: watch::Receiver<Option<Arc<HeartbeatJobs>>>,
    activity: watch::Receiver<GatewayActivity>,
    config_writes: watch::Receiver<ConfigWrites>,
    changes: broadcast::Sender<Change>,
    expected_entries: ExpectedEntries,
}

impl GatewayClient {
    /// Starts the tasks, which open the connection and reopen it after a loss. The client has a roster queue of its own.
    ///
    /// # Panics
    /// The caller is not within a tokio runtime.
    #[must_use]
    pub fn open(settings: ConnectionSettings, dial: Arc<dyn Dial>, meter: Arc<dyn Meter>) -> Self {
        Self::open_with_queue(settings, dial, meter, RosterQueue::start())
    }

    /// The same with the roster queue of the gateway, which all its clients share.
    ///
    /// # Panics
    /// The caller is not within a tokio runtime.
    #[must_use]
    pub fn open_with_queue(
        settings: ConnectionSettings,
        dial: Arc<dyn Dial>,
        meter: Arc<dyn Meter>,
        roster: RosterQueue,
    ) -> Self {
        let closing = CancellationToken::new();
        let (calls, calls_rx) = mpsc::channel(REQUEST_QUEUE);
        let (events, events_rx) = mpsc::unbounded_channel();
        let (state, connection) = watch::channel(ConnectionState::Connecting);
        let (inventory, inventory_rx) = watch::channel(None);
        let (read_failure, read_failure_rx) = watch::channel(None);
        let (heartbeat_jobs, heartbeat_jobs_rx) = watch::channel(None);
        let (activity, activity_rx) = watch::channel(GatewayActivity::default());
        let (writes, config_writes) = watch::channel(ConfigWrites::default());
        let (commands, commands_rx) = mpsc::unbounded_channel();
        let (resync_requests, resync_requests_rx) = mpsc::unbounded_channel();
        let link = GatewayLink {
            requester: Requester { calls, meter },
            view: RosterView { inventory: inventory_rx, resync_requests },
            file_hashes: Arc::default(),
            write_guard: Mutex::default(),
            roster,
            closing: Arc::new(closing.clone().drop_guard()),
        };
        let views = Views {
            connection,
            read_failure: read_failure_rx,
            heartbeat_jobs: heartbeat_jobs_rx,
            activity: activity_rx,
            config_writes,
            changes: broadcast::Sender::new(CHANGE_QUEUE),
            expected_entries: ExpectedEntries::default(),
        };
        let informer = Informer {
            requester: link.requester.clone(),
            events: events_rx,
            resync_requests: resync_requests_rx,
            inventory,
            heartbeat_jobs,
            read_failure,
            activity,
            changes: views.changes.clone(),
            file_hashes: Arc::clone(&link.file_hashes),
            resync: settings.resync,
        };
        let connection_task = ConnectionTask {
            credential_fallback: CredentialFallback::new(&settings),
            settings,
            dial,
            calls: calls_rx,
            events,
            state,
            closing,
            event_permits: Arc::new(Semaphore::new(limits::EVENT_QUEUE)),
            file_hashes: Arc::clone(&link.file_hashes),
            memory: ConnectionMemory::default(),
        };
        tokio::spawn(connection_task.run());
        tokio::spawn(informer.run());
        tokio::spawn(config_writer(&link, &views, commands_rx, writes).run());
        Self { link: Arc::new(link), views: Arc::new(views), commands }
    }

    /// The state of the connection.
    #[must_use]
    pub fn connection(&self) -> watch::Receiver<ConnectionState> {
        self.views.connection.clone()
    }

    /// The agents and the capabilities of the gateway; `None` before the first read, without a connection, and after 30 s of
    /// failed reads.
    #[must_use]
    pub fn inventory(&self) -> watch::Receiver<Option<Arc<Inventory>>> {
        self.link.view.inventory.clone()
    }

    /// The cause of repeated failures to read the roster and the config; `None` after a successful read.
    #[must_use]
    pub fn read_failure(&self) -> watch::Receiver<Option<Arc<ReadFailure>>> {
        self.views.read_failure.clone()
    }

    /// The heartbeat jobs of the gateway; `None` before the first read and without a connection.
    #[must_use]
    pub fn heartbeat_jobs(&self) -> watch::Receiver<Option<Arc<HeartbeatJobs>>> {
        self.views.heartbeat_jobs.clone()
    }

    /// The runs of the gateway's agents.
    #[must_use]
    pub fn activity(&self) -> watch::Receiver<GatewayActivity> {
        self.views.activity.clone()
    }

    /// The changes on the gateway from now on. A receiver that lags behind has to check everything again.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.views.changes.subscribe()
    }

    /// The state of the config writes.
    #[must_use]
    pub fn config_writes(&self) -> watch::Receiver<ConfigWrites> {
        self.views.config_writes.clone()
    }

    /// How many config writes the gateway accepts now; `None` before the first read and without a connection.
    #[must_use]
    pub fn config_write_budget(&self) -> Option<usize> {
        let limit = self.link.view.inventory.borrow().as_ref()?.config_writes_per_minute();
        Some(self.views.config_writes.borrow().budget_left(limit, Instant::now()))
    }

    /// Queues an entry for the next config write. The entry replaces a queued entry with the same id. Never waits.
    pub fn submit(&self, entry: AgentEntry) {
        // The writer ends only with this handle.
        let _ = self.commands.send(WriteCommand::Submit(Box::new(entry)));
    }

    /// Announces an entry. The next config write waits for the entry until the returned value is dropped, for a few seconds at
    /// most.
    #[must_use]
    pub fn expect_entry(&self) -> ExpectedEntry {
        self.views.expected_entries.expect()
    }

    /// Removes a queued entry that has not been written.
    pub fn withdraw(&self, agent_id: &str) {
        let _ = self.commands.send(WriteCommand::Withdraw(agent_id.to_owned()));
    }

    /// Sets Muster's agents on this gateway, and the permission to keep the heartbeats of other agents. Before the first call
    /// the writer writes no entry with a `heartbeat` block. Afterwards it writes such an entry together with the blocks that
    /// keep the heartbeats of other agents.
    pub fn claim_heartbeats(&self, claims: HeartbeatClaims) {
        let _ = self.commands.send(WriteCommand::Claim(Box::new(claims)));
    }

    /// Reports the result of a creation to the config writer: why the gateway could not write its config, or nothing.
    pub(crate) fn report_creation(&self, unwritable: Option<WriteRefusal>) {
        let _ = self.commands.send(WriteCommand::Created(unwritable));
    }

    /// Announces the deletion of an agent, so that its entry is not missed.
    pub(crate) fn announce_deletion(&self, agent_id: &str) {
        let _ = self.commands.send(WriteCommand::Delete(agent_id.to_owned()));
    }

    /// Reads roster and config now. Returns `false` after a failed read; the inventory may then be old.
    pub async fn resync(&self) -> bool {
        self.link.resync().await
    }

    /// The link to the gateway.
    pub(crate) fn link(&self) -> &Arc<GatewayLink> {
        &self.link
    }
}

/// The config writer of a client.
fn config_writer(
    link: &GatewayLink,
    views: &Views,
    commands: mpsc::UnboundedReceiver<WriteCommand>,
    writes: watch::Sender<ConfigWrites>,
) -> ConfigWriter {
    ConfigWriter {
        requester: link.requester.clone(),
        commands,
        inventory: link.view.inventory.clone(),
        resync_requests: link.view.resync_requests.clone(),
        writes,
        changes: views.changes.clone(),
        roster: link.roster.clone(),
        connection: Arc::downgrade(&link.closing),
        window: views.expected_entries.window(),
        parts: WriterParts::default(),
    }
}
