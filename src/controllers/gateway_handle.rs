//! The handle of one gateway: its client, the permits of its reconciles, and the cache of its workspaces.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::fair_lanes::Priority;
use super::late_steps::LateSteps;
use super::permits::Permits;
use super::workspace_cache::WorkspaceCache;
use crate::api::Reason;
use crate::api::object_key::ObjectKey;
use crate::core::agent::desired::Desired;
use crate::core::agent::interrupted::MAX_BOOT_TIME;
use crate::core::agent::observed::{Observed, ObservedFile, ObservedSession, SessionVersion};
use crate::core::agent::step::FileWrite;
use crate::core::error::ReconcileError;
use crate::openclaw::model::{self, AgentRow, CallError, Inventory};
use crate::openclaw::{ExpectedEntry, GatewayClient};
use crate::state::changes::{ChangeScope, GatewayChange, STARTUP_GRACE};

/// The handle of one gateway.
pub struct GatewayHandle {
    /// The key of the AgentGateway.
    pub key: ObjectKey,
    pub(crate) client: GatewayClient,
    opened: Instant,
    permits: Permits,
    /// Removals have permits of their own: they wait for one another and would otherwise hold all permits.
    removals: Permits,
    /// The number of Agents with a permit that may not be Ready yet.
    unready: AtomicUsize,
    late: LateSteps,
    pub(crate) cache: WorkspaceCache,
    changes: mpsc::UnboundedSender<GatewayChange>,
}

/// The most concurrent removals on a gateway: one runs, and the next one is ready.
const MAX_REMOVALS: usize = 2;

/// How far an agent is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetUp {
    /// It has no binding.
    New,
    /// It is bound, and not Ready.
    Unready,
    /// It is Ready.
    Ready,
    /// It is Ready with the present spec, and this operator has not looked at it yet.
    Unseen,
}

/// The permit of a reconcile. Its release wakes the next waiting Agent.
pub struct AgentPermit {
    gateway: Arc<GatewayHandle>,
    /// The priority that its place counts for.
    priority: Priority,
    /// The next config write waits a moment for the entry of a new agent.
    _expected: Option<ExpectedEntry>,
    /// Whether the agent may not be Ready yet.
    is_unready: AtomicBool,
}

/// The permit of a removal. Its release wakes the next waiting removal.
pub struct DeletePermit {
    gateway: Arc<GatewayHandle>,
}

impl Drop for DeletePermit {
    fn drop(&mut self) {
        self.gateway.wake(self.gateway.removals.release(Priority::Urgent));
    }
}

impl AgentPermit {
    /// Whether the permit is of this handle.
    pub fn is_of(&self, gateway: &Arc<GatewayHandle>) -> bool {
        Arc::ptr_eq(&self.gateway, gateway)
    }

    /// Records that the agent is Ready, so that no peer waits for it.
    pub fn mark_ready(&self) {
        if self.is_unready.swap(false, Ordering::Relaxed) {
            self.gateway.unready.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for AgentPermit {
    fn drop(&mut self) {
        self.mark_ready();
        self.gateway.wake(self.gateway.permits.release(self.priority));
        self.gateway.wake_late();
    }
}

impl fmt::Debug for GatewayHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayHandle").field("key", &self.key).finish_non_exhaustive()
    }
}

/// The result of one file write.
pub type FileWriteResult = Result<(String, ObservedFile), (String, CallError)>;

impl GatewayHandle {
    pub(crate) fn new(
        key: ObjectKey,
        client: GatewayClient,
        places: usize,
        resync: Duration,
        changes: mpsc::UnboundedSender<GatewayChange>,
    ) -> Self {
        Self {
            key,
            client,
            opened: Instant::now(),
            permits: Permits::new(places),
            removals: Permits::new(MAX_REMOVALS),
            unready: AtomicUsize::new(0),
            late: LateSteps::default(),
            cache: WorkspaceCache::new(resync),
            changes,
        }
    }

    /// The client of this gateway.
    #[must_use]
    pub fn client(&self) -> &GatewayClient {
        &self.client
    }

    /// Enqueues Agents for which places are kept.
    fn wake(&self, agents: Vec<ObjectKey>) {
        self.send(agents.into_iter().map(ChangeScope::Place));
    }

    fn send(&self, scopes: impl Iterator<Item = ChangeScope>) {
        for scope in scopes {
            // The receiver ends only when the operator does.
            let _ = self.changes.send(GatewayChange { gateway: self.key.clone(), scope });
        }
    }

    /// A permit for one reconcile, or `None` if all that it may take are taken. A released permit wakes a waiting Agent.
    ///
    /// The next config write waits a moment for the entry of a new agent.
    pub fn agent_permit(self: &Arc<Self>, agent: &ObjectKey, progress: SetUp) -> Option<AgentPermit> {
        let (is_unready, priority) = match progress {
            SetUp::New | SetUp::Unready => (true, Priority::Urgent),
            SetUp::Ready => (false, Priority::Routine),
            SetUp::Unseen => (false, Priority::FirstLook),
        };
        let priority = self.permits.take(agent, priority)?;
        self.unready.fetch_add(usize::from(is_unready), Ordering::Relaxed);
        let expected = (progress == SetUp::New).then(|| self.client.expect_entry());
        let is_unready = AtomicBool::new(is_unready);
        Some(AgentPermit { gateway: Arc::clone(self), priority, _expected: expected, is_unready })
    }

    /// A permit for one removal, or `None` if all are taken. A released permit wakes a waiting Agent.
    pub fn delete_permit(self: &Arc<Self>, agent: &ObjectKey) -> Option<DeletePermit> {
        // An Agent that is being removed is no longer set up.
        self.wake(self.permits.forget(agent));
        self.removals.take(agent, Priority::Urgent).map(|_| DeletePermit { gateway: Arc::clone(self) })
    }

    /// Wakes Agents for places that nobody took. A woken Agent may have been deleted or moved meanwhile.
    pub(crate) fn wake_overdue(&self) {
        self.late.sweep();
        self.wake(self.permits.wake_overdue());
        self.wake(self.removals.wake_overdue());
    }

    /// Whether other Agents that may not be Ready yet have a permit or wait for one.
    fn has_unready_peers(&self, permit: &AgentPermit) -> bool {
        let own = usize::from(permit.is_unready.load(Ordering::Relaxed));
        self.unready.load(Ordering::Relaxed) > own || self.permits.has_urgent()
    }

    /// How much longer the late Steps of an Agent wait for its peers at most. The Agent is woken when its peers are set up.
    pub fn wait_for_peers(&self, agent: &ObjectKey, permit: &AgentPermit) -> Option<Duration> {
        self.late.wait(agent, self.has_unready_peers(permit))
    }

    /// Wakes the Agents whose late Steps wait, once no Agent is being set up.
    fn wake_late(&self) {
        if self.unready.load(Ordering::Relaxed) == 0 && !self.permits.has_urgent() {
            self.send(self.late.wake().into_iter().map(ChangeScope::Agent));
        }
    }

    /// Whether the connection was lost, or opened again, less than [`STARTUP_GRACE`] ago: the gateway may have restarted.
    pub(crate) fn is_briefly_away(&self) -> bool {
        match &*self.client.connection().borrow() {
            model::ConnectionState::Down { since, .. } => since.elapsed() < STARTUP_GRACE,
            model::ConnectionState::Up(_) => {
                let connected = self.client.activity().borrow().connected;
                let reading = self.client.inventory().borrow().is_none();
                reading && connected.is_some_and(|since| since.elapsed() < STARTUP_GRACE)
            }
            model::ConnectionState::Connecting | model::ConnectionState::Refused(_) => false,
        }
    }

    /// How long the connection has been lost; `None` with a connection, and while it is refused.
    pub(crate) fn away_for(&self) -> Option<Duration> {
        match &*self.client.connection().borrow() {
            model::ConnectionState::Down { since, .. } => Some(since.elapsed()),
            model::ConnectionState::Up(_) | model::ConnectionState::Connecting | model::ConnectionState::Refused(_) => {
                None
            }
        }
    }

    /// The time until a gateway without a connection should have booted; `None` afterwards, and with a connection.
    pub(crate) fn advice_due(&self) -> Option<Duration> {
        self.away_for().and_then(|away| MAX_BOOT_TIME.checked_sub(away)).filter(|left| !left.is_zero())
    }

    /// Whether the first connection, or the first read of the roster, has been running for less than [`STARTUP_GRACE`].
    pub(crate) fn is_starting(&self) -> bool {
        let is_first = match &*self.client.connection().borrow() {
            model::ConnectionState::Connecting => true,
            model::ConnectionState::Up(_) => self.client.inventory().borrow().is_none(),
            model::ConnectionState::Refused(_) | model::ConnectionState::Down { .. } => false,
        };
        is_first && self.opened.elapsed() < STARTUP_GRACE
    }

    /// The inventory of the gateway.
    ///
    /// # Errors
    /// `GatewayNotReady`: there is no connection, or the roster is not read.
    pub fn inventory(&self) -> Result<Arc<Inventory>, ReconcileError> {
        let up = match &*self.client.connection().borrow() {
            model::ConnectionState::Up(_) => Ok(()),
            model::ConnectionState::Connecting => Err("the connection is being made".to_owned()),
            model::ConnectionState::Refused(refusal) => Err(format!("it refused the connection: {}", refusal.message)),
            model::ConnectionState::Down { error, .. } => Err(format!("there is no connection: {error}")),
        };
        let not_ready = |why: String| {
            let message = format!("gateway {} is not ready: {why}; see its conditions", self.key);
            ReconcileError::transient(Reason::GatewayNotReady, message)
        };
        up.map_err(not_ready)?;
        let why = || match &*self.client.read_failure().borrow() {
            Some(failure) => format!("its config and roster cannot be read: {}", failure.message),
            None => "its roster is being read".to_owned(),
        };
        self.client.inventory().borrow().clone().ok_or_else(|| not_ready(why()))
    }

    /// The path of the workspace of an agent.
    ///
    /// # Errors
    /// The request that failed.
    pub async fn workspace_path(&self, row: &AgentRow) -> Result<String, ReconcileError> {
        if let Some(workspace) = &row.workspace {
            return Ok(workspace.clone());
        }
        let workspace = self.client.workspace(&row.id).await;
        workspace.map_err(|e| ReconcileError::gateway("for its workspace", &e))
    }

    /// Writes files concurrently, and returns the result of each. A file that the gateway refuses because its path is not a regular
    /// file counts as written, and is observed as refused.
    pub async fn write(&self, id: &str, files: &[FileWrite], observed: &mut Observed) -> Vec<FileWriteResult> {
        let write = |file: &FileWrite| {
            let FileWrite { name, content, expected, .. } = file.clone();
            async move {
                match self.client.file_set(id, &name, content.expose(), expected.as_deref()).await {
                    Ok(info) => {
                        let sha256 = Some(content.sha256.clone());
                        Ok((name, ObservedFile { sha256, ..ObservedFile::from(&info) }))
                    }
                    Err(error) => {
                        ObservedFile::refused(error).map(|file| (name.clone(), file)).map_err(|error| (name, error))
                    }
                }
            }
        };
        let written = join_all(files.iter().map(write)).await;
        for (name, file) in written.iter().filter_map(|w| w.as_ref().ok()) {
            observed.files.insert(name.clone(), file.clone());
        }
        if written.iter().any(Result::is_err) {
            self.cache.forget(id);
        } else {
            self.cache.set_files(id, &observed.files);
        }
        written
    }

    /// Reads a file that was missing or empty in the last listing: the agent may have created it since. Returns the precondition of a
    /// write, or `None` if the file has content now.
    ///
    /// # Errors
    /// The request that failed.
    pub async fn reread_missing(
        &self,
        id: &str,
        name: &str,
        observed: &mut Observed,
    ) -> Result<Option<Option<String>>, ReconcileError> {
        let file = match self.client.file_get(id, name).await {
            Ok(None) => return Ok(Some(None)),
            Ok(Some(file)) if file.info.size == 0 => return Ok(Some(Some(file.sha256()))),
            Ok(Some(file)) => ObservedFile::from(&file),
            Err(error) => {
                ObservedFile::refused(error).map_err(|e| ReconcileError::gateway(&format!("to read {name}"), &e))?
            }
        };
        observed.files.insert(name.to_owned(), file);
        self.cache.set_files(id, &observed.files);
        Ok(None)
    }

    /// Labels a session. Returns the stored label.
    ///
    /// A gateway that had an agent of this id before may refuse the label. The agent is then created once more
    /// (`docs/gateway-facts.md#ids-that-were-deleted`).
    pub async fn label(
        &self,
        desired: &Desired,
        label: &str,
        observed: &mut Observed,
    ) -> Result<Option<String>, CallError> {
        let identity = &desired.identity;
        let session = match self.client.session_label(&identity.session_key, label).await {
            Err(error) if error.is_unavailable() => {
                self.client.agent_create(&identity.agent_id, &identity.workspace).await?;
                self.client.session_label(&identity.session_key, label).await?
            }
            labelled => labelled?,
        };
        observed.session = Some(ObservedSession::from(&session));
        let stored = session.label.clone();
        self.cache.set_session(&identity.agent_id, session);
        Ok(stored)
    }

    /// Resets a session, unless it has another version by now.
    pub async fn reset(&self, desired: &Desired, version: &str) -> Result<(), CallError> {
        let key = &desired.identity.session_key;
        let is_done = match self.client.session(key).await? {
            Some(session) if SessionVersion::of(&session).id != SessionVersion::parse(version).id => true,
            Some(_) => {
                let history = self.client.chat_history(key).await?;
                history.iter().any(|m| m.marks_reset && m.written_ms > SessionVersion::parse(version).updated_ms)
            }
            None => false,
        };
        if !is_done {
            self.client.session_reset(key, version).await?;
        }
        self.cache.forget(&desired.identity.agent_id);
        Ok(())
    }
}
