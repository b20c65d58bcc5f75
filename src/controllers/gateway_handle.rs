//! One gateway as the reconcilers see it: the only place, beside [`crate::controllers::gateway_pool`], that speaks the gateway
//! client's words.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use super::workspace_cache::{
    CachedWorkspace, ContentCheck, SessionVersion, content_seen, observed_file, observed_session, refused_file,
};
use crate::api::Reason;
use crate::api::object_key::ObjectKey;
use crate::core::agent::cleanup::MAX_BOOT_TIME;
use crate::core::agent::desired::Desired;
use crate::core::agent::observed::{Observed, ObservedFile};
use crate::core::agent::step::FileWrite;
use crate::core::error::ReconcileError;
use crate::openclaw::model::{self, CallError, Inventory};
use crate::openclaw::{ExpectedEntry, GatewayClient};
use crate::state::changes::{ChangeScope, GatewayChange, STARTUP_GRACE};

/// One gateway as the reconcilers see it.
pub struct GatewayHandle {
    /// Its AgentGateway.
    pub key: ObjectKey,
    pub(crate) gateway: GatewayClient,
    opened: Instant,
    permits: Permits,
    /// The permits of removals, which wait for one another and would hold all the other permits.
    removals: Permits,
    /// The number of Agents with a permit that may not be Ready yet.
    unready: AtomicUsize,
    pub(crate) views: Mutex<HashMap<String, CachedWorkspace>>,
    /// Agents that the gateway did not have when it was last asked: they have no session.
    pub(crate) unborn: Mutex<BTreeSet<String>>,
    /// When the contents of an agent's files are compared next.
    pub(crate) checks: Mutex<HashMap<String, ContentCheck>>,
    pub(crate) resync: Duration,
    changes: mpsc::UnboundedSender<GatewayChange>,
}

/// The number of removals of one gateway that are under way: one is made, and the next one is ready.
const MAX_REMOVALS: usize = 2;

/// The permits of a gateway, and the Agents that wait for one. The gateway's next config write is to know of new Agents that wait.
struct Permits {
    free: Arc<Semaphore>,
    waiting: Mutex<BTreeMap<ObjectKey, Option<ExpectedEntry>>>,
}

impl Permits {
    fn new(count: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(count)), waiting: Mutex::default() }
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<ObjectKey, Option<ExpectedEntry>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A permit, or `None` when all are taken; a released permit triggers the Agent.
    fn take(&self, agent: &ObjectKey, expected: Option<ExpectedEntry>) -> Option<Permit> {
        // A waiting Agent may come before it is triggered. A permit that is released meanwhile is offered to it, or is free.
        self.waiting().insert(agent.clone(), expected);
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        let expected = self.waiting().remove(agent).flatten();
        Some(Permit { _permit: permit, _expected: expected })
    }
}

/// A permit, held.
struct Permit {
    _permit: OwnedSemaphorePermit,
    _expected: Option<ExpectedEntry>,
}

/// A reconcile's permit to work at a gateway. Its release triggers the next Agent that waits for one.
pub struct AgentPermit {
    gateway: Arc<GatewayHandle>,
    permit: Option<Permit>,
    /// Whether its agent may not be Ready yet.
    is_unready: AtomicBool,
}

/// A removal's permit to work at a gateway. Its release triggers the next removal that waits for one.
pub struct DeletePermit {
    gateway: Arc<GatewayHandle>,
    permit: Option<Permit>,
}

impl Drop for DeletePermit {
    fn drop(&mut self) {
        drop(self.permit.take());
        self.gateway.trigger_next(&self.gateway.removals);
    }
}

impl AgentPermit {
    /// Whether the permit is of this gateway, over this connection.
    pub fn is_of(&self, gateway: &Arc<GatewayHandle>) -> bool {
        Arc::ptr_eq(&self.gateway, gateway)
    }

    /// The agent is Ready: no peer waits for it.
    pub fn mark_ready(&self) {
        if self.is_unready.swap(false, Ordering::Relaxed) {
            self.gateway.unready.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for AgentPermit {
    fn drop(&mut self) {
        self.mark_ready();
        drop(self.permit.take());
        self.gateway.trigger_next(&self.gateway.permits);
    }
}

impl fmt::Debug for GatewayHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("key", &self.key).finish_non_exhaustive()
    }
}

/// What became of one file that was to be written.
pub type FileWriteResult = Result<(String, ObservedFile), (String, CallError)>;

impl GatewayHandle {
    pub(crate) fn new(
        key: ObjectKey,
        gateway: GatewayClient,
        max_in_flight: usize,
        resync: Duration,
        changes: mpsc::UnboundedSender<GatewayChange>,
    ) -> Self {
        Self {
            key,
            gateway,
            opened: Instant::now(),
            permits: Permits::new(max_in_flight),
            removals: Permits::new(MAX_REMOVALS),
            unready: AtomicUsize::new(0),
            views: Mutex::default(),
            unborn: Mutex::default(),
            checks: Mutex::default(),
            resync,
            changes,
        }
    }

    /// The client of this gateway.
    #[must_use]
    pub fn client(&self) -> &GatewayClient {
        &self.gateway
    }

    fn trigger_next(&self, permits: &Permits) {
        let next = permits.waiting().pop_first();
        if let Some((agent, _)) = next {
            // The receiver ends only when the operator does.
            let _ = self.changes.send(GatewayChange { gateway: self.key.clone(), scope: ChangeScope::Agent(agent) });
        }
    }

    /// A permit for one reconcile, or `None` when the gateway has as many as it may have; a released permit triggers the Agent.
    ///
    /// For a `new` agent the gateway's next config write is kept back for a moment.
    pub fn agent_permit(self: &Arc<Self>, agent: &ObjectKey, new: bool) -> Option<AgentPermit> {
        let permit = self.permits.take(agent, new.then(|| self.gateway.arrival()))?;
        self.unready.fetch_add(1, Ordering::Relaxed);
        Some(AgentPermit { gateway: Arc::clone(self), permit: Some(permit), is_unready: AtomicBool::new(true) })
    }

    /// A permit for one removal, or `None` while others are under way; a released permit triggers the Agent.
    pub fn delete_permit(self: &Arc<Self>, agent: &ObjectKey) -> Option<DeletePermit> {
        let permit = self.removals.take(agent, None)?;
        Some(DeletePermit { gateway: Arc::clone(self), permit: Some(permit) })
    }

    /// Whether other Agents that may not be Ready yet are at work here, or wait for a permit.
    pub fn has_unready_peers(&self, permit: &AgentPermit) -> bool {
        let own = usize::from(permit.is_unready.load(Ordering::Relaxed));
        self.unready.load(Ordering::Relaxed) > own || !self.permits.waiting().is_empty()
    }

    /// Whether the gateway is away since so short a time that it may only have been restarted.
    pub(crate) fn is_briefly_away(&self) -> bool {
        match &*self.gateway.link().borrow() {
            model::ConnectionState::Down { since, .. } => since.elapsed() < STARTUP_GRACE,
            model::ConnectionState::Up(_) => {
                let runs = self.gateway.runs();
                let connected = runs.borrow().connected;
                let reading = self.gateway.inventory().borrow().is_none();
                reading && connected.is_some_and(|since| since.elapsed() < STARTUP_GRACE)
            }
            model::ConnectionState::Connecting | model::ConnectionState::Refused(_) => false,
        }
    }

    /// How long there has been no connection to the gateway; `None` while there is one, or it is refused.
    pub(crate) fn away_for(&self) -> Option<Duration> {
        match &*self.gateway.link().borrow() {
            model::ConnectionState::Down { since, .. } => Some(since.elapsed()),
            model::ConnectionState::Up(_) | model::ConnectionState::Connecting | model::ConnectionState::Refused(_) => {
                None
            }
        }
    }

    /// When there is more to be said of a gateway that is away: it should have booted by then.
    pub(crate) fn advice_due(&self) -> Option<Duration> {
        self.away_for().and_then(|away| MAX_BOOT_TIME.checked_sub(away))
    }

    /// Whether the first connection, or the first reading of the roster, is under way since a short time.
    pub(crate) fn is_starting(&self) -> bool {
        let under_way = match &*self.gateway.link().borrow() {
            model::ConnectionState::Connecting => true,
            model::ConnectionState::Up(_) => self.gateway.inventory().borrow().is_none(),
            model::ConnectionState::Refused(_) | model::ConnectionState::Down { .. } => false,
        };
        under_way && self.opened.elapsed() < STARTUP_GRACE
    }

    /// What the gateway has, or why it cannot be asked.
    pub fn inventory(&self) -> Result<Arc<Inventory>, ReconcileError> {
        let up = match &*self.gateway.link().borrow() {
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
        let why = || match &*self.gateway.unread().borrow() {
            Some(unread) => format!("its config and roster cannot be read: {}", unread.message),
            None => "its roster is being read".to_owned(),
        };
        self.gateway.inventory().borrow().clone().ok_or_else(|| not_ready(why()))
    }

    /// Writes files side by side, and returns the outcome of each. A file that the gateway does not touch, for what stands in its
    /// place, is no failure: it is seen as refused.
    pub async fn write(&self, id: &str, files: &[FileWrite], observed: &mut Observed) -> Vec<FileWriteResult> {
        let write = |file: &FileWrite| {
            let FileWrite { name, content, expected, .. } = file.clone();
            async move {
                match self.gateway.file_set(id, &name, content.expose(), expected.as_deref()).await {
                    Ok(info) => {
                        let sha256 = Some(content.sha256.clone());
                        Ok((name, ObservedFile { sha256, ..observed_file(&info) }))
                    }
                    Err(error) => refused_file(error).map(|file| (name.clone(), file)).map_err(|error| (name, error)),
                }
            }
        };
        let written = join_all(files.iter().map(write)).await;
        for (name, file) in written.iter().filter_map(|w| w.as_ref().ok()) {
            observed.files.insert(name.clone(), file.clone());
        }
        if written.iter().any(Result::is_err) {
            self.forget(id);
        } else {
            self.update(id, observed);
        }
        written
    }

    /// Reads a file that was missing, or empty, when the workspace was last listed: its agent may have made it since. Gives the
    /// precondition of a write, or `None` when there is something by now.
    ///
    /// # Errors
    /// The request that failed.
    pub async fn still_missing(
        &self,
        id: &str,
        name: &str,
        observed: &mut Observed,
    ) -> Result<Option<Option<String>>, ReconcileError> {
        let file = match self.gateway.file_get(id, name).await {
            Ok(None) => return Ok(Some(None)),
            Ok(Some(file)) if file.info.size == 0 => return Ok(Some(Some(file.sha256()))),
            Ok(Some(file)) => content_seen(&file),
            Err(error) => refused_file(error).map_err(|e| ReconcileError::gateway(&format!("to read {name}"), &e))?,
        };
        observed.files.insert(name.to_owned(), file);
        self.update(id, observed);
        Ok(None)
    }

    /// Puts a label on a session. Gives the label that the gateway stored.
    ///
    /// A gateway that cannot may have had an agent of this id before; then the id is opened again.
    pub async fn label(
        &self,
        desired: &Desired,
        label: &str,
        observed: &mut Observed,
    ) -> Result<Option<String>, CallError> {
        let identity = &desired.identity;
        let session = match self.gateway.session_label(&identity.session_key, label).await {
            Err(error) if error.is_unavailable() => {
                self.gateway.agent_create(&identity.agent_id, &identity.workspace).await?;
                self.gateway.session_label(&identity.session_key, label).await?
            }
            labelled => labelled?,
        };
        observed.session = Some(observed_session(&session));
        let stored = session.label.clone();
        self.labelled(&identity.agent_id, session);
        Ok(stored)
    }

    /// Starts a session anew, unless that was done since it had this mark.
    pub async fn reset(&self, desired: &Desired, mark: &str) -> Result<(), CallError> {
        let key = &desired.identity.session_key;
        let done = match self.gateway.session(key).await? {
            Some(session) if SessionVersion::of(&session).id != SessionVersion::parse(mark).id => true,
            Some(_) => {
                let history = self.gateway.chat_history(key).await?;
                history.iter().any(|m| m.marks_reset && m.written_ms > SessionVersion::parse(mark).updated_ms)
            }
            None => false,
        };
        if !done {
            self.gateway.session_reset(key, mark).await?;
        }
        self.forget(&desired.identity.agent_id);
        Ok(())
    }
}
